/* SPDX-License-Identifier: Apache-2.0 */
/* The index's writer against a plain map, and every rule of its own: order of eviction, moving,
 * sharing, seals. */
#include "made_entry.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>

#define CLOCKS CLOCKS_MIN
#define NOW_NS 1000000u

static const struct index_options small = {
    .plan = {.capacity = CAPACITY_MIN, .clock_count = CLOCKS},
    .incarnation = 3,
    .incarnation_id = 4,
    .hash_key = {1, 2, 3},
    .lease_ns = 5,
};

static struct index *opened(void)
{
    struct index *index = NULL;

    assert_int_equal(index_open(&index, &small), 0);
    return index;
}

static uint64_t homes(struct index *index)
{
    return index_view(index)->home_count;
}

static struct hash128 key_at(struct index *index, uint64_t home, uint64_t number)
{
    const struct hash128 key = made_fingerprint(homes(index), home, number);

    assert_int_equal(layout_home(homes(index), key), home);
    return key;
}

/* An entry without anything in the pool. */
static struct index_entry plain(struct hash128 key, uint64_t fill_lsn)
{
    static const uint32_t clocks[] = {CLOCK_FLOOR, 5};

    return (struct index_entry){
        .fingerprint = key,
        .fill_lsn = fill_lsn,
        .expires_ns = UINT64_MAX,
        .last_modified = ETAG_NO_DATE,
        .etag = ETAG_LIT("\"v\""),
        .clocks = clocks,
        .clock_count = 2,
    };
}

/* Stores an entry that must find a place; returns whom it evicted, {0, 0}: nobody. */
static struct hash128 stored(struct index *index, struct index_entry entry)
{
    struct index_evicted evicted;

    assert_int_equal(index_put(index, &entry, NOW_NS, &evicted), INDEX_STORED);
    struct shm_entry found;
    assert_int_equal(shm_find(index_view(index), entry.fingerprint, &found), SHM_FOUND);
    assert_in_range(evicted.count, 0, 1);
    return evicted.count > 0 ? evicted.fingerprints[0] : (struct hash128){0};
}

static bool is_there(struct index *index, struct hash128 key)
{
    struct shm_entry found, own;
    const bool found_by_reader = shm_find(index_view(index), key, &found) == SHM_FOUND;

    assert_int_equal(found_by_reader, index_find(index, key, &own));
    return found_by_reader;
}

TEST(test_header)
{
    struct index *index = opened();
    const struct layout_header *const h = index_view(index)->header;

    assert_null(layout_validate(h, index_bytes(index)));
    assert_int_equal(h->incarnation, 3);
    assert_int_equal(h->incarnation_id, 4);
    assert_int_equal(h->hash_key[2], 3);
    assert_int_equal(h->lease_ns, 5);
    assert_int_equal(h->lease_deadline_ns, 0);
    assert_int_equal((uintptr_t)h % LAYOUT_ALIGN, 0);
    assert_int_equal(index_capacity(index), CAPACITY_MIN);
    assert_int_equal(index_count(index), 0);
    assert_null(index_close(index));
}

/* Whoever gets the descriptor can read and nothing else. */
TEST(test_seals)
{
    struct index *index = opened();
    const int fd = index_fd(index);
    const size_t bytes = index_bytes(index);
    const int seals = fcntl(fd, F_GET_SEALS);
    const int wanted = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL;

    assert_int_equal(seals & wanted, wanted);
    assert_int_equal(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);

    assert_ptr_equal(mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), MAP_FAILED);
    assert_int_equal(errno, EPERM);
    assert_int_equal(pwrite(fd, "x", 1, 0), -1);
    assert_int_equal(ftruncate(fd, 0), -1);
    assert_int_equal(ftruncate(fd, (off_t)bytes * 2), -1);
    assert_int_equal(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096), -1);

    void *base = NULL;
    assert_int_equal(shm_map(&base, fd, bytes, PROT_READ), 0);
    assert_int_equal(mprotect(base, 4096, PROT_READ | PROT_WRITE), -1);
    assert_int_equal(errno, EACCES);

    /* And it reads what the daemon writes now. */
    assert_null(layout_validate(base, bytes));
    const struct shm_view reader = shm_view_of(base, base);
    const struct hash128 key = key_at(index, 9, 1);
    stored(index, plain(key, 7));
    struct shm_entry found;
    assert_int_equal(shm_find(&reader, key, &found), SHM_FOUND);
    assert_int_equal(found.fill_lsn, 7);
    munmap(base, bytes);
    index_close(index);
}

/* A refusal of the system is forwarded, and nothing stays behind. */
TEST(test_open_refused)
{
    struct rlimit former, tight = {.rlim_cur = 1 << 20};

    assert_int_equal(getrlimit(RLIMIT_FSIZE, &former), 0);
    tight.rlim_max = former.rlim_max;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &tight), 0);
    const int lowest_before = dup(0);
    close(lowest_before);
    struct index *index = NULL;
    assert_int_equal(index_open(&index, &small), -EFBIG);
    assert_null(index);
    const int lowest_after = dup(0);
    close(lowest_after);
    assert_int_equal(lowest_after, lowest_before);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &former), 0);
}

TEST(test_put_replace_remove)
{
    struct index *index = opened();
    const struct hash128 key = key_at(index, 3, 1);
    struct shm_entry found;

    assert_false(index_find(index, key, &found));
    assert_false(index_remove(index, key));

    struct index_entry entry = plain(key, 10);
    assert_true(hash128_is_zero(stored(index, entry)));
    assert_int_equal(index_count(index), 1);
    assert_true(index_find(index, key, &found));
    assert_int_equal(found.clocks[0], 5); /* the floor takes no place */
    assert_int_equal(found.clocks[1], CLOCK_FLOOR);

    struct index_evicted evicted;
    entry.fill_lsn = 9;
    entry.etag = ETAG_LIT("\"older\"");
    assert_int_equal(index_put(index, &entry, NOW_NS, &evicted), INDEX_OLDER);
    assert_true(index_find(index, key, &found));
    assert_true(str_equal(found.etag, ETAG_LIT("\"v\"")));

    entry.fill_lsn = 10;
    entry.etag = ETAG_LIT("\"equal\"");
    stored(index, entry);
    entry.fill_lsn = 11;
    assert_true(index_find(index, key, &found));
    assert_true(str_equal(found.etag, ETAG_LIT("\"equal\"")));
    stored(index, entry);
    assert_int_equal(index_count(index), 1);

    assert_true(index_remove(index, key));
    assert_false(is_there(index, key));
    assert_int_equal(index_count(index), 0);
    index_close(index);
}

/* Fills up to capacity with entries that are out of the way of homes 0 to 99. */
static void fill_up(struct index *index, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++)
        assert_true(hash128_is_zero(stored(index, plain(key_at(index, 200 + i, 1000000 + i), 1))));
}

/* At capacity: first a stale one of the window, then one in flux, then expired, then the oldest;
 * none if the window is empty. */
TEST(test_eviction_order)
{
    struct index *index = opened();

    fill_up(index, CAPACITY_MIN - 6);
    enum { FRESH, OLD, EXPIRED, STALE, FLUX, FRESHER };
    struct hash128 keys[6];
    for (uint64_t i = 0; i < 6; i++)
        keys[i] = key_at(index, i % 2, i); /* of two homes: the window counts */
    static const uint32_t stale_clocks[9] = {20, 21, 22, 23, 24, 25, 26, 27, 77};
    static const uint32_t flux_clocks[1] = {78};
    for (int i = 0; i < 6; i++) {
        struct index_entry entry = plain(keys[i], 100 + (uint64_t)i);
        if (i == OLD)
            entry.fill_lsn = 50;
        if (i == EXPIRED)
            entry.expires_ns = NOW_NS;
        if (i == STALE)
            entry.clocks = stale_clocks, entry.clock_count = 9; /* stale by its overflow record */
        if (i == FLUX)
            entry.clocks = flux_clocks, entry.clock_count = 1;
        assert_true(hash128_is_zero(stored(index, entry)));
    }
    shm_clock_store(index_view(index), 77, 104);
    shm_clock_store(index_view(index), 78, CLOCK_IN_FLUX | 1);
    assert_int_equal(index_count(index), CAPACITY_MIN);

    static const int order[] = {STALE, FLUX, EXPIRED, OLD, FRESH, FRESHER};
    for (uint64_t i = 0; i < 6; i++) {
        const struct hash128 evicted = stored(index, plain(key_at(index, 0, 100 + i), 1000 + i));
        assert_true(hash128_equal(evicted, keys[order[i]]));
        assert_false(is_there(index, evicted));
        assert_int_equal(index_count(index), CAPACITY_MIN);
    }
    const struct index_stats *const stats = index_stats(index);
    assert_int_equal(stats->evicted_stale, 2);
    assert_int_equal(stats->evicted_expired, 1);
    assert_int_equal(stats->evicted_oldest, 3);

    assert_true(hash128_is_zero(stored(index, plain(key_at(index, 60, 500), 1))));
    assert_int_equal(index_count(index), CAPACITY_MIN + 1);
    /* A key that is there already evicts nobody. */
    assert_true(hash128_is_zero(stored(index, plain(key_at(index, 60, 500), 2))));
    assert_int_equal(index_pool_used_units(index), 0);
    index_close(index);
}

/* The window is full of entries with later homes: one moves away, everybody stays findable. */
TEST(test_displacement)
{
    struct index *index = opened();

    for (uint64_t i = 0; i < 200; i++)
        stored(index, plain(key_at(index, i, i), 1));
    for (uint64_t i = 0; i < 6; i++)
        assert_true(hash128_is_zero(stored(index, plain(key_at(index, 0, 1000 + i), 1))));
    assert_true(index_stats(index)->moved >= 6 * 5); /* from slot 200 down to the first 32 */
    for (uint64_t i = 0; i < 200; i++)
        assert_true(is_there(index, key_at(index, i, i)));
    for (uint64_t i = 0; i < 6; i++)
        assert_true(is_there(index, key_at(index, 0, 1000 + i)));
    assert_int_equal(index_count(index), 206);
    for (uint64_t i = 0; i < 200; i++)
        assert_true(index_remove(index, key_at(index, i, i)));
    assert_int_equal(index_count(index), 6);
    index_close(index);
}

/* More entries of one home than its window has slots; also at the end of the array, where nothing
 * wraps around. */
TEST(test_one_home)
{
    struct index *index = opened();
    const uint64_t at[] = {0, homes(index) - 1};

    for (size_t n = 0; n < 2; n++) {
        for (uint64_t i = 0; i < HOP_WINDOW; i++)
            assert_true(hash128_is_zero(stored(index, plain(key_at(index, at[n], i), 10 + i))));
        for (uint64_t i = 0; i < 3; i++) {
            const struct hash128 evicted = stored(index, plain(key_at(index, at[n], 50 + i), 99));
            assert_true(hash128_equal(evicted, key_at(index, at[n], i)));
        }
        assert_int_equal(index_count(index), HOP_WINDOW * (n + 1));
    }
    assert_int_equal(index_stats(index)->evicted_oldest, 6);
    index_close(index);
}

TEST(test_shared_field_sets)
{
    uint8_t packed[FIELDSET_BYTES_MAX];
    struct index *index = opened();
    const struct kept_field fields[] = {
        {.field = {ETAG_LIT("Cache-Control"), ETAG_LIT("max-age=60")}},
        {.field = {ETAG_LIT("Vary"), ETAG_LIT("Accept")}},
    };

    for (uint64_t i = 0; i < 20; i++) {
        struct index_entry entry = plain(key_at(index, i, i), 1);
        entry.fieldset = made_fieldset(packed, fields, i < 10 ? 1 : 2);
        stored(index, entry);
    }
    assert_int_equal(index_fieldset_count(index), 2);
    assert_int_equal(index_pool_used_units(index), 2);
    for (uint64_t i = 0; i < 10; i++)
        stored(index, plain(key_at(index, i, i), 2)); /* replaced by entries without any */
    assert_int_equal(index_fieldset_count(index), 1);
    for (uint64_t i = 10; i < 19; i++)
        assert_true(index_remove(index, key_at(index, i, i)));
    assert_int_equal(index_pool_used_units(index), 1);

    struct shm_entry found;
    struct kept_field parsed[FIELDS_PER_ENTRY_MAX];
    assert_int_equal(shm_find(index_view(index), key_at(index, 19, 19), &found), SHM_FOUND);
    assert_int_equal(fieldset_parse(found.fieldset_words, found.fieldset_bytes, parsed), 2);
    assert_true(str_equal(parsed[1].field.value, ETAG_LIT("Accept")));
    assert_true(index_remove(index, key_at(index, 19, 19)));
    assert_int_equal(index_fieldset_count(index), 0);
    assert_int_equal(index_pool_used_units(index), 0);
    index_close(index);
}

/* ---- Against a plain map ---- */

enum { KEYS = 1600, ROUNDS = 60000 };

struct plain_map {
    /* 0: not there */
    uint64_t fill_lsn[KEYS];
    struct hash128 keys[KEYS];
    uint64_t count;
};

static void forget(struct plain_map *map, struct hash128 key)
{
    for (size_t i = 0; i < KEYS; i++)
        if (hash128_equal(map->keys[i], key) && map->fill_lsn[i] != 0) {
            map->fill_lsn[i] = 0;
            map->count--;
            return;
        }
    fail_msg("an entry was evicted that was not there");
}

static void check_key(struct index *index, const struct plain_map *map, size_t k)
{
    struct shm_entry found, own;
    const enum shm_find result = shm_find(index_view(index), map->keys[k], &found);

    assert_int_equal(result, map->fill_lsn[k] ? SHM_FOUND : SHM_MISSING);
    assert_int_equal(index_find(index, map->keys[k], &own), map->fill_lsn[k] != 0);
    if (result != SHM_FOUND)
        return;
    struct made_entry made;
    made_entry_init(&made, map->keys[k], map->fill_lsn[k], CLOCKS);
    const char *const differs = made_entry_differs(&made, &found);
    const char *const own_differs = made_entry_differs(&made, &own);
    if (differs || own_differs)
        fail_msg("key %zu: %s", k, differs ? differs : own_differs);
}

TEST(test_against_a_map)
{
    struct index *index = opened();
    static struct plain_map map;
    uint64_t seed = 1, counts[3] = {0};

    for (size_t k = 0; k < KEYS; k++) /* a third of the keys crowd in a tenth of the homes */
        map.keys[k] = key_at(index, random_next(&seed) % (homes(index) / (k % 3 ? 1 : 10)), k);

    for (uint64_t round = 1; round <= ROUNDS; round++) {
        const size_t k = random_next(&seed) % KEYS;
        const uint64_t what = random_next(&seed) % 16;
        if (what < 3) {
            assert_int_equal(index_remove(index, map.keys[k]), map.fill_lsn[k] != 0);
            map.count -= map.fill_lsn[k] != 0;
            map.fill_lsn[k] = 0;
        } else {
            struct made_entry made;
            struct index_evicted evicted;
            const uint64_t lsn = what == 3 ? 1 + round / 2 : round + 1;
            made_entry_init(&made, map.keys[k], lsn, CLOCKS);
            const enum index_put put = index_put(index, &made.entry, random_next(&seed), &evicted);
            counts[put]++;
            assert_true(put == INDEX_NO_ROOM || (put == INDEX_OLDER) == (map.fill_lsn[k] > lsn));
            for (size_t i = 0; i < evicted.count; i++)
                forget(&map, evicted.fingerprints[i]);
            if (put == INDEX_STORED) {
                map.count += map.fill_lsn[k] == 0;
                map.fill_lsn[k] = lsn;
            }
        }
        check_key(index, &map, k);
        assert_int_equal(index_count(index), map.count);
        if (round % 1000 == 0)
            for (size_t i = 0; i < KEYS; i++)
                check_key(index, &map, i);
        if (round == ROUNDS / 2) /* from here on everything is stale until it is filled again */
            shm_clock_store(index_view(index), CLOCK_FLOOR, round);
    }
    const struct index_stats *const stats = index_stats(index);
    assert_true(stats->evicted_stale > 100 && stats->evicted_expired > 100);
    assert_true(stats->moved > 100);
    assert_true(counts[INDEX_STORED] > ROUNDS / 2 && counts[INDEX_OLDER] > 100);

    for (size_t k = 0; k < KEYS; k++)
        assert_int_equal(index_remove(index, map.keys[k]), map.fill_lsn[k] != 0);
    assert_int_equal(index_count(index), 0);
    assert_int_equal(index_pool_used_units(index), 0);
    assert_int_equal(index_fieldset_count(index), 0);
    index_close(index);
}
