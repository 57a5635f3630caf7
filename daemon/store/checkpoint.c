/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A checkpoint says "the clocks are complete up to LSN n". n is the last event that the persister
 * took from its queue and wrote. The loop thread moved the event's clocks before it queued the
 * event, and the queue's mutex makes that visible here. Clocks of later events may be in the
 * checkpoint too; they can only make an entry stale before its event is in the store, never after.
 * The bit "in flux" is left out: recovery sets it from the open guards.
 *
 * Recovery begins after the checkpoint and does not need the events that it covers. They stay for
 * people, within the bounds of the retention; the same transaction deletes what is over a bound.
 * The bound of age makes checkpoints due too, at most one in TRIM_EVERY_MS.
 */
#include "checkpoint.h"

#include "bounds.h"
#include "clocktime.h"
#include "numbers.h"
#include "record.h"

#include <errno.h>

#define TRIM_EVERY_MS 60000
#define TRIM_ON_MS 1000 /* where one transaction was not enough */

static void due_in(struct checkpoint *checkpoint, uint64_t delay_ms)
{
    checkpoint->due_ns = checkpoint->retention.age_ms == 0
                             ? UINT64_MAX
                             : time_ns_of(CLOCK_MONOTONIC) + delay_ms * NS_PER_MS;
}

int checkpoint_init(struct checkpoint *checkpoint, const struct shm_view *view,
                    const struct retention *retention)
{
    *checkpoint = (struct checkpoint){.view = view, .retention = *retention};
    due_in(checkpoint, min_of(retention->age_ms, TRIM_EVERY_MS));
    checkpoint->saved_clocks = calloc(view->clock_count, sizeof(uint64_t));
    return checkpoint->saved_clocks ? 0 : -ENOMEM;
}

void checkpoint_deinit(struct checkpoint *checkpoint)
{
    free(checkpoint->saved_clocks);
    *checkpoint = (struct checkpoint){0};
}

static int clocks_store(struct checkpoint *checkpoint, struct store_txn *txn)
{
    uint64_t words[CLOCK_CHUNK_WORDS];
    const uint32_t clock_count = checkpoint->view->clock_count;
    int r = 0;

    for (uint32_t first = 0; first < clock_count && !r; first += CLOCK_CHUNK_WORDS) {
        const uint32_t left = clock_count - first;
        const size_t count = min_of(left, CLOCK_CHUNK_WORDS);
        for (size_t i = 0; i < count; i++)
            words[i] = shm_clock_load(checkpoint->view, first + (uint32_t)i) & CLOCK_LSN_MASK;
        uint64_t *saved = checkpoint->saved_clocks + first;
        if (checkpoint->saved_valid && memcmp(saved, words, count * sizeof(*words)) == 0)
            continue;
        memcpy(saved, words, count * sizeof(*words));
        r = store_put_clocks(txn, first / CLOCK_CHUNK_WORDS, words, count);
    }
    return r;
}

struct trimming {
    uint64_t now_ms, age_ms;
    /* of the event that was asked for last; 0: none, or it does not say */
    uint64_t oldest_ms;
};

static bool event_expired(void *ctx, etag_str record)
{
    struct trimming *trimming = (struct trimming *)ctx;

    trimming->oldest_ms = event_record_wall_ms(record);
    return trimming->oldest_ms != 0 && trimming->age_ms != 0 &&
           trimming->oldest_ms + trimming->age_ms <= trimming->now_ms;
}

/* Events up to this LSN may go. A mark that cannot be read holds nothing: the next start finds that
 * out, and is cold. */
static uint64_t trim_below(const struct checkpoint *checkpoint, struct store_txn *txn, uint64_t lsn)
{
    struct relay_mark mark;
    etag_str bytes;

    if (!checkpoint->retention.keep_outgoing || store_relay_of(txn, &bytes) != 0 ||
        !relay_mark_parse(bytes, &mark))
        return lsn;
    return min_of(lsn, mark.published_lsn + 1);
}

static int events_trim(struct checkpoint *checkpoint, struct store_txn *txn, uint64_t lsn,
                       bool little_room)
{
    const struct retention *retention = &checkpoint->retention;
    struct trimming trimming = {.now_ms = time_wall_ms(), .age_ms = retention->age_ms};
    size_t keep = retention->count;
    size_t cut;

    if (little_room && keep > EVENTS_KEPT_MIN)
        keep = EVENTS_KEPT_MIN;
    const struct store_trim trim = {.below_lsn = trim_below(checkpoint, txn, lsn),
                                    .keep = keep,
                                    .bytes = retention->bytes,
                                    .most = EVENTS_TRIMMED_MAX,
                                    .expired = event_expired,
                                    .ctx = &trimming};
    const int r = store_trim_events(txn, &trim, &cut);
    const uint64_t old_at_ms = trimming.oldest_ms + retention->age_ms;
    uint64_t delay_ms = retention->age_ms;
    if (trimming.oldest_ms != 0)
        delay_ms = min_of(old_at_ms > trimming.now_ms ? old_at_ms - trimming.now_ms : 0, delay_ms);
    if (delay_ms < TRIM_EVERY_MS)
        delay_ms = min_of(retention->age_ms, TRIM_EVERY_MS);
    due_in(checkpoint, cut == EVENTS_TRIMMED_MAX ? TRIM_ON_MS : delay_ms);
    return r;
}

int checkpoint_write(struct checkpoint *checkpoint, struct store *store, uint64_t lsn,
                     bool little_room)
{
    struct store_txn *txn;
    int r = store_begin(store, &txn);

    if (!r) {
        r = clocks_store(checkpoint, txn);
        if (!r)
            r = store_put_checkpoint_lsn(txn, lsn);
        if (!r)
            r = events_trim(checkpoint, txn, lsn, little_room);
        r = store_end(txn, r);
    }
    checkpoint->saved_valid = r == 0;
    return r;
}
