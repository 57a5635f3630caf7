/* SPDX-License-Identifier: Apache-2.0 */
/* How often the fields of a key's entry are replaced, on a clock of the test's own. */
#include "refill_limit.h"

#include "testing.h"

static const struct hash128 KEY = {.low = 5, .high = 7};

static struct refill_limit *limit;

/* An answer with fields that no other has, which differs from this entry. */
static struct refill_answer answer_to(struct hash128 fingerprint, uint64_t entry, uint64_t now_ns)
{
    static uint64_t said = 1000;

    return (struct refill_answer){fingerprint, ++said, entry, now_ns};
}

static enum refill_turn differs(struct hash128 fingerprint, uint64_t now_ns)
{
    return refill_limit_differs(limit, answer_to(fingerprint, 1, now_ns));
}

static void retired(struct hash128 fingerprint)
{
    refill_limit_retired(limit, answer_to(fingerprint, 1, 0));
}

static int setup(void **state)
{
    (void)state;
    limit = refill_limit_new();
    return limit ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    limit = refill_limit_free(limit);
    return 0;
}

#define CASE(name) TEST_OF(name, void *none, setup, teardown)

/* What the second look finds after what was sent: the daemon does it at once. */
struct site {
    bool has_entry;
    unsigned messages;
};

static void answer(struct site *site, struct hash128 key, uint64_t now_ns)
{
    const enum refill_turn turn = site->has_entry ? differs(key, now_ns)
                                                  : refill_limit_fills(limit, key, true, now_ns);

    if (turn == REFILL_TURN_WAIT)
        return;
    site->messages++;
    site->has_entry = turn == REFILL_TURN_SEND;
    if (turn == REFILL_TURN_RETIRE)
        retired(key);
}

/* 10,000 answers, each with other fields, over twenty seconds. */
CASE(changing_fields_cost_two_messages_a_second)
{
    struct site site = {0};
    unsigned before = 0;

    for (uint64_t i = 0; i < 10000; i++) {
        answer(&site, KEY, 1 + i * (REFILL_WINDOW_NS / 500));
        if (i % 500 == 499) {
            /* The first fill of all is one of a key that had nothing. */
            assert_true(site.messages - before <= (i < 500 ? 3u : 2u));
            before = site.messages;
        }
    }
    assert_in_range(site.messages, 20, 41);
}

/* Other fields that were held back are in no entry: it is removed, once, and the next answer after
 * the window fills. */
CASE(what_was_held_back_retires_once)
{
    assert_int_equal(differs(KEY, 100), REFILL_TURN_SEND);
    assert_int_equal(differs(KEY, 200), REFILL_TURN_RETIRE);
    /* It could not be sent: once more. */
    assert_int_equal(differs(KEY, 300), REFILL_TURN_RETIRE);
    retired(KEY);
    assert_int_equal(differs(KEY, 400), REFILL_TURN_WAIT);
    assert_int_equal(refill_limit_fills(limit, KEY, true, 500), REFILL_TURN_WAIT);
    assert_int_equal(refill_limit_fills(limit, KEY, true, 100 + REFILL_WINDOW_NS),
                     REFILL_TURN_SEND);
    assert_int_equal(differs(KEY, 101 + REFILL_WINDOW_NS), REFILL_TURN_RETIRE);
}

/* Another tag, a name that the entry lacks, an entry that went stale: sent whenever it comes. */
CASE(what_differs_in_more_is_not_held_back)
{
    assert_int_equal(differs(KEY, 100), REFILL_TURN_SEND);
    retired(KEY);
    for (uint64_t i = 0; i < 5; i++)
        assert_int_equal(refill_limit_fills(limit, KEY, false, 200 + i), REFILL_TURN_SEND);
}

/* Many answers at a time say the new fields before the first of them has reached the daemon. */
CASE(the_same_fields_again_are_on_their_way)
{
    const struct refill_answer answer = {KEY, 42, 1, 100};

    assert_int_equal(refill_limit_differs(limit, answer), REFILL_TURN_SEND);
    assert_int_equal(refill_limit_differs(limit, answer), REFILL_TURN_WAIT);
    assert_int_equal(differs(KEY, 200), REFILL_TURN_RETIRE);
    refill_limit_unsent(limit, KEY); /* it was not: a full socket */
    assert_int_equal(refill_limit_differs(limit, answer), REFILL_TURN_SEND);
}

/* The last fill was another one: what was said before it is not on its way any more. */
CASE(what_was_filled_over_what_was_said_goes)
{
    const struct refill_answer answer = {KEY, 42, 1, 100};

    assert_int_equal(refill_limit_differs(limit, answer), REFILL_TURN_SEND);
    assert_int_equal(refill_limit_fills(limit, KEY, false, 200), REFILL_TURN_SEND);
    assert_int_equal(refill_limit_differs(limit, answer), REFILL_TURN_RETIRE);
    refill_limit_retired(limit, answer);
    assert_int_equal(refill_limit_differs(limit, answer), REFILL_TURN_WAIT);
    assert_int_equal(refill_limit_fills(limit, KEY, false, 300), REFILL_TURN_SEND);
    assert_int_equal(refill_limit_differs(limit, answer), REFILL_TURN_RETIRE);
}

CASE(what_another_client_filled_after_the_retire_goes_too)
{
    assert_int_equal(differs(KEY, 100), REFILL_TURN_SEND);
    assert_int_equal(differs(KEY, 200), REFILL_TURN_RETIRE);
    retired(KEY);
    assert_int_equal(differs(KEY, 300), REFILL_TURN_WAIT);
    assert_int_equal(refill_limit_differs(limit, answer_to(KEY, 2, 400)), REFILL_TURN_RETIRE);
    /* And within its own window no client fills again what another one has retired, so that they do
     * not do it in turn. */
    assert_int_equal(differs((struct hash128){.low = 6, .high = 6}, 100), REFILL_TURN_SEND);
    assert_int_equal(refill_limit_fills(limit, (struct hash128){.low = 6, .high = 6}, true, 200),
                     REFILL_TURN_WAIT);
}

CASE(fields_that_change_seldom_are_sent)
{
    for (uint64_t s = 0; s < 5; s++)
        assert_int_equal(differs(KEY, 1 + s * REFILL_WINDOW_NS), REFILL_TURN_SEND);
}

CASE(keys_do_not_hold_each_other_back)
{
    for (uint64_t i = 1; i <= REFILL_KEYS_MAX; i++)
        assert_int_equal(differs((struct hash128){.low = i, .high = i}, 100), REFILL_TURN_SEND);
    for (uint64_t i = 1; i <= REFILL_KEYS_MAX; i++)
        assert_int_equal(differs((struct hash128){.low = i, .high = i}, 200), REFILL_TURN_RETIRE);
    /* A key that never flapped has no record, whatever the table is full of. */
    assert_int_equal(refill_limit_fills(limit, (struct hash128){.low = 1, .high = 9}, true, 300),
                     REFILL_TURN_SEND);
    /* More than the table has: each is sent, as a miss is. */
    for (uint64_t i = 1; i <= REFILL_KEYS_MAX; i++)
        assert_int_equal(differs((struct hash128){.low = i, .high = 7777}, 400), REFILL_TURN_SEND);
}

CASE(without_memory_everything_is_sent)
{
    const struct refill_answer answer = {KEY, 42, 1, 100};

    assert_int_equal(refill_limit_differs(NULL, answer), REFILL_TURN_SEND);
    assert_int_equal(refill_limit_differs(NULL, answer), REFILL_TURN_SEND);
    assert_int_equal(refill_limit_fills(NULL, KEY, true, 100), REFILL_TURN_SEND);
    refill_limit_retired(NULL, answer);
    refill_limit_unsent(NULL, KEY);
}
