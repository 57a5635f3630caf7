/* SPDX-License-Identifier: Apache-2.0 */
/* Answers leave in the order of their tickets, and never before. */
#include "testing.h"

#include "pending.h"

static void add(struct pending *pending, uint64_t request_id, uint64_t ticket)
{
    assert_int_equal(pending_reserve(pending), 0);
    pending_add(pending, (struct pending_answer){.request_id = request_id, .ticket = ticket});
}

TEST(test_without_a_ticket_nothing_leaves)
{
    struct pending pending = {0};
    struct pending_answer answer;

    add(&pending, 1, 0);
    assert_false(pending_take(&pending, UINT64_MAX, &answer));
    pending_ticket(&pending, 5);
    assert_false(pending_take(&pending, 4, &answer));
    assert_true(pending_take(&pending, 5, &answer));
    assert_int_equal(answer.request_id, 1);
    assert_false(pending_take(&pending, 5, &answer));
    pending_deinit(&pending);
}

TEST(test_a_turn_gets_one_ticket_and_the_next_turn_another)
{
    struct pending pending = {0};
    struct pending_answer answer;

    add(&pending, 1, 0);
    add(&pending, 2, 0);
    pending_ticket(&pending, 1);
    add(&pending, 3, 0);
    assert_true(pending_take(&pending, 1, &answer));
    assert_true(pending_take(&pending, 1, &answer));
    assert_int_equal(answer.request_id, 2);
    assert_false(pending_take(&pending, 9, &answer));
    pending_ticket(&pending, 2);
    assert_true(pending_take(&pending, 2, &answer));
    assert_int_equal(answer.request_id, 3);
    pending_deinit(&pending);
}

TEST(test_it_grows_while_the_ring_is_wrapped)
{
    struct pending pending = {0};
    struct pending_answer answer;
    uint64_t in = 0, out = 0;

    for (int round = 0; round < 50; round++) {
        for (int i = 0; i < 37 + round; i++) {
            in++;
            add(&pending, in, in);
        }
        for (int i = 0; i < 20; i++) {
            assert_true(pending_take(&pending, in, &answer));
            assert_int_equal(answer.request_id, ++out);
        }
    }
    while (pending_take(&pending, in, &answer))
        assert_int_equal(answer.request_id, ++out);
    assert_int_equal(in, out);
    pending_deinit(&pending);
}
