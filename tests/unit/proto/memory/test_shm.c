/* SPDX-License-Identifier: Apache-2.0 */
/* Slots, clocks and records in plain memory: what is written is found, and whatever else the bytes
 * are, nothing is. */
#include "testing.h"

#include "bytes.h"
#include "shm.h"
#include "text.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>

#define GUARD_BYTES ((size_t)LAYOUT_SECTION_ALIGN)

/* An index between two pages that cannot be touched. */
struct memory {
    uint8_t *pages;
    size_t bytes;
    struct shm_view view;
};

static struct memory memory_make(uint32_t clock_count)
{
    const struct layout_plan plan = {.capacity = CAPACITY_MIN, .clock_count = clock_count};
    struct layout_header header = {0};

    layout_init(&header, &plan);
    struct memory m = {.bytes = header.total_bytes};
    m.pages = mmap(NULL, m.bytes + 2 * GUARD_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(m.pages, MAP_FAILED);
    assert_int_equal(mprotect(m.pages + GUARD_BYTES, m.bytes, PROT_READ | PROT_WRITE), 0);
    memcpy(m.pages + GUARD_BYTES, &header, sizeof(header));
    m.view = shm_view_of(m.pages + GUARD_BYTES, &header);
    return m;
}

static void memory_free(struct memory *m)
{
    munmap(m->pages, m->bytes + 2 * GUARD_BYTES);
}

static const uint32_t some_clocks[] = {7, 8, 9};
static const struct hash128 some_key = {.low = 11, .high = 22}; /* home 0 */

static struct shm_record some_record(void)
{
    return (struct shm_record){
        .fingerprint = some_key,
        .fill_lsn = 100,
        .expires_ns = UINT64_MAX,
        .last_modified = ETAG_NO_DATE,
        .etag = ETAG_LIT("\"v1\""),
        .clocks = some_clocks,
        .clock_count = 3,
    };
}

/* Writes a record to a slot as the index does, overflow record at the given unit included. */
static void put(struct shm_view *view, uint64_t slot, struct shm_record record, etag_str location,
                uint32_t unit)
{
    uint8_t bytes[POOL_RECORD_BYTES_MAX];
    const size_t len = shm_overflow_pack(bytes, &record, location);

    if (len > 0) {
        shm_pool_write(view, unit, bytes, len);
        record.overflow = unit;
    }
    shm_write(view, slot, &record);
    const uint64_t home = layout_home(view->home_count, record.fingerprint);
    shm_hop_store(view, home, shm_hop_load(view, home) | 1u << (slot - home));
}

static uint32_t sequence_of(const struct shm_view *view, uint64_t slot)
{
    return view->slots[slot].sequence;
}

TEST(test_words)
{
    struct memory m = memory_make(CLOCKS_MIN);

    assert_int_equal(shm_lease_load(&m.view), 0);
    shm_lease_store(&m.view, 5);
    shm_lsn_store(&m.view, 6);
    shm_clock_store(&m.view, CLOCKS_MIN - 1, 7);
    assert_int_equal(shm_lease_load(&m.view), 5);
    assert_int_equal(shm_lsn_load(&m.view), 6);
    assert_int_equal(shm_clock_load(&m.view, CLOCKS_MIN - 1), 7);
    assert_int_equal(shm_clock_load(&m.view, 0), 0);
    memory_free(&m);
}

/* Every kind of entry comes back as it went in, at each place of the window. */
TEST(test_round_trip)
{
    struct memory m = memory_make(CLOCKS_MAX);
    static const size_t etag_lens[] = {0, 2, 43, 44, 45, 256};
    static const size_t location_lens[] = {0, 1, 1024};
    static const size_t clock_counts[] = {0, 1, 7, 8, 9, 133};
    char etag[ENTITY_TAG_BYTES_MAX], location[CONTENT_LOCATION_BYTES_MAX];
    uint32_t clocks[CLOCKS_PER_ENTRY_MAX];

    for (size_t i = 0; i < sizeof(etag); i++)
        etag[i] = (char)('a' + i % 26);
    for (size_t i = 0; i < sizeof(location); i++)
        location[i] = (char)('A' + i % 26);
    for (size_t i = 0; i < CLOCKS_PER_ENTRY_MAX; i++) /* all 24 bits in use */
        clocks[i] = i % 2 ? CLOCKS_MAX - 1 - (uint32_t)i : (uint32_t)i * 0x10307;

    for (size_t n = 0; n < 6 * 3 * 6; n++) {
        struct shm_record record = some_record();
        record.etag = (etag_str){etag, etag_lens[n % 6]};
        record.clocks = clocks;
        record.clock_count = clock_counts[n / 18];
        record.last_modified = (int64_t)n - 50;
        record.expires_ns = n;
        const etag_str where = {location, location_lens[n / 6 % 3]};
        const uint64_t slot = n % HOP_WINDOW;
        put(&m.view, slot, record, where, 1);

        struct shm_entry found;
        assert_int_equal(shm_find(&m.view, some_key, &found), SHM_FOUND);
        assert_int_equal(found.slot, slot);
        assert_int_equal(found.fill_lsn, 100);
        assert_int_equal(found.expires_ns, n);
        assert_int_equal(found.last_modified, (int64_t)n - 50);
        assert_true(str_equal(found.etag, record.etag));
        assert_true(str_equal(found.content_location, where));
        assert_int_equal(found.content_location.data == NULL, where.len == 0);
        const size_t places = record.clock_count > 8 ? record.clock_count : 8;
        assert_int_equal(found.clock_count, places);
        for (size_t i = 0; i < places; i++)
            assert_int_equal(found.clocks[i], i < record.clock_count ? clocks[i] : CLOCK_FLOOR);
        assert_int_equal(found.fieldset_bytes, 0);

        shm_hop_store(&m.view, 0, 0);
        shm_erase(&m.view, slot);
        assert_int_equal(shm_find(&m.view, some_key, &found), SHM_MISSING);
    }
    memory_free(&m);
}

TEST(test_overflow_format)
{
    uint8_t bytes[POOL_RECORD_BYTES_MAX];
    const uint32_t clocks[] = {1, 2, 3, 4, 5, 6, 7, 8, 0x123456};
    struct shm_record record = some_record();

    assert_int_equal(shm_overflow_pack(bytes, &record, (etag_str){0}), 0);
    record.clocks = clocks;
    record.clock_count = 9;
    assert_int_equal(shm_overflow_pack(bytes, &record, ETAG_LIT("/x")), 14);
    assert_memory_equal(bytes, "\0\0\2\0\1\0\16\0\x56\x34\x12\0/x", 14);
}

TEST(test_field_set)
{
    struct memory m = memory_make(CLOCKS_MIN);
    uint8_t set[FIELDSET_BYTES_MAX];

    memset(set, 'x', sizeof(set));
    store_u16(set, sizeof(set));
    shm_pool_write(&m.view, 40, set, sizeof(set));
    struct shm_record record = some_record();
    record.fieldset = 40;
    put(&m.view, 0, record, (etag_str){0}, 0);
    struct shm_entry found;
    assert_int_equal(shm_find(&m.view, some_key, &found), SHM_FOUND);
    assert_int_equal(found.fieldset_bytes, sizeof(set));
    assert_memory_equal(found.fieldset_words, set, sizeof(set));
    memory_free(&m);
}

TEST(test_newer_clock)
{
    struct memory m = memory_make(CLOCKS_MIN);
    uint32_t clocks[CLOCKS_PER_ENTRY_MAX], clock = 0;
    uint64_t value = 0;

    for (uint32_t i = 0; i < CLOCKS_PER_ENTRY_MAX; i++) {
        clocks[i] = 10 + i;
        shm_clock_store(&m.view, clocks[i], 100); /* as new as the fill: not newer */
    }
    shm_clock_store(&m.view, CLOCK_FLOOR, 100);
    shm_clock_store(&m.view, 9, 1000); /* nobody's */
    struct shm_record record = some_record();
    record.clocks = clocks;
    record.clock_count = CLOCKS_PER_ENTRY_MAX;
    put(&m.view, 0, record, (etag_str){0}, 64);
    struct shm_entry found;
    assert_int_equal(shm_find(&m.view, some_key, &found), SHM_FOUND);
    assert_false(shm_newer_clock(&m.view, &found, &clock, &value));

    for (uint32_t i = 0; i < CLOCKS_PER_ENTRY_MAX; i++) { /* each of them counts */
        shm_clock_store(&m.view, clocks[i], 101);
        assert_true(shm_newer_clock(&m.view, &found, &clock, &value));
        assert_int_equal(clock, clocks[i]);
        assert_int_equal(value, 101);
        shm_clock_store(&m.view, clocks[i], 100);
    }
    shm_clock_store(&m.view, clocks[132], CLOCK_IN_FLUX | 1); /* in flux, though its LSN is old */
    assert_true(shm_newer_clock(&m.view, &found, &clock, &value));
    assert_int_equal(clock, clocks[132]);
    assert_true(value == (CLOCK_IN_FLUX | 1));
    shm_clock_store(&m.view, clocks[3], 150); /* the first one in order is told */
    assert_true(shm_newer_clock(&m.view, &found, &clock, &value));
    assert_int_equal(clock, clocks[3]);
    shm_clock_store(&m.view, CLOCK_FLOOR, 120);
    assert_true(shm_newer_clock(&m.view, &found, &clock, &value));
    assert_int_equal(clock, CLOCK_FLOOR);
    assert_int_equal(value, 120);
    memory_free(&m);
}

/* The daemon died, or is stopped, in the middle of a slot: a bounded number of tries, then torn. */
TEST(test_odd_sequence_is_torn)
{
    struct memory m = memory_make(CLOCKS_MIN);
    struct shm_entry found;

    put(&m.view, 0, some_record(), (etag_str){0}, 0);
    m.view.slots[0].sequence++;
    assert_int_equal(shm_find(&m.view, some_key, &found), SHM_TORN);

    /* Another key's slot in that state disturbs nobody. */
    struct shm_record other = some_record();
    other.fingerprint.low++;
    put(&m.view, 1, other, (etag_str){0}, 0);
    assert_int_equal(shm_find(&m.view, other.fingerprint, &found), SHM_FOUND);
    assert_int_equal(found.slot, 1);
    memory_free(&m);
}

/* What a reader that slept between its two looks at the sequence relies on: every change of a slot
 * moves it on, by two, hop words do not touch it, and it wraps. */
TEST(test_every_change_moves_the_sequence)
{
    struct memory m = memory_make(CLOCKS_MIN);
    struct shm_record other = some_record();

    other.fingerprint.low++;
    other.etag = ETAG_LIT("\"another\"");
    put(&m.view, 0, some_record(), (etag_str){0}, 0);
    const uint32_t asleep = sequence_of(&m.view, 0);
    assert_int_equal(asleep % 2, 0);

    shm_write(&m.view, 0, &other);
    assert_int_equal(sequence_of(&m.view, 0), asleep + 2);
    shm_hop_store(&m.view, 0, 0xffffffff);
    assert_int_equal(sequence_of(&m.view, 0), asleep + 2);
    shm_erase(&m.view, 0);
    assert_int_equal(sequence_of(&m.view, 0), asleep + 4);
    assert_int_equal(shm_hop_load(&m.view, 0), 0xffffffff);
    shm_write(&m.view, 1, &other);
    shm_copy(&m.view, 1, 0);
    assert_int_equal(sequence_of(&m.view, 0), asleep + 6);
    assert_int_equal(sequence_of(&m.view, 1), asleep);

    m.view.slots[0].sequence = UINT32_MAX - 1;
    shm_erase(&m.view, 0);
    assert_int_equal(sequence_of(&m.view, 0), 0);
    memory_free(&m);
}

TEST(test_copy_and_own_reads)
{
    struct memory m = memory_make(CLOCKS_MIN);
    struct shm_record record = some_record();

    record.expires_ns = 77;
    record.fieldset = 3;
    shm_pool_write(&m.view, 3, "\x08\0\1\0abcd", 8);
    put(&m.view, 4, record, ETAG_LIT("/there"), 9);
    shm_hop_store(&m.view, 20, 5);
    shm_copy(&m.view, 4, 20);

    uint32_t fieldset = 0, overflow = 0;
    shm_refs_at(&m.view, 20, &fieldset, &overflow);
    assert_int_equal(fieldset, 3);
    assert_int_equal(overflow, 9);
    assert_int_equal(shm_overflow_bytes_at(&m.view, 9), 8 + 6);
    assert_int_equal(shm_fill_lsn_at(&m.view, 20), 100);
    assert_int_equal(shm_expires_at(&m.view, 20), 77);
    assert_int_equal(shm_fingerprint_at(&m.view, 20).high, some_key.high);
    assert_int_equal(shm_hop_load(&m.view, 20), 5); /* the home's, not the entry's */

    struct shm_entry read;
    shm_read_at(&m.view, 20, &read);
    assert_true(str_equal(read.content_location, ETAG_LIT("/there")));
    assert_int_equal(read.fieldset_bytes, 8);
    shm_erase(&m.view, 20);
    shm_refs_at(&m.view, 20, &fieldset, &overflow);
    assert_int_equal(fieldset | overflow, 0);
    assert_int_equal(shm_fingerprint_at(&m.view, 20).low, 0);
    memory_free(&m);
}

/* References and lengths that no writer of ours leaves behind; a torn read may see any of them. */
TEST(test_impossible_records)
{
    struct memory m = memory_make(CLOCKS_MIN);
    struct shm_view *const view = &m.view;
    struct shm_entry found;
    const uint32_t last = view->pool_units - 1;
    static const uint8_t long_overflow[8] = {0, 0, 0, 0, 0, 0, 0xff, 0x07};
    static const uint8_t long_set[8] = {0x00, 0x08, 1, 0};
    static const uint8_t too_long_set[8] = {0x01, 0x08, 1, 0};
    static const uint8_t mismatched[8] = {1, 0, 0, 0, 0, 0, 8, 0};
    static const uint8_t many_clocks[8] = {0, 0, 0, 0, 0xff, 0xff, 8, 0};

#define TORN_WITH(change)                                                                          \
    do {                                                                                           \
        put(view, 0, some_record(), (etag_str){0}, 0);                                             \
        assert_int_equal(shm_find(view, some_key, &found), SHM_FOUND);                             \
        change;                                                                                    \
        assert_int_equal(shm_find(view, some_key, &found), SHM_TORN);                              \
    } while (0)

    TORN_WITH(view->details[0].overflow = view->pool_units);
    TORN_WITH(view->details[0].overflow = UINT32_MAX);
    TORN_WITH(view->details[0].fieldset = view->pool_units);
    TORN_WITH(view->details[0].fieldset = UINT32_MAX);
    TORN_WITH(view->details[0].fieldset = 5; /* all zeros */);
    TORN_WITH(view->details[0].overflow = 5);
    TORN_WITH(view->details[0].etag_len = 45; /* without an overflow record */);
    TORN_WITH(view->details[0].etag_len = UINT16_MAX);
    TORN_WITH(memset(view->slots[0].clocks + 21, 0xff, 3));
    shm_pool_write(view, last, long_overflow, 8);
    TORN_WITH(view->details[0].overflow = last);
    shm_pool_write(view, last, long_set, 8);
    TORN_WITH(view->details[0].fieldset = last);
    shm_pool_write(view, 64, too_long_set, 8);
    TORN_WITH(view->details[0].fieldset = 64);
    shm_pool_write(view, 64, mismatched, 8);
    TORN_WITH(view->details[0].overflow = 64);
    shm_pool_write(view, 64, many_clocks, 8);
    TORN_WITH(view->details[0].overflow = 64);
#undef TORN_WITH

    /* A clock number beyond the array, in an overflow record that is well formed. */
    uint32_t clocks[9] = {1, 2, 3, 4, 5, 6, 7, 8, CLOCKS_MIN};
    struct shm_record record = some_record();
    record.clocks = clocks;
    record.clock_count = 9;
    put(view, 0, record, (etag_str){0}, 64);
    assert_int_equal(shm_find(view, some_key, &found), SHM_TORN);
    memory_free(&m);
}

/* Any bytes at all: nothing outside the view is touched (the guard pages), and what is found lies
 * within the entry. */
TEST(test_garbage)
{
    struct memory m = memory_make(CLOCKS_MIN);
    struct shm_view *const view = &m.view;
    uint64_t seed = 3, found_count = 0, torn_count = 0;

    for (unsigned round = 0; round < 12; round++) {
        uint64_t *const words = (uint64_t *)view->slots;
        const size_t count = (size_t)((uint8_t *)view->header + m.bytes - (uint8_t *)words) / 8;
        for (size_t i = 0; i < count; i++)
            words[i] = random_next(&seed) >> (round % 4 * 16);
        for (uint64_t slot = 0; slot < view->slot_count; slot++) {
            struct layout_detail *const detail = &view->details[slot];
            view->slots[slot].sequence &= ~1u;
            view->slots[slot].fingerprint.high |= 1; /* not empty */
            for (unsigned i = 0; i < SLOT_CLOCKS; i++)
                view->slots[slot].clocks[3 * i + 1] &= 3, view->slots[slot].clocks[3 * i + 2] = 0;
            detail->etag_len %= DETAIL_ETAG_BYTES + 3;
            detail->fieldset = random_next(&seed) % 2 ? 0
                                                      : detail->fieldset % (view->pool_units + 9);
            detail->overflow = random_next(&seed) % 2 ? 0
                                                      : detail->overflow % (view->pool_units + 9);
        }
        for (uint64_t slot = 0; slot < view->slot_count; slot++) {
            struct shm_entry found;
            const struct hash128 key = shm_fingerprint_at(view, slot);
            shm_hop_store(view, layout_home(view->home_count, key), UINT32_MAX);
            const uint64_t home = layout_home(view->home_count, key);
            const uint64_t at = home + random_next(&seed) % HOP_WINDOW;
            shm_copy(view, slot, at);
            const enum shm_find result = shm_find(view, key, &found);
            uint32_t clock;
            uint64_t value;
            torn_count += result == SHM_TORN;
            if (result != SHM_FOUND)
                continue;
            found_count++;
            if (shm_newer_clock(view, &found, &clock, &value))
                assert_true(clock < CLOCKS_MIN && value > found.fill_lsn);
            else
                value = 0;
            assert_int_equal(shm_look(view, key, &found), SHM_FOUND);
            assert_true(found.newer == value);
            assert_true(found.etag.len <= ENTITY_TAG_BYTES_MAX || found.overflow != 0);
            assert_true(found.etag.data >= (const char *)&found &&
                        found.etag.data + found.etag.len <= (const char *)(&found + 1));
            assert_true(found.fieldset_bytes <= POOL_RECORD_BYTES_MAX);
        }
    }
    assert_true(found_count > 1000);
    assert_true(torn_count > 1000);
    memory_free(&m);
}

TEST(test_map)
{
    const int fd = memfd_create("test", MFD_CLOEXEC);

    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, 10000), 0);
    for (int i = 0; i < 5; i++) {
        void *base = NULL;
        assert_int_equal(shm_map(&base, fd, 10000, PROT_READ | PROT_WRITE), 0);
        assert_int_equal((uintptr_t)base % LAYOUT_ALIGN, 0);
        ((uint8_t *)base)[9999]++;
        assert_int_equal(((uint8_t *)base)[9999], i + 1);
        assert_int_equal(munmap(base, 10000), 0);
    }
    void *base = NULL;
    assert_int_equal(shm_map(&base, -1, 4096, PROT_READ), -EBADF);
    assert_null(base);
    close(fd);
}
