/* SPDX-License-Identifier: Apache-2.0 */
/* Interned sets against plain reference counts: more sets than buckets, so that chains get long and
 * are cut anywhere. */
#include "testing.h"

#include "bytes.h"
#include "fieldset_table.h"

#define UNITS 8192u
enum { SETS = 4000, ROUNDS = 100000 };

struct set {
    uint8_t bytes[96];
    size_t len;
    uint32_t unit;
    uint32_t references;
};

TEST(test_references)
{
    static _Alignas(64) uint8_t memory[UNITS * POOL_UNIT_BYTES];
    static struct layout_header header = {.hash_key = {1}};
    static struct set sets[SETS];
    struct shm_view view = {.header = &header, .pool = memory, .pool_units = UNITS};
    struct pool *pool = NULL;
    struct fieldset_table *table = NULL;
    assert_int_equal(pool_open(&pool, UNITS), 0);
    pool_grow(pool, UNITS);
    assert_int_equal(fieldset_table_open(&table, &view, pool), 0);

    uint64_t seed = 5, count = 0, full = 0;
    for (uint32_t i = 0; i < SETS; i++) {
        sets[i].len = 16 + random_next(&seed) % 80;
        store_u16(sets[i].bytes, (uint16_t)sets[i].len);
        store_u32(sets[i].bytes + 8, i);
    }
    for (unsigned round = 0; round < ROUNDS; round++) {
        struct set *const set = &sets[random_next(&seed) % SETS];
        if (random_next(&seed) % 5 < 2 && set->references > 0) {
            fieldset_table_give(table, set->unit);
            count -= --set->references == 0;
        } else {
            const uint32_t unit = fieldset_table_take(table, set->bytes, set->len);
            full += unit == 0;
            if (unit == 0) {
                assert_int_equal(set->references, 0); /* one that is there needs no room */
                continue;
            }
            if (set->references > 0)
                assert_int_equal(unit, set->unit);
            count += set->references++ == 0;
            set->unit = unit;
            assert_memory_equal(memory + unit * POOL_UNIT_BYTES, set->bytes, set->len);
        }
        assert_int_equal(fieldset_table_count(table), count);
    }
    assert_true(count > SETS / 2 && full == 0);

    for (uint32_t i = 0; i < SETS; i++)
        for (; sets[i].references > 0; sets[i].references--)
            fieldset_table_give(table, sets[i].unit);
    assert_int_equal(fieldset_table_count(table), 0);
    assert_int_equal(pool_used_units(pool), 0);
    assert_null(fieldset_table_close(table));
    pool_close(pool);
}

TEST(test_full_pool)
{
    static _Alignas(64) uint8_t memory[64 * POOL_UNIT_BYTES];
    static struct layout_header header;
    struct shm_view view = {.header = &header, .pool = memory, .pool_units = 64};
    struct pool *pool = NULL;
    struct fieldset_table *table = NULL;
    assert_int_equal(pool_open(&pool, 64), 0);
    pool_grow(pool, 64);
    assert_int_equal(fieldset_table_open(&table, &view, pool), 0);
    uint8_t set[FIELDSET_BYTES_MAX] = {0};
    store_u16(set, sizeof(set));
    const uint32_t unit = fieldset_table_take(table, set, sizeof(set));
    assert_int_equal(unit, 32);
    assert_int_equal(fieldset_table_take(table, set, sizeof(set)), unit);
    set[9] = 1;
    assert_int_equal(fieldset_table_take(table, set, sizeof(set)), 0);
    assert_int_equal(fieldset_table_count(table), 1);
    fieldset_table_give(table, unit);
    assert_int_equal(fieldset_table_count(table), 1);
    fieldset_table_give(table, unit);
    assert_int_equal(fieldset_table_take(table, set, sizeof(set)), unit);
    fieldset_table_close(table);
    pool_close(pool);
}
