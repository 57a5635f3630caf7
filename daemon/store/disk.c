/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernel reports a writeback error once to each open descriptor, and to a descriptor that is
 * opened later only if it reported the error to none before. So either this daemon gets the error,
 * or the next one does (recovery.c). Once this daemon has got it, the next does not, so it has to
 * be marked in the state.
 *
 * When a disk fails, the file system often becomes read-only, and then the warm mark cannot be
 * removed. The witness is on another file system, usually a tmpfs, and without it the next start is
 * cold too. Only writeback errors need this: an event whose write failed at once is in the journal
 * too, so that state can be warm.
 */
#include "disk.h"

#include "clocktime.h"
#include "witness.h"

#define ASK_NS NS_PER_S

void disk_init(struct disk *disk, struct store *store, const struct log *log)
{
    *disk = (struct disk){.store = store, .log = log};
}

void disk_witness_set(struct disk *disk, const char *socket_path)
{
    __atomic_store_n(&disk->socket_path, socket_path, __ATOMIC_RELEASE);
}

static void complain(const struct disk *disk)
{
    log_event(disk->log, LOG_ERROR, "warm_mark_not_cleared", log_error("error", disk->mark_error),
              log_text("advice", "remove the state directory's file \"warm\" before the next "
                                 "start"));
}

/* After a failed disk the data file is set aside too: what the page cache still has of it may be
 * older once it was read again. */
static int mark_cold(struct disk *disk)
{
    const char *socket_path = __atomic_load_n(&disk->socket_path, __ATOMIC_ACQUIRE);
    const int r = disk->failed ? store_lost_mark_set(disk->store)
                               : store_warm_mark_clear(disk->store);

    if (r && disk->failed && socket_path && witness_remove(socket_path) == 0)
        return 0;
    return r;
}

int disk_mark_cold(struct disk *disk)
{
    const int former_error = disk->mark_error;

    disk->mark_error = mark_cold(disk);
    if (disk->mark_error && !former_error)
        complain(disk);
    return disk->mark_error;
}

int disk_mark_warm(struct disk *disk)
{
    const int r = store_warm_mark_set(disk->store);

    if (!r)
        disk->mark_error = 0;
    return r;
}

static bool fail(struct disk *disk, int error)
{
    disk->failed = true;
    /* Where that fails it is tried again with each event (retained_write()), and their writers
     * get the error. */
    const int mark_error = disk_mark_cold(disk);
    log_event(disk->log, LOG_ERROR, "disk_failed", log_error("error", error),
              log_text("effect", mark_error
                                     ? "what was written before may be lost; fills are refused"
                                     : "what was written before may be lost; fills are refused, "
                                       "and the next start is cold"),
              log_text("advice", "look at the disk; then restart"));
    return true;
}

bool disk_ask(struct disk *disk, uint64_t now_ns)
{
    disk->ask_ns = now_ns + ASK_NS;
    const int r = disk->failed ? 0 : store_heard(disk->store);
    return r && fail(disk, r);
}

bool disk_flush(struct disk *disk)
{
    const int r = disk->failed ? 0 : store_flush(disk->store);

    return r && fail(disk, r);
}
