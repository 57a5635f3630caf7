/* SPDX-License-Identifier: Apache-2.0 */
#include "clocktime.h"
#include "intake.h"
#include "numbers.h"
#include "testing.h"

#define NOW (5 * NS_PER_S)

static size_t taken(enum work work, uint64_t step_ns)
{
    struct budget budget = budget_begin(work, NOW);
    size_t count = 0;

    while (budget_take(&budget, NOW + count * step_ns))
        count++;
    assert_false(budget_left(&budget, NOW + count * step_ns));
    return count;
}

TEST(frames_are_bounded_where_time_is_not_used_up)
{
    assert_int_equal(taken(WORK_URGENT, 0), TURN_URGENT_MAX);
    assert_int_equal(taken(WORK_FILL, 0), TURN_FILLS_MAX);
    assert_int_equal(taken(WORK_ASKED, 0), TURN_ASKED_MAX);
}

TEST(time_is_bounded_where_frames_are_long)
{
    assert_int_equal(taken(WORK_URGENT, NS_PER_MS), 2);
    assert_int_equal(taken(WORK_FILL, NS_PER_MS / 10), 2);
    assert_int_equal(taken(WORK_ASKED, NS_PER_MS / 4), 4);
}

/* Or nobody would ever be served on a machine that is slow enough. */
TEST(the_first_one_is_always_there)
{
    for (int work = 0; work < WORK_KINDS; work++) {
        struct budget budget = budget_begin((enum work)work, NOW);
        assert_true(budget_take(&budget, NOW + NS_PER_S));
        assert_false(budget_take(&budget, NOW + NS_PER_S));
    }
}

TEST(a_peer_has_a_share_of_it)
{
    assert_true(work_share(WORK_URGENT) < TURN_URGENT_MAX);
    assert_true(work_share(WORK_FILL) < TURN_FILLS_MAX);
    assert_int_equal(work_share(WORK_ASKED), 1);
}

TEST(who_waits_comes_before_who_does_not)
{
    static const enum request_kind urgent[] = {
        REQUEST_NONE,          REQUEST_HELLO,        REQUEST_INVALIDATE,  REQUEST_GUARD_BEGIN,
        REQUEST_GUARD_CONFIRM, REQUEST_GUARD_COMMIT, REQUEST_GUARD_ABORT, REQUEST_PING,
        REQUEST_PAUSE,         REQUEST_RESUME};
    static const enum request_kind asked[] = {REQUEST_GET,    REQUEST_EXPLAIN, REQUEST_LIST,
                                              REQUEST_STATUS, REQUEST_CLIENTS, REQUEST_LOG};

    for (size_t i = 0; i < COUNT_OF(urgent); i++)
        assert_int_equal(work_of(urgent[i]), WORK_URGENT);
    for (size_t i = 0; i < COUNT_OF(asked); i++)
        assert_int_equal(work_of(asked[i]), WORK_ASKED);
    assert_int_equal(work_of(REQUEST_FILL), WORK_FILL);
}
