/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A writer on another host that hears nothing from this one relies on this host's lease being over
 * L_net after its COMMIT. It is: a poll that did not see the COMMIT was sent before it, so its t0
 * is earlier, and the lease ends at t0 + L_net at the latest. Therefore t0 is the clock *before*
 * the poll was sent, and it counts only when the poll's events are in the clocks and recorded.
 */
#include "freshness.h"

#include "clocktime.h"
#include "numbers.h"

void freshness_init(struct freshness *freshness, enum relay_mode mode)
{
    *freshness = (struct freshness){.mode = mode};
}

bool freshness_t0_is_past(uint64_t t0_ns, uint64_t now_ns)
{
    return t0_ns <= now_ns;
}

void freshness_move(struct freshness *freshness, const struct freshness_proof *proof)
{
    if (!proof->member)
        return;
    freshness->fresh_ns = max_of(freshness->fresh_ns, proof->t0_ns);
    freshness->until_ns = max_of(freshness->until_ns, proof->t0_ns + proof->l_net_ms * NS_PER_MS);
}

uint64_t freshness_bound(const struct freshness *freshness, uint64_t deadline_ns)
{
    return freshness->mode == RELAY_REQUIRED ? min_of(deadline_ns, freshness->until_ns)
                                             : deadline_ns;
}

uint64_t freshness_left_ns(const struct freshness *freshness, uint64_t now_ns)
{
    return now_ns < freshness->until_ns ? freshness->until_ns - now_ns : 0;
}
