/* SPDX-License-Identifier: Apache-2.0 */
/* What either side may have to say to the other. */
#include "persist_shared.h"

#include "bounds.h"

void persist_waiting_publish(struct persist *persist)
{
    /* Who sees that none waits any more sees that removals were stored, too. */
    __atomic_store_n(&persist->waiting, persist->dirty.count, __ATOMIC_RELEASE);
    __atomic_store_n(&persist->crowded,
                     persist->dirty.count > DIRTY_ENTRIES_MAX / 4 * 3 ||
                         persist->dirty.bytes > DIRTY_BYTES_MAX / 4 * 3,
                     __ATOMIC_RELAXED);
}

void persist_syncs_settle(struct persist *persist)
{
    while (persist->sync.ticket && persist->events_decided >= persist->sync.events &&
           persist->entries_decided >= persist->sync.entries) {
        persist->progress.synced = persist->sync.ticket;
        persist->sync = persist->next_sync;
        persist->next_sync = (struct sync_point){0};
        persist_notify(persist);
    }
}

bool persist_failed(const struct persist *persist)
{
    return __atomic_load_n(&persist->retained.failed, __ATOMIC_RELAXED) ||
           __atomic_load_n(&persist->entries_failing, __ATOMIC_RELAXED);
}
