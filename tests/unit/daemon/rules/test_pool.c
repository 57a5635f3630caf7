/* SPDX-License-Identifier: Apache-2.0 */
/* The pool against a plain map of who owns which unit. */
#include "testing.h"

#include "numbers.h"
#include "pool.h"

#include <string.h>

#define UNITS 1024u

static struct pool *opened(uint32_t units)
{
    struct pool *pool = NULL;

    assert_int_equal(pool_open(&pool, units), 0);
    pool_grow(pool, units);
    return pool;
}

TEST(test_sizes)
{
    static const struct {
        size_t bytes;
        uint32_t units;
    } cases[] = {{1, 1},   {64, 1},  {65, 2},   {128, 2},   {129, 4},   {256, 4},
                 {257, 8}, {512, 8}, {513, 16}, {1024, 16}, {1025, 32}, {2048, 32}};
    struct pool *pool = opened(UNITS);
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        const uint32_t unit = pool_take(pool, cases[i].bytes);
        assert_int_not_equal(unit, 0);
        assert_int_equal(unit % cases[i].units, 0);
        assert_int_equal(pool_used_units(pool), cases[i].units);
        pool_give(pool, unit, cases[i].bytes);
        assert_int_equal(pool_used_units(pool), 0);
    }
    assert_null(pool_close(pool));
}

/* All units but 0 can be taken, each once; given back, they merge into whole records again. */
TEST(test_exhaustion_and_merge)
{
    struct pool *pool = opened(UNITS);
    bool taken[UNITS] = {false};

    for (uint32_t i = 1; i < UNITS; i++) {
        const uint32_t unit = pool_take(pool, 64);
        assert_true(unit > 0 && unit < UNITS && !taken[unit]);
        taken[unit] = true;
    }
    assert_int_equal(pool_take(pool, 1), 0);
    assert_int_equal(pool_used_units(pool), UNITS - 1);

    for (uint32_t unit = 1; unit < UNITS; unit += 2)
        pool_give(pool, unit, 64);
    assert_int_equal(pool_take(pool, 65), 0); /* half is free, but no two neighbours */
    for (uint32_t unit = 2; unit < UNITS; unit += 2)
        pool_give(pool, unit, 64);
    assert_int_equal(pool_used_units(pool), 0);

    for (uint32_t i = 1; i < UNITS / 32; i++)
        assert_int_not_equal(pool_take(pool, 2048), 0);
    assert_int_equal(pool_take(pool, 2048), 0); /* the first chunk lacks unit 0 */
    assert_int_not_equal(pool_take(pool, 1024), 0);
    pool_close(pool);
}

/* Small records are cut from broken runs first, so that a large one still finds its place. */
TEST(test_smallest_run_first)
{
    struct pool *pool = opened(64); /* chunk 0 lacks unit 0, chunk 1 is whole */

    for (int i = 0; i < 31; i++)
        assert_true(pool_take(pool, 64) < 32);
    assert_int_equal(pool_take(pool, 2048), 32);
    pool_give(pool, 32, 2048);
    pool_give(pool, 9, 64);                           /* a lone unit */
    pool_give(pool, 16, 64), pool_give(pool, 17, 64); /* and a pair */
    assert_int_equal(pool_take(pool, 64), 9);
    assert_int_equal(pool_take(pool, 128), 16);
    pool_close(pool);
}

TEST(test_odd_unit_counts)
{
    struct pool *pool = opened(95); /* the last 31 units make no chunk and are left alone */
    uint32_t count = 0;

    for (uint32_t unit; (unit = pool_take(pool, 1)) != 0; count++)
        assert_true(unit < 64);
    assert_int_equal(count, 63);
    pool_close(pool);
}

TEST(test_random)
{
    enum { RECORDS = 300, ROUNDS = 20000 };
    struct {
        uint32_t unit;
        uint32_t bytes;
    } records[RECORDS] = {{0}};
    uint16_t owner[UNITS] = {0};
    uint64_t seed = 7;
    uint32_t used = 0, failures = 0;
    struct pool *pool = opened(UNITS);
    for (int round = 0; round < ROUNDS; round++) {
        const size_t at = random_next(&seed) % RECORDS;
        if (records[at].unit == 0) {
            /* Most records are small, as they are in an index. */
            const uint32_t shift = (uint32_t)(random_next(&seed) % 6);
            records[at].bytes = 1 + (uint32_t)(random_next(&seed) % (64u << shift));
            records[at].unit = pool_take(pool, records[at].bytes);
            if (records[at].unit == 0) {
                failures++;
                continue;
            }
        }
        uint32_t units = 1;
        while (units * 64 < records[at].bytes)
            units *= 2;
        const bool give = owner[records[at].unit] != 0;
        for (uint32_t i = 0; i < units; i++) {
            assert_int_equal(owner[records[at].unit + i], give ? at + 1 : 0);
            owner[records[at].unit + i] = give ? 0 : (uint16_t)(at + 1);
        }
        used = give ? used - units : used + units;
        if (give) {
            pool_give(pool, records[at].unit, records[at].bytes);
            records[at].unit = 0;
        }
        assert_int_equal(pool_used_units(pool), used);
    }
    assert_true(failures > 0); /* the pool was full at times */
    pool_close(pool);
}
