/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Nothing newer is written before what failed: recovery takes the store's last LSN for "everything
 * up to it". Retained events are decided as soon as the state is marked cold: they are in force in
 * memory until this daemon ends, and no later daemon trusts a state that lacks them. The mark is
 * removed only when the store lacks nothing.
 */
#include "retained.h"

#include "bounds.h"

#include <errno.h>

static uint64_t now_ns(void)
{
    return time_ns_of(CLOCK_MONOTONIC);
}

static void failed_set(struct retained *retained, bool failed)
{
    __atomic_store_n(&retained->failed, failed, __ATOMIC_RELAXED);
}

void retained_init(struct retained *retained, struct store *store, const struct log *log)
{
    *retained = (struct retained){0};
    disk_init(&retained->disk, store, log);
}

void retained_deinit(struct retained *retained)
{
    event_queue_free(&retained->queue);
}

static void give_up(struct retained *retained)
{
    event_queue_free(&retained->queue);
    retained->gave_up = true;
    retained->retry_ns = 0;
}

static int fail(struct retained *retained, int error)
{
    const int mark_error = disk_mark_cold(&retained->disk);

    retained->retry_ns = now_ns() + RETRY_NS;
    if (!retained->failed)
        log_event(retained->disk.log, LOG_ERROR, "events_not_persisted", log_number("code", error),
                  log_error("error", error > 0 ? EUCLEAN : error),
                  log_text("effect", "the next start is cold unless the store works again"));
    failed_set(retained, true);
    return mark_error;
}

/* Everything that was queued is in the store. */
static void heal(struct retained *retained)
{
    const int r = disk_mark_warm(&retained->disk);

    retained->retry_ns = r ? now_ns() + RETRY_NS : 0;
    if (!r)
        failed_set(retained, false);
}

/* Not now, or not at all. 0, or the mark's error. */
static int put_off(struct retained *retained)
{
    if (retained->gave_up) {
        event_queue_free(&retained->queue);
    } else if (retained->queue.count > RETAINED_EVENTS_MAX ||
               retained->queue.bytes > RETAINED_BYTES_MAX) {
        log_event(
            retained->disk.log, LOG_ERROR, "events_given_up",
            log_number("events", (int64_t)retained->queue.count),
            log_text("effect", "the store is not written before the next start, which is cold"));
        give_up(retained);
    }
    return retained->disk.mark_error ? disk_mark_cold(&retained->disk) : 0;
}

int retained_write(struct retained *retained, struct event_queue *queue, bool closing)
{
    const bool was_failing = retained->retry_ns != 0;

    event_queue_move(&retained->queue, queue);
    if (retained->gave_up || (was_failing && now_ns() < retained->retry_ns && !closing))
        return put_off(retained);
    const int r = event_queue_store(&retained->queue, retained->disk.store);
    if (r)
        return fail(retained, r);
    if (retained->queue.last)
        __atomic_store_n(&retained->stored_lsn, retained->queue.last->event.lsn, __ATOMIC_RELEASE);
    event_queue_free(&retained->queue);
    if (was_failing)
        heal(retained);
    return 0;
}

bool retained_lost(struct retained *retained, bool at_end)
{
    if (!(at_end ? disk_flush(&retained->disk) : disk_ask(&retained->disk, now_ns())))
        return false;
    give_up(retained);
    failed_set(retained, true);
    return true;
}

bool retained_nothing(const struct retained *retained)
{
    return retained->retry_ns == 0 && !retained->gave_up;
}
