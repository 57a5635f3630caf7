/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The open guards and holds, and for each clock how many of them keep it in flux (rule FLUX_COUNT).
 * In the daemon's memory only: the store has its own table of them, and the clocks in shared memory
 * have one bit, "in flux", which cache.c keeps equal to "guards_flux() > 0".
 *
 * A guard is open until its writer ends it (commit, abort), or until it gave no sign of life for
 * guard_linger: then it counts as committed. Signs of life are its begin, each confirmation, and
 * its writer's connection while the guard is younger than max_ms. A hold is a guard that the daemon
 * ends itself, as a commit, when its time is over.
 *
 * Bounds. The daemon never refuses a step of an open guard, because its writer is in its
 * transaction or past its COMMIT. It refuses a begin when too many guards are open (guards_room).
 * It can't refuse a hold, since the change is committed already: when there are too many, it
 * lengthens one hold of everything, the "fold", instead, and applies the mutation without a hold of
 * its own (guards_fold). The fold's record has at least the hold time of each mutation that it
 * replaces, and a restart begins the fold again like any hold, so no hold is lost.
 *
 * The id of a guard that its writer ended is remembered for one linger, unless GUARDS_MAX others
 * end before that. A begin of this id that arrives late (from the spool, or sent twice) is then
 * ignored; it would keep its clocks in flux for nothing.
 *
 * Times are CLOCK_MONOTONIC_COARSE. Loop thread only.
 */
#ifndef ETAGD_GUARDS_H
#define ETAGD_GUARDS_H

#include "record.h"

struct guard {
    /* next in the hash bucket */
    struct guard *next;
    /* OPEN, ENDED: neighbours in the list of this state, in the order in which they entered it */
    struct guard *earlier, *later;
    /* HOLD: index in the heap */
    size_t at;
    struct guard_id id;
    enum { GUARD_OPEN, GUARD_HOLD, GUARD_ENDED } state;
    /* HOLD: the writer ended the guard, or there was no guard before the hold */
    bool said;
    /* HOLD: the hold time in its event; a restart begins the hold again with it */
    uint32_t hold_ms;
    /* of the event that opened it */
    uint64_t lsn;
    /* the peer whose connection is a sign of life; 0: none */
    uint64_t peer_id;
    uint32_t pid, uid;
    /* until then the connection counts as a sign of life */
    uint64_t max_until_ns;
    /* when the linger (OPEN) or the hold (HOLD) is over, or the id is forgotten (ENDED); a sign of
     * life of an open guard moves it */
    uint64_t ends_ns;
    /* clocks that this guard keeps in flux, with a count of one each */
    uint32_t *clocks;
    size_t clock_count;
    /* record of the event that opened it; its end names the same targets */
    uint8_t *record;
    size_t record_len;
};

#define GUARD_BUCKETS 16384u

struct guard_list {
    struct guard *first, *last;
};

struct guards {
    struct guard **buckets;
    /* for each clock, how many guards and holds keep it in flux */
    uint32_t *flux;
    uint64_t linger_ns;
    struct guard_list open, ended;
    /* a heap: the one that ends first is holds[0] */
    struct guard **holds;
    size_t holds_capacity;
    size_t open_count, hold_count, ended_count;
    /* memory of the guards and holds that have not ended */
    size_t bytes;
    /* {0, 0}: there was none in this run */
    struct guard_id fold;
};

/* 0 or -ENOMEM. */
MUST_USE int guards_init(struct guards *guards, uint32_t clock_count, uint64_t linger_ns);
void guards_deinit(struct guards *guards);

/* Returns the id of the guard that an event belongs to: the event's own, or {0, LSN} for a mutation
 * with a hold; {0, 0}: none. */
struct guard_id guards_id_of(const struct event *event);

/* Returns NULL if the id is not known. */
struct guard *guards_find(const struct guards *guards, struct guard_id id);
/* Returns the guard only if it is open: neither a hold nor ended. */
struct guard *guards_find_open(const struct guards *guards, struct guard_id id);

/* Returns whether there is room for one more guard. spooled: the begin is from the spool, where its
 * writer can't be refused, so the bound is higher. Beyond it the scan of the spool fails, and so no
 * front end trusts the memory until some guards have ended. */
MUST_USE bool guards_room(const struct guards *guards, bool spooled);
/* Returns whether one more mutation may have a hold of its own. */
MUST_USE bool guards_room_for_hold(const struct guards *guards);
/* Lengthens the fold to hold_ms from now. Returns false if there is no fold that can replace such a
 * hold. */
MUST_USE bool guards_fold(struct guards *guards, uint32_t hold_ms, uint64_t now_ns);

/* Opens a guard, or a hold (if the event has hold_ms), which counts on these clocks (copied). If
 * the id is open already, it keeps the clocks that it has; a hold that is begun again becomes a
 * guard again. Returns 0, or -ENOMEM: nothing was changed. */
MUST_USE int guards_open(struct guards *guards, const struct event *event, const uint32_t *clocks,
                         size_t clock_count, uint64_t now_ns);
/* Turns the guard into a hold: the event ends the guard, and its hold_ms begins now. */
void guards_hold(struct guards *guards, struct guard *guard, const struct event *event,
                 uint64_t now_ns);
/* Ends a guard, by its writer (said is true) or by timeout, and drops its flux counts. Remembers
 * the id if its writer ended it. Calls calm() for each clock whose count falls to 0, before it
 * changes the guard. */
void guards_end(struct guards *guards, struct guard *guard, bool said, uint64_t now_ns,
                void (*calm)(void *ctx, uint32_t clock), void *ctx);
/* Remembers that a writer ended an id that is not known. Best effort: does nothing without
 * memory. */
void guards_remember_end(struct guards *guards, struct guard_id id, uint64_t now_ns);

/* Notes a sign of life of an open guard. peer_id: the connection that it came over; 0: none. */
void guards_touch(struct guards *guards, struct guard *guard, uint64_t peer_id, uint32_t max_ms,
                  uint64_t now_ns);

uint32_t guards_flux(const struct guards *guards, uint32_t clock);

/* Returns whether the connection still exists. */
typedef bool guards_peer_lives(void *ctx, uint64_t peer_id);
/* Checks all open guards: begins the linger where a connection has ended, and forgets ended ids
 * that are due. Returns a guard or hold whose time is over: end it and call again. NULL: none. */
struct guard *guards_overdue(struct guards *guards, uint64_t now_ns, guards_peer_lives *lives,
                             void *ctx);

#endif
