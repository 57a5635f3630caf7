/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The allocator of the pool in the shared memory: a buddy allocator over units of 64 bytes, orders 0 to 5 (2048 bytes).
 * Its own state is private to the daemon. Unit 0 is never given out: 0 means "none" in a slot.
 */
#ifndef ETAGD_POOL_H
#define ETAGD_POOL_H

#include "bounds.h"
#include "cleanup.h"

#include <stdint.h>

struct pool;

MUST_USE int pool_open(struct pool **out, uint32_t unit_count); /* 0 or -ENOMEM */
struct pool *pool_close(struct pool *pool);                     /* returns NULL */
/* The first unit of a record of 'bytes' (1 to POOL_RECORD_BYTES_MAX), 0: no room. */
MUST_USE uint32_t pool_take(struct pool *pool, size_t bytes);
/* bytes: as given to pool_take. */
void pool_give(struct pool *pool, uint32_t unit, size_t bytes);
uint32_t pool_used_units(const struct pool *pool);

#endif
