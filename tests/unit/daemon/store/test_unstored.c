/* SPDX-License-Identifier: Apache-2.0 */
/* Entries that the next event takes along; the persister and its store are the real ones. */
#include "persist.h"

#include "record.h"
#include "store_fixture.h"
#include "testing.h"
#include "text.h"

struct fixture {
    struct store_fixture at;
    struct store_txn *block;
    struct persist *persist;
    uint64_t clocks[CLOCKS_MIN];
    struct shm_view view;
    struct log log;
    struct unstored unstored;
};

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));

    assert_non_null(f);
    f->log = (struct log){.fd = -1, .least = LOG_ERROR};
    f->view = (struct shm_view){.clocks = f->clocks, .clock_count = CLOCKS_MIN};
    store_fixture_make(&f->at, UINT64_C(64) << 20, CLOCKS_MIN);
    assert_int_equal(persist_open(&f->persist, f->at.store, &f->view, &f->log, 0, NULL), 0);
    *state = f;
    return 0;
}

/* The persister waits for the end of this transaction. */
static void block_writes(struct fixture *f)
{
    assert_int_equal(store_begin(f->at.store, &f->block), 0);
}

static void write_all(struct fixture *f)
{
    if (f->block)
        store_abort(take_ptr(f->block));
    (void)persist_sync(f->persist);
    while (persist_waiting(f->persist) > 0)
        usleep(1000);
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    if (f->block)
        store_abort(f->block);
    f->persist = persist_close(f->persist);
    store_fixture_remove(&f->at);
    free(f);
    return 0;
}

#define CASE(name) TEST_OF(name, struct fixture *f, set_up, tear_down)

static struct hash128 fingerprint_of(uint64_t number)
{
    return (struct hash128){number, number + 1};
}

static void add(struct fixture *f, uint64_t number, bool stuck)
{
    unstored_add(&f->unstored, fingerprint_of(number), stuck);
}

CASE(what_waits_is_taken_along_until_the_store_has_it)
{
    block_writes(f);
    assert_int_equal(
        persist_entry(f->persist, fingerprint_of(1), ETAG_LIT("/"), ETAG_LIT("record")), 0);
    assert_int_equal(persist_erase(f->persist, fingerprint_of(2)), 0);
    for (uint64_t i = 1; i <= 3; i++)
        assert_int_equal(unstored_waits(f->persist, fingerprint_of(i)), i < 3);
    for (uint64_t i = 1; i <= 3; i++)
        add(f, i, false);
    add(f, 4, true);
    unstored_settle(&f->unstored, f->persist);
    assert_int_equal(f->unstored.count, 3); /* not the third: the store has it */
    assert_int_equal(f->unstored.fingerprints[1].low, 2);
    assert_int_equal(f->unstored.fingerprints[2].low, 4);
    write_all(f);
    unstored_settle(&f->unstored, f->persist);
    assert_int_equal(f->unstored.count, 1);
    assert_int_equal(f->unstored.fingerprints[0].low, 4);
}

static int record_ignore(void *ctx, struct hash128 fingerprint, etag_str record)
{
    (void)ctx;
    (void)fingerprint;
    (void)record;
    return 0;
}

static void put(struct fixture *f, uint64_t number)
{
    assert_int_equal(
        persist_entry(f->persist, fingerprint_of(number), ETAG_LIT("/"), ETAG_LIT("record")), 0);
}

/* In its transaction: what the store has of them goes, and comes back only with a newer fill. */
CASE(an_event_erases_what_it_takes_along)
{
    const struct hash128 gone[] = {fingerprint_of(1), fingerprint_of(3)};
    struct event event = {.lsn = 1, .wall_ms = 1, .unstored = gone, .unstored_count = 2};
    const struct persist_event queued = {.lsn = 1, .kind = EVENT_MUTATION};
    struct buffer record = {0};

    put(f, 1);
    put(f, 2);
    write_all(f);
    ETAG_INIT(&event.targets);
    event.targets.everything = true;
    assert_int_equal(event_record_pack(&record, &event), 0);
    const etag_str bytes = {(const char *)record.bytes, record.len};
    assert_int_equal(persist_event(f->persist, &queued, bytes), 0);
    const uint64_t ticket = persist_submit(f->persist, true);
    while (persist_progress(f->persist).done < ticket)
        usleep(1000);
    for (uint64_t i = 1; i <= 3; i++)
        assert_int_equal(store_get_entry(f->at.store, fingerprint_of(i), record_ignore, NULL),
                         i == 2 ? 0 : STORE_E_NOT_FOUND);
    put(f, 1);
    write_all(f);
    assert_int_equal(store_get_entry(f->at.store, fingerprint_of(1), record_ignore, NULL), 0);
    buffer_deinit(&record);
}

CASE(without_room_what_is_stored_makes_some)
{
    for (uint64_t i = 0; unstored_has_room(&f->unstored, f->persist); i++)
        add(f, i, true);
    assert_in_range(f->unstored.count, UNSTORED_MAX / 2, UNSTORED_MAX);
    f->unstored.stuck[0] = f->unstored.stuck[5] = false;
    assert_true(unstored_has_room(&f->unstored, f->persist));
}
