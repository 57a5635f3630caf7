/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The writer and readers at once, on one mapping so that ThreadSanitizer sees both. Crowded homes make entries move, few
 * keys make slots and pool records change hands all the time. Whatever a reader is told to be found must be, in every
 * byte, what was stored for that key under that fill LSN, and never older than what it saw before.
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

enum { KEYS = 192, HOMES_USED = 160, READERS = 2, CLOCKS = CLOCKS_MIN };

struct reader {
    const struct shm_view *view;
    const struct hash128 *keys;
    const bool *done; /* atomic */
    uint64_t seed;
    uint64_t last_lsn[KEYS];
    uint64_t found, missing, torn, newer;
    const char *wrong; /* NULL: all well */
    pthread_t thread;
};

static void look_up(struct reader *r, size_t k)
{
    struct shm_entry found;
    switch (shm_find(r->view, r->keys[k], &found)) {
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

    uint32_t clock;
    uint64_t value;
    if (shm_newer_clock(r->view, &found, &clock, &value)) {
        r->newer++;
        if (value <= found.fill_lsn || clock >= CLOCKS)
            r->wrong = "a clock that is not newer";
    }
}

static void *reader_run(void *argument)
{
    struct reader *const r = argument;
    while (!r->wrong && !__atomic_load_n(r->done, __ATOMIC_RELAXED))
        look_up(r, random_next(&r->seed) % KEYS);
    return NULL;
}

static void write_rounds(struct index *index, const struct hash128 keys[KEYS])
{
    struct shm_view *const view = index_view(index);
    uint64_t seed = 99;
    for (uint64_t lsn = 1; lsn <= ROUNDS; lsn++) {
        /* Half of the rounds go to few keys, so that one slot changes while a reader copies it. */
        const uint64_t pick = random_next(&seed);
        const size_t k = pick % 2 ? pick / 2 % KEYS : pick / 2 % 4;
        struct made_entry made;
        struct hash128 evicted;
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

static void test_race(void **state)
{
    const struct index_options options = {.plan = {.capacity = CAPACITY_MIN, .clock_count = CLOCKS},
                                          .incarnation_id = 1};
    struct index *index = NULL;
    assert_int_equal(index_open(&index, &options), 0);
    struct hash128 keys[KEYS];
    for (uint64_t k = 0; k < KEYS; k++)
        keys[k] = made_fingerprint(index_view(index)->home_count, k * HOMES_USED / KEYS, k);

    static struct reader readers[READERS];
    bool done = false;
    for (size_t i = 0; i < READERS; i++) {
        readers[i] = (struct reader){
            .view = index_view(index), .keys = keys, .done = &done, .seed = 1000 * i};
        assert_int_equal(pthread_create(&readers[i].thread, NULL, reader_run, &readers[i]), 0);
    }
    write_rounds(index, keys);
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
    print_message("%llu entries moved\n", (unsigned long long)index_stats(index)->moved);
    assert_true(index_stats(index)->moved > 100);

    for (size_t k = 0; k < KEYS; k++)
        (void)index_remove(index, keys[k]);
    assert_int_equal(index_pool_used_units(index), 0);
    index_close(index);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_race)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
