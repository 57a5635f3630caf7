/* SPDX-License-Identifier: Apache-2.0 */
/* A full pool: what is filled is stored, at the cost of few others, whatever sizes the records have
 * that are in the way. */
#include "made_entry.h"
#include "numbers.h"
#include "pool_hand.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define CLOCKS CLOCKS_MIN
#define CAPACITY 65536u
#define NOW_NS 1000000u
#define POOL_UNITS (POOL_BYTES_MIN / POOL_UNIT_BYTES)

/* Entity tags as of a SHA-256 in hexadecimal, quotes included: two units each. */
#define TAG_BYTES 66u
#define TAGS_MAX (POOL_UNITS / 2 - 1) /* unit 0 is nobody's */

struct fixture {
    struct index *index;
    uint64_t lsn;
    /* by the last put */
    size_t evicted;
    char tag[ENTITY_TAG_BYTES_MAX];
    char value[FIELDSET_BYTES_MAX];
    struct kept_field field;
    uint8_t packed[FIELDSET_BYTES_MAX];
    uint32_t clocks[CLOCKS_PER_ENTRY_MAX];
};

static struct index *opened(uint64_t pool_bytes)
{
    const struct index_options options = {
        .plan = {.capacity = CAPACITY, .clock_count = CLOCKS, .pool_bytes = pool_bytes},
        .incarnation_id = 4};
    struct index *index = NULL;

    assert_int_equal(index_open(&index, &options), 0);
    return index;
}

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));

    f->index = opened(POOL_BYTES_MIN);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    index_close(f->index);
    free(f);
    return 0;
}

#define CASE(name) TEST_OF(name, struct fixture *f, set_up, tear_down)

static struct hash128 key_of(const struct fixture *f, uint64_t number)
{
    const uint64_t homes = index_view(f->index)->home_count;

    return made_fingerprint(homes, random_mix(number) % homes, number);
}

static bool is_there(const struct fixture *f, uint64_t number)
{
    struct shm_entry found;

    return shm_find(index_view(f->index), key_of(f, number), &found) == SHM_FOUND;
}

/* An entry without anything in the pool. */
static struct index_entry plain(struct fixture *f, uint64_t number)
{
    return (struct index_entry){
        .fingerprint = key_of(f, number),
        .fill_lsn = ++f->lsn,
        .expires_ns = UINT64_MAX,
        .last_modified = ETAG_NO_DATE,
        .etag = ETAG_LIT("\"v\""),
        .clocks = f->clocks,
    };
}

static struct index_entry with_tag(struct fixture *f, uint64_t number, size_t bytes)
{
    struct index_entry entry = plain(f, number);

    made_text(f->tag, bytes, number);
    f->tag[0] = f->tag[bytes - 1] = '"';
    entry.etag = (etag_str){f->tag, bytes};
    return entry;
}

/* Nine clocks: an overflow record of one unit. */
static struct index_entry with_clocks(struct fixture *f, uint64_t number)
{
    struct index_entry entry = plain(f, number);

    for (uint32_t i = 0; i < SLOT_CLOCKS + 1; i++)
        f->clocks[i] = 1 + i;
    entry.clock_count = SLOT_CLOCKS + 1;
    return entry;
}

/* A field set of so many bytes or nearly, that is the set of this number. */
static struct index_entry with_set(struct fixture *f, uint64_t number, uint64_t set, size_t bytes)
{
    struct index_entry entry = plain(f, number);
    const size_t len = bytes - 32;

    made_text(f->value, len, 0);
    (void)snprintf(f->value, 24, "%020llu", (unsigned long long)set);
    f->value[20] = 'x';
    f->field = (struct kept_field){.field = {ETAG_LIT("Link"), {f->value, len}}};
    entry.fieldset = made_fieldset(f->packed, &f->field, 1);
    return entry;
}

static enum index_put put(struct fixture *f, struct index_entry entry)
{
    struct index_evicted evicted;
    struct shm_entry found;
    const uint64_t before = index_count(f->index);
    const bool was_there = index_find(f->index, entry.fingerprint, &found);
    const enum index_put result = index_put(f->index, &entry, NOW_NS, &evicted);

    f->evicted = evicted.count;
    for (size_t i = 0; i < evicted.count; i++)
        assert_false(index_find(f->index, evicted.fingerprints[i], &found));
    const bool is_new = result == INDEX_STORED && !was_there;
    assert_int_equal(index_count(f->index), before + is_new - evicted.count);
    assert_int_equal(shm_find(index_view(f->index), entry.fingerprint, &found),
                     result == INDEX_STORED || was_there ? SHM_FOUND : SHM_MISSING);
    return result;
}

/* Many URLs of pages with tags of 66 bytes: three times what the pool holds. */
CASE(long_tags_go_on_when_the_pool_is_full)
{
    for (uint64_t i = 0; i < 3 * TAGS_MAX; i++) {
        assert_int_equal(put(f, with_tag(f, i, TAG_BYTES)), INDEX_STORED);
        assert_int_equal(f->evicted, i < TAGS_MAX ? 0 : 1);
    }
    assert_int_equal(index_stats(f->index)->evicted_pool, 2 * TAGS_MAX);
    assert_int_equal(index_stats(f->index)->evicted_oldest, 0);
    for (uint64_t i = 0; i < 3 * TAGS_MAX; i++)
        assert_int_equal(is_there(f, i), i >= 2 * TAGS_MAX); /* the oldest went first */
}

/* Records of one unit in every chunk, none of them free: a record of a whole chunk finds its place,
 * and costs one chunk's. */
CASE(a_large_record_finds_room_among_small_ones)
{
    const uint64_t small = POOL_UNITS - 1;

    for (uint64_t i = 0; i < small; i++)
        assert_int_equal(put(f, with_clocks(f, i)), INDEX_STORED);
    assert_int_equal(index_pool_used_units(f->index), small);
    for (uint64_t i = 0; i < 100; i++) {
        assert_int_equal(put(f, with_set(f, small + i, i, 2000)), INDEX_STORED);
        assert_int_equal(f->evicted, POOL_RUN_UNITS_MAX);
    }
    for (uint64_t i = 0; i < 100; i++)
        assert_true(is_there(f, small + i));
    /* And back: small ones take the place of one large record after another. */
    for (uint64_t i = 0; i < 3 * small; i++) {
        assert_int_equal(put(f, with_clocks(f, 2 * small + i)), INDEX_STORED);
        assert_in_range(f->evicted, 0, 1);
    }
}

CASE(what_is_of_no_use_goes_first)
{
    const struct index_stats *const stats = index_stats(f->index);
    static const uint32_t clock[] = {77};
    uint64_t stale = 0, expired = 0;

    for (uint64_t i = 0; i < TAGS_MAX; i++) {
        struct index_entry entry = with_tag(f, i, TAG_BYTES);
        if (i % 8 == 6)
            entry.clocks = clock, entry.clock_count = 1, stale++;
        if (i % 8 == 7)
            entry.expires_ns = NOW_NS, expired++;
        assert_int_equal(put(f, entry), INDEX_STORED);
    }
    shm_clock_store(index_view(f->index), 77, ++f->lsn);
    for (uint64_t i = 0; i < stale + expired; i++)
        assert_int_equal(put(f, with_tag(f, TAGS_MAX + i, TAG_BYTES)), INDEX_STORED);
    assert_int_equal(stats->evicted_pool, 0);
    assert_int_equal(stats->evicted_stale, stale);
    assert_int_equal(stats->evicted_expired, expired);
    assert_int_equal(put(f, with_tag(f, 3 * TAGS_MAX, TAG_BYTES)), INDEX_STORED);
    assert_int_equal(stats->evicted_pool, 1);
}

/* Everybody has Cache-Control and Vary: that set stays, while tags come and go. */
CASE(a_set_that_everybody_has_stays)
{
    for (uint64_t i = 0; i < 3 * TAGS_MAX; i++) {
        struct index_entry entry = with_set(f, i, 1, 60);
        made_text(f->tag, TAG_BYTES, i);
        f->tag[0] = f->tag[TAG_BYTES - 1] = '"';
        entry.etag = (etag_str){f->tag, TAG_BYTES};
        assert_int_equal(put(f, entry), INDEX_STORED);
        assert_in_range(f->evicted, 0, 1);
    }
    assert_int_equal(index_fieldset_count(f->index), 1);
    assert_true(index_count(f->index) > TAGS_MAX - 5);
}

/* Each page has a set of its own, which its three variants share. */
CASE(sets_of_a_page_go_with_its_variants)
{
    const uint64_t pages = 3 * (POOL_UNITS / 8);

    for (uint64_t i = 0; i < 3 * pages; i++) {
        assert_int_equal(put(f, with_set(f, i, i / 3, 500)), INDEX_STORED);
        assert_in_range(f->evicted, 0, 3);
    }
    assert_in_range(index_fieldset_count(f->index), POOL_UNITS / 8 - 2, POOL_UNITS / 8);
}

/* The worst that a pool made small can hold: nothing but sets that twice as many entries share as
 * may go for one. New sets are refused, but not for ever. */
CASE(sets_of_many_entries_do_not_stay_for_ever)
{
    const uint64_t sets = POOL_UNITS / POOL_RUN_UNITS_MAX - 1, each = 64;
    uint64_t refused = 0, number = sets * each;

    for (uint64_t i = 0; i < sets * each; i++)
        assert_int_equal(put(f, with_set(f, i, i / each, 2000)), INDEX_STORED);
    while (put(f, with_set(f, number, number, 2000)) == INDEX_NO_ROOM) {
        assert_true(f->evicted <= POOL_RUN_UNITS_MAX);
        assert_true(++refused < 20);
    }
    assert_true(refused > 0 && is_there(f, number));
    assert_true(index_count(f->index) > (sets - 2) * each);
    print_message("%llu refused\n", (unsigned long long)refused);
}

/* Filled again in a full pool: nobody hears that the entry itself went, and it stays if there is no
 * room. */
CASE(an_entry_does_not_evict_itself)
{
    for (uint64_t i = 0; i < TAGS_MAX; i++)
        assert_int_equal(put(f, with_tag(f, i, TAG_BYTES)), INDEX_STORED);
    for (uint64_t round = 0; round < 5; round++)
        for (uint64_t i = 0; i < TAGS_MAX; i += 7) {
            struct index_entry entry = with_set(f, i, i, 1000);
            made_text(f->tag, 250, f->lsn);
            entry.etag = (etag_str){f->tag, 250};
            assert_int_equal(put(f, entry), INDEX_STORED);
        }
}

/* ---- Against a plain map ---- */

enum { KEYS = 20000, ROUNDS = 60000 };

static void forget(uint64_t *fill_lsn, const struct hash128 *keys, struct hash128 key)
{
    for (size_t i = 0; i < KEYS; i++)
        if (keys[i].low == key.low && keys[i].high == key.high && fill_lsn[i] != 0) {
            fill_lsn[i] = 0;
            return;
        }
    fail_msg("an entry was evicted that was not there");
}

static void check_all(const struct fixture *f, const uint64_t *fill_lsn, const struct hash128 *keys)
{
    for (size_t k = 0; k < KEYS; k++) {
        struct shm_entry found;
        struct made_entry made;
        const enum shm_find result = shm_find(index_view(f->index), keys[k], &found);
        assert_int_equal(result, fill_lsn[k] ? SHM_FOUND : SHM_MISSING);
        if (result != SHM_FOUND)
            continue;
        made_entry_init(&made, keys[k], fill_lsn[k], CLOCKS);
        const char *const differs = made_entry_differs(&made, &found);
        if (differs)
            fail_msg("key %zu: %s", k, differs);
    }
}

CASE(records_of_all_sizes_against_a_map)
{
    static uint64_t fill_lsn[KEYS];
    static struct hash128 keys[KEYS];
    uint64_t seed = 11;

    for (size_t k = 0; k < KEYS; k++)
        keys[k] = key_of(f, k);
    for (uint64_t round = 1; round <= ROUNDS; round++) {
        const size_t k = random_next(&seed) % KEYS;
        struct made_entry made;
        struct index_evicted evicted;
        if (random_next(&seed) % 16 == 0) {
            assert_int_equal(index_remove(f->index, keys[k]), fill_lsn[k] != 0);
            fill_lsn[k] = 0;
            continue;
        }
        made_entry_init(&made, keys[k], round, CLOCKS);
        assert_int_equal(index_put(f->index, &made.entry, 0, &evicted), INDEX_STORED);
        for (size_t i = 0; i < evicted.count; i++)
            forget(fill_lsn, keys, evicted.fingerprints[i]);
        fill_lsn[k] = round;
        if (round % 10000 == 0)
            check_all(f, fill_lsn, keys);
    }
    assert_true(index_stats(f->index)->evicted_pool > 1000);
    for (size_t k = 0; k < KEYS; k++)
        (void)index_remove(f->index, keys[k]);
    assert_int_equal(index_pool_used_units(f->index), 0);
    assert_int_equal(index_fieldset_count(f->index), 0);
}

/* ---- Its memory ---- */

static uint64_t allocated_bytes(const struct index *index)
{
    struct stat st;

    assert_int_equal(fstat(index_fd(index), &st), 0);
    return (uint64_t)st.st_blocks * 512;
}

CASE(memory_for_long_tags_is_taken_when_they_come)
{
    index_close(f->index);
    f->index = opened(0);
    const uint64_t at_start = index_taken_bytes(f->index);
    assert_true(at_start + CAPACITY * UINT64_C(100) < index_bytes(f->index));
    assert_in_range(allocated_bytes(f->index), at_start, at_start + 4096);

    for (uint64_t i = 0; i < CAPACITY / 4; i++)
        assert_int_equal(put(f, with_tag(f, i, TAG_BYTES)), INDEX_STORED);
    assert_true(index_taken_bytes(f->index) > at_start);
    assert_true(index_taken_bytes(f->index) < index_bytes(f->index));
    /* Nothing was written to a page that was not taken before. */
    assert_in_range(allocated_bytes(f->index), index_taken_bytes(f->index),
                    index_taken_bytes(f->index) + 4096);
    for (uint64_t i = CAPACITY / 4; i < CAPACITY; i++)
        assert_int_equal(put(f, with_tag(f, i, TAG_BYTES)), INDEX_STORED);
    assert_int_equal(index_stats(f->index)->evicted_pool, 0); /* default: a long tag for each */
    assert_int_equal(index_taken_bytes(f->index), index_bytes(f->index));
}

static void fallocate_refuse(void)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_fallocate, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSPC),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const struct sock_fprog program = {.len = COUNT_OF(code), .filter = code};

    assert_int_equal(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
    assert_int_equal(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program), 0);
}

/* A machine without memory: the pool stays as large as it is, and entries go. */
CASE(memory_that_is_refused_is_a_full_pool)
{
    int status;

    if (prctl(PR_GET_SECCOMP, 0, 0, 0, 0) < 0) {
        print_message("skipped: this kernel, or an emulator, has no seccomp\n");
        skip();
    }
    index_close(f->index);
    f->index = opened(0);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        const uint64_t at_start = index_taken_bytes(f->index);
        uint64_t failed = 0;
        fallocate_refuse();
        for (uint64_t i = 0; i < 2 * TAGS_MAX; i++)
            failed += put(f, with_tag(f, i, TAG_BYTES)) != INDEX_STORED;
        const struct index_stats *const stats = index_stats(f->index);
        _exit(failed == 0 && stats->evicted_pool == TAGS_MAX && stats->pool_not_extended > 1 &&
                      stats->pool_not_extended < 20 && index_taken_bytes(f->index) == at_start
                  ? 0
                  : 1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}
