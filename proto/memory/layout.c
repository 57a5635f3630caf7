/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Geometry of the shared memory: how the daemon computes it from a plan, and what a reader checks
 * before it follows an offset. Both know one order (header, slots, details, clocks, pool); the
 * reader accepts any offsets in this order, so a later daemon may place sections differently
 * without a new layout version.
 */
#include "layout.h"

#include "numbers.h"

#include <assert.h>

/* The normal load, 0.7, as a fraction: hopscotch with a window of 32 then hardly ever moves an
 * entry. */
#define LOAD_NUMERATOR 7u
#define LOAD_DENOMINATOR 10u

#define HOMES_MAX ((uint64_t)CAPACITY_MAX * LOAD_DENOMINATOR / LOAD_NUMERATOR + 1)

static uint64_t round_up(uint64_t n, uint64_t to)
{
    return (n + to - 1) / to * to;
}

static bool is_power_of_two(uint64_t n)
{
    return n != 0 && (n & (n - 1)) == 0;
}

static uint64_t pool_bytes_within(uint64_t bytes)
{
    if (bytes < POOL_BYTES_MIN)
        bytes = POOL_BYTES_MIN;
    if (bytes > POOL_BYTES_MAX)
        bytes = POOL_BYTES_MAX;
    return round_up(bytes, POOL_RECORD_BYTES_MAX);
}

static uint64_t pool_bytes_of(const struct layout_plan *plan)
{
    const uint64_t by_capacity = plan->capacity *
                                 (POOL_SETS_BYTES_PER_ENTRY + POOL_TAG_BYTES_PER_ENTRY);

    return pool_bytes_within(plan->pool_bytes ? plan->pool_bytes : by_capacity);
}

uint32_t layout_pool_units_at_start(const struct layout_plan *plan)
{
    const uint64_t all = pool_bytes_of(plan);
    const uint64_t bytes = pool_bytes_within(plan->capacity * POOL_SETS_BYTES_PER_ENTRY);

    return (uint32_t)(min_of(bytes, all) / POOL_UNIT_BYTES);
}

void layout_init(struct layout_header *header, const struct layout_plan *plan)
{
    assert(plan->capacity >= CAPACITY_MIN && plan->capacity <= CAPACITY_MAX);
    assert(plan->clock_count >= CLOCKS_MIN && plan->clock_count <= CLOCKS_MAX);
    assert(is_power_of_two(plan->clock_count));

    const uint64_t homes = (plan->capacity * LOAD_DENOMINATOR + LOAD_NUMERATOR - 1) /
                           LOAD_NUMERATOR;
    const uint64_t slots = homes + HOP_WINDOW - 1;
    const uint64_t pool_bytes = pool_bytes_of(plan);

    header->magic = LAYOUT_MAGIC;
    header->version = LAYOUT_VERSION;
    header->header_bytes = LAYOUT_HEADER_BYTES;
    header->home_count = homes;
    header->clock_count = plan->clock_count;
    header->pool_units = (uint32_t)(pool_bytes / POOL_UNIT_BYTES);

    header->slots_offset = LAYOUT_HEADER_BYTES;
    header->details_offset = round_up(header->slots_offset + slots * sizeof(struct layout_slot),
                                      LAYOUT_SECTION_ALIGN);
    header->clocks_offset = round_up(header->details_offset + slots * sizeof(struct layout_detail),
                                     LAYOUT_SECTION_ALIGN);
    header->pool_offset = round_up(header->clocks_offset + plan->clock_count * sizeof(uint64_t),
                                   LAYOUT_SECTION_ALIGN);
    header->total_bytes = round_up(header->pool_offset + pool_bytes, LAYOUT_SECTION_ALIGN);
}

/* Whether a section of 'bytes' at 'offset' lies on cache lines of its own between two offsets. */
static bool section_fits(uint64_t after, uint64_t offset, uint64_t bytes, uint64_t before)
{
    return offset % POOL_UNIT_BYTES == 0 && offset >= after && offset <= before &&
           bytes <= before - offset;
}

const char *layout_validate(const struct layout_header *header, size_t mapped_bytes)
{
    if (mapped_bytes < LAYOUT_HEADER_BYTES)
        return "the index is shorter than its header";
    if (header->magic != LAYOUT_MAGIC)
        return "the memory is not an index of etagd";
    if (header->version != LAYOUT_VERSION || header->header_bytes != LAYOUT_HEADER_BYTES)
        return "the index has another layout version";
    if (header->total_bytes > mapped_bytes)
        return "the index is larger than its memory";
    if (header->home_count == 0 || header->home_count > HOMES_MAX)
        return "the number of slots in the index is out of bounds";
    if (header->clock_count < CLOCKS_MIN || header->clock_count > CLOCKS_MAX ||
        !is_power_of_two(header->clock_count))
        return "the number of clocks in the index is out of bounds";
    if (header->pool_units == 0)
        return "the index has no pool";

    /* The counts are bounded now, so none of these products overflows. */
    const uint64_t slots = header->home_count + HOP_WINDOW - 1;
    if (!section_fits(LAYOUT_HEADER_BYTES, header->slots_offset, slots * sizeof(struct layout_slot),
                      header->details_offset))
        return "the slots lie outside their place in the index";
    if (!section_fits(header->slots_offset, header->details_offset,
                      slots * sizeof(struct layout_detail), header->clocks_offset))
        return "the details lie outside their place in the index";
    if (!section_fits(header->details_offset, header->clocks_offset,
                      header->clock_count * sizeof(uint64_t), header->pool_offset))
        return "the clocks lie outside their place in the index";
    if (!section_fits(header->clocks_offset, header->pool_offset,
                      (uint64_t)header->pool_units * POOL_UNIT_BYTES, header->total_bytes))
        return "the pool lies outside its place in the index";
    return NULL;
}
