/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The index's writer: makes the sealed memfd, places entries (hopscotch: see layout.h), shares
 * field sets, evicts. It knows nothing of tokens and rules; those are in cache.h. Loop thread only.
 *
 * Eviction: at capacity, or if no slot of the window can be freed by moving entries, the writer
 * evicts one entry of the window: a stale one, else an expired one, else the one with the oldest
 * fill LSN. If the pool has no room for a record, it evicts the entries whose records are in the
 * way (pool_hand.h).
 */
#ifndef ETAGD_INDEX_H
#define ETAGD_INDEX_H

#include "shm.h"

struct index;

struct index_options {
    struct layout_plan plan;
    uint64_t incarnation;
    uint64_t incarnation_id;
    uint8_t hash_key[SIPHASH_KEY_BYTES];
    uint64_t lease_ns;
};

/* Makes, allocates (so that no access raises SIGBUS later), maps and seals the memory. It allocates
 * everything but a part of the pool, which it allocates in steps when entries need it; if the
 * kernel refuses such a step, the pool counts as full. Returns 0 or a negative errno (-ENOMEM,
 * -ENOSPC: too large for this machine). */
MUST_USE int index_open(struct index **out, const struct index_options *options);
struct index *index_close(struct index *index); /* returns NULL */

struct shm_view *index_view(struct index *index);
int index_fd(const struct index *index); /* for peers: sealed, can only be mapped read-only */
uint64_t index_bytes(const struct index *index);
uint64_t index_taken_bytes(const struct index *index); /* of these, from the beginning: allocated */
uint64_t index_count(const struct index *index);
uint64_t index_capacity(const struct index *index);
uint32_t index_pool_used_units(const struct index *index);
uint64_t index_fieldset_count(const struct index *index); /* equal ones are one */

struct index_entry {
    struct hash128 fingerprint;
    uint64_t fill_lsn;
    /* CLOCK_MONOTONIC_COARSE; UINT64_MAX: never */
    uint64_t expires_ns;
    int64_t last_modified;
    bool last_modified_is_strong;
    etag_str etag;
    etag_str content_location;
    /* packed; empty: none */
    etag_str fieldset;
    /* without duplicates; at most CLOCKS_PER_ENTRY_MAX */
    const uint32_t *clocks;
    size_t clock_count;
};

enum index_put {
    INDEX_STORED = 0,
    /* the index has an entry of this key with a higher fill LSN */
    INDEX_OLDER = 1,
    /* the pool is full of field sets that many entries share, and no place was cleared yet */
    INDEX_NO_ROOM = 2,
};

/* Entries evicted by one put: for its field set, its overflow record and its slot. */
#define INDEX_EVICTED_MAX (2 * POOL_RECORD_BYTES_MAX / POOL_UNIT_BYTES + 1)
struct index_evicted {
    size_t count;
    struct hash128 fingerprints[INDEX_EVICTED_MAX];
};

/* Stores an entry, or replaces the one of this key (also if the fill LSN is equal). now_ns:
 * CLOCK_MONOTONIC_COARSE, by which eviction knows expired entries. *evicted: set on every return;
 * never has this key. */
MUST_USE enum index_put index_put(struct index *index, const struct index_entry *entry,
                                  uint64_t now_ns, struct index_evicted *evicted);

/* Copies the entry out; returns false if there is none. Checks neither lease nor clocks: only the
 * writer calls it. */
MUST_USE bool index_find(struct index *index, struct hash128 fingerprint, struct shm_entry *out);
/* The same, but without the field set, as shm_clocks_at(). */
MUST_USE bool index_find_clocks(struct index *index, struct hash128 fingerprint,
                                struct shm_entry *out);
/* Returns true if there was an entry. */
bool index_remove(struct index *index, struct hash128 fingerprint);

struct index_stats {
    /* Current entries evicted for a slot, and for pool space. The next two count evictions for
     * either. */
    uint64_t evicted_oldest, evicted_pool;
    uint64_t evicted_stale, evicted_expired;
    uint64_t moved;
    /* how often the kernel had no memory for more of the pool */
    uint64_t pool_not_extended;
};
const struct index_stats *index_stats(const struct index *index);

#endif
