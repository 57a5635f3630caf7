/* SPDX-License-Identifier: Apache-2.0 */
/* Loading while serving: each rule with a case that fails without it. The store, the cache and the
 * persister are the real ones. */
#include "testing.h"

#include "entry_loader.h"

#include "clocktime.h"
#include "store_fixture.h"
#include "text.h"

#include <errno.h>

#define ENTRIES 103u /* no multiple of a group */
#define FILLED (UINT64_C(4) << LSN_COUNTER_BITS)
#define INCARNATION UINT64_C(5)
#define INCARNATION_ID 0x1234567890abcdefu
#define LONG_NS (10 * NS_PER_S)

struct fixture {
    struct store_fixture at;
    struct index *index;
    struct cache cache;
    struct persist *persist;
    struct entry_loader *loader;
    struct log log;
    struct key key;
    char target[32], etag[32];
    etag_str surrogate;
};

/* The entry of a number: its canonical key in f->key. */
static struct entry entry_of(struct fixture *f, unsigned number, const char *version)
{
    struct entry entry = {
        .last_modified = ETAG_NO_DATE, .surrogates = &f->surrogate, .surrogate_count = 1};

    snprintf(f->target, sizeof(f->target), "/uploads/%u", number);
    snprintf(f->etag, sizeof(f->etag), "\"%s-%u\"", version, number);
    ETAG_INIT(&entry.key);
    entry.key.resource = (etag_resource){ETAG_LIT("shop.example"), str_of(f->target)};
    entry.key.scope.kind = ETAG_SCOPE_PUBLIC;
    entry.etag = str_of(f->etag);
    f->surrogate = number % 2 ? ETAG_LIT("odd") : ETAG_LIT("even");
    assert_null(key_canonicalize(&f->key, &entry.key));
    return entry;
}

static void store_entries(struct fixture *f, unsigned count)
{
    struct store_txn *txn;
    struct buffer record = {0};

    assert_int_equal(store_begin(f->at.store, &txn), 0);
    for (unsigned i = 0; i < count; i++) {
        struct entry_record stored = {.entry = entry_of(f, i, "old"), .fill_lsn = FILLED};
        stored.key_bytes = (etag_str){(const char *)f->key.bytes, f->key.len};
        record.len = 0;
        assert_int_equal(entry_record_pack(&record, &stored), 0);
        assert_int_equal(store_put_entry(txn, key_fingerprint(f->cache.hash_key, &f->key),
                                         str_of(f->target),
                                         (etag_str){(const char *)record.bytes, record.len}),
                         0);
    }
    assert_int_equal(store_commit(txn), 0);
    buffer_deinit(&record);
}

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    const struct index_options index = {.plan = {.capacity = CAPACITY_MIN, .clock_count = 1u << 16},
                                        .incarnation = INCARNATION,
                                        .incarnation_id = INCARNATION_ID,
                                        .hash_key = {1},
                                        .lease_ns = NS_PER_S};

    assert_non_null(f);
    f->log = (struct log){.fd = -1, .least = LOG_ERROR};
    store_fixture_make(&f->at, UINT64_C(64) << 20, 1u << 16);
    assert_int_equal(index_open(&f->index, &index), 0);
    assert_int_equal(cache_init(&f->cache, f->index, &index, NS_PER_S), 0);
    store_entries(f, ENTRIES);
    assert_int_equal(persist_open(&f->persist, f->at.store, f->cache.view, &f->log, 0, NULL), 0);
    f->loader = entry_loader_new(f->at.store, &f->cache, f->persist);
    assert_non_null(f->loader);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    f->loader = entry_loader_free(f->loader);
    f->persist = persist_close(f->persist);
    cache_deinit(&f->cache);
    f->index = index_close(f->index);
    store_fixture_remove(&f->at);
    free(f);
    return 0;
}

#define CASE(name) TEST_OF(name, struct fixture *f, set_up, tear_down)

static void load_all(struct fixture *f)
{
    int r;

    while ((r = entry_loader_step(f->loader, LONG_NS)) == ENTRY_LOADER_E_MORE)
        ;
    assert_int_equal(r, 0);
    f->persist = persist_close(f->persist); /* writes what waits */
    assert_int_equal(persist_open(&f->persist, f->at.store, f->cache.view, &f->log, 0, NULL), 0);
}

static etag_reason state_of(struct fixture *f, unsigned number, struct shm_entry *out)
{
    uint32_t clock;
    uint64_t value;

    (void)entry_of(f, number, "old");
    return cache_state(&f->cache, key_fingerprint(f->cache.hash_key, &f->key), out, &clock, &value);
}

static void invalidate(struct fixture *f, const char *surrogate)
{
    const etag_str name = str_of(surrogate);
    struct event event = {
        .targets = {.size = sizeof(etag_targets), .surrogates = &name, .surrogate_count = 1}};

    assert_true(cache_next_lsn(&f->cache, &event.lsn));
    assert_int_equal(cache_apply(&f->cache, &event), 0);
}

static int see_record(void *ctx, struct hash128 fingerprint, etag_str record)
{
    struct entry_record parsed;
    struct entry_record_parts *parts = calloc(1, sizeof(*parts));
    char *etag = ctx;

    assert_non_null(parts);
    assert_true(entry_record_parse(record, &parsed, parts));
    snprintf(etag, 32, "%.*s", (int)parsed.entry.etag.len, parsed.entry.etag.data);
    free(parts);
    return 0;
}

/* What the store has under a number: "" is nothing. */
static const char *stored(struct fixture *f, unsigned number)
{
    static char etag[32];

    (void)entry_of(f, number, "old");
    etag[0] = '\0';
    const int r = store_get_entry(f->at.store, key_fingerprint(f->cache.hash_key, &f->key),
                                  see_record, etag);
    assert_true(r == 0 || r == STORE_E_NOT_FOUND);
    return etag;
}

/* ---- The tests ---- */

CASE(entries_come_in_steps)
{
    struct shm_entry shown;
    unsigned steps = 0;

    assert_int_equal(entry_loader_progress(f->loader).left, ENTRIES);
    while (entry_loader_step(f->loader, 0) == ENTRY_LOADER_E_MORE)
        steps++;
    assert_true(steps >= ENTRIES / 16);
    assert_int_equal(entry_loader_progress(f->loader).left, 0);
    assert_int_equal(f->cache.counters.loaded, ENTRIES);
    for (unsigned i = 0; i < ENTRIES; i++)
        assert_int_equal(state_of(f, i, &shown), ETAG_REASON_VALID);
}

/* An event of this run between two steps counts for those that come after it as for those that came
 * before. */
CASE(an_entry_is_judged_by_the_clocks_of_now)
{
    struct shm_entry shown;

    assert_int_equal(entry_loader_step(f->loader, 0), ENTRY_LOADER_E_MORE);
    invalidate(f, "odd");
    load_all(f);
    for (unsigned i = 0; i < ENTRIES; i++) {
        const etag_reason found = state_of(f, i, &shown);
        if (i % 2 == 0)
            assert_int_equal(found, ETAG_REASON_VALID);
        else
            assert_true(found == ETAG_REASON_STALE || found == ETAG_REASON_NO_ENTRY);
        assert_true(found == ETAG_REASON_NO_ENTRY ? !*stored(f, i) : *stored(f, i));
    }
    assert_true(f->cache.counters.loaded_stale > 0);
}

/* A fill of this run, index and store as the daemon does it. */
static void fill(struct fixture *f, unsigned number, uint64_t token_lsn, bool persisted)
{
    const struct entry entry = entry_of(f, number, "new");
    const etag_token token = {INCARNATION_ID, token_lsn};
    struct cache_stored kept;
    struct buffer record = {0};

    assert_int_equal(cache_fill(&f->cache, token, &f->key, &entry, &kept), ETAG_REASON_NONE);
    struct entry_record made = {.entry = entry, .fill_lsn = kept.fill_lsn};
    made.key_bytes = (etag_str){(const char *)f->key.bytes, f->key.len};
    assert_int_equal(entry_record_pack(&record, &made), 0);
    if (persisted)
        assert_int_equal(persist_entry(f->persist, kept.fingerprint, str_of(f->target),
                                       (etag_str){(const char *)record.bytes, record.len}),
                         0);
    buffer_deinit(&record);
}

static void assert_is_new(struct fixture *f, unsigned number)
{
    struct shm_entry shown;
    char expected[32];

    snprintf(expected, sizeof(expected), "\"new-%u\"", number);
    assert_int_equal(state_of(f, number, &shown), ETAG_REASON_VALID);
    assert_true(str_equal(shown.etag, str_of(expected)));
}

/* Not replaced by what the store had, be it under the same LSN, as where nothing happened since. */
CASE(what_this_run_filled_stays)
{
    for (unsigned i = 0; i < ENTRIES; i += 3)
        fill(f, i, FILLED, false);
    load_all(f);
    for (unsigned i = 0; i < ENTRIES; i += 3)
        assert_is_new(f, i);
    assert_int_equal(f->cache.counters.loaded, ENTRIES - (ENTRIES + 2) / 3);
}

/* A retire, or an eviction, that the store has not heard of yet. */
CASE(what_this_run_removed_stays_removed)
{
    struct shm_entry seen;

    (void)entry_of(f, 7, "old");
    assert_int_equal(persist_erase(f->persist, key_fingerprint(f->cache.hash_key, &f->key)), 0);
    load_all(f);
    assert_int_equal(state_of(f, 7, &seen), ETAG_REASON_NO_ENTRY);
    assert_int_equal(state_of(f, 8, &seen), ETAG_REASON_VALID);
    assert_int_equal(f->cache.counters.loaded, ENTRIES - 1);
}

/* What is removed before a step's transaction begins, and stored when the step has seen so many
 * entries. 0: nothing. */
static struct {
    struct persist *persist;
    struct hash128 fingerprint;
    unsigned stored_at, calls;
} removal;

uint64_t __real_persist_waiting(const struct persist *persist);
uint64_t __wrap_persist_waiting(const struct persist *persist);

/* The step asks once before its transaction, then once an entry. */
uint64_t __wrap_persist_waiting(const struct persist *persist)
{
    if (removal.stored_at == 0)
        return __real_persist_waiting(persist);
    if (removal.calls == 0)
        assert_int_equal(persist_erase(removal.persist, removal.fingerprint), 0);
    if (removal.calls++ == removal.stored_at) {
        (void)persist_sync(removal.persist);
        while (__real_persist_waiting(persist) > 0)
            usleep(1000);
        removal.stored_at = 0;
    }
    return __real_persist_waiting(persist);
}

struct place {
    unsigned at;
    struct hash128 fingerprint;
};

static int place_find(void *ctx, struct hash128 fingerprint, etag_str record)
{
    struct place *place = ctx;

    (void)record;
    place->fingerprint = fingerprint;
    return place->at-- == 0 ? 1 : 0;
}

static void assert_stays_removed(struct fixture *f, unsigned at, unsigned stored_at)
{
    struct place place = {.at = at};
    struct shm_entry seen;

    assert_int_equal(store_each_entry(f->at.store, (struct hash128){0}, place_find, &place), 1);
    removal.persist = f->persist;
    removal.fingerprint = place.fingerprint;
    removal.calls = 0;
    removal.stored_at = stored_at;
    load_all(f);
    assert_int_equal(removal.stored_at, 0);
    assert_false(index_find(f->index, place.fingerprint, &seen));
    assert_int_equal(f->cache.counters.loaded, ENTRIES - 1);
}

/* The store takes the removal after the loader has read the record, and before it looks for what
 * waits: first of a group, within one, last. */
CASE(a_removal_that_is_stored_during_a_step_0)
{
    assert_stays_removed(f, 0, 1);
}

CASE(a_removal_that_is_stored_during_a_step_5)
{
    assert_stays_removed(f, 5, 3);
}

CASE(a_removal_that_is_stored_during_a_step_15)
{
    assert_stays_removed(f, 15, 16);
}

static struct hash128 fingerprint_of(struct fixture *f, unsigned number)
{
    (void)entry_of(f, number, "old");
    return key_fingerprint(f->cache.hash_key, &f->key);
}

static etag_reason retire(struct fixture *f, unsigned number, uint64_t token_lsn)
{
    const etag_token token = {INCARNATION_ID, token_lsn};
    struct hash128 fingerprint = fingerprint_of(f, number);

    return cache_retire(&f->cache, token, &f->key, &fingerprint);
}

/* What comes for an entry that was not loaded yet finds it. */
CASE(an_entry_comes_before_its_turn)
{
    struct index_evicted evicted;
    struct shm_entry seen;

    for (unsigned i = 0; i < ENTRIES; i += 10) {
        assert_int_equal(retire(f, i, f->cache.lsn), ETAG_REASON_NO_ENTRY);
        assert_false(entry_loader_fetch(f->loader, fingerprint_of(f, i), &evicted));
        assert_int_equal(state_of(f, i, &seen), ETAG_REASON_VALID);
        assert_int_equal(retire(f, i, f->cache.lsn), ETAG_REASON_NONE);
        assert_int_equal(persist_erase(f->persist, fingerprint_of(f, i)), 0);
        /* Removed, and perhaps not in the store: not once more. */
        assert_true(entry_loader_fetch(f->loader, fingerprint_of(f, i), &evicted));
        if (i % 20 == 0) {
            (void)persist_sync(f->persist);
            while (persist_waiting(f->persist) > 0)
                usleep(1000);
            assert_false(entry_loader_fetch(f->loader, fingerprint_of(f, i), &evicted));
        }
        assert_int_equal(state_of(f, i, &seen), ETAG_REASON_NO_ENTRY);
    }
    load_all(f);
    for (unsigned i = 0; i < ENTRIES; i++)
        assert_int_equal(state_of(f, i, &seen),
                         i % 10 == 0 ? ETAG_REASON_NO_ENTRY : ETAG_REASON_VALID);
    assert_int_equal(f->cache.counters.loaded, ENTRIES);
}

/* A stale one is not loaded, and needs no care; of one whose record cannot be read nobody knows. */
CASE(what_is_not_loaded_before_its_turn)
{
    struct index_evicted evicted;
    struct store_txn *txn;

    invalidate(f, "odd");
    assert_false(entry_loader_fetch(f->loader, fingerprint_of(f, 1), &evicted));
    assert_int_equal(f->cache.counters.loaded_stale, 1);
    assert_int_equal(store_begin(f->at.store, &txn), 0);
    assert_int_equal(
        store_put_entry(txn, fingerprint_of(f, 2), ETAG_LIT("/"), ETAG_LIT("no record")), 0);
    assert_int_equal(store_commit(txn), 0);
    assert_true(entry_loader_fetch(f->loader, fingerprint_of(f, 2), &evicted));
    assert_false(entry_loader_fetch(f->loader, fingerprint_of(f, ENTRIES), &evicted));
}

CASE(a_lost_removal_ends_it)
{
    assert_int_equal(entry_loader_step(f->loader, 0), ENTRY_LOADER_E_MORE);
    entry_loader_break(f->loader);
    assert_int_equal(entry_loader_step(f->loader, 0), -ENOBUFS);
}

/* Its record neither, where the former one was found stale just before. */
CASE(what_this_run_filled_is_not_removed)
{
    invalidate(f, "odd");
    assert_int_equal(entry_loader_step(f->loader, 0), ENTRY_LOADER_E_MORE);
    assert_true(f->cache.counters.loaded_stale > 0);
    for (unsigned i = 1; i < ENTRIES; i += 2)
        fill(f, i, f->cache.lsn, true);
    load_all(f);
    for (unsigned i = 1; i < ENTRIES; i += 2) {
        assert_is_new(f, i);
        assert_int_equal(strncmp(stored(f, i), "\"new", 4), 0);
    }
}

CASE(a_damaged_record_is_removed_and_the_rest_is_loaded)
{
    struct store_txn *txn;
    struct shm_entry shown;

    (void)entry_of(f, 5, "old");
    assert_int_equal(store_begin(f->at.store, &txn), 0);
    assert_int_equal(store_put_entry(txn, key_fingerprint(f->cache.hash_key, &f->key),
                                     str_of(f->target), ETAG_LIT("no record")),
                     0);
    assert_int_equal(store_commit(txn), 0);
    load_all(f);
    assert_int_equal(entry_loader_progress(f->loader).damaged, 1);
    assert_int_equal(f->cache.counters.loaded, ENTRIES - 1);
    assert_int_equal(state_of(f, 5, &shown), ETAG_REASON_NO_ENTRY);
    assert_string_equal(stored(f, 5), "");
    assert_string_equal(stored(f, 6), "\"old-6\"");
}

/* A smaller index than before: what is pushed out goes from the store too. */
CASE(what_has_no_room_is_removed)
{
    const unsigned more = CAPACITY_MIN + 500;
    struct shm_entry shown;
    size_t known = 0;

    store_entries(f, more);
    load_all(f);
    for (unsigned i = 0; i < more; i++) {
        const bool here = state_of(f, i, &shown) == ETAG_REASON_VALID;
        known += here;
        assert_true(here == (*stored(f, i) != '\0'));
    }
    assert_in_range(known, CAPACITY_MIN / 2, CAPACITY_MIN);
}
