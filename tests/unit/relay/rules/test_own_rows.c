/* SPDX-License-Identifier: Apache-2.0 */
/* Rows of this host: left out where the daemon has them, and never another's. */
#include "own_rows.h"
#include "testing.h"

static size_t others(const struct own_rows *own, struct engine_row *rows, const uint64_t *positions,
                     size_t count)
{
    for (size_t i = 0; i < count; i++)
        rows[i] = (struct engine_row){.position = positions[i]};
    return own_rows_leave_out(own, rows, count);
}

TEST(its_own_are_left_out_and_the_others_stay_in_their_order)
{
    struct own_rows own = {0};
    struct engine_row rows[6];
    const uint64_t positions[] = {5, 7, 7, 8, 6, 9};

    assert_int_equal(others(&own, rows, positions, 6), 6);
    own_rows_add(&own, 7);
    own_rows_add(&own, 9);
    assert_int_equal(others(&own, rows, positions, 6), 3);
    assert_int_equal(rows[0].position, 5);
    assert_int_equal(rows[1].position, 8);
    assert_int_equal(rows[2].position, 6);
}

TEST(one_that_is_settled_is_forgotten)
{
    struct own_rows own = {0};
    struct engine_row rows[2];
    const uint64_t positions[] = {7, 9};
    uint64_t running[] = {9};
    const struct engine_snapshot snapshot = {.next = 12, .running = running, .running_count = 1};

    own_rows_add(&own, 7);
    own_rows_add(&own, 9);
    own_rows_settled(&own, &snapshot);
    assert_int_equal(others(&own, rows, positions, 2), 1);
    assert_int_equal(rows[0].position, 7);
}

TEST(numbers_that_go_back_are_of_another_history)
{
    struct own_rows own = {0};
    struct engine_row rows[2];
    const uint64_t positions[] = {8, 7};

    own_rows_add(&own, 8);
    own_rows_add(&own, 7);
    assert_int_equal(others(&own, rows, positions, 2), 1);
    assert_int_equal(rows[0].position, 8);
    own_rows_forget(&own);
    assert_int_equal(others(&own, rows, positions, 2), 2);
}

TEST(more_than_there_is_room_for_are_applied_once_more)
{
    struct own_rows own = {0};
    struct engine_row rows[2];
    const uint64_t positions[] = {10, 10 + OWN_ROWS_MAX};

    for (uint64_t i = 0; i <= OWN_ROWS_MAX; i++)
        own_rows_add(&own, 10 + i);
    assert_int_equal(others(&own, rows, positions, 2), 1);
    assert_int_equal(rows[0].position, 10);
}
