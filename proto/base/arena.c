/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Blocks in a list, bytes handed out of the last one. The bound counts what was handed out, so that
 * a peer's message decides alone whether it fits; what a block wastes at its end is less than what
 * it handed out.
 */
#include "arena.h"

#include "numbers.h"

#include <assert.h>
#include <stdalign.h>
#include <string.h>

#define ARENA_ALIGN 16u
#define BLOCK_BYTES (16u * 1024u - sizeof(struct arena_block))

struct arena_block {
    struct arena_block *next;
    size_t used, capacity;
    alignas(ARENA_ALIGN) unsigned char bytes[];
};

void arena_init(struct arena *arena, size_t max_bytes)
{
    assert(max_bytes <= PTRDIFF_MAX); /* so that rounding up cannot wrap */
    *arena = (struct arena){.max_bytes = max_bytes};
}

static void free_blocks(struct arena_block *block)
{
    while (block) {
        struct arena_block *next = block->next;
        free(block);
        block = next;
    }
}

void arena_deinit(struct arena *arena)
{
    free_blocks(arena->first);
    *arena = (struct arena){0};
}

void arena_reset(struct arena *arena)
{
    arena->used_bytes = 0;
    arena->last = arena->first;
    if (!arena->first)
        return;
    free_blocks(arena->first->next);
    arena->first->next = NULL;
    arena->first->used = 0;
}

static struct arena_block *block_append(struct arena *arena, size_t at_least)
{
    const size_t capacity = max_of(at_least, BLOCK_BYTES);
    struct arena_block *block = malloc(sizeof(*block) + capacity);

    if (!block)
        return NULL;
    block->next = NULL;
    block->used = 0;
    block->capacity = capacity;
    if (arena->last)
        arena->last->next = block;
    else
        arena->first = block;
    arena->last = block;
    return block;
}

void *arena_alloc(struct arena *arena, size_t bytes)
{
    const size_t left = arena->max_bytes - arena->used_bytes;

    if (bytes > left)
        return NULL;
    const size_t rounded = (bytes + ARENA_ALIGN - 1) & ~(size_t)(ARENA_ALIGN - 1);
    struct arena_block *block = arena->last;
    if (!block || rounded > block->capacity - block->used)
        block = block_append(arena, rounded);
    if (!block)
        return NULL;
    void *const out = block->bytes + block->used;
    block->used += rounded;
    arena->used_bytes += min_of(rounded, left);
    return out;
}

etag_str arena_copy(struct arena *arena, etag_str bytes)
{
    char *const copy = arena_alloc(arena, bytes.len + 1);

    if (!copy)
        return (etag_str){0};
    if (bytes.len > 0)
        memcpy(copy, bytes.data, bytes.len);
    copy[bytes.len] = '\0';
    return (etag_str){copy, bytes.len};
}

void *arena_array(struct arena *arena, size_t count, size_t size)
{
    size_t bytes;

    if (__builtin_mul_overflow(count, size, &bytes))
        return NULL;
    void *const out = arena_alloc(arena, bytes);
    if (out)
        memset(out, 0, bytes);
    return out;
}
