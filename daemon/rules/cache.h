/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The rules of the cache and nothing else: what makes an entry stale, which fill is accepted, what
 * a mutation does. No sockets, no LMDB. Every mutation, live and at recovery, goes through
 * cache_apply(). Loop thread only.
 */
#ifndef ETAGD_CACHE_H
#define ETAGD_CACHE_H

#include "guards.h"
#include "index.h"
#include "record.h"

/* What the cache counts: name, what it counts. */
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
    X(holds_folded, "holds that one of everything stood for: too many")                            \
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
    /* the last one given out */
    uint64_t lsn;
    struct guards guards;
    bool paused;
    bool store_failed;
    /* stored times of CLOCK_MONOTONIC are of this boot */
    bool monotonic_goes_on;
    struct cache_counters counters;
};

/* LSN: incarnation << 40 | counter. */
#define LSN_COUNTER_BITS 40

/* linger_ns: guard_linger. 0 or -ENOMEM. */
MUST_USE int cache_init(struct cache *cache, struct index *index,
                        const struct index_options *options, uint64_t linger_ns);
void cache_deinit(struct cache *cache);

/* The next LSN. False: this incarnation has used up its numbers (2^40), the daemon has to
 * restart. */
MUST_USE bool cache_next_lsn(struct cache *cache, uint64_t *lsn);

/* The one function by which state changes, live and at recovery: sets clocks, begins and ends
 * guards, publishes the LSN. The event was checked (event_check) and has its LSN. A clock never
 * goes back, a guard that stands is not begun twice: an event applied twice is harmless. 0, or
 * -ENOMEM: nothing was changed. */
MUST_USE int cache_apply(struct cache *cache, const struct event *event);

/* The fold (guards.h) stands for the event's hold, and the event has none any more. False: there is
 * no fold that may, and the event is as it was. */
MUST_USE bool cache_fold(struct cache *cache, struct event *event);

/* The clocks on which an entry depends, the floor first, without repetition. */
struct clock_set {
    uint32_t clocks[CLOCKS_PER_ENTRY_MAX + 1];
    size_t count;
};
void cache_clocks_of(const struct cache *cache, const struct resource *resource,
                     const struct entry *entry, struct clock_set *out);

/* What a stored fill leaves for the store. Of a refused one only what is said to be so counts. */
struct cache_stored {
    struct hash128 fingerprint;
    /* whatever is returned; 0: refused by its token, or before */
    uint64_t fill_lsn;
    /* 0: never */
    uint64_t expires_wall_ms, expires_ns;
    /* whatever is returned */
    struct index_evicted evicted;
    /* no entry had the key */
    bool fresh;
    /* the former one was current, and lacks a clock of this one */
    bool wider;
};

/* The rule of fills: refused if the token is of another incarnation, or any clock of the entry is
 * above the token or in flux. An accepted entry keeps the token as its fill LSN. Returns
 * ETAG_REASON_NONE where it is stored. */
MUST_USE etag_reason cache_fill(struct cache *cache, etag_token token, const struct key *key,
                                const struct entry *entry, struct cache_stored *out);

/* Counts what became of a fill, and returns it: for one that its caller refuses. */
etag_reason cache_fill_count(struct cache *cache, etag_reason reason);

/* A front end was answered what refutes the key's entry: removes it, unless its fill LSN is above
 * the token. No clock is raised, nothing is remembered: a fill that is accepted later is as current
 * as its own clocks say. *fingerprint: the key's. Returns NONE (removed), NO_ENTRY, OLDER_FILL or
 * TOKEN_FOREIGN. */
MUST_USE etag_reason cache_retire(struct cache *cache, etag_token token, const struct key *key,
                                  struct hash128 *fingerprint);

/* An entry from the store at recovery, under the same rule, with the fill LSN that it was stored
 * with. *evicted: whatever is returned. Returns NONE (loaded), TOKEN_STALE, EXPIRED, OLDER_FILL or
 * NO_ROOM. */
MUST_USE etag_reason cache_load(struct cache *cache, const struct key *key,
                                const struct entry_record *record, struct index_evicted *evicted);

/* The state of an entry as a front end would see it, apart from the lease: VALID, NO_ENTRY, STALE,
 * IN_FLUX, EXPIRED. *clock, *value: the culprit of STALE and IN_FLUX. */
MUST_USE etag_reason cache_state(const struct cache *cache, struct hash128 fingerprint,
                                 struct shm_entry *entry, uint32_t *clock, uint64_t *value);

#endif
