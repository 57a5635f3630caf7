/* SPDX-License-Identifier: Apache-2.0 */
/* Who refers to which record: lists of a field set's entries, against a plain table. */
#include "testing.h"

#include "owners.h"

#include <stdbool.h>

enum { SLOTS = 200, UNITS = 64, ROUNDS = 20000 };

static size_t owners_of(const struct owners *owners, uint32_t unit, bool seen[SLOTS])
{
    size_t count = 0;

    for (uint64_t slot = owners_first(owners, unit); slot != OWNERS_NONE;
         slot = owners_next(owners, slot), count++) {
        assert_true(slot < SLOTS && !seen[slot] && count < SLOTS);
        seen[slot] = true;
    }
    return count;
}

TEST(lists_of_a_set_have_each_owner_once)
{
    struct owners *owners = NULL;
    uint32_t set_of[SLOTS] = {0};
    uint64_t seed = 3;

    assert_int_equal(owners_open(&owners, SLOTS, UNITS), 0);
    for (int round = 0; round < ROUNDS; round++) {
        const uint64_t slot = random_next(&seed) % SLOTS;
        const struct pool_refs former = {.fieldset = set_of[slot]};
        owners_remove(owners, slot, former);
        set_of[slot] = (uint32_t)(random_next(&seed) % 8);
        owners_add(owners, slot, (struct pool_refs){.fieldset = set_of[slot]});
        if (round % 100 != 0)
            continue;
        bool seen[SLOTS] = {false};
        for (uint32_t unit = 1; unit < 8; unit++)
            (void)owners_of(owners, unit, seen);
        for (uint64_t i = 0; i < SLOTS; i++)
            assert_int_equal(seen[i], set_of[i] != 0);
    }
    assert_null(owners_close(owners));
}

TEST(a_record_of_one_entry_has_one_owner)
{
    struct owners *owners = NULL;
    const struct pool_refs both = {.fieldset = 3, .overflow = 9};

    assert_int_equal(owners_open(&owners, SLOTS, UNITS), 0);
    assert_int_equal(owners_first(owners, 9), OWNERS_NONE);
    owners_add(owners, 0, both); /* slot 0 is one as any other */
    owners_add(owners, 7, (struct pool_refs){.fieldset = 3});
    assert_int_equal(owners_first(owners, 9), 0);
    assert_int_equal(owners_first(owners, 3), 7);
    assert_int_equal(owners_next(owners, 7), 0);
    owners_remove(owners, 0, both);
    assert_int_equal(owners_first(owners, 9), OWNERS_NONE);
    assert_int_equal(owners_next(owners, 7), OWNERS_NONE);
    owners_close(owners);
}
