/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The writer and readers at once, on one mapping so that ThreadSanitizer sees both. Crowded homes
 * make entries move, few keys make slots and pool records change hands all the time; and once more
 * with more than the pool holds, so that records are cleared away by eviction and others written in
 * their place. Whatever a reader is told to be found must be, in every byte, what was stored for
 * that key under that fill LSN, and never older than what it saw before.
 */
#include "made_entry.h"

#include <pthread.h>

#if defined(__SANITIZE_THREAD__)
#define SANITIZED_THREADS 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define SANITIZED_THREADS 1
#endif
#endif
#ifdef SANITIZED_THREADS
#define ROUNDS 40000u
#else
#define ROUNDS 400000u
#endif

enum { KEYS_MAX = 20000, READERS = 2, CLOCKS = CLOCKS_MIN };

struct course {
    size_t keys;
    uint64_t homes_used;
    uint64_t capacity;
    uint64_t rounds;
};

struct reader {
    const struct shm_view *view;
    const struct hash128 *keys;
    size_t key_count;
    /* atomic */
    const bool *done;
    uint64_t seed;
    uint64_t last_lsn[KEYS_MAX];
    uint64_t found, missing, torn, newer;
    /* NULL: all well */
    const char *wrong;
    pthread_t thread;
};

static void look_up(struct reader *r, size_t k)
{
    struct shm_entry found;

    switch (shm_look(r->view, r->keys[k], &found)) {
    case SHM_MISSING:
        r->missing++;
        return;
    case SHM_TORN:
        r->torn++;
        return;
    case SHM_FOUND:
        break;
    }
    struct made_entry made;
    made_entry_init(&made, r->keys[k], found.fill_lsn, CLOCKS);
    const char *const differs = made_entry_differs(&made, &found);
    if (differs)
        r->wrong = differs;
    if (found.fill_lsn < r->last_lsn[k])
        r->wrong = "an older entry came back";
    r->last_lsn[k] = found.fill_lsn;
    r->found++;

    if (found.newer != 0) {
        r->newer++;
        if (found.newer <= found.fill_lsn)
            r->wrong = "a clock that is not newer";
    }
}

static void *reader_run(void *argument)
{
    struct reader *const r = argument;

    while (!r->wrong && !__atomic_load_n(r->done, __ATOMIC_RELAXED))
        look_up(r, random_next(&r->seed) % r->key_count);
    return NULL;
}

static void write_rounds(struct index *index, const struct course *course,
                         const struct hash128 *keys)
{
    struct shm_view *const view = index_view(index);
    uint64_t seed = 99;

    for (uint64_t lsn = 1; lsn <= course->rounds; lsn++) {
        /* Half of the rounds go to few keys, so that one slot changes while a reader copies it. */
        const uint64_t pick = random_next(&seed);
        const size_t k = pick % 2 ? pick / 2 % course->keys : pick / 2 % 4;
        struct made_entry made;
        struct index_evicted evicted;
        switch (random_next(&seed) % 8) {
        case 0:
            (void)index_remove(index, keys[k]);
            break;
        case 1:
            shm_clock_store(view, 1 + (uint32_t)(random_next(&seed) % (CLOCKS - 1)), lsn);
            shm_lsn_store(view, lsn);
            break;
        default:
            made_entry_init(&made, keys[k], lsn, CLOCKS);
            assert_int_equal(index_put(index, &made.entry, 0, &evicted), INDEX_STORED);
        }
    }
}

static struct index_stats race(const struct course *course)
{
    const struct index_options options = {
        .plan = {.capacity = course->capacity, .clock_count = CLOCKS, .pool_bytes = POOL_BYTES_MIN},
        .incarnation_id = 1};
    struct index *index = NULL;

    assert_int_equal(index_open(&index, &options), 0);
    static struct hash128 keys[KEYS_MAX];
    for (uint64_t k = 0; k < course->keys; k++)
        keys[k] = made_fingerprint(index_view(index)->home_count,
                                   k * course->homes_used / course->keys, k);

    static struct reader readers[READERS];
    bool done = false;
    for (size_t i = 0; i < READERS; i++) {
        readers[i] = (struct reader){.view = index_view(index),
                                     .keys = keys,
                                     .key_count = course->keys,
                                     .done = &done,
                                     .seed = 1000 * i};
        assert_int_equal(pthread_create(&readers[i].thread, NULL, reader_run, &readers[i]), 0);
    }
    write_rounds(index, course, keys);
    __atomic_store_n(&done, true, __ATOMIC_RELAXED);
    for (size_t i = 0; i < READERS; i++) {
        struct reader *const r = &readers[i];
        assert_int_equal(pthread_join(r->thread, NULL), 0);
        print_message("reader %zu: %llu found, %llu missing, %llu torn, %llu newer\n", i,
                      (unsigned long long)r->found, (unsigned long long)r->missing,
                      (unsigned long long)r->torn, (unsigned long long)r->newer);
        if (r->wrong)
            fail_msg("reader %zu: %s", i, r->wrong);
        assert_true(r->found > 100 && r->newer > 0);
    }
    const struct index_stats stats = *index_stats(index);
    print_message("%llu entries moved, %llu evicted, %llu of them current\n",
                  (unsigned long long)stats.moved,
                  (unsigned long long)(stats.evicted_pool + stats.evicted_stale),
                  (unsigned long long)stats.evicted_pool);
    for (size_t k = 0; k < course->keys; k++)
        (void)index_remove(index, keys[k]);
    assert_int_equal(index_pool_used_units(index), 0);
    index_close(index);
    return stats;
}

TEST(test_crowded_homes)
{
    const struct course course = {
        .keys = 192, .homes_used = 160, .capacity = CAPACITY_MIN, .rounds = ROUNDS};
    const struct index_stats stats = race(&course);

    assert_true(stats.moved > 100);
    assert_int_equal(stats.evicted_pool, 0);
}

TEST(test_full_pool)
{
    const struct course course = {
        .keys = KEYS_MAX, .homes_used = 30000, .capacity = 32768, .rounds = 2 * ROUNDS};
    const struct index_stats stats = race(&course);

    /* The index has room for all of them: each made room in the pool. */
    assert_true(stats.evicted_pool + stats.evicted_stale > 1000);
}

/* ---- Rule REREAD ---- */

/* One entry with one clock, which is above the entry's fill LSN as long as the entry is there, and
 * goes back when it is gone, as if it had become another name's. So the entry is never current, and
 * whoever has read the clock of the entry that it copied says so. */
struct owned_clock {
    const struct shm_view *view;
    struct hash128 key;
    /* by shm_plain_find() */
    bool plain;
    /* atomic */
    bool done;
    uint64_t found, looks;
    /* the LSN of the first entry that was copied in one state and judged by the clock of another */
    uint64_t wrong_lsn;
    pthread_t thread;
};

static void owned_clock_look(struct owned_clock *r)
{
    struct shm_entry entry;

    if (shm_look(r->view, r->key, &entry) != SHM_FOUND)
        return;
    __atomic_store_n(&r->found, r->found + 1, __ATOMIC_RELAXED);
    if (entry.newer != entry.fill_lsn + 1)
        r->wrong_lsn = entry.fill_lsn;
}

static void owned_clock_find(struct owned_clock *r)
{
    static const struct shm_known known[SHM_KNOWN_PLACES]; /* that there may be no field set */
    struct shm_plain plain;

    if (shm_plain_find(r->view, r->key, known, &plain))
        r->wrong_lsn = plain.fill_lsn;
}

static void *owned_clock_read(void *argument)
{
    struct owned_clock *const r = argument;

    for (; !__atomic_load_n(&r->done, __ATOMIC_RELAXED); r->looks++) {
        if (r->plain)
            owned_clock_find(r);
        else
            owned_clock_look(r);
    }
    return NULL;
}

static void owned_clock_write(struct index *index, struct hash128 key)
{
    const uint32_t clock = 7;
    const struct index_entry made = {.fingerprint = key,
                                     .expires_ns = UINT64_MAX,
                                     .last_modified = ETAG_NO_DATE,
                                     .etag = ETAG_LIT("\"v\""),
                                     .clocks = &clock,
                                     .clock_count = 1};

    for (uint64_t lsn = 1; lsn <= ROUNDS; lsn++) {
        struct index_entry entry = made;
        struct index_evicted evicted;
        entry.fill_lsn = lsn;
        shm_clock_store(index_view(index), clock, lsn + 1);
        assert_int_equal(index_put(index, &entry, 0, &evicted), INDEX_STORED);
        assert_true(index_remove(index, key));
        shm_clock_store(index_view(index), clock, 0);
    }
}

static void owned_clock_race(bool plain)
{
    const struct index_options options = {
        .plan = {.capacity = CAPACITY_MIN, .clock_count = CLOCKS, .pool_bytes = POOL_BYTES_MIN},
        .incarnation_id = 1};
    struct index *index = NULL;

    assert_int_equal(index_open(&index, &options), 0);
    struct owned_clock reader = {.view = index_view(index),
                                 .key = made_fingerprint(index_view(index)->home_count, 3, 3),
                                 .plain = plain};
    assert_int_equal(pthread_create(&reader.thread, NULL, owned_clock_read, &reader), 0);
    /* How often the reader comes while the entry is there is the scheduler's matter. */
    unsigned turns = 0;
    do {
        owned_clock_write(index, reader.key);
    } while (!plain && __atomic_load_n(&reader.found, __ATOMIC_RELAXED) <= 100 && ++turns < 50);
    __atomic_store_n(&reader.done, true, __ATOMIC_RELAXED);
    assert_int_equal(pthread_join(reader.thread, NULL), 0);
    print_message("%llu looks, %llu found\n", (unsigned long long)reader.looks,
                  (unsigned long long)reader.found);
    if (reader.wrong_lsn != 0)
        fail_msg("the entry of LSN %llu was judged by a clock that was not its own",
                 (unsigned long long)reader.wrong_lsn);
    assert_true(plain ? reader.looks > 100 : reader.found > 100);
    index_close(index);
}

TEST(the_clocks_are_those_of_the_entry_that_was_copied)
{
    owned_clock_race(false);
}

TEST(so_they_are_on_the_short_way)
{
    owned_clock_race(true);
}
