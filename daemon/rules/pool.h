/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The allocator of the pool in the shared memory: a buddy allocator over units of 64 bytes, orders
 * 0 to 5 (2048 bytes). Its own state is private to the daemon. Unit 0 is never given out: 0 means
 * "none" in a slot.
 */
#ifndef ETAGD_POOL_H
#define ETAGD_POOL_H

#include "bounds.h"
#include "cleanup.h"

#include <stdint.h>

struct pool;

#define POOL_RUN_UNITS_MAX (POOL_RECORD_BYTES_MAX / POOL_UNIT_BYTES)

/* A pool of at most unit_count units, none of which may be given out before pool_grow. 0 or
 * -ENOMEM. */
MUST_USE int pool_open(struct pool **out, uint32_t unit_count);
struct pool *pool_close(struct pool *pool); /* returns NULL */
/* The units below unit_count may be given out from now on; it never shrinks. */
void pool_grow(struct pool *pool, uint32_t unit_count);
/* The first unit of a record of 'bytes' (1 to POOL_RECORD_BYTES_MAX), 0: no room. */
MUST_USE uint32_t pool_take(struct pool *pool, size_t bytes);
/* bytes: as given to pool_take. */
void pool_give(struct pool *pool, uint32_t unit, size_t bytes);
uint32_t pool_used_units(const struct pool *pool);
uint32_t pool_unit_count(const struct pool *pool); /* that may be given out */

/* How many units a record of so many bytes takes. It lies at a multiple of this number: a run. */
uint32_t pool_run_units(size_t bytes);
/* The records of which a part lies in the run at 'unit': the first unit of each. Once all of them
 * were given back, a record of run_units fits there (not where 'unit' is 0: unit 0 is nobody's).
 * Returns how many. */
size_t pool_records(const struct pool *pool, uint32_t unit, uint32_t run_units,
                    uint32_t out[POOL_RUN_UNITS_MAX]);

#endif
