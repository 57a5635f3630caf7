/* SPDX-License-Identifier: Apache-2.0 */
/* The geometry: what a plan becomes, and that a reader refuses each way in which it can be
 * wrong. */
#include "testing.h"

#include "layout.h"

#include <string.h>
#include <sys/mman.h>

static const struct layout_plan small = {.capacity = CAPACITY_MIN, .clock_count = CLOCKS_MIN};
static const struct layout_plan large = {.capacity = CAPACITY_MAX, .clock_count = CLOCKS_MAX};
static const struct layout_plan million = {.capacity = 1000000, .clock_count = 262144};

static struct layout_header header_of(const struct layout_plan *plan)
{
    struct layout_header header = {0};

    layout_init(&header, plan);
    return header;
}

TEST(test_sections)
{
    const struct layout_plan *const plans[] = {&small, &million, &large};

    for (size_t i = 0; i < 3; i++) {
        const struct layout_header h = header_of(plans[i]);
        const uint64_t slots = h.home_count + HOP_WINDOW - 1;
        assert_true(h.home_count * 7 >= plans[i]->capacity * 10);
        assert_true((h.home_count - 1) * 7 < plans[i]->capacity * 10);
        assert_true(h.slots_offset >= LAYOUT_HEADER_BYTES);
        assert_true(h.details_offset >= h.slots_offset + slots * 64);
        assert_true(h.clocks_offset >= h.details_offset + slots * 64);
        assert_true(h.pool_offset >= h.clocks_offset + plans[i]->clock_count * UINT64_C(8));
        assert_true(h.total_bytes >= h.pool_offset + h.pool_units * UINT64_C(64));
        assert_int_equal((h.slots_offset | h.details_offset | h.clocks_offset | h.pool_offset) % 64,
                         0);
        assert_int_equal(h.total_bytes % 4096, 0);
        assert_int_equal(h.pool_units % (POOL_RECORD_BYTES_MAX / POOL_UNIT_BYTES), 0);
        assert_null(layout_validate(&h, h.total_bytes));
    }
}

TEST(test_bytes_per_entry)
{
    const struct layout_header h = header_of(&million);
    const uint64_t at_start = h.pool_offset + layout_pool_units_at_start(&million) * UINT64_C(64);
    const double bytes = (double)at_start / (double)million.capacity;
    const double all = (double)h.total_bytes / (double)million.capacity;

    print_message("%.2f bytes an entry at a capacity of 1 M, clocks and pool included; %.2f with "
                  "tags of 66 bytes\n",
                  bytes, all);
    assert_true(bytes <= 192.0);
    assert_true(all <= 192.0 + 128.0);
    /* A small index must not pay for the alignment of a large one. */
    assert_true(header_of(&small).total_bytes < UINT64_C(2) << 20);
}

/* With the default size each entry can have a tag of 66 bytes: an overflow record of two units. */
TEST(test_pool_by_capacity)
{
    const struct layout_header h = header_of(&million);
    const uint64_t tag_units = (66 + 8 + 63) / 64;

    assert_true(h.pool_units >= million.capacity * tag_units);
    assert_true(layout_pool_units_at_start(&million) < h.pool_units / 10);
    struct layout_plan plan = million;
    plan.pool_bytes = POOL_BYTES_MIN; /* less than is taken at the start by default: all of it */
    assert_int_equal(layout_pool_units_at_start(&plan), header_of(&plan).pool_units);
}

TEST(test_pool_bytes)
{
    struct layout_plan plan = small;

    assert_int_equal(header_of(&plan).pool_units * UINT64_C(64), POOL_BYTES_MIN);
    plan.pool_bytes = 1;
    assert_int_equal(header_of(&plan).pool_units * UINT64_C(64), POOL_BYTES_MIN);
    plan.pool_bytes = POOL_BYTES_MIN + 1;
    assert_int_equal(header_of(&plan).pool_units * UINT64_C(64),
                     POOL_BYTES_MIN + POOL_RECORD_BYTES_MAX);
    plan.pool_bytes = UINT64_MAX;
    assert_int_equal(header_of(&plan).pool_units * UINT64_C(64), POOL_BYTES_MAX);
}

TEST(test_homes)
{
    const uint64_t homes = header_of(&million).home_count;

    assert_int_equal(layout_home(homes, (struct hash128){UINT64_MAX, 0}), 0);
    assert_int_equal(layout_home(homes, (struct hash128){0, UINT64_MAX}), homes - 1);
    assert_int_equal(layout_home(homes, (struct hash128){0, UINT64_C(1) << 63}), homes / 2);
}

#define REFUSED(change, word)                                                                      \
    do {                                                                                           \
        struct layout_header h = header_of(&small);                                                \
        const uint64_t bytes = h.total_bytes;                                                      \
        (void)bytes;                                                                               \
        change;                                                                                    \
        const char *wrong = layout_validate(&h, bytes);                                            \
        if (!wrong || !strstr(wrong, word))                                                        \
            fail_msg("%s: %s", #change, wrong ? wrong : "accepted");                               \
    } while (0)

TEST(test_refused)
{
    REFUSED(h.magic++, "not an index");
    REFUSED(h.version++, "version");
    REFUSED(h.header_bytes = 64, "version");
    REFUSED(h.total_bytes += 1, "larger than its memory");
    REFUSED(h.home_count = 0, "number of slots");
    REFUSED(h.home_count = UINT64_MAX, "number of slots");
    REFUSED(h.home_count = UINT64_MAX / 64 + 2, "number of slots");
    REFUSED(h.home_count += 1024, "slots lie outside");
    REFUSED(h.clock_count = 0, "number of clocks");
    REFUSED(h.clock_count = CLOCKS_MIN - 1, "number of clocks");
    REFUSED(h.clock_count = CLOCKS_MIN + 1, "number of clocks");
    REFUSED(h.clock_count = CLOCKS_MAX * 2, "number of clocks");
    REFUSED(h.clock_count *= 2, "clocks lie outside");
    REFUSED(h.pool_units = 0, "no pool");
    REFUSED(h.pool_units = UINT32_MAX, "pool lies outside");
    REFUSED(h.pool_units += 64, "pool lies outside");
    REFUSED(h.slots_offset = 0, "slots lie outside");
    REFUSED(h.slots_offset += 8, "slots lie outside");
    REFUSED(h.slots_offset = UINT64_MAX - 63, "slots lie outside");
    REFUSED(h.details_offset = h.slots_offset, "slots lie outside");
    REFUSED(h.details_offset += 64 * 1024, "details lie outside");
    REFUSED(h.details_offset = UINT64_MAX - 63, "details lie outside");
    REFUSED(h.clocks_offset += 4, "clocks lie outside");
    REFUSED(h.clocks_offset = UINT64_MAX - 63, "clocks lie outside");
    REFUSED(h.pool_offset += 4096, "pool lies outside");
    REFUSED(h.pool_offset = UINT64_MAX - 63, "pool lies outside");
    REFUSED(h.total_bytes -= 4096, "pool lies outside");
    REFUSED(h.total_bytes = 0, "pool lies outside");
}

TEST(test_short_memory)
{
    const struct layout_header h = header_of(&small);

    assert_non_null(layout_validate(&h, h.total_bytes - 1));
    assert_non_null(layout_validate(NULL, LAYOUT_HEADER_BYTES - 1));
    assert_non_null(layout_validate(NULL, 0));

    /* A header whose memory ends with it: validation must not look further. */
    uint8_t *const pages = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
                                0);
    assert_ptr_not_equal(pages, MAP_FAILED);
    assert_int_equal(mprotect(pages + 4096, 4096, PROT_NONE), 0);
    memcpy(pages, &h, sizeof(h));
    assert_non_null(layout_validate((const struct layout_header *)pages, 4096));
    assert_null(layout_validate((const struct layout_header *)pages, h.total_bytes));
    munmap(pages, 8192);
}
