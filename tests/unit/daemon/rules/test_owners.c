/* SPDX-License-Identifier: Apache-2.0 */
/* Who refers to which record. Lists of a field set's entries against a plain table; interned sets
 * against plain reference counts: more of them than buckets, so that chains get long and are cut
 * anywhere. */
#include "testing.h"

#include "bytes.h"
#include "owners.h"

#define UNITS 8192u
enum { SETS = 4000, SLOTS = 200, ROUNDS = 100000 };

struct fixture {
    _Alignas(64) uint8_t memory[UNITS * POOL_UNIT_BYTES];
    struct layout_header header;
    struct shm_view view;
    struct pool *pool;
    struct owners *owners;
};

static int setup(void **state)
{
    struct fixture *f = aligned_alloc(64, sizeof(*f));

    memset(f, 0, sizeof(*f));
    f->header.hash_key[0] = 1;
    f->view = (struct shm_view){
        .header = &f->header, .pool = f->memory, .pool_units = UNITS, .slot_count = SLOTS};
    assert_int_equal(pool_open(&f->pool, UNITS), 0);
    assert_int_equal(owners_open(&f->owners, &f->view, f->pool), 0);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    assert_null(owners_close(f->owners));
    pool_close(f->pool);
    free(f);
    return 0;
}

#define CASE(name) TEST_OF(name, struct fixture *f, setup, teardown)

struct set {
    uint8_t bytes[96];
    size_t len;
    uint32_t unit;
    uint32_t references;
};

static struct set set_made(uint32_t number, size_t len)
{
    struct set set = {.len = len};

    store_u16(set.bytes, (uint16_t)len);
    store_u32(set.bytes + 8, number);
    return set;
}

static uint32_t set_take(struct fixture *f, uint32_t number)
{
    const struct set set = set_made(number, 64);

    return owners_fieldset(f->owners, set.bytes, set.len);
}

static void set_give(struct fixture *f, uint32_t unit)
{
    owners_give(f->owners, (struct pool_refs){.fieldset = unit});
}

/* An overflow record says how long it is: shm_overflow_pack(). */
static uint32_t overflow_take(struct fixture *f, uint16_t len)
{
    const uint16_t header[4] = {[3] = len};
    const uint32_t unit = pool_take(f->pool, len);

    assert_int_not_equal(unit, 0);
    shm_pool_write(&f->view, unit, header, sizeof(header));
    return unit;
}

/* ---- Field sets ---- */

CASE(equal_sets_are_one_record)
{
    static struct set sets[SETS];
    uint64_t seed = 5, count = 0;

    pool_grow(f->pool, UNITS);
    for (uint32_t i = 0; i < SETS; i++)
        sets[i] = set_made(i, 16 + random_next(&seed) % 80);
    for (unsigned round = 0; round < ROUNDS; round++) {
        struct set *const set = &sets[random_next(&seed) % SETS];
        if (random_next(&seed) % 5 < 2 && set->references > 0) {
            set_give(f, set->unit);
            count -= --set->references == 0;
        } else {
            const uint32_t unit = owners_fieldset(f->owners, set->bytes, set->len);
            assert_int_not_equal(unit, 0);
            if (set->references > 0)
                assert_int_equal(unit, set->unit);
            count += set->references++ == 0;
            set->unit = unit;
            assert_memory_equal(f->memory + unit * POOL_UNIT_BYTES, set->bytes, set->len);
        }
        assert_int_equal(owners_references(f->owners, set->unit), set->references);
        assert_int_equal(owners_fieldset_count(f->owners), count);
    }
    assert_true(count > SETS / 2);

    for (uint32_t i = 0; i < SETS; i++)
        for (; sets[i].references > 0; sets[i].references--)
            set_give(f, sets[i].unit);
    assert_int_equal(owners_fieldset_count(f->owners), 0);
    assert_int_equal(pool_used_units(f->pool), 0);
}

CASE(one_that_is_there_needs_no_room)
{
    uint8_t set[FIELDSET_BYTES_MAX] = {0};

    pool_grow(f->pool, 64);
    store_u16(set, sizeof(set));
    const uint32_t unit = owners_fieldset(f->owners, set, sizeof(set));
    assert_int_equal(unit, 32);
    assert_int_equal(owners_fieldset(f->owners, set, sizeof(set)), unit);
    set[9] = 1;
    assert_int_equal(owners_fieldset(f->owners, set, sizeof(set)), 0);
    assert_int_equal(owners_fieldset_count(f->owners), 1);
    set_give(f, unit);
    assert_int_equal(owners_fieldset_count(f->owners), 1);
    set_give(f, unit);
    assert_int_equal(owners_fieldset(f->owners, set, sizeof(set)), unit);
    set_give(f, unit);
}

/* ---- Slots ---- */

static void owners_seen(const struct fixture *f, uint32_t unit, bool seen[SLOTS])
{
    for (uint64_t slot = owners_first(f->owners, unit); slot != OWNERS_NONE;
         slot = owners_next(f->owners, slot)) {
        assert_true(slot < SLOTS && !seen[slot]);
        seen[slot] = true;
    }
}

/* What the slot refers to becomes a set, none for 0, as a fill does it: taken before the former one
 * is given back. */
static void slot_set(struct fixture *f, uint64_t slot, uint32_t *unit, uint32_t number)
{
    const struct pool_refs refs = {.fieldset = number == 0 ? 0 : set_take(f, number)};

    owners_remove(f->owners, slot, (struct pool_refs){.fieldset = *unit});
    owners_add(f->owners, slot, refs);
    *unit = refs.fieldset;
}

CASE(lists_of_a_set_have_each_owner_once)
{
    uint32_t unit_of[SLOTS] = {0};
    uint64_t seed = 3;

    pool_grow(f->pool, 64);
    for (int round = 0; round < ROUNDS; round++) {
        const uint64_t slot = random_next(&seed) % SLOTS, other = random_next(&seed) % SLOTS;
        slot_set(f, slot, &unit_of[slot], (uint32_t)(random_next(&seed) % 8));
        if (unit_of[other] == 0 && other != slot) {
            owners_move(f->owners, slot, other, (struct pool_refs){.fieldset = unit_of[slot]});
            unit_of[other] = unit_of[slot];
            unit_of[slot] = 0;
        }
        if (round % 100 != 0)
            continue;
        bool seen[SLOTS] = {false};
        for (uint32_t unit = 1; unit < 64; unit++)
            owners_seen(f, unit, seen);
        for (uint64_t i = 0; i < SLOTS; i++)
            assert_int_equal(seen[i], unit_of[i] != 0);
    }
    for (uint64_t slot = 0; slot < SLOTS; slot++)
        slot_set(f, slot, &unit_of[slot], 0);
    assert_int_equal(owners_fieldset_count(f->owners), 0);
    assert_int_equal(pool_used_units(f->pool), 0);
}

CASE(a_record_of_one_entry_has_one_owner)
{
    pool_grow(f->pool, 64);
    const uint32_t set = set_take(f, 1);
    assert_int_equal(set_take(f, 1), set);
    const struct pool_refs both = {.fieldset = set, .overflow = overflow_take(f, 200)};
    const struct pool_refs shared = {.fieldset = set};
    assert_int_equal(owners_first(f->owners, both.overflow), OWNERS_NONE);
    owners_add(f->owners, 0, both); /* slot 0 is one as any other */
    owners_add(f->owners, 7, shared);
    assert_int_equal(owners_first(f->owners, both.overflow), 0);
    assert_int_equal(owners_first(f->owners, set), 7);
    assert_int_equal(owners_next(f->owners, 7), 0);
    owners_move(f->owners, 0, 9, both);
    assert_int_equal(owners_first(f->owners, both.overflow), 9);
    assert_int_equal(pool_used_units(f->pool), 1 + 4);
    owners_remove(f->owners, 9, both);
    assert_int_equal(owners_first(f->owners, both.overflow), OWNERS_NONE);
    assert_int_equal(owners_next(f->owners, 7), OWNERS_NONE);
    assert_int_equal(pool_used_units(f->pool), 1);
    owners_remove(f->owners, 7, shared);
    assert_int_equal(pool_used_units(f->pool), 0);
}
