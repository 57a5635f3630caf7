/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A bounded bump allocator: a decoded message lives in one arena and is freed with it.
 * arena_reset() keeps the first block, so that decoding one request after another does not
 * allocate. One thread at a time.
 */
#ifndef ETAG_PROTO_ARENA_H
#define ETAG_PROTO_ARENA_H

#include "cleanup.h"
#include "numbers.h"

#include <etag/etag.h>
#include <stdalign.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#define ARENA_ALIGN 16u

struct arena_block {
    struct arena_block *next;
    size_t used, capacity;
    alignas(ARENA_ALIGN) unsigned char bytes[];
};

struct arena {
    struct arena_block *first, *last;
    size_t used_bytes, max_bytes;
};

void arena_init(struct arena *arena, size_t max_bytes);
void arena_deinit(struct arena *arena);

/* For arena_alloc() only: adds a block when the last one has no room. Returns false without
 * memory. */
MUST_USE bool arena_grow(struct arena *arena, size_t bytes);
/* For arena_reset() only: frees all blocks but the first. */
void arena_shrink(struct arena *arena);

static inline void arena_reset(struct arena *arena)
{
    arena->used_bytes = 0;
    if (arena->first != arena->last)
        arena_shrink(arena);
    if (arena->first)
        arena->first->used = 0;
}

/* Allocates bytes, aligned to 16, not zeroed. Returns NULL over max_bytes or without memory. */
MUST_USE static inline void *arena_alloc(struct arena *arena, size_t bytes)
{
    const size_t left = arena->max_bytes - arena->used_bytes;

    if (bytes > left)
        return NULL;
    const size_t rounded = (bytes + ARENA_ALIGN - 1) & ~(size_t)(ARENA_ALIGN - 1);
    if ((!arena->last || rounded > arena->last->capacity - arena->last->used) &&
        !arena_grow(arena, rounded))
        return NULL;
    void *const out = arena->last->bytes + arena->last->used;
    arena->last->used += rounded;
    arena->used_bytes += min_of(rounded, left);
    return out;
}

/* Copies the bytes and adds a NUL. Returns an absent string over max_bytes or without memory. */
MUST_USE etag_str arena_copy(struct arena *arena, etag_str bytes);

/* Allocates count * size bytes, zeroed; checks for overflow. NULL as arena_alloc(). */
MUST_USE static inline void *arena_array(struct arena *arena, size_t count, size_t size)
{
    size_t bytes;

    if (__builtin_mul_overflow(count, size, &bytes))
        return NULL;
    void *const out = arena_alloc(arena, bytes);
    if (out)
        memset(out, 0, bytes);
    return out;
}

#endif
