/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A bounded bump allocator: one decoded message lives in one arena and goes with it. Reset keeps
 * the first block, so that a loop that decodes one request after another does not allocate.
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

/* Of arena_alloc(), where the last block has no room for so many bytes: another one. False: no
 * memory. */
MUST_USE bool arena_grow(struct arena *arena, size_t bytes);
/* Of arena_reset(), where there are other blocks than the first. */
void arena_shrink(struct arena *arena);

static inline void arena_reset(struct arena *arena)
{
    arena->used_bytes = 0;
    if (arena->first != arena->last)
        arena_shrink(arena);
    if (arena->first)
        arena->first->used = 0;
}

/* 16-byte aligned, not zeroed. NULL: over max_bytes, or no memory. */
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

/* The bytes, with a NUL behind them; absent: over max_bytes, or no memory. */
MUST_USE etag_str arena_copy(struct arena *arena, etag_str bytes);

/* count * size, zeroed, checked for overflow. */
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
