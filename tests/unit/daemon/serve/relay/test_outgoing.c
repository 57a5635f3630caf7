/* SPDX-License-Identifier: Apache-2.0 */
/* Events on their way into the relay's log: none is lost, whatever becomes of relays, and room. */
#include "numbers.h"
#include "outgoing.h"
#include "testing.h"
#include "text.h"

#include <string.h>

struct fixture {
    struct outgoing out;
    uint64_t answered_token;
    enum relay_outcome answered;
    int answers;
    /* of the events that come */
    uint32_t hold_ms;
};

static int setup(void **state)
{
    *state = calloc(1, sizeof(struct fixture));
    return *state ? 0 : -1;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    outgoing_deinit(&f->out);
    assert_int_equal(f->out.count, 0);
    free(f);
    return 0;
}

#define CASE(name) TEST_OF(name, struct fixture *f, setup, teardown)

static void note(void *ctx, const struct outgoing_entry *entry, enum relay_outcome outcome)
{
    struct fixture *f = ctx;

    f->answered_token = entry->token;
    f->answered = outcome;
    f->answers++;
}

static bool add(struct fixture *f, uint64_t token, etag_reach reach, uint64_t position)
{
    const struct outgoing_new added = {.token = token,
                                       .position = position,
                                       .reach = reach,
                                       .peer_id = reach == ETAG_REACH_HOST ? 0 : 7,
                                       .request_id = token,
                                       .hold_ms = f->hold_ms,
                                       .record = ETAG_LIT("record")};

    return outgoing_add(&f->out, &added, note, f);
}

static bool event(struct fixture *f, uint64_t token)
{
    return add(f, token, ETAG_REACH_HOST, 0);
}

static uint64_t send_next(struct fixture *f)
{
    struct outgoing_entry *entry = outgoing_next(&f->out);

    if (!entry)
        return 0;
    const uint64_t token = entry->token;
    outgoing_sent(&f->out, entry);
    return token;
}

static bool done(struct fixture *f, uint64_t token, enum relay_outcome outcome, uint64_t position)
{
    const struct outgoing_done said = {
        .token = token, .outcome = outcome, .position = position, .lsn = 1000000};

    return outgoing_done(&f->out, &said, note, f);
}

CASE(they_are_sent_in_order_and_gone_when_logged)
{
    for (uint64_t token = 1; token <= 3; token++)
        assert_false(event(f, token));
    assert_int_equal(outgoing_published(&f->out, 9), 0);
    for (uint64_t token = 1; token <= 3; token++)
        assert_int_equal(send_next(f), token);
    assert_null(outgoing_next(&f->out));
    (void)done(f, 2, RELAY_LOGGED, 0); /* in any order */
    assert_int_equal(outgoing_published(&f->out, 9), 0);
    (void)done(f, 1, RELAY_LOGGED, 0);
    assert_int_equal(outgoing_published(&f->out, 9), 2);
    (void)done(f, 3, RELAY_LOGGED, 0);
    assert_int_equal(outgoing_published(&f->out, 9), 9);
    assert_int_equal(f->out.count, 0);
    assert_int_equal(f->out.bytes, 0);
    assert_int_equal(f->answers, 0);
    (void)done(f, 3, RELAY_LOGGED, 0); /* twice */
}

/* OUTGOING_KEPT. */
CASE(another_relay_gets_what_the_former_did_not_log)
{
    for (uint64_t token = 1; token <= 3; token++)
        (void)event(f, token);
    for (int i = 0; i < 3; i++)
        assert_true(send_next(f) > 0);
    (void)done(f, 2, RELAY_LOGGED, 0);
    outgoing_unsend(&f->out);
    assert_int_equal(send_next(f), 1);
    assert_int_equal(send_next(f), 3);
    assert_null(outgoing_next(&f->out));
}

CASE(so_many_are_under_way_and_no_more)
{
    for (uint64_t token = 1; token <= RELAY_WINDOW_MAX + 2; token++)
        (void)event(f, token);
    for (uint64_t token = 1; token <= RELAY_WINDOW_MAX; token++)
        assert_int_equal(send_next(f), token);
    assert_null(outgoing_next(&f->out));
    (void)done(f, 5, RELAY_LOGGED, 0);
    assert_int_equal(send_next(f), RELAY_WINDOW_MAX + 1);
    assert_null(outgoing_next(&f->out));
    outgoing_unsend(&f->out);
    assert_int_equal(send_next(f), 1);
}

CASE(a_writer_is_answered_when_its_reach_is_proved)
{
    (void)add(f, 1, ETAG_REACH_LOG, 0);
    (void)add(f, 2, ETAG_REACH_EVERYWHERE, 0);
    assert_int_equal(send_next(f), 1);
    assert_int_equal(send_next(f), 2);
    (void)done(f, 1, RELAY_LOGGED, 0);
    assert_int_equal(f->answered_token, 1);
    (void)done(f, 2, RELAY_LOGGED, 55);
    assert_int_equal(f->answers, 1);
    assert_int_equal(outgoing_published(&f->out, 9), 9);
    outgoing_unsend(&f->out); /* another relay is asked for the rest, at the position */
    struct outgoing_entry *entry = outgoing_next(&f->out);
    assert_non_null(entry);
    assert_int_equal(entry->kind, OUTGOING_POKE);
    assert_int_equal(entry->position, 55);
    assert_int_equal(entry->reach, ETAG_REACH_EVERYWHERE);
    outgoing_sent(&f->out, entry);
    (void)done(f, 2, RELAY_BY_TIME, 0);
    assert_int_equal(f->answered_token, 2);
    assert_int_equal(f->answered, RELAY_BY_TIME);
    assert_int_equal(f->out.count, 0);
}

CASE(a_poke_without_a_writer_is_forgotten_once_it_is_sent)
{
    assert_false(add(f, 1, ETAG_REACH_HOST, 55));
    assert_int_equal(outgoing_published(&f->out, 9), 9); /* the log has it */
    assert_int_equal(send_next(f), 1);
    assert_int_equal(f->out.count, 0);
    (void)done(f, 1, RELAY_LOGGED, 55);
}

/* HOLDS_STAY: also of what finds no room, and of what is refused; until it is logged. */
CASE(what_becomes_everything_is_held_as_long_as_any_of_it)
{
    uint64_t token = 1;

    f->hold_ms = 500;
    (void)event(f, token++);
    f->hold_ms = 0;
    while (token <= RELAY_QUEUE_MAX)
        (void)event(f, token++);
    assert_true(event(f, token));
    assert_int_equal(f->out.everything_hold_ms, 500);
    outgoing_everything_sent(&f->out);
    f->hold_ms = 700;
    (void)event(f, ++token);
    assert_int_equal(send_next(f), token);
    assert_true(done(f, token, RELAY_REFUSED, 0));
    assert_int_equal(f->out.everything_hold_ms, 700);
    outgoing_everything_sent(&f->out);
    (void)done(f, f->out.everything_token, RELAY_LOGGED, 0);
    assert_int_equal(f->out.everything_hold_ms, 0);
    f->hold_ms = 0;
    for (token = 2000000; f->out.count < RELAY_QUEUE_MAX; token++)
        (void)event(f, token);
    f->hold_ms = 900;
    assert_true(event(f, token));
    assert_int_equal(f->out.everything_hold_ms, 900);
}

/* QUEUE_FULL_IS_EVERYTHING. */
CASE(what_finds_no_room_is_everything)
{
    (void)add(f, 1, ETAG_REACH_EVERYWHERE, 0);
    assert_int_equal(send_next(f), 1);
    for (uint64_t token = 2; token <= RELAY_QUEUE_MAX; token++)
        assert_false(event(f, token));
    assert_true(event(f, RELAY_QUEUE_MAX + 1));
    assert_int_equal(f->out.count, 1); /* the writer that waits */
    assert_true(outgoing_everything_next(&f->out));
    assert_int_equal(f->out.everything_token, RELAY_QUEUE_MAX + 1);
    assert_int_equal(outgoing_everything_reach(&f->out), ETAG_REACH_EVERYWHERE);
    assert_int_equal(outgoing_published(&f->out, 9999), 9999);
    outgoing_everything_sent(&f->out);
    assert_false(outgoing_everything_next(&f->out));
    (void)event(f, RELAY_QUEUE_MAX + 2); /* after it: by itself */
    assert_int_equal(send_next(f), RELAY_QUEUE_MAX + 2);
    (void)done(f, RELAY_QUEUE_MAX + 1, RELAY_LOGGED, 0);
    assert_int_equal(f->answers, 0);
    assert_true(f->out.everything_due);
    outgoing_unsend(&f->out);
    assert_true(outgoing_everything_next(&f->out));
    outgoing_everything_sent(&f->out);
    (void)done(f, RELAY_QUEUE_MAX + 1, RELAY_ACKNOWLEDGED, 0);
    assert_int_equal(f->answered_token, 1);
    assert_false(f->out.everything_due);
}

/* OLDEST_WAIT_ENDS. Writers do not say that they have given up. */
CASE(writers_that_are_gone_hold_no_place)
{
    uint64_t token = 1;

    for (; token <= RELAY_QUEUE_MAX; token++)
        assert_false(add(f, token, ETAG_REACH_LOG, 0));
    assert_int_equal(f->answers, 0);
    assert_true(add(f, token, ETAG_REACH_LOG, 0)); /* one "everything" for all of them */
    assert_int_equal(f->answered_token, 1);
    assert_int_equal(f->answered, RELAY_UNSAID);
    /* From now on each has a place: the events are told one by one again. */
    assert_false(event(f, ++token));
    assert_false(add(f, ++token, ETAG_REACH_EVERYWHERE, 55));
    assert_int_equal(f->answered_token, 3);
    assert_int_equal(f->answers, 3);
    assert_int_equal(f->out.count, RELAY_QUEUE_MAX);
    assert_int_equal(send_next(f), token - 1);
    assert_int_equal(send_next(f), token);
    outgoing_everything_sent(&f->out);
    (void)done(f, RELAY_QUEUE_MAX + 1, RELAY_LOGGED, 0);
    assert_int_equal(f->answered_token, RELAY_QUEUE_MAX + 1); /* the newest has not been ended */
    assert_int_equal(f->out.count, 2);
}

/* A poke is no reason for "everything". */
CASE(a_poke_finds_room_among_pokes_or_none)
{
    uint64_t token = 1;

    for (; token <= RELAY_QUEUE_MAX; token++)
        assert_false(event(f, token));
    assert_false(add(f, token, ETAG_REACH_LOG, 55));
    assert_int_equal(f->out.count, RELAY_QUEUE_MAX);
    assert_int_equal(f->answers, 0);
    outgoing_deinit(&f->out);
    for (token = 1; token <= RELAY_QUEUE_MAX + 2; token++)
        assert_false(add(f, token, ETAG_REACH_LOG, 55));
    assert_int_equal(f->answered_token, 2);
    assert_int_equal(f->out.count, RELAY_QUEUE_MAX);
    assert_false(f->out.everything_due);
}

/* The former "everything" does not stand for what was dropped since. */
CASE(a_second_time_without_room_needs_a_second_everything)
{
    (void)event(f, 1);
    outgoing_collapse(&f->out, 1);
    outgoing_everything_sent(&f->out);
    (void)event(f, 2);
    outgoing_collapse(&f->out, 2);
    assert_true(outgoing_everything_next(&f->out));
    (void)done(f, 1, RELAY_LOGGED, 0);
    assert_true(f->out.everything_due);
    outgoing_everything_sent(&f->out);
    (void)done(f, 2, RELAY_LOGGED, 0);
    assert_false(f->out.everything_due);
}

CASE(bytes_are_bounded_too)
{
    const size_t len = 900000;
    char *bytes = calloc(1, len);
    struct outgoing_new added = {.token = 1, .reach = ETAG_REACH_LOG, .record = {bytes, len}};
    bool collapsed = false;

    for (; !collapsed && added.token < 100; added.token++)
        collapsed = outgoing_add(&f->out, &added, note, f);
    assert_true(collapsed);
    assert_in_range(added.token, 10, 30);
    assert_int_equal(f->out.bytes, 0);
    free(bytes);
}

CASE(what_the_log_refuses_is_everything_and_an_error)
{
    (void)add(f, 1, ETAG_REACH_LOG, 0);
    (void)event(f, 2);
    assert_int_equal(send_next(f), 1);
    assert_true(done(f, 1, RELAY_REFUSED, 0));
    assert_int_equal(f->answered, RELAY_REFUSED);
    assert_true(outgoing_everything_next(&f->out));
    outgoing_everything_sent(&f->out);
    (void)done(f, f->out.everything_token, RELAY_REFUSED, 0);
    assert_true(f->out.everything_due); /* not lost: another relay may do better */
    assert_false(outgoing_everything_next(&f->out));
    outgoing_unsend(&f->out);
    assert_true(outgoing_everything_next(&f->out));
}

CASE(a_refused_position_is_an_error_alone)
{
    (void)add(f, 1, ETAG_REACH_EVERYWHERE, 55);
    assert_int_equal(send_next(f), 1);
    assert_false(done(f, 1, RELAY_REFUSED, 0));
    assert_int_equal(f->answered, RELAY_REFUSED);
    assert_false(f->out.everything_due);
}
