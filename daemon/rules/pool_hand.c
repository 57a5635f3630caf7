/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A clock hand goes round over the pool, not over the slots. Records of one unit are spread over
 * all chunks; eviction in any other order would free units that are no neighbours, and a large
 * record would never fit. Since the hand goes round, the oldest of equal records goes first.
 *
 * The cost of a place is the number of current entries in it. A field set costs all of its entries,
 * so sets that most entries share stay: a pool of default size has 15 entries to a chunk, and so
 * enough places that cost less than POOL_EVICTED_MAX. A pool that was configured small may consist
 * of shared sets; then the hand takes one of them apart, some entries each time, but only after a
 * whole round found nothing cheaper. So no record stays for ever because it came first.
 */
#include "pool_hand.h"

#include "slot_use.h"

#include <assert.h>

#define LOOKS_MAX 8u /* entries that are looked at for a choice; a run of many is looked at whole */
#define RUNS_MAX 256u /* those that are passed over included */

struct run {
    uint32_t unit, units;
    /* that go; all of them */
    uint64_t entries;
    /* of these */
    uint64_t current;
};

static bool is_pinned(const struct pool_pins *pins, uint32_t record)
{
    for (size_t i = 0; i < POOL_PINS_MAX; i++)
        if (pins->units[i] == record)
            return true;
    return false;
}

/* False: the run cannot be cleared. */
static bool run_weigh(const struct pool_hand *hand, const struct pool_pins *pins, uint64_t now_ns,
                      struct run *run)
{
    uint32_t records[POOL_RUN_UNITS_MAX];

    if (run->unit == 0)
        return false; /* unit 0 has no owner */
    const size_t count = pool_records(hand->pool, run->unit, run->units, records);
    run->entries = 0;
    for (size_t i = 0; i < count; i++) {
        const uint32_t references = owners_references(hand->owners, records[i]);
        if (is_pinned(pins, records[i]))
            return false;
        run->entries += references > 0 ? references : 1;
    }
    run->current = run->entries;
    if (run->entries > POOL_EVICTED_MAX)
        return true; /* too many to be looked at */
    run->current = 0;
    for (size_t i = 0; i < count; i++) {
        uint64_t slot = owners_first(hand->owners, records[i]);
        const bool is_set = owners_references(hand->owners, records[i]) > 0;
        for (; slot != OWNERS_NONE; slot = is_set ? owners_next(hand->owners, slot) : OWNERS_NONE)
            run->current += slot_use(hand->view, slot, now_ns) == SLOT_CURRENT;
    }
    return true;
}

/* The run at or after the hand, which moves on. */
static uint32_t run_next(struct pool_hand *hand, uint32_t units)
{
    uint32_t unit = (hand->position + units - 1) / units * units;

    if (unit >= pool_unit_count(hand->pool))
        unit = 0;
    hand->position = unit + units;
    return unit;
}

/* The cheapest of the next runs; entries 0: none of them can be cleared. */
static struct run cheapest(struct pool_hand *hand, uint32_t units, const struct pool_pins *pins,
                           uint64_t now_ns)
{
    struct run best = {.current = UINT64_MAX};
    uint64_t looks = 0;

    for (unsigned i = 0; i < RUNS_MAX && looks < LOOKS_MAX && best.current > 0; i++) {
        struct run run = {.unit = run_next(hand, units), .units = units};
        if (!run_weigh(hand, pins, now_ns, &run)) {
            hand->barren_units += units;
            continue;
        }
        const bool cheap = run.entries <= POOL_EVICTED_MAX;
        hand->barren_units = cheap ? 0 : hand->barren_units + units;
        looks += cheap ? run.entries : 0;
        if (run.current < best.current)
            best = run;
    }
    return best;
}

static bool has_slot(const uint64_t *slots, size_t count, uint64_t slot)
{
    for (size_t i = 0; i < count; i++)
        if (slots[i] == slot)
            return true;
    return false;
}

/* The owners of what lies in the run, each once: an entry may have both records there. */
static size_t run_owners(const struct pool_hand *hand, const struct run *run,
                         uint64_t out[POOL_EVICTED_MAX])
{
    uint32_t records[POOL_RUN_UNITS_MAX];
    const size_t record_count = pool_records(hand->pool, run->unit, run->units, records);
    size_t count = 0;

    for (size_t i = 0; i < record_count; i++) {
        const bool is_set = owners_references(hand->owners, records[i]) > 0;
        uint64_t slot = owners_first(hand->owners, records[i]);
        for (; slot != OWNERS_NONE && count < POOL_EVICTED_MAX;
             slot = is_set ? owners_next(hand->owners, slot) : OWNERS_NONE)
            if (!has_slot(out, count, slot))
                out[count++] = slot;
    }
    return count;
}

size_t pool_hand_choose(struct pool_hand *hand, size_t bytes, const struct pool_pins *pins,
                        uint64_t now_ns, uint64_t out[POOL_EVICTED_MAX])
{
    const uint32_t units = pool_run_units(bytes);
    const struct run best = cheapest(hand, units, pins, now_ns);

    if (best.entries == 0)
        return 0;
    if (best.entries <= POOL_EVICTED_MAX)
        hand->position = best.unit + units;
    else if (hand->barren_units < pool_unit_count(hand->pool))
        return 0; /* there may be a cheaper one further on */
    else
        hand->position = best.unit; /* the next fill goes on with it */
    return run_owners(hand, &best, out);
}
