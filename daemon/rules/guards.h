/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guards and holds that stand, and how many of them stand on each clock (rule FLUX_COUNT). In the
 * daemon's memory only:
 * the store has its own table of them, and the clocks in shared memory have one bit, "in flux",
 * which cache.c keeps equal to "guards_flux() > 0".
 *
 * A guard is open until its end is said (commit, abort), or until it gave no sign of life for
 * guard_linger: then it counts as committed. Signs of life are its begin, each confirmation, and
 * its connection while it is younger than max_ms. A hold is a guard that the daemon ends itself, as
 * a commit, when its time is over.
 *
 * Bounds. A guard that stands is never refused a step: its writer is in its transaction, or past
 * its COMMIT. One that begins is refused where too many are open (guards_room). A hold can't be
 * refused, since its change is committed already: at its bound one hold of everything, the "fold",
 * is lengthened instead, and the mutation goes without (guards_fold). The fold's record says as
 * long a hold as any that it stands for, and begins anew after a restart like any hold, so nothing
 * of it is lost.
 *
 * An id whose end was said is remembered for one linger, and while GUARDS_MAX more did not end: a
 * begin that is found late, in the spool or sent twice, would only keep its clocks in flux for
 * nothing.
 *
 * Times are CLOCK_MONOTONIC_COARSE. Loop thread only.
 */
#ifndef ETAGD_GUARDS_H
#define ETAGD_GUARDS_H

#include "record.h"

struct guard {
    /* in its bucket */
    struct guard *next;
    /* OPEN, ENDED: in their list, as they became so */
    struct guard *earlier, *later;
    /* HOLD: in the heap */
    size_t at;
    struct guard_id id;
    enum { GUARD_OPEN, GUARD_HOLD, GUARD_ENDED } state;
    /* HOLD: its writer said the end (or there was no guard before) */
    bool said;
    /* HOLD: as its event says, from which it begins anew after a restart */
    uint32_t hold_ms;
    /* of the event that opened it */
    uint64_t lsn;
    /* whose connection is a sign of life; 0: none */
    uint64_t peer_id;
    uint32_t pid, uid;
    /* so long its connection counts */
    uint64_t max_until_ns;
    /* without a further sign of life: lingered, held, or (ENDED) forgotten */
    uint64_t ends_ns;
    /* one count of each in flux */
    uint32_t *clocks;
    size_t clock_count;
    /* the event that opened it: its end names the same targets */
    uint8_t *record;
    size_t record_len;
};

#define GUARD_BUCKETS 16384u

struct guard_list {
    struct guard *first, *last;
};

struct guards {
    struct guard **buckets;
    /* a count for each clock */
    uint32_t *flux;
    uint64_t linger_ns;
    struct guard_list open, ended;
    /* a heap: the one that ends first is holds[0] */
    struct guard **holds;
    size_t holds_capacity;
    size_t open_count, hold_count, ended_count;
    /* that those take which did not end */
    size_t bytes;
    /* {0, 0}: there was none in this run */
    struct guard_id fold;
};

/* 0 or -ENOMEM. */
MUST_USE int guards_init(struct guards *guards, uint32_t clock_count, uint64_t linger_ns);
void guards_deinit(struct guards *guards);

/* The guard under which an event stands: its own id, or for a mutation that holds {0, its LSN}; {0,
 * 0}: none. */
struct guard_id guards_id_of(const struct event *event);

/* NULL: not known. */
struct guard *guards_find(const struct guards *guards, struct guard_id id);
/* The same, if it is open: neither held nor ended. */
struct guard *guards_find_open(const struct guards *guards, struct guard_id id);

/* Is there room for one more guard? spooled: its writer can't be told, so there is more room for
 * those, and beyond it the spool's scan fails, and nobody trusts the memory until some guards have
 * ended. */
MUST_USE bool guards_room(const struct guards *guards, bool spooled);
/* May one more mutation have a hold of its own? */
MUST_USE bool guards_room_for_hold(const struct guards *guards);
/* Lengthens the fold to hold_ms from now. False: there is none that may stand for such a hold. */
MUST_USE bool guards_fold(struct guards *guards, uint32_t hold_ms, uint64_t now_ns);

/* A guard or hold (hold_ms of the event) stands from now on, on these clocks (copied); one of that
 * id that stands already goes on with the clocks that it has, and a hold that is begun again is a
 * guard again. 0 or -ENOMEM: nothing was changed. */
MUST_USE int guards_open(struct guards *guards, const struct event *event, const uint32_t *clocks,
                         size_t clock_count, uint64_t now_ns);
/* The guard becomes a hold: the event is its end, with hold_ms. */
void guards_hold(struct guards *guards, struct guard *guard, const struct event *event,
                 uint64_t now_ns);
/* Its end was said, or came by itself: its counts are taken off. The id is remembered where 'said'.
 * Clocks whose count falls to 0 are told, one by one, before the guard is changed. */
void guards_end(struct guards *guards, struct guard *guard, bool said, uint64_t now_ns,
                void (*calm)(void *ctx, uint32_t clock), void *ctx);
/* The end of an id that is not known was said. Best effort: nothing where there is no memory. */
void guards_remember_end(struct guards *guards, struct guard_id id, uint64_t now_ns);

/* A sign of life of an open guard. peer_id: the connection that it came over, 0: none. */
void guards_touch(struct guards *guards, struct guard *guard, uint64_t peer_id, uint32_t max_ms,
                  uint64_t now_ns);

uint32_t guards_flux(const struct guards *guards, uint32_t clock);

/* Is the connection still there? */
typedef bool guards_peer_lives(void *ctx, uint64_t peer_id);
/* Looks at all open ones: connections that ended begin the linger; ended ones are forgotten.
 * Returns one whose time is over (end it and ask again), NULL: none. */
struct guard *guards_overdue(struct guards *guards, uint64_t now_ns, guards_peer_lives *lives,
                             void *ctx);

#endif
