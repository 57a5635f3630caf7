/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A list of blocks; bytes are allocated from the last one. The bound counts allocated bytes only,
 * so whether a peer's message fits depends on the message alone; the unused end of a block is
 * smaller than the part that was allocated.
 */
#include "arena.h"

#include <assert.h>

#define BLOCK_BYTES (16u * 1024u - sizeof(struct arena_block))

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

void arena_shrink(struct arena *arena)
{
    free_blocks(arena->first->next);
    arena->first->next = NULL;
    arena->last = arena->first;
}

bool arena_grow(struct arena *arena, size_t bytes)
{
    const size_t capacity = max_of(bytes, BLOCK_BYTES);
    struct arena_block *block = malloc(sizeof(*block) + capacity);

    if (!block)
        return false;
    block->next = NULL;
    block->used = 0;
    block->capacity = capacity;
    if (arena->last)
        arena->last->next = block;
    else
        arena->first = block;
    arena->last = block;
    return true;
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
