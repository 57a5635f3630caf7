/* SPDX-License-Identifier: Apache-2.0 */
/* A piece's chunk is found by its address: chunks are aligned to their size. */
#include "slab.h"

#include <assert.h>
#include <stdbool.h>
#include <sys/mman.h>

#define PIECE_ALIGN 16u

struct slab_chunk {
    size_t bytes; /* of all of it */
    size_t used;  /* bytes cut off, this header included */
    size_t live;  /* pieces that were not freed */
};

#define CHUNK_HEADER_BYTES                                                                         \
    ((sizeof(struct slab_chunk) + PIECE_ALIGN - 1) / PIECE_ALIGN * PIECE_ALIGN)

static struct slab_chunk *chunk_of(void *piece)
{
    return (struct slab_chunk *)((uintptr_t)piece & ~(uintptr_t)(SLAB_CHUNK_BYTES - 1));
}

/* bytes: a multiple of SLAB_CHUNK_BYTES. */
static struct slab_chunk *chunk_map(struct slab *slab, size_t bytes)
{
    const size_t reserved = bytes + SLAB_CHUNK_BYTES;
    uint8_t *const start = mmap(NULL, reserved, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
                                -1, 0);
    if (start == MAP_FAILED)
        return NULL;
    const size_t before = -(uintptr_t)start & (SLAB_CHUNK_BYTES - 1);
    struct slab_chunk *const chunk = (struct slab_chunk *)(start + before);
    if (before > 0)
        munmap(start, before);
    munmap(start + before + bytes, SLAB_CHUNK_BYTES - before);
    *chunk = (struct slab_chunk){.bytes = bytes, .used = CHUNK_HEADER_BYTES};
    slab->chunk_count++;
    return chunk;
}

/* Nothing refers to it any more. */
static void chunk_retire(struct slab *slab, struct slab_chunk *chunk)
{
    if (!slab->spare && chunk->bytes == SLAB_CHUNK_BYTES) {
        chunk->used = CHUNK_HEADER_BYTES;
        slab->spare = chunk;
        return;
    }
    munmap(chunk, chunk->bytes);
    slab->chunk_count--;
}

/* A chunk with room for anything, as the current one. */
static bool chunk_begin(struct slab *slab)
{
    struct slab_chunk *chunk = slab->spare;
    slab->spare = NULL;
    if (!chunk)
        chunk = chunk_map(slab, SLAB_CHUNK_BYTES);
    if (!chunk)
        return false;
    if (slab->current && slab->current->live == 0)
        chunk_retire(slab, slab->current);
    slab->current = chunk;
    return true;
}

static void *chunk_cut(struct slab_chunk *chunk, size_t bytes)
{
    void *const piece = (uint8_t *)chunk + chunk->used;
    chunk->used += bytes;
    chunk->live++;
    return piece;
}

/* A piece so large has a chunk of its own. */
static void *alloc_large(struct slab *slab, size_t bytes)
{
    if (bytes > SIZE_MAX / 2)
        return NULL;
    const size_t whole = (CHUNK_HEADER_BYTES + bytes + SLAB_CHUNK_BYTES - 1) / SLAB_CHUNK_BYTES *
                         SLAB_CHUNK_BYTES;
    struct slab_chunk *const chunk = chunk_map(slab, whole);
    return chunk ? chunk_cut(chunk, bytes) : NULL;
}

void *slab_alloc(struct slab *slab, size_t bytes)
{
    if (bytes > SLAB_CHUNK_BYTES / 2)
        return alloc_large(slab, bytes);
    bytes = (bytes + PIECE_ALIGN - 1) / PIECE_ALIGN * PIECE_ALIGN;
    if ((!slab->current || bytes > SLAB_CHUNK_BYTES - slab->current->used) && !chunk_begin(slab))
        return NULL;
    return chunk_cut(slab->current, bytes);
}

void slab_free(struct slab *slab, void *piece)
{
    if (!piece)
        return;
    struct slab_chunk *const chunk = chunk_of(piece);
    assert(chunk->live > 0);
    if (--chunk->live > 0)
        return;
    if (chunk == slab->current)
        chunk->used = CHUNK_HEADER_BYTES;
    else
        chunk_retire(slab, chunk);
}

void slab_deinit(struct slab *slab)
{
    if (slab->current)
        munmap(slab->current, SLAB_CHUNK_BYTES);
    if (slab->spare)
        munmap(slab->spare, SLAB_CHUNK_BYTES);
    *slab = (struct slab){0};
}
