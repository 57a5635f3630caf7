/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The allocator of the pool in the shared memory: a buddy allocator over units of 64 bytes, orders
 * 0 to 5 (2048 bytes). Its bookkeeping is private to the daemon. It never gives out unit 0, since 0
 * means "none" in a slot. Loop thread only.
 */
#ifndef ETAGD_POOL_H
#define ETAGD_POOL_H

#include "bounds.h"
#include "cleanup.h"

#include <stdint.h>

struct pool;

#define POOL_RUN_UNITS_MAX (POOL_RECORD_BYTES_MAX / POOL_UNIT_BYTES)

/* Opens a pool of at most unit_count units. pool_take() finds no room before pool_grow(). Returns 0
 * or -ENOMEM. */
MUST_USE int pool_open(struct pool **out, uint32_t unit_count);
struct pool *pool_close(struct pool *pool); /* returns NULL */
/* Lets pool_take() give out units below unit_count from now on. The pool never shrinks. */
void pool_grow(struct pool *pool, uint32_t unit_count);
/* Allocates a record of 'bytes' (1 to POOL_RECORD_BYTES_MAX) and returns its first unit; 0: no
 * room. */
MUST_USE uint32_t pool_take(struct pool *pool, size_t bytes);
/* Frees a record. bytes: as given to pool_take(). */
void pool_give(struct pool *pool, uint32_t unit, size_t bytes);
uint32_t pool_used_units(const struct pool *pool);
uint32_t pool_unit_count(const struct pool *pool); /* that may be given out */

/* Returns how many units a record of this size takes. The record begins at a multiple of this
 * number: a run. */
uint32_t pool_run_units(size_t bytes);
/* Lists the records that overlap the run at 'unit', by their first units, and returns how many.
 * Once all of them were given back, a record of run_units fits there (except at 'unit' 0, since
 * unit 0 is never given out). */
size_t pool_records(const struct pool *pool, uint32_t unit, uint32_t run_units,
                    uint32_t out[POOL_RUN_UNITS_MAX]);

#endif
