/* SPDX-License-Identifier: Apache-2.0 */
#include "bounds.h"
#include "numbers.h"
#include "persist.h"
#include "store_fixture.h"
#include "text.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

#define CLOCK_COUNT 2048u

struct fixture {
    struct store_fixture at;
    struct persist *persist;
    /* see block_writes() */
    struct store_txn *block;
    uint64_t clocks[CLOCK_COUNT];
    struct shm_view view;
    struct log log;
};

static void open_persist(struct fixture *f)
{
    struct store_meta meta;

    assert_int_equal(store_meta_read(f->at.store, &meta), 0);
    const uint64_t lsn = meta.checkpoint_lsn;
    assert_int_equal(persist_open(&f->persist, f->at.store, &f->view, &f->log, lsn, NULL), 0);
}

static struct fixture *fixture_new(uint64_t map_bytes)
{
    struct fixture *f = calloc(1, sizeof(*f));

    f->view = (struct shm_view){.clocks = f->clocks, .clock_count = CLOCK_COUNT};
    f->log = (struct log){.fd = -1, .least = LOG_ERROR};
    store_fixture_make(&f->at, map_bytes, CLOCK_COUNT);
    assert_int_equal(store_warm_mark_set(f->at.store), 0);
    open_persist(f);
    return f;
}

static int set_up(void **state)
{
    *state = fixture_new(UINT64_C(256) << 20);
    return 0;
}

static int set_up_small(void **state)
{
    *state = fixture_new(1 << 20);
    return 0;
}

static void unblock_writes(struct fixture *f)
{
    if (f->block)
        store_abort(f->block);
    f->block = NULL;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    unblock_writes(f); /* where an assertion failed */
    f->persist = persist_close(f->persist);
    f->at.store = store_close(f->at.store);
    scratch_remove(f->at.scratch);
    free(f);
    return 0;
}

#define SMALL_CASE(name) TEST_OF(name, struct fixture *f, set_up_small, tear_down)
#define CASE(name) TEST_OF(name, struct fixture *f, set_up, tear_down)

static void wait_fd(struct fixture *f)
{
    struct pollfd fd = {.fd = persist_fd(f->persist), .events = POLLIN};

    assert_int_equal(poll(&fd, 1, -1), 1); /* ctest ends what never comes */
}

static struct persist_progress wait_done(struct fixture *f, uint64_t ticket)
{
    struct persist_progress progress;

    while (progress = persist_progress(f->persist), progress.done < ticket)
        wait_fd(f);
    return progress;
}

static void wait_synced(struct fixture *f)
{
    const uint64_t ticket = persist_sync(f->persist);

    while (persist_progress(f->persist).synced < ticket)
        wait_fd(f);
}

static void queue_record(struct fixture *f, uint64_t lsn, etag_str record)
{
    const struct persist_event event = {.lsn = lsn, .kind = EVENT_MUTATION};

    assert_int_equal(persist_event(f->persist, &event, record), 0);
}

static void queue_event(struct fixture *f, uint64_t lsn, const char *record)
{
    shm_clock_store(&f->view, (uint32_t)(lsn % CLOCK_COUNT), lsn);
    queue_record(f, lsn, str_of(record));
}

static void queue_guard(struct fixture *f, uint64_t lsn, enum event_kind kind, uint64_t guard,
                        bool hold)
{
    const struct persist_event event = {
        .lsn = lsn, .kind = kind, .guard = {guard ? 1 : 0, guard}, .hold = hold};

    assert_int_equal(persist_event(f->persist, &event, str_of("e")), 0);
}

static struct hash128 fingerprint_of(uint64_t number)
{
    return (struct hash128){random_mix(number), number};
}

static void queue_entry(struct fixture *f, uint64_t number, const char *record)
{
    assert_int_equal(
        persist_entry(f->persist, fingerprint_of(number), str_of("/name"), str_of(record)), 0);
}

/* ---- What the store has ---- */

struct seen {
    char text[4096];
    size_t count;
    uint64_t first_lsn, last_lsn;
};

static int see_record(void *ctx, struct hash128 fingerprint, etag_str record)
{
    struct seen *seen = ctx;

    memcpy(seen->text, record.data, record.len);
    seen->text[record.len] = '\0';
    seen->count++;
    return 0;
}

static int see_event(void *ctx, uint64_t lsn, etag_str record)
{
    struct seen *seen = ctx;
    const size_t used = strlen(seen->text);

    if (used + record.len + 2 < sizeof(seen->text)) {
        memcpy(seen->text + used, record.data, record.len);
        memcpy(seen->text + used + record.len, " ", 2);
    }
    if (seen->count++ == 0)
        seen->first_lsn = lsn;
    assert_true(seen->count == 1 || lsn > seen->last_lsn);
    seen->last_lsn = lsn;
    return 0;
}

static void assert_stored(struct fixture *f, uint64_t number, const char *record)
{
    struct seen seen = {0};
    const int r = store_get_entry(f->at.store, fingerprint_of(number), see_record, &seen);

    assert_int_equal(r, record ? 0 : STORE_E_NOT_FOUND);
    if (record)
        assert_string_equal(seen.text, record);
}

static void assert_waiting(struct fixture *f, uint64_t number, const char *record)
{
    struct seen seen = {0};

    assert_int_equal(persist_find(f->persist, fingerprint_of(number), see_record, &seen), 0);
    assert_string_equal(seen.text, record);
}

static void assert_not_waiting(struct fixture *f, uint64_t number, int result)
{
    struct seen seen = {0};

    assert_int_equal(persist_find(f->persist, fingerprint_of(number), see_record, &seen), result);
    assert_int_equal(seen.count, 0);
}

static struct seen events_of(struct fixture *f)
{
    struct seen seen = {0};

    assert_int_equal(store_each_event(f->at.store, 0, see_event, &seen), 0);
    return seen;
}

/* "low half of the id @ LSN" of each. */
static int see_guard(void *ctx, struct guard_id id, uint64_t lsn, etag_str record)
{
    struct seen *seen = ctx;
    const size_t used = strlen(seen->text);

    assert_string_equal(record.len == 1 ? "e" : "", "e");
    (void)snprintf(seen->text + used, sizeof(seen->text) - used, "%d@%d ", (int)id.low, (int)lsn);
    seen->count++;
    return 0;
}

static struct seen guards_of(struct fixture *f)
{
    struct seen seen = {0};

    assert_int_equal(store_each_guard(f->at.store, see_guard, &seen), 0);
    return seen;
}

static struct store_meta meta_of(struct fixture *f)
{
    struct store_meta meta;

    assert_int_equal(store_meta_read(f->at.store, &meta), 0);
    return meta;
}

/* While the test holds the store's writing transaction, the persister can write nothing. */
static void block_writes(struct fixture *f)
{
    assert_int_equal(store_begin(f->at.store, &f->block), 0);
}

/* Gives the thread time to run into the block: nothing may be reported meanwhile. */
static void assert_no_report(struct fixture *f)
{
    struct pollfd fd = {.fd = persist_fd(f->persist), .events = POLLIN};

    assert_int_equal(poll(&fd, 1, 60), 0);
}

/* ---- Events ---- */

CASE(events_are_stored_before_their_ticket_is_done)
{
    assert_int_equal(persist_submit(f->persist, true), 0);
    queue_event(f, 10, "a");
    queue_event(f, 11, "b");
    assert_int_equal(persist_submit(f->persist, true), 1);
    assert_int_equal(persist_submit(f->persist, true), 0);
    struct persist_progress progress = wait_done(f, 1);
    assert_int_equal(progress.done, 1);
    assert_int_equal(progress.failed_from, 0);
    assert_string_equal(events_of(f).text, "a b ");

    queue_event(f, 12, "c");
    assert_int_equal(persist_submit(f->persist, true), 2);
    assert_int_equal(wait_done(f, 2).done, 2);
    assert_string_equal(events_of(f).text, "a b c ");
    assert_false(persist_failed(f->persist));
}

CASE(events_wait_for_their_submission)
{
    queue_event(f, 10, "a");
    const uint64_t sync = persist_sync(f->persist);
    assert_no_report(f);
    assert_int_equal(events_of(f).count, 0);
    const uint64_t ticket = persist_submit(f->persist, true);
    struct persist_progress progress = wait_done(f, ticket);
    while (progress.synced < sync) {
        wait_fd(f);
        progress = persist_progress(f->persist);
    }
    assert_string_equal(events_of(f).text, "a ");
}

CASE(tickets_that_wait_together_are_done_together)
{
    block_writes(f);
    uint64_t ticket = 0;
    for (uint64_t lsn = 1; lsn <= 100; lsn++) {
        queue_event(f, lsn, "x");
        ticket = persist_submit(f->persist, true);
        assert_int_equal(ticket, lsn);
    }
    assert_no_report(f);
    assert_int_equal(persist_progress(f->persist).done, 0);
    unblock_writes(f);
    wait_done(f, ticket);
    const struct seen seen = events_of(f);
    assert_int_equal(seen.count, 100);
    assert_int_equal(seen.first_lsn, 1);
    assert_int_equal(seen.last_lsn, 100);
}

SMALL_CASE(an_event_that_fails_is_told_and_the_state_is_cold)
{
    static char large[2 << 20];

    queue_event(f, 1, "a");
    wait_done(f, persist_submit(f->persist, true));
    assert_true(store_warm_mark(f->at.store));
    assert_int_equal(persist_stored_lsn(f->persist), 1);

    queue_record(f, 2, (etag_str){large, sizeof(large)});
    const uint64_t ticket = persist_submit(f->persist, true);
    struct persist_progress progress = wait_done(f, ticket);
    assert_int_equal(progress.failed_from,
                     0); /* not lost: what it made stale is not loaded again */
    assert_true(persist_failed(f->persist));
    assert_false(store_warm_mark(f->at.store));

    /* Those behind it wait too: the store has every event up to some LSN, or it lies. */
    queue_event(f, 3, "c");
    progress = wait_done(f, persist_submit(f->persist, true));
    assert_int_equal(progress.failed_from, 0);
    assert_int_equal(progress.stored_lsn, 1);
    assert_true(persist_failed(f->persist));
    wait_synced(f);
    assert_string_equal(events_of(f).text, "a ");
}

/* No write beyond the end of the database succeeds until it is allowed again. */
static void allow_growth(struct fixture *f, bool allowed)
{
    struct rlimit limit;
    struct stat status;
    char path[2 * SCRATCH_BYTES + 32];

    (void)snprintf(path, sizeof(path), "%s/data.mdb", f->at.dir);
    (void)signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = allowed ? limit.rlim_max : (rlim_t)status.st_size;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

static void wait_failed(struct fixture *f, bool failed)
{
    while (persist_failed(f->persist) != failed) {
        wait_fd(f);
        (void)persist_progress(f->persist);
    }
}

CASE(what_failed_is_written_when_the_store_works_again)
{
    static char large[1 << 20];

    allow_growth(f, false);
    queue_record(f, 1, (etag_str){large, sizeof(large)});
    queue_guard(f, 2, EVENT_GUARD_BEGIN, 7, false);
    assert_int_equal(wait_done(f, persist_submit(f->persist, true)).failed_from, 0);
    assert_true(persist_failed(f->persist));
    assert_false(store_warm_mark(f->at.store));
    queue_guard(f, 3, EVENT_GUARD_BEGIN, 8, false);
    queue_guard(f, 4, EVENT_GUARD_COMMIT, 7, false);
    wait_done(f, persist_submit(f->persist, true));
    assert_int_equal(events_of(f).count, 0);
    assert_string_equal(guards_of(f).text, "");
    assert_int_equal(persist_stored_lsn(f->persist), 0);

    allow_growth(f, true);
    wait_failed(f, false);
    assert_true(store_warm_mark(f->at.store));
    assert_int_equal(persist_stored_lsn(f->persist), 4);
    assert_int_equal(events_of(f).count, 4);
    assert_string_equal(guards_of(f).text, "8@3 ");
}

CASE(events_that_failed_are_given_up_beyond_a_bound)
{
    static char large[1 << 20];

    allow_growth(f, false);
    queue_record(f, 1, (etag_str){large, sizeof(large)});
    wait_done(f, persist_submit(f->persist, true));
    assert_true(persist_failed(f->persist));
    uint64_t lsn = 1;
    while (lsn <= RETAINED_EVENTS_MAX)
        queue_event(f, ++lsn, "e");
    wait_done(f, persist_submit(f->persist, true));
    allow_growth(f, true);
    queue_event(f, ++lsn, "late");
    wait_done(f, persist_submit(f->persist, true));
    (void)poll(NULL, 0, 1200); /* longer than a retry */
    assert_true(persist_failed(f->persist));
    f->persist = persist_close(f->persist);
    assert_false(store_warm_mark(f->at.store));
    assert_int_equal(events_of(f).count, 0);
    assert_int_equal(meta_of(f).checkpoint_lsn, 0); /* it would say that the store has them */
}

CASE(lost_tickets_are_a_range)
{
    static char large[1 << 20];
    char mark[2 * SCRATCH_BYTES + 32];

    allow_growth(f, false);
    /* A mark that cannot be removed: a directory that is not empty. */
    (void)snprintf(mark, sizeof(mark), "%s/warm", f->at.dir);
    assert_int_equal(unlink(mark), 0);
    assert_int_equal(mkdir(mark, 0700), 0);
    queue_record(f, 1, (etag_str){large, sizeof(large)});
    uint64_t ticket = persist_submit(f->persist, true);
    struct persist_progress progress = wait_done(f, ticket);
    assert_int_equal(progress.failed_from, ticket);
    assert_int_equal(progress.failed_to, ticket);
    queue_event(f, 2, "b");
    ticket = persist_submit(f->persist, true);
    progress = wait_done(f, ticket);
    assert_int_equal(progress.failed_from, ticket);
    assert_int_equal(rmdir(mark), 0);
    queue_event(f, 3, "c"); /* now it can be marked */
    progress = wait_done(f, persist_submit(f->persist, true));
    assert_int_equal(progress.failed_to, ticket);
    assert_true(persist_failed(f->persist));
    allow_growth(f, true);
    wait_failed(f, false);
    assert_int_equal(events_of(f).count, 3);
    queue_event(f, 4, "d");
    progress = wait_done(f, persist_submit(f->persist, true));
    assert_int_equal(progress.failed_to, ticket);
}

CASE(the_guards_table_follows_the_events)
{
    static const struct {
        enum event_kind kind;
        uint64_t guard;
        bool hold;
        const char *after;
    } steps[] = {
        {EVENT_GUARD_BEGIN, 7, false, "7@1 "},      {EVENT_GUARD_BEGIN, 8, false, "7@1 8@2 "},
        {EVENT_GUARD_BEGIN, 7, false, "7@3 8@2 "},  {EVENT_MUTATION, 0, false, "7@3 8@2 "},
        {EVENT_MUTATION, 0, true, "5@5 7@3 8@2 "},  {EVENT_GUARD_COMMIT, 7, true, "5@5 7@6 8@2 "},
        {EVENT_GUARD_COMMIT, 7, false, "5@5 8@2 "}, {EVENT_GUARD_ABORT, 8, false, "5@5 "},
        {EVENT_GUARD_ABORT, 99, false, "5@5 "},     {EVENT_GUARD_COMMIT, 99, false, "5@5 "},
    };
    for (size_t i = 0; i < COUNT_OF(steps); i++) {
        queue_guard(f, i + 1, steps[i].kind, steps[i].guard, steps[i].hold);
        wait_done(f, persist_submit(f->persist, true));
        assert_string_equal(guards_of(f).text, steps[i].after);
    }
    /* The hold is ended by its own name, high 0. */
    assert_int_equal(persist_event(f->persist,
                                   &(struct persist_event){
                                       .lsn = 11, .kind = EVENT_GUARD_COMMIT, .guard = {0, 5}},
                                   str_of("e")),
                     0);
    wait_done(f, persist_submit(f->persist, true));
    assert_string_equal(guards_of(f).text, "");
}

CASE(events_that_nobody_waits_for_are_written_soon_and_together)
{
    struct pollfd fd = {.fd = persist_fd(f->persist), .events = POLLIN};
    uint64_t lsn = 0;

    for (int i = 0; i < 100; i++) {
        queue_event(f, ++lsn, "e");
        assert_int_equal(persist_submit(f->persist, false), lsn);
    }
    while (persist_stored_lsn(f->persist) < lsn)
        (void)poll(NULL, 0, 1);
    assert_int_equal(persist_stored_lsn(f->persist), lsn);
    assert_int_equal(events_of(f).count, lsn);
    assert_int_equal(poll(&fd, 1, 0), 0); /* nobody is told */
    assert_int_equal(persist_progress(f->persist).done, lsn);

    /* A sync and an urgent one do not wait for the lazy. */
    queue_event(f, ++lsn, "e");
    (void)persist_submit(f->persist, false);
    wait_synced(f);
    assert_int_equal(persist_stored_lsn(f->persist), lsn);
    queue_event(f, ++lsn, "e");
    (void)persist_submit(f->persist, false);
    queue_event(f, ++lsn, "e");
    wait_done(f, persist_submit(f->persist, true));
    assert_int_equal(persist_stored_lsn(f->persist), lsn);
}

/* ---- Entries ---- */

CASE(an_entry_is_found_until_the_store_has_it)
{
    block_writes(f);
    queue_entry(f, 1, "v1");
    assert_waiting(f, 1, "v1");
    assert_not_waiting(f, 2, STORE_E_NOT_FOUND);
    const uint64_t sync = persist_sync(f->persist);
    assert_no_report(f); /* now it is being written, and still found */
    assert_waiting(f, 1, "v1");
    assert_int_equal(persist_waiting(f->persist), 1);
    unblock_writes(f);
    while (persist_progress(f->persist).synced < sync)
        wait_fd(f);
    assert_not_waiting(f, 1, STORE_E_NOT_FOUND);
    assert_stored(f, 1, "v1");
    assert_int_equal(persist_waiting(f->persist), 0);
}

CASE(the_newer_of_two_stays_also_while_the_older_is_written)
{
    block_writes(f);
    queue_entry(f, 1, "v1");
    queue_entry(f, 2, "w1");
    (void)persist_sync(f->persist);
    assert_no_report(f);
    queue_entry(f, 1, "v2");
    assert_int_equal(persist_erase(f->persist, fingerprint_of(2)), 0);
    assert_waiting(f, 1, "v2");
    assert_not_waiting(f, 2, PERSIST_E_ERASED);
    unblock_writes(f);
    wait_synced(f);
    assert_stored(f, 1, "v2");
    assert_stored(f, 2, NULL);
    assert_int_equal(persist_waiting(f->persist), 0);
}

CASE(an_entry_that_comes_again_is_one_entry)
{
    char record[32];

    block_writes(f);
    for (int i = 0; i < 1000; i++) {
        (void)snprintf(record, sizeof(record), "v%d", i);
        queue_entry(f, 1, record);
        assert_in_range(persist_waiting(f->persist), 1, 2); /* one may be being written */
    }
    unblock_writes(f);
    wait_synced(f);
    assert_stored(f, 1, "v999");
    assert_int_equal(store_entry_count(f->at.store), 1);
}

CASE(an_erased_entry_goes_and_may_come_back)
{
    queue_entry(f, 1, "v1");
    wait_synced(f);
    assert_stored(f, 1, "v1");
    assert_int_equal(persist_erase(f->persist, fingerprint_of(1)), 0);
    assert_int_equal(persist_erase(f->persist, fingerprint_of(2)), 0);
    wait_synced(f);
    assert_stored(f, 1, NULL);
    assert_int_equal(persist_erase(f->persist, fingerprint_of(1)), 0);
    queue_entry(f, 1, "v2");
    wait_synced(f);
    assert_stored(f, 1, "v2");
}

CASE(entries_are_written_without_being_asked_for)
{
    queue_entry(f, 1, "v1");
    while (persist_waiting(f->persist) > 0)
        (void)poll(NULL, 0, 1);
    assert_stored(f, 1, "v1");
}

CASE(several_syncs_are_reached_in_order)
{
    block_writes(f);
    uint64_t last = 0;
    for (uint64_t i = 0; i < 10; i++) {
        queue_entry(f, i, "v");
        const uint64_t ticket = persist_sync(f->persist);
        assert_true(ticket > last);
        last = ticket;
    }
    assert_int_equal(persist_progress(f->persist).synced, 0);
    unblock_writes(f);
    while (persist_progress(f->persist).synced < last)
        wait_fd(f);
    assert_int_equal(store_entry_count(f->at.store), 10);
    wait_synced(f);
}

CASE(the_number_of_waiting_entries_is_bounded)
{
    block_writes(f);
    uint64_t accepted = 0;
    int r = 0;
    while (!r && accepted <= DIRTY_ENTRIES_MAX) {
        r = persist_entry(f->persist, fingerprint_of(accepted), str_of("/n"), str_of("v"));
        accepted += !r;
    }
    assert_int_equal(r, -ENOSPC);
    assert_int_equal(accepted, DIRTY_ENTRIES_MAX);
    assert_int_equal(persist_waiting(f->persist), DIRTY_ENTRIES_MAX);
    assert_int_equal(persist_erase(f->persist, fingerprint_of(accepted)), -ENOSPC);
    queue_entry(f, accepted - 1, "v2"); /* one that waits already */
    assert_waiting(f, accepted - 1, "v2");
    unblock_writes(f);
    wait_synced(f);
    assert_int_equal(store_entry_count(f->at.store), DIRTY_ENTRIES_MAX);
    assert_stored(f, accepted - 1, "v2");
    queue_entry(f, accepted, "v");
}

SMALL_CASE(entries_that_fail_wait_and_are_tried_again)
{
    static char large[2 << 20];

    assert_int_equal(persist_entry(f->persist, fingerprint_of(1), str_of("/large"),
                                   (etag_str){large, sizeof(large)}),
                     0);
    queue_entry(f, 2, "small");
    wait_synced(f); /* reached by failing */
    assert_true(persist_failed(f->persist));
    assert_int_equal(persist_waiting(f->persist), 2);
    assert_waiting(f, 2, "small");
    assert_true(store_warm_mark(f->at.store));

    queue_event(f, 1, "a");
    assert_int_equal(wait_done(f, persist_submit(f->persist, true)).failed_from, 0);
    assert_true(persist_failed(f->persist));

    queue_entry(f, 1, "not so large");
    while (persist_failed(f->persist)) {
        wait_fd(f);
        (void)persist_progress(f->persist);
    }
    wait_synced(f);
    assert_int_equal(persist_waiting(f->persist), 0);
    assert_stored(f, 1, "not so large");
    assert_stored(f, 2, "small");
    assert_int_equal(persist_progress(f->persist).failed_from, 0);
}

/* Entries stop where there is still room for what must not fail. */
SMALL_CASE(a_map_full_of_entries_still_takes_events_and_removals)
{
    static char record[3000];
    uint64_t entries = 0;
    uint64_t lsn = 0;

    memset(record, 'r', sizeof(record));
    while (!persist_failed(f->persist)) {
        assert_int_equal(persist_entry(f->persist, fingerprint_of(++entries), str_of("/name"),
                                       (etag_str){record, sizeof(record)}),
                         0);
        if (entries % 16 == 0)
            wait_synced(f);
    }
    assert_in_range(entries, 16, 1000);
    assert_true(
        store_warm_mark(f->at.store)); /* an entry that is missing makes nothing stale current */
    /* Those that wait stay where they are, however often it is tried. */
    const uint64_t stored = store_entry_count(f->at.store);
    for (int i = 0; i < 2 * PERSIST_CHUNK_MAX; i++)
        queue_entry(f, ++entries, "small");
    wait_synced(f);
    assert_int_equal(store_entry_count(f->at.store), stored);
    for (int i = 0; i < 60; i++) {
        queue_record(f, ++lsn, (etag_str){record, 2000});
        assert_int_equal(wait_done(f, persist_submit(f->persist, true)).stored_lsn, lsn);
    }
    assert_true(store_warm_mark(f->at.store));
    for (uint64_t i = 1; i <= entries; i++)
        assert_int_equal(persist_erase(f->persist, fingerprint_of(i)), 0);
    wait_synced(f);
    wait_failed(f, false);
    assert_int_equal(store_entry_count(f->at.store), 0);
    assert_true(store_has_entry_room(f->at.store, 0));
    queue_entry(f, 1, "v");
    wait_synced(f);
    assert_stored(f, 1, "v");
}

/* An endless stream of events in a small map: the log is cut short before it fills it. */
SMALL_CASE(a_small_map_keeps_a_short_log)
{
    uint64_t lsn = 0;

    for (int i = 0; i < 200; i++) {
        for (int j = 0; j < 100; j++)
            queue_event(f, ++lsn, "an event of some length, as they are in a real log of events");
        assert_int_equal(wait_done(f, persist_submit(f->persist, true)).stored_lsn, lsn);
    }
    assert_false(persist_failed(f->persist));
    assert_in_range(events_of(f).count, EVENTS_KEPT_MIN, 10000);
}

/* ---- Checkpoints ---- */

static int see_chunk(void *ctx, uint32_t chunk, const uint64_t *words, size_t count)
{
    uint64_t *clocks = ctx;

    memcpy(clocks + (size_t)chunk * CLOCK_CHUNK_WORDS, words, count * sizeof(*words));
    return 0;
}

static void assert_clocks_stored(struct fixture *f)
{
    static uint64_t stored[CLOCK_COUNT];

    memset(stored, 0xff, sizeof(stored));
    assert_int_equal(store_each_clock_chunk(f->at.store, see_chunk, stored), 0);
    for (size_t i = 0; i < CLOCK_COUNT; i++)
        assert_int_equal(stored[i], f->clocks[i] & CLOCK_LSN_MASK);
}

/* A checkpoint that is due comes before entries, so a reached sync of an entry has seen it. */
static void wait_checkpoint(struct fixture *f)
{
    queue_entry(f, UINT64_MAX, "last");
    wait_synced(f);
}

CASE(many_events_bring_a_checkpoint_that_trims)
{
    const uint64_t base = UINT64_C(3) << 40;
    const uint64_t count = EVENTS_KEPT + CHECKPOINT_EVENTS;
    uint64_t ticket = 0;

    for (uint64_t i = 1; i <= count; i++) {
        queue_event(f, base + i, "e");
        if (i == CHECKPOINT_EVENTS - 1) {
            wait_done(f, persist_submit(f->persist, true));
            wait_checkpoint(f);
            assert_int_equal(meta_of(f).checkpoint_lsn, 0); /* one too few */
        }
        if (i % 4096 == 0 || i == count)
            ticket = persist_submit(f->persist, true);
    }
    wait_done(f, ticket);
    wait_checkpoint(f);
    const struct store_meta meta = meta_of(f);
    assert_in_range(meta.checkpoint_lsn, base + CHECKPOINT_EVENTS, base + count);
    const struct seen seen = events_of(f);
    assert_int_equal(seen.last_lsn, base + count);
    assert_in_range(seen.count, EVENTS_KEPT, count);
    assert_true(seen.first_lsn <= meta.checkpoint_lsn + 1);

    shm_clock_store(&f->view, 5, (base + 5) | CLOCK_IN_FLUX);
    f->persist = persist_close(f->persist);
    assert_clocks_stored(f);
    assert_int_equal(meta_of(f).checkpoint_lsn, base + count);
    assert_int_equal(events_of(f).count, EVENTS_KEPT);
    assert_int_equal(events_of(f).last_lsn, base + count);
}

CASE(a_long_log_is_checkpointed_after_a_restart)
{
    f->persist = persist_close(f->persist);
    struct store_txn *txn;
    assert_int_equal(store_begin(f->at.store, &txn), 0);
    for (uint64_t lsn = 1; lsn <= CHECKPOINT_EVENTS; lsn++)
        assert_int_equal(store_put_event(txn, lsn, str_of("e")), 0);
    assert_int_equal(store_commit(txn), 0);
    open_persist(f);
    wait_checkpoint(f);
    assert_int_equal(meta_of(f).checkpoint_lsn, CHECKPOINT_EVENTS);
}

CASE(only_changed_clocks_are_written_again)
{
    static uint64_t stored[CLOCK_COUNT];
    uint64_t sentinel[CLOCK_CHUNK_WORDS];
    uint64_t lsn = 0;

    while (lsn < CHECKPOINT_EVENTS)
        queue_event(f, ++lsn, "e");
    wait_done(f, persist_submit(f->persist, true));
    wait_checkpoint(f);
    assert_clocks_stored(f);

    struct store_txn *txn;
    assert_int_equal(store_begin(f->at.store, &txn), 0);
    memset(sentinel, 0x77, sizeof(sentinel));
    for (uint32_t chunk = 0; chunk < 2; chunk++)
        assert_int_equal(store_put_clocks(txn, chunk, sentinel, CLOCK_CHUNK_WORDS), 0);
    assert_int_equal(store_commit(txn), 0);
    shm_clock_store(&f->view, 5, UINT64_C(1) << 50);
    f->persist = persist_close(f->persist);
    assert_int_equal(store_each_clock_chunk(f->at.store, see_chunk, stored), 0);
    assert_memory_equal(stored, f->clocks, sizeof(sentinel));
    assert_memory_equal(stored + CLOCK_CHUNK_WORDS, sentinel, sizeof(sentinel));
}

CASE(closing_writes_what_is_left)
{
    queue_event(f, 1, "a");
    (void)persist_submit(f->persist, true);
    queue_event(f, 2, "b"); /* not submitted */
    for (uint64_t i = 0; i < 3 * PERSIST_CHUNK_MAX + 1; i++)
        queue_entry(f, i, "v");
    f->persist = persist_close(f->persist);
    assert_string_equal(events_of(f).text, "a b ");
    assert_int_equal(store_entry_count(f->at.store), 3 * PERSIST_CHUNK_MAX + 1);
    assert_int_equal(meta_of(f).checkpoint_lsn, 2);
    assert_clocks_stored(f);
    assert_null(persist_close(NULL));
}

SMALL_CASE(closing_ends_where_nothing_can_be_written)
{
    static char large[2 << 20];

    assert_int_equal(persist_entry(f->persist, fingerprint_of(1), str_of("/large"),
                                   (etag_str){large, sizeof(large)}),
                     0);
    queue_record(f, 2, (etag_str){large, sizeof(large)});
    f->persist = persist_close(f->persist);
    assert_false(store_warm_mark(f->at.store));
    assert_int_equal(store_entry_count(f->at.store), 0);
}

/* ---- Everything at once, for the thread sanitizer ---- */

/* At every moment an entry waits or is in the store. */
static void assert_found(struct fixture *f, uint64_t number, const char *record)
{
    struct seen seen = {0};
    const int r = persist_find(f->persist, fingerprint_of(number), see_record, &seen);

    if (r == STORE_E_NOT_FOUND) {
        assert_stored(f, number, record);
        return;
    }
    assert_int_equal(r, 0);
    assert_string_equal(seen.text, record);
}

CASE(a_busy_loop_thread_loses_nothing)
{
    static char expected[500][32];
    uint64_t seed = 1;
    uint64_t lsn = 0;
    uint64_t ticket = 0;

    memset(expected, 0, sizeof(expected));
    for (int turn = 0; turn < 3000; turn++) {
        const uint64_t number = random_next(&seed) % 500;
        if (random_next(&seed) % 4 == 0) {
            assert_int_equal(persist_erase(f->persist, fingerprint_of(number)), 0);
            expected[number][0] = '\0';
        } else {
            (void)snprintf(expected[number], sizeof(expected[number]), "v%d", turn);
            queue_entry(f, number, expected[number]);
            assert_found(f, number, expected[number]);
        }
        for (uint64_t i = random_next(&seed) % 4; i > 0; i--)
            queue_event(f, ++lsn, "e");
        const uint64_t submitted = persist_submit(f->persist, true);
        ticket = submitted ? submitted : ticket;
        if (turn % 100 == 0)
            (void)persist_sync(f->persist);
        assert_int_equal(persist_progress(f->persist).failed_from, 0);
        assert_false(persist_failed(f->persist));
    }
    wait_done(f, ticket);
    wait_synced(f);
    for (uint64_t number = 0; number < 500; number++)
        assert_stored(f, number, expected[number][0] ? expected[number] : NULL);
    const struct seen seen = events_of(f);
    assert_int_equal(seen.count, lsn);
    assert_int_equal(seen.last_lsn, lsn);
}
