/* SPDX-License-Identifier: Apache-2.0 */
#include "snapshot.h"

#include "testing.h"

TEST(positions_below_next_but_those_that_ran)
{
    uint64_t running[] = {5, 7, 9};
    const struct engine_snapshot snapshot = {.next = 12, .running = running, .running_count = 3};

    for (uint64_t position = 0; position < 16; position++) {
        const bool ran = position == 5 || position == 7 || position == 9;
        assert_int_equal(snapshot_covers(&snapshot, position), position < 12 && !ran);
    }
}

TEST(one_without_running_ones_is_a_number)
{
    const struct engine_snapshot snapshot = {.next = 3};

    assert_true(snapshot_covers(&snapshot, 2));
    assert_false(snapshot_covers(&snapshot, 3));
    assert_false(snapshot_covers(&snapshot, UINT64_MAX));
}

TEST(a_copy_is_its_own)
{
    uint64_t running[] = {5, 7};
    const struct engine_snapshot snapshot = {.next = 12, .running = running, .running_count = 2};
    struct engine_snapshot copy;

    assert_int_equal(snapshot_copy(&copy, &snapshot), 0);
    running[0] = 6;
    assert_false(snapshot_covers(&copy, 5));
    assert_true(snapshot_covers(&copy, 6));
    free(copy.running);
}
