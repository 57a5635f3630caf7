/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The rules of the cache and nothing else: what makes an entry stale, which fills are accepted,
 * what a mutation does. No sockets, no LMDB, so tests run the rules alone. Every mutation, live and
 * at recovery, goes through cache_apply(). Loop thread only.
 */
#ifndef ETAGD_CACHE_H
#define ETAGD_CACHE_H

#include "guards.h"
#include "index.h"
#include "record.h"

/* The cache's counters: X(name, what it counts). */
#define CACHE_COUNTERS(X)                                                                          \
    X(fills_stored, "fills accepted")                                                              \
    X(fills_token_stale, "fills refused: invalidated after the token")                             \
    X(fills_token_in_flux, "fills refused: in flux")                                               \
    X(fills_token_foreign, "fills refused: token of another run")                                  \
    X(fills_older, "fills refused: a newer one is stored")                                         \
    X(fills_no_room, "fills refused: no room")                                                     \
    X(fills_paused, "fills refused: paused")                                                       \
    X(fills_store_failed, "fills refused: the store failed")                                       \
    X(retires, "entries removed: a front end was answered what cannot be stored")                  \
    X(retires_refused, "retires of what is not there, or of a newer fill")                         \
    X(mutations, "mutations applied")                                                              \
    X(guards_begun, "guards begun, those begun again by a confirmation included")                  \
    X(guards_committed, "guards committed by their writer")                                        \
    X(guards_aborted, "guards aborted")                                                            \
    X(guards_lingered, "guards taken as committed: no sign of life")                               \
    X(guards_rearmed, "guards begun again by a confirmation: they had been lost")                  \
    X(holds_folded, "holds that one of everything covers: too many")                               \
    X(holds, "holds begun")                                                                        \
    X(targets, "targets of these")                                                                 \
    X(loaded, "entries loaded at start")                                                           \
    X(loaded_stale, "entries found stale at start")                                                \
    X(loaded_expired, "entries found expired at start")

struct cache_counters {
#define CACHE_COUNTER_FIELD(name, text) uint64_t name;
    CACHE_COUNTERS(CACHE_COUNTER_FIELD)
#undef CACHE_COUNTER_FIELD
};

struct cache {
    /* borrowed */
    struct index *index;
    struct shm_view *view;
    uint8_t hash_key[SIPHASH_KEY_BYTES];
    uint64_t incarnation_id;
    /* the last LSN given out */
    uint64_t lsn;
    struct guards guards;
    bool paused;
    bool store_failed;
    /* CLOCK_MONOTONIC times in the store are from this boot, so they can be compared with now */
    bool monotonic_goes_on;
    struct cache_counters counters;
};

/* LSN: incarnation << 40 | counter. */
#define LSN_COUNTER_BITS 40

/* linger_ns: guard_linger. 0 or -ENOMEM. */
MUST_USE int cache_init(struct cache *cache, struct index *index,
                        const struct index_options *options, uint64_t linger_ns);
void cache_deinit(struct cache *cache);

/* Takes the next LSN. Returns false if this incarnation has used up its numbers (2^40): the daemon
 * has to restart. */
MUST_USE bool cache_next_lsn(struct cache *cache, uint64_t *lsn);

/* The one function by which state changes, live and at recovery: sets clocks, begins and ends
 * guards, publishes the LSN. The caller has checked the event (event_check) and set its LSN.
 * Applying an event twice is harmless: a clock never goes back, and an open guard is not begun
 * twice. Returns 0, or -ENOMEM: nothing was changed. */
MUST_USE int cache_apply(struct cache *cache, const struct event *event);

/* Lets the fold (guards.h) replace the event's hold, and removes the hold from the event. Returns
 * false, and leaves the event as it is, if there is no fold that can. */
MUST_USE bool cache_fold(struct cache *cache, struct event *event);

/* The clocks on which an entry depends, the floor first, without repetition. */
struct clock_set {
    uint32_t clocks[CLOCKS_PER_ENTRY_MAX + 1];
    size_t count;
};
void cache_clocks_of(const struct cache *cache, const struct resource *resource,
                     const struct entry *entry, struct clock_set *out);

/* What cache_fill() leaves for the persister. If the fill is refused, only the members marked "on
 * every return" are set. */
struct cache_stored {
    struct hash128 fingerprint;
    /* on every return; 0: refused because of its token, or before that */
    uint64_t fill_lsn;
    /* 0: never */
    uint64_t expires_wall_ms, expires_ns;
    /* on every return */
    struct index_evicted evicted;
    /* the key had no entry before */
    bool fresh;
    /* the former entry was current and did not depend on one of the new entry's clocks */
    bool wider;
};

/* Stores an entry by the rule of fills: refuses it if the token is of another incarnation, or if
 * any clock of the entry is above the token or in flux. The stored entry keeps the token's LSN as
 * its fill LSN. Returns ETAG_REASON_NONE if it is stored, else why not. */
MUST_USE etag_reason cache_fill(struct cache *cache, etag_token token, const struct key *key,
                                const struct entry *entry, struct cache_stored *out);

/* Counts the outcome of a fill and returns it. For callers that refuse a fill before
 * cache_fill(). */
etag_reason cache_fill_count(struct cache *cache, etag_reason reason);

/* Removes the key's entry, because a front end rendered a response that contradicts it, unless the
 * entry's fill LSN is above the token. Raises no clock and remembers nothing: whether a later fill
 * is current depends on its own clocks only. *fingerprint: the key's. Returns NONE (removed),
 * NO_ENTRY, OLDER_FILL or TOKEN_FOREIGN. */
MUST_USE etag_reason cache_retire(struct cache *cache, etag_token token, const struct key *key,
                                  struct hash128 *fingerprint);

/* Loads an entry from the store into the index, by the rule of fills, with the fill LSN that it was
 * stored with. *evicted: set on every return. Returns NONE (loaded), TOKEN_STALE, EXPIRED,
 * OLDER_FILL or NO_ROOM. */
MUST_USE etag_reason cache_load(struct cache *cache, const struct key *key,
                                const struct entry_record *record, struct index_evicted *evicted);

/* Returns the state of an entry as a front end would see it, apart from the lease: VALID, NO_ENTRY,
 * STALE, IN_FLUX, EXPIRED. *clock, *value: the clock that makes it STALE or IN_FLUX, and its
 * value. */
MUST_USE etag_reason cache_state(const struct cache *cache, struct hash128 fingerprint,
                                 struct shm_entry *entry, uint32_t *clock, uint64_t *value);

#endif
