/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The index's writer: makes the sealed memfd, places entries (hopscotch: see layout.h), shares
 * field sets, evicts. It knows nothing of tokens and rules: that is cache.h. Loop thread only.
 *
 * Eviction: at capacity, or where no slot of the window can be freed by moving entries, one entry
 * of the window goes: a stale one, else an expired one, else the one with the oldest fill LSN.
 * Where the pool has no room for a record, those go whose records are in the way (pool_hand.h).
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

/* Makes, allocates (no SIGBUS later), maps and seals the memory. All of it is allocated but a part
 * of the pool, which follows in steps when entries need it, each step before it is used: a refusal
 * then is a pool that is full. 0 or a negative errno (-ENOMEM, -ENOSPC: too large for this
 * machine). */
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
    /* without repetition needed; at most CLOCKS_PER_ENTRY_MAX */
    const uint32_t *clocks;
    size_t clock_count;
};

enum index_put {
    INDEX_STORED = 0,
    /* an entry with a higher fill LSN stands there */
    INDEX_OLDER = 1,
    /* Field sets that many entries share fill the pool, and no place was cleared yet. */
    INDEX_NO_ROOM = 2,
};

/* Entries that went for one put: for its field set, for its overflow record, for its slot. */
#define INDEX_EVICTED_MAX (2 * POOL_RECORD_BYTES_MAX / POOL_UNIT_BYTES + 1)
struct index_evicted {
    size_t count;
    struct hash128 fingerprints[INDEX_EVICTED_MAX];
};

/* Stores or replaces (an equal fill LSN replaces). now_ns: for expiry in eviction. *evicted: the
 * entries that went for it, whatever is returned; never the one of this key. */
MUST_USE enum index_put index_put(struct index *index, const struct index_entry *entry,
                                  uint64_t now_ns, struct index_evicted *evicted);

/* Copies the entry out; false: none. (The writer's own look: no lease, no clocks.) */
MUST_USE bool index_find(struct index *index, struct hash128 fingerprint, struct shm_entry *out);
/* The same without its field set, as shm_clocks_at(). */
MUST_USE bool index_find_clocks(struct index *index, struct hash128 fingerprint,
                                struct shm_entry *out);
/* True if there was one. */
bool index_remove(struct index *index, struct hash128 fingerprint);

struct index_stats {
    /* Current entries that went for a slot, and for pool space; the others went for either. */
    uint64_t evicted_oldest, evicted_pool;
    uint64_t evicted_stale, evicted_expired;
    uint64_t moved;
    /* the machine had no memory for it */
    uint64_t pool_not_extended;
};
const struct index_stats *index_stats(const struct index *index);

#endif
