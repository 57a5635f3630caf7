/* SPDX-License-Identifier: Apache-2.0 */
/* What the relay does in which order: an engine that reads a script, and a daemon that writes
 * down. */
#include "session.h"

#include "clocktime.h"
#include "engine_script.h"
#include "numbers.h"
#include "testing.h"

#include <poll.h>

#define NOTED_MAX 32
#define SCRIPTS_MAX 8

struct noted_batch {
    uint64_t t0_ns;
    size_t row_count;
    /* of the first row */
    uint32_t hold_ms;
    enum relay_reason everything;
    bool member;
    uint32_t l_net_ms;
    uint8_t cursor[64];
    size_t cursor_len;
};

struct fixture {
    struct session session;
    struct session_options options;
    struct engine_kind kind;
    struct log log;
    struct script_log asked;
    /* of each opening; the last one again and again */
    const char *scripts[SCRIPTS_MAX];
    struct noted_batch batches[NOTED_MAX];
    size_t batch_count;
    struct session_outcome outcomes[NOTED_MAX];
    uint64_t told_ns[NOTED_MAX];
    size_t outcome_count;
    /* each batch at once */
    bool settles;
    /* of a batch; more are too large */
    size_t rows_max;
};

/* The engine's open() has no context. */
static struct fixture *the_fixture;

static int scripted_open(struct engine **out, const struct engine_options *options, struct why *why)
{
    const unsigned next = the_fixture->asked.opened;
    unsigned number = 0;

    while (number < next && the_fixture->scripts[number + 1])
        number++;
    return engine_script_from(out, str_of(the_fixture->scripts[number]), &the_fixture->asked, why);
}

static bool batch_note(void *ctx, const struct session_batch *batch)
{
    struct fixture *const f = ctx;
    struct noted_batch *const noted = &f->batches[min_of(f->batch_count, NOTED_MAX - 1)];

    if (batch->row_count > f->rows_max)
        return false;
    assert_true(batch->cursor.len <= sizeof(noted->cursor));
    *noted = (struct noted_batch){
        .t0_ns = batch->t0_ns,
        .row_count = batch->row_count,
        .hold_ms = batch->row_count > 0 ? batch->rows[0].targets.hold_ms : 0,
        .everything = batch->everything,
        .member = batch->member,
        .l_net_ms = batch->l_net_ms,
        .cursor_len = batch->cursor.len,
    };
    memcpy(noted->cursor, batch->cursor.data, batch->cursor.len);
    f->batch_count++;
    return true;
}

static void done_note(void *ctx, const struct session_outcome *outcome)
{
    struct fixture *const f = ctx;

    assert_true(f->outcome_count < NOTED_MAX);
    f->told_ns[f->outcome_count] = time_coarse_ns();
    f->outcomes[f->outcome_count++] = *outcome;
}

static int set_up(void **state)
{
    struct fixture *const f = calloc(1, sizeof(*f));

    assert_non_null(f);
    the_fixture = f;
    f->kind = engine_script;
    f->kind.open = scripted_open;
    f->rows_max = SIZE_MAX;
    f->settles = true;
    log_set(&f->log, LOG_ERROR, LOG_LOGFMT);
    f->log.fd = -1;
    f->options = (struct session_options){
        .kind = &f->kind,
        .engine = {.connection = "", .host = ETAG_LIT("here")},
        .retention_ms = 60000,
    };
    const struct session_daemon daemon = {batch_note, done_note, f};
    session_init(&f->session, &f->options, &daemon, &f->log);
    f->scripts[0] = "";
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *const f = *state;

    session_deinit(&f->session);
    free(f);
    return 0;
}

#define CASE(name) TEST_OF(name, struct fixture *f, set_up, tear_down)

static struct noted_batch *last_batch(struct fixture *f)
{
    assert_true(f->batch_count > 0);
    return &f->batches[min_of(f->batch_count, NOTED_MAX) - 1];
}

/* As long as something can be done without waiting. */
static void turn(struct fixture *f)
{
    size_t before;

    do {
        before = f->asked.count + f->batch_count;
        session_turn(&f->session);
        if (f->settles)
            session_settled(&f->session);
    } while (f->asked.count + f->batch_count != before);
}

static void pass(uint64_t ns)
{
    const struct timespec time = {.tv_nsec = (long)ns};

    ppoll(NULL, 0, &time, NULL);
}

#define turn_until(f, condition)                                                                   \
    while (!(condition)) {                                                                         \
        turn(f);                                                                                   \
        if (!(condition))                                                                          \
            pass(min_of(session_timeout_ns(&(f)->session), 10 * NS_PER_MS));                       \
    }

static size_t asked_count(const struct fixture *f, enum engine_op op)
{
    size_t count = 0;

    for (size_t i = 0; i < f->asked.count; i++)
        count += f->asked.seen[i].op == op;
    return count;
}

/* The last one of this kind. */
static const struct script_seen *asked_last(const struct fixture *f, enum engine_op op)
{
    const struct script_seen *found = NULL;

    for (size_t i = 0; i < f->asked.count; i++)
        if (f->asked.seen[i].op == op)
            found = &f->asked.seen[i];
    assert_non_null(found);
    return found;
}

static void hello(struct fixture *f)
{
    session_daemon_ready(&f->session, ETAG_LIT(""), true);
}

/* A daemon has connected, and what follows from it is done. */
static void begin(struct fixture *f)
{
    hello(f);
    turn(f);
}

static void wake(struct fixture *f)
{
    session_woken(&f->session);
    turn(f);
}

/* ---- Polls ---- */

CASE(t0_is_read_before_the_poll_is_sent)
{
    f->asked.start_takes_time = true;
    begin(f);
    assert_true(last_batch(f)->t0_ns != 0);
    assert_true(last_batch(f)->t0_ns < asked_last(f, ENGINE_POLL)->begun_ns);
}

CASE(a_host_is_registered_before_its_first_poll)
{
    begin(f);
    assert_int_equal(f->asked.seen[0].op, ENGINE_JOIN);
    assert_int_equal(f->asked.seen[1].op, ENGINE_POLL);
    assert_true(last_batch(f)->member);
    assert_int_equal(last_batch(f)->l_net_ms, 2000);
}

CASE(the_lease_is_that_of_the_poll)
{
    f->scripts[0] = "join lease=4000 wait=5050\npoll lease=2000 wait=5050\npoll lease=4000";
    begin(f);
    assert_int_equal(last_batch(f)->l_net_ms, 2000);
    wake(f);
    assert_int_equal(last_batch(f)->l_net_ms, 4000);
}

CASE(no_poll_before_the_daemon_has_told_its_cursor)
{
    turn(f);
    assert_int_equal(asked_count(f, ENGINE_POLL), 0);
    begin(f);
    assert_int_equal(asked_count(f, ENGINE_POLL), 1);
    assert_false(asked_last(f, ENGINE_POLL)->cursor);
    assert_int_equal(last_batch(f)->everything, RELAY_REASON_NO_CURSOR);
}

CASE(the_next_poll_is_asked_with_what_was_settled)
{
    f->scripts[0] = "poll next=10\npoll next=12\nrow 10 a\npoll next=14\nrow 12 b";
    begin(f);
    session_woken(&f->session);
    f->settles = false;
    turn(f);
    assert_int_equal(f->batch_count, 2);
    session_woken(&f->session);
    turn(f); /* the second batch is on its way: who knows whether it arrives? */
    assert_int_equal(asked_count(f, ENGINE_POLL), 2);
    /* It does not: the daemon tells the cursor of the first. */
    session_daemon_ready(&f->session,
                         (etag_str){(const char *)f->batches[0].cursor, f->batches[0].cursor_len},
                         true);
    turn(f);
    assert_int_equal(asked_count(f, ENGINE_POLL), 3);
    assert_int_equal(asked_last(f, ENGINE_POLL)->cursor_next, 10);
}

CASE(an_answer_to_the_cursor_of_a_connection_that_has_ended)
{
    f->scripts[0] = "late 30 poll\npoll next=12";
    hello(f);
    turn_until(f, asked_count(f, ENGINE_POLL) == 1);
    hello(f);
    turn_until(f, asked_count(f, ENGINE_POLL) == 2);
    turn(f);
    assert_int_equal(f->batch_count, 1);
}

CASE(a_cursor_of_another_engine_is_none)
{
    session_daemon_ready(&f->session, ETAG_LIT("revision 7"), false);
    turn(f);
    assert_false(asked_last(f, ENGINE_POLL)->cursor);
    assert_int_equal(last_batch(f)->everything, RELAY_REASON_CURSOR_UNREADABLE);
    session_daemon_ready(&f->session, ETAG_LIT("?"), true);
    turn(f);
    assert_int_equal(last_batch(f)->everything, RELAY_REASON_CURSOR_UNREADABLE);
}

CASE(a_standby_is_left)
{
    f->scripts[0] = "poll standby=1\nrow 9 a";
    f->scripts[1] = "poll next=10";
    begin(f);
    assert_int_equal(f->batch_count, 0);
    assert_null(f->session.engine);
    turn_until(f, f->batch_count == 1);
    assert_int_equal(f->asked.opened, 2);
}

CASE(a_batch_that_is_too_large_is_everything)
{
    f->scripts[0] = "poll next=10\npoll next=12\nrow 10 a\nrow 11 b";
    f->rows_max = 1;
    begin(f);
    wake(f);
    assert_int_equal(f->batch_count, 2);
    assert_int_equal(last_batch(f)->everything, RELAY_REASON_ROWS_CUT);
    assert_int_equal(last_batch(f)->row_count, 0);
}

/* Else a replica that lags, or a writer of etcd that dies, leaves what was filled meanwhile. */
CASE(a_hold_is_kept_where_everything_is_raised)
{
    f->scripts[0] = "poll next=10\npoll next=14 digest=7\nrow 10 a\nrow 11 b hold:5000\n"
                    "row 12 unreadable hold:5000";
    begin(f);
    wake(f);
    assert_int_equal(last_batch(f)->everything, RELAY_REASON_TABLES);
    assert_int_equal(last_batch(f)->row_count, 1);
    assert_int_equal(last_batch(f)->hold_ms, 5000);
}

/* Whatever it is that the daemon does not take. */
CASE(a_batch_that_the_daemon_refuses_is_everything)
{
    f->scripts[0] = "poll next=10\npoll next=12\nrow 10 a\npoll next=12\nrow 10 a\npoll next=14\n"
                    "row 12 b";
    begin(f);
    const etag_str cursor = {(const char *)f->batches[0].cursor, f->batches[0].cursor_len};
    session_woken(&f->session);
    f->settles = false;
    turn(f);
    session_batch_refused(&f->session);
    session_daemon_lost(&f->session);
    session_daemon_ready(&f->session, cursor, true);
    f->settles = true;
    turn(f);
    assert_int_equal(last_batch(f)->everything, RELAY_REASON_REFUSED);
    assert_int_equal(last_batch(f)->row_count, 0);
    wake(f);
    assert_int_equal(last_batch(f)->everything, RELAY_REASON_NONE);
}

/* ---- Members ---- */

CASE(a_host_that_is_no_member_registers_and_is_not_fresh)
{
    f->scripts[0] = "poll member=no";
    begin(f);
    assert_false(f->batches[0].member);
    assert_true(asked_count(f, ENGINE_JOIN) >= 2);
}

CASE(a_witness_is_made_where_there_is_none)
{
    f->scripts[0] = "poll witness=none";
    begin(f);
    assert_int_equal(asked_count(f, ENGINE_JOIN), 2);
}

/* So that the others see by another witness that history was lost: rule LOSS_IS_TOLD. */
CASE(a_host_that_sees_less_than_before_registers_anew)
{
    f->scripts[0] = "poll next=10\npoll next=9";
    begin(f);
    assert_int_equal(asked_count(f, ENGINE_JOIN), 1);
    wake(f);
    assert_int_equal(last_batch(f)->everything, RELAY_REASON_WENT_BACK);
    turn(f);
    assert_int_equal(asked_count(f, ENGINE_JOIN), 2);
}

CASE(a_name_that_is_taken_is_waited_for)
{
    f->scripts[0] = "join foreign=1 member=yes nonce=other lease=8 wait=60";
    f->session.lease_ms = 8;
    hello(f);
    turn_until(f, asked_count(f, ENGINE_LEAVE) == 1);
    assert_int_equal(asked_count(f, ENGINE_POLL), 0);
    const uint64_t left_ns = time_coarse_ns();
    /* The answer of LEAVE says the script's usual 2550 ms: a shorter one, for the test's sake. */
    f->session.wait_ms = 60;
    turn_until(f, asked_count(f, ENGINE_GONE) == 1);
    assert_true(asked_last(f, ENGINE_GONE)->begun_ns - left_ns >= 60 * NS_PER_MS - 1);
    turn_until(f, asked_count(f, ENGINE_POLL) == 1);
    assert_int_equal(asked_count(f, ENGINE_JOIN), 2);
}

/* Two hosts of one name do not put each other out in turn. */
CASE(a_host_that_is_displaced_keeps_away)
{
    f->scripts[0] = "join\npoll member=no\njoin foreign=1 nonce=other";
    begin(f);
    assert_int_equal(asked_count(f, ENGINE_JOIN), 2);
    assert_int_equal(asked_count(f, ENGINE_LEAVE), 0);
    assert_true(session_timeout_ns(&f->session) > NS_PER_S);
}

/* ---- Acknowledgements ---- */

CASE(what_is_acknowledged_is_settled)
{
    f->scripts[0] = "poll next=10 asked=1";
    f->settles = false;
    begin(f);
    assert_int_equal(f->batch_count, 1);
    assert_int_equal(asked_count(f, ENGINE_ACKNOWLEDGE), 0);
    session_settled(&f->session);
    turn(f);
    assert_int_equal(asked_count(f, ENGINE_ACKNOWLEDGE), 1);
    assert_int_equal(asked_last(f, ENGINE_ACKNOWLEDGE)->position, 10);
    assert_int_equal(asked_last(f, ENGINE_ACKNOWLEDGE)->witness.bytes[0], 'w');
}

CASE(nobody_asks_nobody_is_told)
{
    begin(f);
    assert_int_equal(asked_count(f, ENGINE_ACKNOWLEDGE), 0);
}

/* ---- Wake-ups ---- */

CASE(a_wake_up_is_a_poll_and_nothing_else)
{
    f->scripts[0] = "poll next=10\nwake\nwake\npoll next=12\nrow 10 a\nhang";
    hello(f);
    turn(f); /* the wake-up comes with an operation: the second poll would not be due for 400 ms */
    f->session.trim_due_ns = 0;
    turn(f);
    assert_int_equal(asked_count(f, ENGINE_POLL), 2);
    assert_int_equal(f->batch_count, 2);
    session_woken(&f->session);
    const uint64_t fresh_ns = f->session.figures.fresh_ns;
    turn(f); /* the third poll hangs */
    assert_int_equal(asked_count(f, ENGINE_POLL), 3);
    assert_int_equal(f->batch_count, 2);
    assert_int_equal(f->session.figures.fresh_ns, fresh_ns);
}

/* An outbox that is filled faster than one trimming a minute takes would grow for ever. */
CASE(what_a_trimming_leaves_is_trimmed_soon)
{
    f->scripts[0] = "poll next=10\ntrim 10000\ntrim 3\nhang";
    begin(f);
    f->session.trim_due_ns = 0;
    turn_until(f, asked_count(f, ENGINE_TRIM) == 2);
    assert_int_equal(f->session.figures.trimmed, 10003);
    assert_true(f->session.trim_due_ns > time_ns_of(CLOCK_MONOTONIC) + 30 * NS_PER_S);
}

static etag_targets one_name(const etag_str *name, etag_reach reach, uint64_t position)
{
    return (etag_targets){.size = sizeof(etag_targets),
                          .surrogates = name,
                          .surrogate_count = 1,
                          .reach = reach,
                          .position = position};
}

/* A mutation of "upload:42" by a writer whose token is 7, and what follows from it. */
static void publish(struct fixture *f, etag_reach reach, uint64_t position)
{
    const etag_str name = ETAG_LIT("upload:42");
    const etag_targets targets = one_name(&name, reach, position);

    assert_true(session_publish(&f->session, 7, &targets));
    turn(f);
}

CASE(a_writer_that_has_committed_is_read_at_once_and_wakes_the_others)
{
    const etag_str name = ETAG_LIT("upload:42");
    const etag_targets targets = one_name(&name, ETAG_REACH_LOG, 11);

    begin(f);
    for (unsigned i = 0; i < 5; i++)
        assert_true(session_publish(&f->session, 7, &targets));
    assert_int_equal(f->outcome_count, 0);
    turn(f);
    assert_int_equal(asked_count(f, ENGINE_POLL), 2);
    assert_int_equal(asked_count(f, ENGINE_WAKE), 1);
    assert_int_equal(asked_count(f, ENGINE_PUBLISH), 0);
    assert_int_equal(f->outcome_count, 5);
    assert_int_equal(f->outcomes[0].outcome, RELAY_LOGGED);
    assert_int_equal(f->outcomes[0].token, 7);
    assert_int_equal(asked_last(f, ENGINE_ASK)->position, 11);
    assert_false(asked_last(f, ENGINE_ASK)->ask);
    const uint64_t first_ns = asked_last(f, ENGINE_WAKE)->begun_fine_ns;
    assert_true(session_publish(&f->session, 8, &targets));
    turn_until(f, asked_count(f, ENGINE_WAKE) == 2);
    assert_true(asked_last(f, ENGINE_WAKE)->begun_fine_ns - first_ns >= WAKE_EVERY_MS * NS_PER_MS);
}

/* POSITION_SEEN. The writer was too early, or its transaction was rolled back. */
CASE(a_position_that_nobody_sees_is_refused)
{
    const etag_str name = ETAG_LIT("upload:42");
    const etag_reach reaches[] = {ETAG_REACH_LOG, ETAG_REACH_EVERYWHERE};

    f->scripts[0] = "poll next=10\nmissing has not ended\nmissing has not ended";
    begin(f);
    for (size_t i = 0; i < 2; i++) {
        const etag_targets targets = one_name(&name, reaches[i], 11);
        assert_true(session_publish(&f->session, 7 + i, &targets));
        turn(f);
        assert_int_equal(f->outcome_count, i + 1);
        assert_int_equal(f->outcomes[i].token, 7 + i);
        assert_int_equal(f->outcomes[i].outcome, RELAY_REFUSED);
        assert_int_equal(asked_last(f, ENGINE_ASK)->ask, i == 1);
    }
    assert_int_equal(f->session.publications.count, 0);
    assert_int_equal(asked_count(f, ENGINE_MEMBERS), 0);
}

/* Thousands of them take no place. */
CASE(a_poke_for_which_nobody_waits_is_a_poll)
{
    const etag_str name = ETAG_LIT("upload:42");
    const etag_targets targets = one_name(&name, ETAG_REACH_HOST, 11);

    begin(f);
    for (size_t i = 0; i < 2 * PUBLICATIONS_MAX; i++)
        assert_true(session_publish(&f->session, 7, &targets));
    turn(f);
    assert_int_equal(asked_count(f, ENGINE_POLL), 2);
    assert_int_equal(asked_count(f, ENGINE_ASK), 0);
    assert_int_equal(f->outcome_count, 0);
}

static void asked_in_order(const struct fixture *f, const enum engine_op *order, size_t count)
{
    assert_true(f->asked.count >= count);
    const struct script_seen *const seen = &f->asked.seen[f->asked.count - count];
    for (size_t i = 0; i < count; i++)
        assert_int_equal(seen[i].op, order[i]);
}

/* "Everywhere" of upload:42, from when it came until it is told. The operations that it took. */
static size_t spread(struct fixture *f, uint64_t position)
{
    const etag_str name = ETAG_LIT("upload:42");
    const etag_targets targets = one_name(&name, ETAG_REACH_EVERYWHERE, position);
    const size_t before = f->asked.count, told = f->outcome_count;

    assert_true(session_publish(&f->session, 7, &targets));
    turn_until(f, f->outcome_count == told + 2);
    return f->asked.count - before;
}

/* Others are asked, and woken by the same transaction: else they would read, and not say so. */
CASE(who_is_to_acknowledge_is_asked_and_woken_at_once)
{
    const enum engine_op order[] = {ENGINE_ASK, ENGINE_POLL, ENGINE_ACKNOWLEDGE, ENGINE_MEMBERS};

    f->scripts[0] = "poll next=10\npoll asked=1\nmembers\nhost a yes w 13";
    begin(f);
    assert_int_equal(spread(f, 11), COUNT_OF(order)); /* and nothing in vain */
    asked_in_order(f, order, COUNT_OF(order));
    assert_true(asked_last(f, ENGINE_ASK)->ask);
    assert_true(asked_last(f, ENGINE_ASK)->wake);
}

/* OWN_IS_APPLIED. */
CASE(a_host_does_not_acknowledge_its_own_mutation_to_itself)
{
    const enum engine_op order[] = {ENGINE_PUBLISH, ENGINE_MEMBERS};

    f->scripts[0] = "poll next=10\npublish 12\nmembers\nhost here own -w 0\nhost a yes w 13";
    begin(f);
    assert_int_equal(spread(f, 0), COUNT_OF(order));
    asked_in_order(f, order, COUNT_OF(order));
    assert_true(asked_last(f, ENGINE_PUBLISH)->ask);
    assert_true(asked_last(f, ENGINE_PUBLISH)->wake);
    assert_int_equal(f->outcomes[1].outcome, RELAY_ACKNOWLEDGED);
}

/* Of a position its writer named what it liked; there may be more in the outbox. */
CASE(a_host_acknowledges_what_a_writer_put_into_the_outbox)
{
    f->scripts[0] = "poll next=10\npoll next=13 asked=1\nmembers\nhost here own -w 0\n"
                    "members\nhost here own w 13";
    begin(f);
    (void)spread(f, 11);
    assert_int_equal(asked_count(f, ENGINE_MEMBERS), 2);
    assert_int_equal(asked_count(f, ENGINE_ACKNOWLEDGE), 1);
}

/* It may stand for events that this host has forgotten too. */
CASE(a_host_acknowledges_its_own_everything)
{
    const etag_targets targets = {
        .size = sizeof(targets), .everything = true, .reach = ETAG_REACH_EVERYWHERE};

    f->scripts[0] = "poll next=10\npublish 12\npoll next=13 asked=1\nmembers\nhost here own -w 0\n"
                    "members\nhost here own w 13";
    begin(f);
    assert_true(session_publish(&f->session, 7, &targets));
    turn_until(f, f->outcome_count == 2);
    assert_int_equal(f->outcomes[1].outcome, RELAY_ACKNOWLEDGED);
    assert_int_equal(asked_count(f, ENGINE_MEMBERS), 2);
}

/* Somebody of the application's notifies, and waits for its standby: others are woken apart. */
CASE(where_to_wake_would_wait_it_is_published_without)
{
    const enum engine_op order[] = {ENGINE_PUBLISH, ENGINE_PUBLISH, ENGINE_PUBLISH, ENGINE_WAKE};

    f->scripts[0] = "poll next=10\nbusy\npublish 12\npublish 13\nhang";
    begin(f);
    for (size_t i = 0; i < 2; i++) {
        publish(f, ETAG_REACH_LOG, 0);
        assert_int_equal(f->outcome_count, i + 1);
        assert_int_equal(f->outcomes[i].position, 12 + i);
        assert_false(asked_last(f, ENGINE_PUBLISH)->wake);
        f->session.wake_due = false;
        f->session.wake_not_before_ns = 0;
    }
    f->session.wake_due = true;
    turn_until(f, asked_count(f, ENGINE_WAKE) == 1);
    asked_in_order(f, order, COUNT_OF(order));
}

/* WAKE_PROVES_NOTHING: as seldom with what is published as apart. */
CASE(who_publishes_much_wakes_seldom)
{
    f->scripts[0] = "poll next=10\npublish 12\npublish 13";
    begin(f);
    publish(f, ETAG_REACH_LOG, 0);
    assert_true(asked_last(f, ENGINE_PUBLISH)->wake);
    const uint64_t first_ns = asked_last(f, ENGINE_PUBLISH)->begun_fine_ns;
    f->session.wake_not_before_ns = time_ns_of(CLOCK_MONOTONIC) + 20 * NS_PER_MS;
    publish(f, ETAG_REACH_LOG, 0);
    assert_false(asked_last(f, ENGINE_PUBLISH)->wake);
    turn_until(f, asked_count(f, ENGINE_WAKE) == 1);
    assert_true(asked_last(f, ENGINE_WAKE)->begun_fine_ns - first_ns >= WAKE_EVERY_MS * NS_PER_MS);
}

/* ---- Mutations of this host ---- */

/* OWN_ROWS. */
CASE(what_this_host_published_is_not_brought_to_it_again)
{
    f->scripts[0] = "poll next=10\npublish 12\npoll next=14\nrow 12 upload:42\nrow 13 b";
    begin(f);
    publish(f, ETAG_REACH_LOG, 0);
    wake(f);
    assert_int_equal(last_batch(f)->row_count, 1);
    assert_int_equal(f->session.figures.own_rows, 1);
}

/* Another daemon, or the same after it was killed, may lack the event. */
CASE(what_was_published_for_a_former_connection_is_brought)
{
    f->scripts[0] = "poll next=10\npublish 12\npoll next=14\nrow 12 upload:42";
    begin(f);
    publish(f, ETAG_REACH_LOG, 0);
    session_daemon_ready(&f->session,
                         (etag_str){(const char *)f->batches[0].cursor, f->batches[0].cursor_len},
                         true);
    turn(f);
    assert_int_equal(last_batch(f)->row_count, 1);
}

/* The number is another transaction's: the first one was lost with the server. */
CASE(a_position_of_before_everything_is_anybodys)
{
    f->scripts[0] = "poll next=10\npublish 12\npoll witness=v next=11\npoll next=14\nrow 12 b";
    begin(f);
    publish(f, ETAG_REACH_LOG, 0);
    wake(f);
    assert_int_equal(last_batch(f)->everything, RELAY_REASON_WITNESS_CHANGED);
    wake(f);
    assert_int_equal(last_batch(f)->everything, RELAY_REASON_NONE);
    assert_int_equal(last_batch(f)->row_count, 1);
}

CASE(an_everything_of_this_host_is_brought)
{
    const etag_targets targets = {
        .size = sizeof(targets), .everything = true, .reach = ETAG_REACH_LOG};

    f->scripts[0] = "poll next=10\npublish 12\npoll next=14\nrow 12 everything";
    begin(f);
    assert_true(session_publish(&f->session, 7, &targets));
    turn(f);
    wake(f);
    assert_int_equal(last_batch(f)->row_count, 1);
}

CASE(a_mutation_of_this_host_is_logged)
{
    f->scripts[0] = "publish 12";
    hello(f);
    publish(f, ETAG_REACH_LOG, 0);
    assert_int_equal(asked_last(f, ENGINE_PUBLISH)->names, 1);
    assert_false(asked_last(f, ENGINE_PUBLISH)->ask);
    assert_int_equal(f->outcome_count, 1);
    assert_int_equal(f->outcomes[0].outcome, RELAY_LOGGED);
    assert_int_equal(f->outcomes[0].position, 12);
    assert_int_equal(asked_count(f, ENGINE_MEMBERS), 0);
    assert_true(asked_last(f, ENGINE_PUBLISH)->wake);
}

/* What this host put into the outbox is not there, and its cursor is older than that. */
CASE(what_this_host_has_written_is_there)
{
    const etag_str name = ETAG_LIT("upload:42");
    const etag_targets targets = one_name(&name, ETAG_REACH_LOG, 0);

    f->scripts[0] = "poll next=10\npublish 12\npoll next=11\npoll next=13";
    begin(f);
    assert_true(session_publish(&f->session, 1, &targets));
    turn(f);
    wake(f);
    assert_int_equal(f->batches[1].everything, RELAY_REASON_WENT_BACK);
    assert_int_equal(asked_count(f, ENGINE_JOIN), 2);
    wake(f);
    assert_int_equal(last_batch(f)->everything, RELAY_REASON_NONE);
}

CASE(everywhere_by_all_acknowledgements)
{
    const etag_str name = ETAG_LIT("upload:42");
    const etag_targets targets = one_name(&name, ETAG_REACH_EVERYWHERE, 0);

    f->scripts[0] = "poll next=10\npublish 12\nmembers\nhost a yes -w 0\n"
                    "members\nhost a yes w 13";
    begin(f);
    assert_true(session_publish(&f->session, 7, &targets));
    turn_until(f, f->outcome_count == 2);
    assert_true(asked_last(f, ENGINE_PUBLISH)->ask);
    assert_int_equal(f->outcomes[0].outcome, RELAY_LOGGED);
    assert_int_equal(f->outcomes[1].outcome, RELAY_ACKNOWLEDGED);
    assert_int_equal(f->outcomes[1].position, 12);
    assert_int_equal(asked_count(f, ENGINE_MEMBERS), 2);
}

CASE(everywhere_after_t_and_wait)
{
    const etag_str name = ETAG_LIT("upload:42");
    const etag_targets targets = one_name(&name, ETAG_REACH_EVERYWHERE, 12);

    f->scripts[0] = "poll lease=40 wait=100";
    begin(f);
    const uint64_t begun_ns = time_coarse_ns();
    assert_true(session_publish(&f->session, 7, &targets));
    turn_until(f, f->outcome_count == 2);
    assert_int_equal(asked_count(f, ENGINE_ASK), 1);
    assert_int_equal(f->outcomes[1].outcome, RELAY_BY_TIME);
    assert_true(f->told_ns[1] - begun_ns >= 100 * NS_PER_MS);
}

/* The members were read before COMMIT had returned: one may have joined, and polled, in between. */
CASE(members_that_were_read_before_t_prove_nothing)
{
    const etag_str name = ETAG_LIT("upload:42");
    const etag_targets first = one_name(&name, ETAG_REACH_EVERYWHERE, 11),
                       second = one_name(&name, ETAG_REACH_EVERYWHERE, 12);

    f->scripts[0] = "poll next=14\nlate 40 members\nmembers\nhost a yes w 20";
    begin(f);
    assert_true(session_publish(&f->session, 1, &first));
    turn_until(f, asked_count(f, ENGINE_MEMBERS) == 1);
    assert_true(session_publish(&f->session, 2, &second));
    /* As if its transaction had been asked for as well, before that answer comes. */
    for (size_t i = 0; i < PUBLICATIONS_MAX; i++)
        if (f->session.publications.table[i].token == 2) {
            f->session.publications.table[i].step = PUBLICATION_WAITING;
            f->session.publications.table[i].t_ns = time_coarse_ns();
            f->session.publications.table[i].t_fine_ns = time_ns_of(CLOCK_MONOTONIC);
            f->session.publications.table[i].look_every_ns = LOOK_EVERY_NS_MAX;
        }
    turn_until(f, f->outcome_count >= 2);
    assert_int_equal(f->outcomes[1].token, 1);
    assert_int_equal(f->outcomes[1].outcome, RELAY_ACKNOWLEDGED);
    turn_until(f, asked_count(f, ENGINE_MEMBERS) >= 3);
    assert_int_equal(f->outcome_count, 2);
}

CASE(a_mutation_that_the_database_refuses)
{
    begin(f);
    f->session.engine->kind->close(f->session.engine);
    f->session.engine = NULL;
    f->session.ready = false;
    f->session.registration = REGISTRATION_DONE;
    f->scripts[0] = "refuse permission denied for function publish";
    f->session.poll_due_ns = UINT64_MAX;
    publish(f, ETAG_REACH_LOG, 0);
    assert_int_equal(f->outcome_count, 1);
    assert_int_equal(f->outcomes[0].outcome, RELAY_REFUSED);
    assert_int_equal(f->session.publications.count, 0);
}

/* The daemon keeps it, and hands it over again. */
CASE(what_was_under_way_is_forgotten_with_the_daemon)
{
    const etag_str name = ETAG_LIT("upload:42");
    const etag_targets targets = one_name(&name, ETAG_REACH_EVERYWHERE, 0);

    begin(f);
    assert_true(session_publish(&f->session, 7, &targets));
    session_daemon_lost(&f->session);
    turn(f);
    assert_int_equal(f->outcome_count, 0);
    assert_int_equal(f->session.publications.count, 0);
}

/* ---- A database that is away ---- */

CASE(it_is_tried_again_and_less_and_less_often)
{
    f->scripts[0] = "closed could not connect";
    begin(f);
    assert_int_equal(f->asked.opened, 1);
    const uint64_t first_ns = session_timeout_ns(&f->session);
    assert_true(first_ns <= ENGINE_REOPEN_MS_MIN * NS_PER_MS);
    turn(f);
    assert_int_equal(f->asked.opened, 1);
    turn_until(f, f->asked.opened == 2);
    assert_int_equal(f->session.reopen_ms, 2 * ENGINE_REOPEN_MS_MIN);
    for (unsigned i = 0; i < 10; i++) {
        f->session.reopen_ns = 0;
        turn(f);
    }
    assert_int_equal(f->session.reopen_ms, ENGINE_REOPEN_MS_MAX);
}

/* It may be a former primary that can't reach anybody. */
CASE(a_database_that_does_not_answer_is_given_up)
{
    f->scripts[0] = "join\nhang";
    f->scripts[1] = "";
    begin(f);
    assert_int_equal(asked_count(f, ENGINE_POLL), 1);
    f->session.op_begun_ns -= 3 * NS_PER_S; /* lease and more are over */
    turn(f);
    assert_null(f->session.engine);
    turn_until(f, f->batch_count == 1);
    assert_int_equal(asked_count(f, ENGINE_JOIN), 2);
}
