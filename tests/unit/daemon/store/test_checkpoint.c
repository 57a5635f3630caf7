/* SPDX-License-Identifier: Apache-2.0 */
/* How much of the log stays: by count, by bytes and by age; never less than what no checkpoint
 * covers. */
#include "bounds.h"
#include "checkpoint.h"
#include "clocktime.h"
#include "numbers.h"
#include "persist.h"
#include "record.h"
#include "store_fixture.h"
#include "testing.h"
#include "text.h"

#include <time.h>

#define CLOCK_COUNT CLOCKS_MIN

struct fixture {
    struct store_fixture at;
    uint64_t clocks[CLOCK_COUNT];
    struct shm_view view;
};

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));

    f->view = (struct shm_view){.clocks = f->clocks, .clock_count = CLOCK_COUNT};
    store_fixture_make(&f->at, UINT64_C(256) << 20, CLOCK_COUNT);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    store_fixture_remove(&f->at);
    free(f);
    return 0;
}

#define CASE(name) TEST_OF(name, struct fixture *f, set_up, tear_down)

/* Events from first to last, each with so many bytes of names, that happened at that time. */
static void put_events(const struct fixture *f, uint64_t first, uint64_t last, uint64_t wall_ms,
                       size_t surrogate_count)
{
    etag_str surrogates[64];
    struct store_txn *txn;
    struct buffer record = {0};

    for (size_t i = 0; i < surrogate_count; i++)
        surrogates[i] = ETAG_LIT("a surrogate key of some length, as applications make them");
    assert_int_equal(store_begin(f->at.store, &txn), 0);
    for (uint64_t lsn = first; lsn <= last; lsn++) {
        struct event event = {.lsn = lsn, .wall_ms = wall_ms};
        ETAG_INIT(&event.targets);
        event.targets.surrogates = surrogates;
        event.targets.surrogate_count = surrogate_count;
        record.len = 0;
        assert_int_equal(event_record_pack(&record, &event), 0);
        assert_int_equal(
            store_put_event(txn, lsn, (etag_str){(const char *)record.bytes, record.len}), 0);
    }
    assert_int_equal(store_commit(txn), 0);
    buffer_deinit(&record);
}

struct seen {
    uint64_t first, last;
    size_t count, bytes;
};

static int see(void *ctx, uint64_t lsn, etag_str record)
{
    struct seen *seen = ctx;

    seen->first = seen->count++ ? seen->first : lsn;
    seen->last = lsn;
    seen->bytes += record.len;
    return 0;
}

static struct seen events_of(const struct fixture *f)
{
    struct seen seen = {0};

    assert_int_equal(store_each_event(f->at.store, 0, see, &seen), 0);
    return seen;
}

/* A checkpoint up to lsn; in how many milliseconds the next one is due. */
static uint64_t checkpoint(struct fixture *f, struct retention retention, uint64_t lsn,
                           bool little_room)
{
    struct checkpoint checkpoint;

    assert_int_equal(checkpoint_init(&checkpoint, &f->view, &retention), 0);
    assert_int_equal(checkpoint_write(&checkpoint, f->at.store, lsn, little_room), 0);
    const uint64_t due_ns = checkpoint.due_ns;
    checkpoint_deinit(&checkpoint);
    return due_ns == UINT64_MAX ? due_ns : (due_ns - time_ns_of(CLOCK_MONOTONIC)) / NS_PER_MS;
}

CASE(the_newest_stay_by_count)
{
    put_events(f, 1, 5000, time_wall_ms(), 1);
    assert_int_equal(checkpoint(f, (struct retention){.count = 3000}, 5000, false), UINT64_MAX);
    assert_int_equal(events_of(f).first, 2001);
    assert_int_equal(events_of(f).last, 5000);
    (void)checkpoint(f, (struct retention){.count = 3000}, 5000, true); /* little room */
    assert_int_equal(events_of(f).count, EVENTS_KEPT_MIN);
    (void)checkpoint(f, (struct retention){.count = 0}, 5000, false);
    assert_int_equal(events_of(f).count, 1); /* that of the checkpoint itself */
}

CASE(what_no_checkpoint_covers_stays_whatever_the_bounds)
{
    put_events(f, 1, 2000, 1000, 20);
    (void)checkpoint(f, (struct retention){.count = 1, .bytes = 1, .age_ms = 1}, 500, false);
    assert_int_equal(events_of(f).first, 500);
    assert_int_equal(events_of(f).count, 1501);
}

static void put_mark(const struct fixture *f, uint64_t published_lsn)
{
    struct event event = {.has_mark = true, .mark.published_lsn = published_lsn};
    struct buffer record = {0};
    struct store_txn *txn;

    ETAG_INIT(&event.targets);
    assert_int_equal(event_record_pack(&record, &event), 0);
    assert_int_equal(store_begin(f->at.store, &txn), 0);
    assert_int_equal(
        store_put_relay(txn, event_record_mark((etag_str){(const char *)record.bytes, record.len})),
        0);
    assert_int_equal(store_commit(txn), 0);
    buffer_deinit(&record);
}

/* OUTGOING_KEPT. */
CASE(what_the_relays_log_may_lack_stays_whatever_the_bounds)
{
    const struct retention retention = {.count = 1, .keep_outgoing = true};

    put_events(f, 1, 2000, time_wall_ms(), 1);
    put_mark(f, 700);
    (void)checkpoint(f, retention, 2000, false);
    assert_int_equal(events_of(f).first, 701);
    put_mark(f, 5000);
    (void)checkpoint(f, retention, 2000, false);
    assert_int_equal(events_of(f).first, 2000);
    put_events(f, 2001, 2100, time_wall_ms(), 1);
    put_mark(f, 1);
    (void)checkpoint(f, (struct retention){.count = 1}, 2100, false); /* relay: off */
    assert_int_equal(events_of(f).first, 2100);
}

CASE(bytes_are_bounded)
{
    const uint64_t bytes = UINT64_C(1) << 20;

    put_events(f, 1, 2000, time_wall_ms(), 60); /* 3.5 KB each */
    assert_true(events_of(f).bytes > 4 * bytes);
    (void)checkpoint(f, (struct retention){.count = 2000, .bytes = bytes}, 2000, false);
    assert_in_range(events_of(f).bytes, bytes / 4, bytes);
    assert_int_equal(events_of(f).last, 2000);
}

CASE(age_is_bounded_and_the_next_one_is_due_in_time)
{
    const uint64_t now_ms = time_wall_ms(), hour_ms = 3600000;
    const struct retention retention = {.count = 100000, .age_ms = hour_ms};

    put_events(f, 1, 100, now_ms - 2 * hour_ms, 1);
    put_events(f, 101, 200, now_ms - hour_ms / 2, 1);
    assert_in_range(checkpoint(f, retention, 200, false), hour_ms / 2 - 60000, hour_ms / 2 + 1000);
    assert_int_equal(events_of(f).first, 101);
    /* Nothing is old, or there is nothing: not before one can be. */
    put_events(f, 1, 1, now_ms - hour_ms, 1);
    assert_in_range(checkpoint(f, retention, 1000, false), hour_ms / 2 - 60000, hour_ms / 2 + 1000);
    (void)checkpoint(f, (struct retention){.count = 0, .age_ms = hour_ms}, 1000, false);
    assert_int_equal(events_of(f).count, 0);
    assert_in_range(checkpoint(f, retention, 1000, false), hour_ms - 60000, hour_ms);
    /* Not often, however near it is. */
    put_events(f, 1001, 1001, now_ms - hour_ms + 5000, 1);
    assert_in_range(checkpoint(f, retention, 2000, false), 50000, 61000);
}

CASE(one_transaction_does_not_cut_for_ever)
{
    put_events(f, 1, EVENTS_TRIMMED_MAX + 10, time_wall_ms(), 0);
    const struct retention retention = {.count = 5, .age_ms = 3600000};
    assert_in_range(checkpoint(f, retention, UINT64_MAX, false), 0, 1000);
    assert_int_equal(events_of(f).count, 10);
    (void)checkpoint(f, retention, UINT64_MAX, false);
    assert_int_equal(events_of(f).count, 5);
}

/* The persister by itself: nobody fills the log up to CHECKPOINT_EVENTS, yet what is too old
 * goes. */
CASE(an_idle_daemon_forgets_too)
{
    struct log log = {.fd = -1, .least = LOG_ERROR};
    struct persist *persist;
    const struct retention retention = {.count = 100000, .age_ms = 50};

    put_events(f, 1, 10, time_wall_ms(), 1);
    assert_int_equal(persist_open(&persist, f->at.store, &f->view, &log, 0, &retention), 0);
    for (int i = 0; i < 1000 && events_of(f).count > 1; i++)
        nanosleep(&(struct timespec){.tv_nsec = 10 * (long)NS_PER_MS}, NULL);
    assert_int_equal(events_of(f).count, 1); /* that of the checkpoint itself */
    persist = persist_close(persist);
}

CASE(backwards_from_any_lsn)
{
    struct seen seen = {0};

    assert_int_equal(store_each_event_back(f->at.store, UINT64_MAX, see, &seen), 0);
    assert_int_equal(seen.count, 0);
    put_events(f, 10, 12, 1, 0);
    put_events(f, 300, 301, 1, 0);
    static const struct {
        uint64_t until, first;
        size_t count;
    } cases[] = {{UINT64_MAX, 301, 5}, {301, 301, 5}, {300, 300, 4}, {299, 12, 3},
                 {12, 12, 3},          {10, 10, 1},   {9, 0, 0}};
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        seen = (struct seen){0};
        assert_int_equal(store_each_event_back(f->at.store, cases[i].until, see, &seen), 0);
        assert_int_equal(seen.count, cases[i].count);
        assert_int_equal(seen.first, cases[i].first);
        if (seen.count > 0)
            assert_int_equal(seen.last, 10);
    }
}
