/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory for things that come and go in about the same order, many of them at once: pieces are cut off the end of a chunk, and
 * a chunk goes back to the kernel when all pieces of it were freed. So a burst leaves nothing behind, where malloc keeps what
 * it once had. Not for several threads at once.
 */
#ifndef ETAGD_SLAB_H
#define ETAGD_SLAB_H

#include "cleanup.h"

#include <stddef.h>
#include <stdint.h>

#define SLAB_CHUNK_BYTES ((size_t)256 * 1024) /* and their alignment */

struct slab_chunk;

struct slab {
    struct slab_chunk *current; /* pieces come from its end; NULL: none yet */
    struct slab_chunk *spare;   /* an empty one, kept for the next burst */
    size_t chunk_count;         /* of all that are mapped */
};

/* Of no piece: all zero. Frees what is mapped: current and spare; every piece must have been freed. */
void slab_deinit(struct slab *slab);

/* Not zeroed, aligned to 16. NULL: no memory. */
MUST_USE void *slab_alloc(struct slab *slab, size_t bytes);
/* NULL is allowed. */
void slab_free(struct slab *slab, void *piece);

#endif
