/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Freshness: until when this host may assume that it knows the changes of other hosts. A poll of
 * the relay's log, sent at t0, proves that this host has everything committed before t0. A writer
 * on another host waits L_net before it relies on this host having its change or no lease, so the
 * proof holds until t0 + L_net. Times are CLOCK_MONOTONIC_COARSE, in ns.
 */
#ifndef ETAGD_FRESHNESS_H
#define ETAGD_FRESHNESS_H

#include "cleanup.h"
#include "message.h"

struct freshness {
    enum relay_mode mode;
    /* t0 of the newest poll that counts; 0: none in this run */
    uint64_t fresh_ns;
    /* until when it counts: t0 + L_net, with the L_net of that poll */
    uint64_t until_ns;
};

/* Rule FRESH_RESET: a run has no proof before its own first poll, whatever a former run knew. */
void freshness_init(struct freshness *freshness, enum relay_mode mode);

/* What one poll proves. */
struct freshness_proof {
    uint64_t t0_ns;
    uint32_t l_net_ms;
    /* the snapshot of the poll has this host as a member */
    bool member;
};

/* Rule NO_FUTURE_T0: returns whether t0 is not after now. A relay whose clock is ahead of ours runs
 * in another time namespace, or lies. */
MUST_USE bool freshness_t0_is_past(uint64_t t0_ns, uint64_t now_ns);

/* Rule MEMBER_COUNTS: extends freshness by a poll. t0 is the clock before the poll was sent; the
 * caller has recorded the poll's events and cursor. Freshness never goes back, because an older
 * poll does not disprove a newer one. */
void freshness_move(struct freshness *freshness, const struct freshness_proof *proof);

/* Rule FRESH_LEASE: returns the deadline of the lease, cut to the end of freshness. Only "relay:
 * required" cuts it. */
MUST_USE uint64_t freshness_bound(const struct freshness *freshness, uint64_t deadline_ns);

/* Returns how long freshness still lasts; 0: it is over, or there was no poll. */
MUST_USE uint64_t freshness_left_ns(const struct freshness *freshness, uint64_t now_ns);

#endif
