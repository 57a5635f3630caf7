/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The index's writer: makes the sealed memfd, places entries (hopscotch: see layout.h), shares field sets, evicts.
 * It knows nothing of tokens and rules: that is cache.h. Loop thread only.
 *
 * Eviction: at capacity, or where no slot of the window can be freed by moving entries, one entry of the window goes:
 * a stale one, else an expired one, else the one with the oldest fill LSN.
 */
#ifndef ETAGD_INDEX_H
#define ETAGD_INDEX_H

#include "fieldset.h"
#include "shm.h"

struct index;

struct index_options {
    struct layout_plan plan;
    uint64_t incarnation;
    uint64_t incarnation_id;
    uint8_t hash_key[SIPHASH_KEY_BYTES];
    uint64_t lease_ns;
};

/* Makes, allocates (no SIGBUS later), maps and seals the memory. 0 or a negative errno (-ENOMEM, -ENOSPC: too large
 * for this machine). */
MUST_USE int index_open(struct index **out, const struct index_options *options);
struct index *index_close(struct index *index); /* returns NULL */

struct shm_view *index_view(struct index *index);
int index_fd(const struct index *index); /* for peers: sealed, can only be mapped read-only */
uint64_t index_bytes(const struct index *index);
uint64_t index_count(const struct index *index);
uint64_t index_capacity(const struct index *index);
uint32_t index_pool_used_units(const struct index *index);

struct index_entry {
    struct hash128 fingerprint;
    uint64_t fill_lsn;
    uint64_t expires_ns; /* CLOCK_MONOTONIC_COARSE; UINT64_MAX: never */
    int64_t last_modified;
    bool last_modified_is_strong;
    etag_str etag;
    etag_str content_location;
    const struct kept_field *fields;
    size_t field_count;
    const uint32_t *clocks; /* without repetition needed; at most CLOCKS_PER_ENTRY_MAX */
    size_t clock_count;
};

enum index_put {
    INDEX_STORED = 0,
    INDEX_OLDER = 1,   /* an entry with a higher fill LSN stands there */
    INDEX_NO_ROOM = 2, /* the pool is full, or the field set is too large */
};

/* Stores or replaces (an equal fill LSN replaces). now_ns: for expiry in eviction. *evicted: set to the fingerprint of an entry that
 * went for it, {0, 0} if none. */
MUST_USE enum index_put index_put(struct index *index, const struct index_entry *entry,
                                  uint64_t now_ns, struct hash128 *evicted);

/* Copies the entry out; false: none. (The writer's own look: no lease, no clocks.) */
MUST_USE bool index_find(struct index *index, struct hash128 fingerprint, struct shm_entry *out);
/* True if there was one. */
bool index_remove(struct index *index, struct hash128 fingerprint);

struct index_stats {
    uint64_t evicted_stale, evicted_expired, evicted_oldest, moved;
    uint64_t fieldset_count;
};
const struct index_stats *index_stats(const struct index *index);

#endif
