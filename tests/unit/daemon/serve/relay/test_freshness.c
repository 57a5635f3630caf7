/* SPDX-License-Identifier: Apache-2.0 */
/* The second deadline: what a poll proves, and for how long. */
#include "clocktime.h"
#include "freshness.h"
#include "testing.h"

#define MS(n) ((uint64_t)(n)*NS_PER_MS)

static struct freshness of(enum relay_mode mode)
{
    struct freshness f;

    freshness_init(&f, mode);
    return f;
}

static struct freshness_proof poll_at(uint64_t t0_ms, uint32_t l_net_ms)
{
    return (struct freshness_proof){.t0_ns = MS(t0_ms), .l_net_ms = l_net_ms, .member = true};
}

/* FRESH_RESET, FRESH_LEASE. */
TEST(nothing_is_fresh_before_a_poll)
{
    struct freshness f = of(RELAY_REQUIRED);

    assert_true(freshness_bound(&f, MS(1000)) == 0);
    assert_true(freshness_left_ns(&f, MS(1)) == 0);
    f = of(RELAY_OPTIONAL);
    assert_true(freshness_bound(&f, MS(1000)) == MS(1000));
    f = of(RELAY_OFF);
    assert_true(freshness_bound(&f, MS(1000)) == MS(1000));
}

/* FRESH_LEASE: the earlier of the two. */
TEST(the_earlier_deadline_counts)
{
    struct freshness f = of(RELAY_REQUIRED);
    const struct freshness_proof proof = poll_at(500, 2000);

    freshness_move(&f, &proof);
    assert_true(freshness_bound(&f, MS(1000)) == MS(1000));
    assert_true(freshness_bound(&f, MS(3000)) == MS(2500));
    assert_true(freshness_left_ns(&f, MS(2499)) == MS(1));
    assert_true(freshness_left_ns(&f, MS(2500)) == 0);
}

/* MEMBER_COUNTS. */
TEST(a_poll_of_no_member_proves_nothing)
{
    struct freshness f = of(RELAY_REQUIRED);
    struct freshness_proof proof = poll_at(500, 2000);

    proof.member = false;
    freshness_move(&f, &proof);
    assert_true(freshness_bound(&f, MS(1000)) == 0);
}

/* An answer that was stuck comes after a newer one; and each poll counts by the L_net that it
 * saw. */
TEST(nothing_takes_back_what_was_proved)
{
    struct freshness f = of(RELAY_REQUIRED);
    struct freshness_proof proof = poll_at(1000, 4000);

    freshness_move(&f, &proof);
    proof = poll_at(500, 2000);
    freshness_move(&f, &proof);
    assert_true(f.fresh_ns == MS(1000));
    assert_true(freshness_bound(&f, UINT64_MAX) == MS(5000));
    proof = poll_at(2000, 2000);
    freshness_move(&f, &proof);
    assert_true(f.fresh_ns == MS(2000));
    assert_true(freshness_bound(&f, UINT64_MAX) == MS(5000));
}

/* NO_FUTURE_T0. */
TEST(a_t0_ahead_is_told)
{
    assert_true(freshness_t0_is_past(MS(5), MS(5)));
    assert_true(freshness_t0_is_past(0, MS(5)));
    assert_false(freshness_t0_is_past(MS(5) + 1, MS(5)));
    assert_false(freshness_t0_is_past(UINT64_MAX, MS(5)));
}
