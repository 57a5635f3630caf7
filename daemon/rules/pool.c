/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A buddy allocator whose largest block is 32 units, so that the free units of such a chunk are the
 * bits of one word: to take is to find an aligned run of ones, to give back is to set them, and
 * buddies merge by themselves. Chunks are in lists by the order of their largest free run, so a
 * record is cut from the smallest run that is large enough. A second word marks where records
 * begin, so that pool_hand.h can find the records in a run. This costs 16 bytes of private memory
 * for 2 KiB of pool. None of it is in the shared memory, where readers have no use for it.
 */
#include "pool.h"

#include "numbers.h"

#include <assert.h>
#include <errno.h>
#include <stdbool.h>

#define CHUNK_UNITS POOL_RUN_UNITS_MAX
#define ORDERS 6 /* 1, 2, 4, ... 32 units */
#define NONE UINT32_MAX

_Static_assert(CHUNK_UNITS *POOL_UNIT_BYTES == POOL_RECORD_BYTES_MAX, "a chunk is one record");

struct chunk {
    /* bit n: unit n of the chunk is free */
    uint32_t free;
    /* bit n: a record begins at unit n */
    uint32_t starts;
    uint32_t next, previous;
};

struct pool {
    uint32_t used_units;
    /* that may be given out; the rest waits for pool_grow */
    uint32_t unit_count;
    uint32_t units_max;
    /* chunks whose largest free run has this order */
    uint32_t heads[ORDERS];
    struct chunk chunks[];
};

/* The units at which an aligned run of 2^order free ones begins. */
static uint32_t runs_of(uint32_t free, int order)
{
    static const uint32_t aligned[ORDERS] = {0xffffffff, 0x55555555, 0x11111111,
                                             0x01010101, 0x00010001, 0x00000001};

    for (int i = 0; i < order; i++)
        free &= free >> (1u << i);
    return free & aligned[order];
}

/* The order of the largest free run, -1 if nothing is free. */
static int largest_order(uint32_t free)
{
    for (int order = ORDERS - 1; order >= 0; order--)
        if (runs_of(free, order) != 0)
            return order;
    return -1;
}

static uint32_t run_mask(uint32_t first, int order)
{
    return (uint32_t)((UINT64_C(1) << (1u << order)) - 1) << first;
}

static int order_of(size_t bytes)
{
    assert(bytes > 0 && bytes <= POOL_RECORD_BYTES_MAX);
    int order = 0;
    while ((POOL_UNIT_BYTES << order) < bytes)
        order++;
    return order;
}

static void list_insert(struct pool *pool, uint32_t at, int order)
{
    struct chunk *const chunk = &pool->chunks[at];

    chunk->previous = NONE;
    chunk->next = pool->heads[order];
    if (chunk->next != NONE)
        pool->chunks[chunk->next].previous = at;
    pool->heads[order] = at;
}

static void list_remove(struct pool *pool, uint32_t at, int order)
{
    const struct chunk *const chunk = &pool->chunks[at];

    if (chunk->previous != NONE)
        pool->chunks[chunk->previous].next = chunk->next;
    else
        pool->heads[order] = chunk->next;
    if (chunk->next != NONE)
        pool->chunks[chunk->next].previous = chunk->previous;
}

/* Changes a chunk's free units and moves it to the list where it belongs then. */
static void set_free(struct pool *pool, uint32_t at, uint32_t free)
{
    const int before = largest_order(pool->chunks[at].free), after = largest_order(free);

    pool->chunks[at].free = free;
    if (before == after)
        return;
    if (before >= 0)
        list_remove(pool, at, before);
    if (after >= 0)
        list_insert(pool, at, after);
}

int pool_open(struct pool **out, uint32_t unit_count)
{
    const uint32_t chunk_count = unit_count / CHUNK_UNITS;
    struct pool *pool = calloc(1, sizeof(*pool) + chunk_count * sizeof(struct chunk));

    if (!pool)
        return -ENOMEM;
    pool->units_max = chunk_count * CHUNK_UNITS;
    for (int order = 0; order < ORDERS; order++)
        pool->heads[order] = NONE;
    *out = pool;
    return 0;
}

void pool_grow(struct pool *pool, uint32_t unit_count)
{
    const uint32_t before = pool->unit_count / CHUNK_UNITS;
    const uint32_t wanted = unit_count / CHUNK_UNITS * CHUNK_UNITS;

    pool->unit_count = min_of(wanted, pool->units_max);
    for (uint32_t at = pool->unit_count / CHUNK_UNITS; at-- > before;)
        set_free(pool, at, at == 0 ? UINT32_MAX - 1 : UINT32_MAX); /* unit 0 means "none" */
}

struct pool *pool_close(struct pool *pool)
{
    free(pool);
    return NULL;
}

/* Where in a chunk to cut: at the smallest free run that serves, so that larger ones stay whole. */
static uint32_t best_run(uint32_t free, int order)
{
    for (int size = order; size < ORDERS - 1; size++) {
        const uint32_t larger = runs_of(free, size + 1);
        const uint32_t halves = larger | larger << (1u << size);
        const uint32_t runs = runs_of(free, size) & ~halves;
        if (runs != 0)
            return (uint32_t)__builtin_ctz(runs);
    }
    assert(free == UINT32_MAX); /* the caller knows that there is a run */
    return 0;
}

uint32_t pool_take(struct pool *pool, size_t bytes)
{
    const int order = order_of(bytes);

    for (int list = order; list < ORDERS; list++) {
        const uint32_t at = pool->heads[list];
        if (at == NONE)
            continue;
        const uint32_t first = best_run(pool->chunks[at].free, order);
        set_free(pool, at, pool->chunks[at].free & ~run_mask(first, order));
        pool->chunks[at].starts |= 1u << first;
        pool->used_units += 1u << order;
        return at * CHUNK_UNITS + first;
    }
    return 0;
}

void pool_give(struct pool *pool, uint32_t unit, size_t bytes)
{
    const int order = order_of(bytes);
    const uint32_t at = unit / CHUNK_UNITS;
    const uint32_t mask = run_mask(unit % CHUNK_UNITS, order);

    assert(unit != 0 && unit < pool->unit_count && unit % (1u << order) == 0);
    assert((pool->chunks[at].free & mask) == 0);
    assert((pool->chunks[at].starts & mask) ==
           1u << unit % CHUNK_UNITS); /* one record, all of it */
    pool->chunks[at].starts &= ~mask;
    set_free(pool, at, pool->chunks[at].free | mask);
    pool->used_units -= 1u << order;
}

uint32_t pool_used_units(const struct pool *pool)
{
    return pool->used_units;
}

uint32_t pool_unit_count(const struct pool *pool)
{
    return pool->unit_count;
}

uint32_t pool_run_units(size_t bytes)
{
    return 1u << order_of(bytes);
}

size_t pool_records(const struct pool *pool, uint32_t unit, uint32_t run_units,
                    uint32_t out[POOL_RUN_UNITS_MAX])
{
    const struct chunk *const chunk = &pool->chunks[unit / CHUNK_UNITS];
    const uint32_t chunk_first = unit / CHUNK_UNITS * CHUNK_UNITS, first = unit % CHUNK_UNITS;
    const uint32_t run = (uint32_t)((UINT64_C(1) << run_units) - 1) << first;

    assert(unit < pool->unit_count && unit % run_units == 0 && run_units <= CHUNK_UNITS);
    uint32_t starts = chunk->starts & run;
    if (((chunk->free | chunk->starts) >> first & 1) == 0) {
        /* The run lies in the middle of a larger record: the last one that begins before it. */
        const uint32_t before = chunk->starts & ((1u << first) - 1);
        if (before != 0)
            starts |= 1u << (31 - __builtin_clz(before));
    }
    size_t count = 0;
    for (; starts != 0; starts &= starts - 1)
        out[count++] = chunk_first + (unsigned)__builtin_ctz(starts);
    return count;
}
