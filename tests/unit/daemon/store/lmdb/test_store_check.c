/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whatever a disk does to the database, the process that opens it lives, and reads what was written
 * or learns that it is damaged. Only entries may be missing one by one.
 */
#include "bounds.h"
#include "bytes.h"
#include "numbers.h"
#include "store_fixture.h"
#include "text.h"

#include <fcntl.h>
#include <sys/stat.h>

#define MAP_BYTES (UINT64_C(16) << 20)
#define PAGE_BYTES 4096
#define ENTRIES 600
#define EVENTS 300
#define GUARDS 40
#define FLIPS 300

struct fixture {
    struct store_fixture at;
    char data[2 * SCRATCH_BYTES + 32];
    /* the database as it was closed */
    uint8_t *good;
    size_t good_bytes;
    /* found by the last walk, */
    size_t entries;
    /* and those without a record */
    size_t dropped;
};

static int open_store(struct fixture *f)
{
    return store_fixture_open(&f->at, MAP_BYTES);
}

static struct hash128 fingerprint_of(uint64_t number)
{
    return (struct hash128){random_mix(number), number};
}

/* Records of all sizes, some on pages of their own; their content follows from their key. */
static etag_str record_of(uint64_t number)
{
    static char bytes[12000];
    const size_t len = number % 20 == 0 ? 5000 + number % 5000 : 20 + number * 7 % 300;

    for (size_t i = 0; i < len; i++)
        bytes[i] = (char)random_mix(number * 100000 + i);
    return (etag_str){bytes, len};
}

static void fill(struct fixture *f, uint64_t from, uint64_t to)
{
    char name[64];
    struct store_txn *txn;

    assert_int_equal(store_begin(f->at.store, &txn), 0);
    for (uint64_t i = from; i < to; i++) {
        (void)snprintf(name, sizeof(name), "/some/resource/%d", (int)i);
        assert_int_equal(store_put_entry(txn, fingerprint_of(i), str_of(name), record_of(i)), 0);
        if (i < EVENTS)
            assert_int_equal(store_put_event(txn, i + 1, record_of(i)), 0);
        if (i < GUARDS)
            assert_int_equal(store_put_guard(txn, (struct guard_id){i, i}, i, record_of(i)), 0);
    }
    assert_int_equal(store_commit(txn), 0);
}

static void make_good(struct fixture *f)
{
    const struct store_meta meta = {.incarnation = 7, .hash_key = {5}, .clock_count = 4096};
    uint64_t words[CLOCK_CHUNK_WORDS] = {1, 2, 3};
    struct store_txn *txn;
    struct stat status;

    assert_int_equal(open_store(f), 0);
    assert_int_equal(store_meta_write(f->at.store, &meta), 0);
    for (uint64_t from = 0; from < ENTRIES; from += 100)
        fill(f, from, from + 100);
    fill(f, 100, 200); /* so that pages become free */
    assert_int_equal(store_begin(f->at.store, &txn), 0);
    for (uint32_t chunk = 0; chunk < 8; chunk++)
        assert_int_equal(store_put_clocks(txn, chunk, words, CLOCK_CHUNK_WORDS), 0);
    assert_int_equal(store_commit(txn), 0);
    f->at.store = store_close(f->at.store);

    FILE *file = fopen(f->data, "r");
    assert_non_null(file);
    assert_int_equal(fstat(fileno(file), &status), 0);
    f->good_bytes = (size_t)status.st_size;
    f->good = malloc(f->good_bytes);
    assert_non_null(f->good);
    assert_int_equal(fread(f->good, 1, f->good_bytes, file), f->good_bytes);
    fclose(file);
}

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));

    store_fixture_place(&f->at);
    (void)snprintf(f->data, sizeof(f->data), "%s/data.mdb", f->at.dir);
    make_good(f);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    store_fixture_remove(&f->at);
    free(f->good);
    free(f);
    return 0;
}

#define CASE(name) TEST_OF(name, struct fixture *f, set_up, tear_down)

static void restore(const struct fixture *f)
{
    const int fd = open(f->data, O_WRONLY | O_TRUNC | O_CLOEXEC);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, f->good, f->good_bytes), f->good_bytes);
    close(fd);
}

static void flip(const struct fixture *f, size_t at, unsigned bit)
{
    const uint8_t changed = f->good[at] ^ (uint8_t)(1u << bit);
    const int fd = open(f->data, O_WRONLY | O_CLOEXEC);

    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, &changed, 1, (off_t)at), 1);
    close(fd);
}

/* ---- What may be read ---- */

static void assert_record(uint64_t number, etag_str record)
{
    const etag_str expected = record_of(number);

    assert_int_equal(record.len, expected.len);
    assert_memory_equal(record.data, expected.data, record.len);
}

static int see_entry(void *ctx, struct hash128 fingerprint, etag_str record)
{
    struct fixture *f = ctx;

    f->entries++;
    if (record.len == 0)
        f->dropped++;
    else
        assert_record(fingerprint.high, record);
    return 0;
}

static int see_event(void *ctx, uint64_t lsn, etag_str record)
{
    assert_int_equal(lsn, ++*(uint64_t *)ctx);
    assert_record(lsn - 1, record);
    return 0;
}

static int see_guard(void *ctx, struct guard_id id, uint64_t lsn, etag_str record)
{
    assert_int_equal(lsn, (*(uint64_t *)ctx)++);
    assert_int_equal(id.high, lsn);
    assert_record(lsn, record);
    return 0;
}

static int see_chunk(void *ctx, uint32_t chunk, const uint64_t *words, size_t count)
{
    assert_int_equal(chunk, (*(uint64_t *)ctx)++);
    assert_int_equal(words[2], 3);
    return 0;
}

static int see_listed(void *ctx, etag_str cursor, struct hash128 fingerprint, etag_str record)
{
    return 0;
}

/* The events of an accepted database are all there; so are guards and clocks. */
static void assert_whole(struct fixture *f)
{
    struct store_meta meta;
    uint64_t events = 0;
    uint64_t guards = 0;
    uint64_t chunks = 0;

    f->entries = f->dropped = 0;
    assert_int_equal(store_meta_read(f->at.store, &meta), 0);
    assert_int_equal(meta.incarnation, 7);
    assert_int_equal(store_each_event(f->at.store, 0, see_event, &events), 0);
    assert_int_equal(events, EVENTS);
    assert_int_equal(store_each_guard(f->at.store, see_guard, &guards), 0);
    assert_int_equal(guards, GUARDS);
    assert_int_equal(store_each_clock_chunk(f->at.store, see_chunk, &chunks), 0);
    assert_int_equal(chunks, 8);
    assert_int_equal(store_each_entry(f->at.store, (struct hash128){0}, see_entry, f), 0);
    /* One whose key was changed stays beside the one that was written anew. */
    assert_in_range(f->entries, ENTRIES, ENTRIES + f->dropped);
    const int listed = store_list(f->at.store, (etag_str){0}, (etag_str){0}, see_listed, NULL);
    assert_true(listed == 0 || listed == STORE_E_DAMAGED); /* names are for people */
}

/* True: it was accepted, and is whole but for entries. */
static bool open_and_read(struct fixture *f)
{
    struct store_meta meta;
    const int r = open_store(f);

    if (r == STORE_E_DAMAGED || r == STORE_E_FORMAT) {
        assert_non_null(f->at.store);
        f->at.store = store_close(f->at.store);
        return false;
    }
    assert_int_equal(r, 0);
    const int told = store_meta_read(f->at.store, &meta);
    if (told != STORE_E_NOT_FOUND)
        assert_whole(f);
    f->at.store = store_close(f->at.store);
    return told != STORE_E_NOT_FOUND;
}

/* ---- The tests ---- */

CASE(a_sound_database_is_accepted)
{
    assert_true(f->good_bytes > (size_t)100 * PAGE_BYTES);
    assert_true(open_and_read(f));
    assert_int_equal(f->dropped, 0);
}

CASE(a_truncated_database_kills_nobody)
{
    const size_t lengths[] = {0,
                              1,
                              PAGE_BYTES / 2,
                              PAGE_BYTES,
                              PAGE_BYTES + PAGE_BYTES / 2,
                              2 * PAGE_BYTES,
                              3 * PAGE_BYTES,
                              f->good_bytes / 4,
                              f->good_bytes / 2,
                              f->good_bytes / 2 + 1,
                              f->good_bytes - 3 * PAGE_BYTES,
                              f->good_bytes - PAGE_BYTES,
                              f->good_bytes - PAGE_BYTES / 2,
                              f->good_bytes - 1};
    size_t accepted = 0;

    for (size_t i = 0; i < COUNT_OF(lengths); i++) {
        restore(f);
        assert_int_equal(truncate(f->data, (off_t)lengths[i]), 0);
        accepted += open_and_read(f);
        if (lengths[i] > PAGE_BYTES && lengths[i] <= f->good_bytes / 2)
            assert_non_null(strstr(f->at.why.text, "damaged"));
    }
    assert_true(accepted <= 3); /* its last page may be a free one */
}

CASE(changed_bits_kill_nobody_and_change_no_answer)
{
    uint64_t seed = 20240607;
    size_t accepted = 0;
    size_t dropped = 0;

    for (int i = 0; i < FLIPS; i++) {
        /* Half of them where LMDB's own words stand: its meta pages, and the heads of pages. */
        size_t at = random_next(&seed) % f->good_bytes;
        if (i % 4 == 0)
            at = random_next(&seed) % ((size_t)2 * PAGE_BYTES) % 200 +
                 (random_next(&seed) % 2) * PAGE_BYTES;
        if (i % 4 == 1)
            at = at / PAGE_BYTES * PAGE_BYTES + random_next(&seed) % 32;
        restore(f);
        flip(f, at, (unsigned)(random_next(&seed) % 8));
        if (!open_and_read(f))
            continue;
        accepted++;
        dropped += f->dropped;
    }
    print_message("%zu of %d accepted, with %zu entries dropped\n", accepted, FLIPS, dropped);
    assert_true(accepted > FLIPS / 10);
    assert_true(accepted < FLIPS);
    assert_true(dropped > 0);
}

/* What was accepted also takes writes: a page that is free by mistake must not become another's. */
CASE(an_accepted_database_can_be_written)
{
    uint64_t seed = 77;
    size_t accepted = 0;

    for (int i = 0; i < FLIPS / 3; i++) {
        restore(f);
        flip(f, random_next(&seed) % f->good_bytes, (unsigned)(random_next(&seed) % 8));
        if (!open_and_read(f))
            continue;
        accepted++;
        assert_int_equal(open_store(f), 0);
        fill(f, 0, ENTRIES);
        fill(f, 0, ENTRIES);
        assert_whole(f);
        assert_int_equal(f->entries - f->dropped, ENTRIES);
        f->at.store = store_close(f->at.store);
    }
    assert_true(accepted > FLIPS / 30);
}

CASE(a_database_of_zeros_is_damage)
{
    assert_int_equal(truncate(f->data, 0), 0);
    assert_int_equal(truncate(f->data, (off_t)f->good_bytes), 0);
    assert_int_equal(open_store(f), STORE_E_DAMAGED);
}

CASE(a_hole_is_damage)
{
    size_t accepted = 0;
    uint64_t seed = 5;

    for (int i = 0; i < 30; i++) {
        restore(f);
        const size_t page = 2 + random_next(&seed) % (f->good_bytes / PAGE_BYTES - 2);
        const int fd = open(f->data, O_WRONLY | O_CLOEXEC);
        static const uint8_t zeros[PAGE_BYTES];
        assert_int_equal(pwrite(fd, zeros, PAGE_BYTES, (off_t)(page * PAGE_BYTES)), PAGE_BYTES);
        close(fd);
        accepted += open_and_read(f);
    }
    assert_true(accepted < 30);
}
