/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Freshness: until when this host may believe that it knows what other hosts changed. A poll of the
 * relay's log that came back proves "everything committed before t0", and others wait L_net before
 * they count on it. Times are CLOCK_MONOTONIC_COARSE.
 */
#ifndef ETAGD_FRESHNESS_H
#define ETAGD_FRESHNESS_H

#include "cleanup.h"
#include "message.h"

struct freshness {
    enum relay_mode mode;
    /* t0 of the newest poll that counts; 0: none in this run */
    uint64_t fresh_ns;
    /* and until when it does: t0 + L_net, as that poll said it */
    uint64_t until_ns;
};

/* Rule FRESH_RESET: whatever a former run knew, this one knows nothing before it has polled. */
void freshness_init(struct freshness *freshness, enum relay_mode mode);

/* What one poll proves. */
struct freshness_proof {
    uint64_t t0_ns;
    uint32_t l_net_ms;
    /* the same snapshot shows this host as a member */
    bool member;
};

/* Rule NO_FUTURE_T0: a clock that is ahead of ours is another one (a time namespace), or a lie. */
MUST_USE bool freshness_t0_is_past(uint64_t t0_ns, uint64_t now_ns);

/* Rule MEMBER_COUNTS. t0 is the clock before the poll was sent. Its events and its cursor are
 * recorded. Never goes back: each poll proves what it proves. */
void freshness_move(struct freshness *freshness, const struct freshness_proof *proof);

/* Rule FRESH_LEASE: no lease goes on after what was proved. Only relay: required binds it. */
MUST_USE uint64_t freshness_bound(const struct freshness *freshness, uint64_t deadline_ns);

/* What is left; 0: it is over, or there was none. */
MUST_USE uint64_t freshness_left_ns(const struct freshness *freshness, uint64_t now_ns);

#endif
