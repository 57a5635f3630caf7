/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A bounded bump allocator: one decoded message lives in one arena and goes with it. Reset keeps
 * the first block, so that a loop that decodes one request after another does not allocate.
 */
#ifndef ETAG_PROTO_ARENA_H
#define ETAG_PROTO_ARENA_H

#include "cleanup.h"

#include <etag/etag.h>
#include <stddef.h>
#include <stdint.h>

struct arena_block;

struct arena {
    struct arena_block *first, *last;
    size_t used_bytes, max_bytes;
};

void arena_init(struct arena *arena, size_t max_bytes);
void arena_deinit(struct arena *arena);
void arena_reset(struct arena *arena);
/* 16-byte aligned, not zeroed. NULL: over max_bytes, or no memory. */
MUST_USE void *arena_alloc(struct arena *arena, size_t bytes);
/* The bytes, with a NUL behind them; absent: over max_bytes, or no memory. */
MUST_USE etag_str arena_copy(struct arena *arena, etag_str bytes);
/* count * size, zeroed, checked for overflow. */
MUST_USE void *arena_array(struct arena *arena, size_t count, size_t size);

#endif
