/* SPDX-License-Identifier: Apache-2.0 */
/* Mutations without an answer: the spool, its wait, and what ends it sooner or otherwise. (With an
 * answer: test_client.c.) */
#include "client_fixture.h"
#include "numbers.h"
#include "op.h"

#include <sys/wait.h>

#define SHORT_NS (150 * NS_PER_MS)
#define LONG_NS (60 * NS_PER_S)

static int setup(void **state)
{
    struct fixture *f = client_setup(state);

    f->daemon.spool_id = FAKE_SPOOL_ID;
    f->receipt.lsn = 77;
    return 0;
}

#define CASE(name) TEST_OF(name, struct fixture *f, setup, client_teardown)

static void with_spool(struct fixture *f, uint64_t lease_ns)
{
    fake_spool_make(&f->spool, f->daemon.dir, lease_ns);
}

/* The client is connected to it then. */
static void with_daemon(struct fixture *f, enum fake_mood mood)
{
    fake_start(&f->daemon, true);
    fake_set(&f->daemon, mood, mood);
    if (!f->client)
        client_open(f);
    for (int ms = 0; ms < 10000 && f->client->channel.state != CHANNEL_READY; ms++) {
        (void)etag_client_dispatch(f->client);
        poll(NULL, 0, 1);
    }
    assert_int_equal(f->client->channel.state, CHANNEL_READY);
}

static int events(const struct fixture *f)
{
    return fake_spool_count(&f->spool, SPOOL_NAME_EVENT, NULL);
}

static etag_status invalidate(struct fixture *f)
{
    return etag_invalidate(f->client, &f->targets, &f->receipt);
}

static etag_op *start_op(struct fixture *f)
{
    etag_op *op;

    assert_int_equal(etag_invalidate_start(f->client, &f->targets, &op), ETAG_OK);
    return op;
}

/* As an event loop. *turns: how often it woke up. */
static etag_status await_result(struct fixture *f, etag_op *op, int *turns)
{
    etag_status status = etag_op_result(op, &f->receipt);

    for (*turns = 0; *turns < 5000 && status == ETAG_AGAIN; ++*turns) {
        struct pollfd p = {.fd = etag_client_fd(f->client),
                           .events = etag_client_events(f->client)};
        const int ms = etag_client_timeout_ms(f->client);
        assert_true(ms >= 0);
        assert_true(poll(&p, 1, ms) >= 0);
        (void)etag_client_dispatch(f->client);
        status = etag_op_result(op, &f->receipt);
    }
    return status;
}

/* ---- How far it reaches ---- */

/* LESS_IS_PENDING, without a daemon. */
CASE(the_spool_proves_this_host_and_no_more)
{
    static const etag_reach more[] = {ETAG_REACH_LOG, ETAG_REACH_EVERYWHERE};

    with_spool(f, 20 * NS_PER_MS);
    f->options.timeout_ms = 300;
    client_open(f);
    for (size_t i = 0; i < COUNT_OF(more); i++) {
        f->targets.reach = more[i];
        assert_int_equal(invalidate(f), ETAG_PENDING);
        assert_int_equal(f->receipt.reach, ETAG_REACH_HOST);
        assert_int_equal(f->receipt.proof, ETAG_PROOF_WAIT);
        client_expect_text(f, "reached further");
    }
    f->targets.reach = ETAG_REACH_HOST;
    assert_int_equal(invalidate(f), ETAG_OK);
    assert_int_equal(f->receipt.proof, ETAG_PROOF_WAIT);
}

/* Who asks for nothing has the default of the daemon, which the mark knows where there is no
 * daemon. */
CASE(the_marks_default_counts_where_nobody_answers)
{
    with_spool(f, 20 * NS_PER_MS);
    f->spool.mark.log_reach = true;
    fake_spool_mark(&f->spool);
    f->options.timeout_ms = 300;
    client_open(f);
    assert_int_equal(invalidate(f), ETAG_PENDING);
    assert_int_equal(f->receipt.reach, ETAG_REACH_HOST);
}

CASE(a_daemon_that_proves_less_is_not_believed)
{
    with_daemon(f, FAKE_ANSWERS);
    f->targets.reach = ETAG_REACH_EVERYWHERE;
    assert_int_equal(invalidate(f), ETAG_PENDING);
    client_expect_text(f, "less than was asked for");
    f->targets.reach = ETAG_REACH_HOST;
    assert_int_equal(invalidate(f), ETAG_OK);
    assert_int_equal(f->receipt.proof, ETAG_PROOF_DAEMON);
}

/* The first receipt says "this host"; the last comes later, and until then nothing goes to the
 * spool. */
CASE(the_last_receipt_counts)
{
    int turns;

    with_spool(f, LONG_NS);
    with_daemon(f, FAKE_TWO_RECEIPTS);
    fake_set(&f->daemon, late_ms, 400); /* more than op.c's patience */
    f->targets.reach = ETAG_REACH_EVERYWHERE;
    assert_int_equal(invalidate(f), ETAG_OK);
    assert_int_equal(f->receipt.reach, ETAG_REACH_EVERYWHERE);
    assert_int_equal(f->receipt.proof, ETAG_PROOF_ACKNOWLEDGED);
    assert_int_equal(await_result(f, start_op(f), &turns), ETAG_OK);
    assert_int_equal(f->receipt.reach, ETAG_REACH_EVERYWHERE);
    assert_in_range(turns, 1, 20);
    assert_int_equal(events(f), 0);
}

CASE(the_last_receipt_comes_too_late)
{
    with_spool(f, LONG_NS);
    f->options.timeout_ms = 100;
    with_daemon(f, FAKE_TWO_RECEIPTS);
    fake_set(&f->daemon, late_ms, 3000);
    f->targets.reach = ETAG_REACH_EVERYWHERE;
    assert_int_equal(invalidate(f), ETAG_PENDING);
    assert_int_equal(f->receipt.reach, ETAG_REACH_HOST);
    assert_int_equal(f->receipt.proof, ETAG_PROOF_DAEMON);
    assert_int_equal(events(f), 0);
}

/* ---- The wait ---- */

CASE(ok_after_the_wait_and_not_earlier)
{
    struct arena arena;
    struct request request;

    with_spool(f, SHORT_NS);
    client_open(f);
    const uint64_t before = time_coarse_ns();
    assert_int_equal(invalidate(f), ETAG_OK);
    assert_in_range(time_coarse_ns() - before, SHORT_NS, 4 * NS_PER_S);
    assert_int_equal(f->receipt.lsn, 0);
    assert_string_equal(etag_client_error(f->client), "");
    fake_spool_event(&f->spool, &arena, &request);
    assert_int_equal(request.kind, REQUEST_INVALIDATE);
    assert_int_equal(request.targets.surrogate_count, 1);
    arena_deinit(&arena);
    assert_int_equal(f->client->counters->mutations_spooled, 1);
    assert_int_equal(f->client->counters->mutations_pending, 0);
}

CASE(little_time_is_pending)
{
    with_spool(f, LONG_NS);
    f->options.timeout_ms = 60;
    client_open(f);
    const uint64_t before = channel_now_ns();
    assert_int_equal(invalidate(f), ETAG_PENDING);
    assert_in_range(channel_now_ns() - before, 60 * NS_PER_MS, 4 * NS_PER_S);
    assert_int_equal(f->receipt.lsn, 0);
    assert_int_equal(f->receipt.proof, ETAG_PROOF_NONE);
    client_expect_text(f, "recorded in the spool");
    assert_int_equal(events(f), 1);
    assert_int_equal(f->client->counters->mutations_pending, 1);
}

/* Where nobody listens there is nothing to be patient for. */
CASE(without_a_daemon_there_is_no_patience)
{
    with_spool(f, LONG_NS);
    client_open(f);
    etag_op *op = start_op(f);
    assert_int_equal(events(f), 1);
    assert_int_equal(etag_op_result(op, NULL), ETAG_AGAIN);
    assert_int_equal(events(f), 1);
    etag_op_forget(op);
}

CASE(a_silent_daemon_is_waited_for_a_little)
{
    with_spool(f, SHORT_NS);
    f->options.timeout_ms = 400; /* of which 100 are patience */
    with_daemon(f, FAKE_SILENT);
    etag_op *op = start_op(f);
    assert_int_equal(events(f), 0);
    etag_op_forget(op);
    f->client->timeout_ms = 4000;
    const uint64_t before = time_coarse_ns();
    assert_int_equal(invalidate(f), ETAG_OK);
    assert_true(time_coarse_ns() - before >= 240 * NS_PER_MS + SHORT_NS);
    assert_int_equal(events(f), 1);
    assert_int_equal(f->receipt.lsn, 0);
}

/* A stopped daemon takes the connection and does not say hello. */
CASE(a_stopped_daemon_is_waited_for_a_little)
{
    with_spool(f, SHORT_NS);
    fake_start(&f->daemon, false);
    f->options.connect_timeout_ms = 10;
    client_open(f);
    assert_int_equal(invalidate(f), ETAG_OK);
    assert_int_equal(events(f), 1);
}

CASE(an_event_loop_is_woken_when_the_wait_is_over)
{
    int turns;

    with_spool(f, 2 * SHORT_NS);
    client_open(f);
    const uint64_t before = time_coarse_ns();
    assert_int_equal(await_result(f, start_op(f), &turns), ETAG_OK);
    assert_in_range(time_coarse_ns() - before, 2 * SHORT_NS, 4 * NS_PER_S);
    assert_in_range(turns, 1, 40);
    assert_int_equal(events(f), 1);
    /* And without a loop. */
    etag_op *op = start_op(f);
    assert_int_equal(etag_op_result(op, NULL), ETAG_AGAIN);
    poll(NULL, 0, 340);
    assert_int_equal(etag_op_result(op, &f->receipt), ETAG_OK);
}

/* ---- What ends it sooner ---- */

CASE(an_answer_ends_the_wait)
{
    with_spool(f, LONG_NS);
    f->daemon.late_ms = 400;
    with_daemon(f, FAKE_SLOW);
    assert_int_equal(invalidate(f), ETAG_OK);
    assert_int_equal(f->receipt.lsn, 1);
    assert_int_equal(events(f), 1);
    assert_int_equal(f->client->counters->invalidations, 1);
}

CASE(a_daemon_that_starts_is_asked)
{
    int turns;

    with_spool(f, LONG_NS);
    client_open(f);
    etag_op *first = start_op(f), *second = start_op(f);
    assert_int_equal(events(f), 2);
    with_daemon(f, FAKE_ANSWERS);
    assert_int_equal(await_result(f, first, &turns), ETAG_OK);
    assert_int_equal(f->receipt.lsn, 1);
    assert_int_equal(await_result(f, second, &turns), ETAG_OK);
    assert_int_equal(f->receipt.lsn, 2);
    assert_int_equal(fake_get(&f->daemon, invalidations), 2);
}

static void *start_later(void *context)
{
    struct fixture *f = context;

    poll(NULL, 0, 150);
    fake_start(&f->daemon, true);
    return NULL;
}

CASE(a_waiting_call_asks_a_daemon_that_starts)
{
    pthread_t thread;

    with_spool(f, LONG_NS);
    client_open(f);
    assert_int_equal(pthread_create(&thread, NULL, start_later, f), 0);
    const etag_status status = invalidate(f);
    pthread_join(thread, NULL);
    assert_int_equal(status, ETAG_OK);
    assert_int_equal(f->receipt.lsn, 1);
}

CASE(a_definite_error_ends_the_wait)
{
    static const struct {
        enum fake_mood mood;
        uint32_t roles;
        etag_status status;
    } cases[] = {{FAKE_REFUSES, ROLE_READ | ROLE_MUTATE, ETAG_FAILED},
                 {FAKE_DENIES, ROLE_READ | ROLE_MUTATE, ETAG_DENIED},
                 {FAKE_ANSWERS, ROLE_READ, ETAG_DENIED}};
    int turns;
    with_spool(f, LONG_NS);
    client_open(f);
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        etag_op *op = start_op(f);
        assert_int_equal(events(f), i + 1);
        f->daemon.roles = cases[i].roles;
        with_daemon(f, cases[i].mood);
        assert_int_equal(await_result(f, op, &turns), cases[i].status);
        fake_kill(&f->daemon);
        (void)etag_client_dispatch(f->client);
    }
}

CASE(a_busy_daemon_is_not_waited_for)
{
    int turns;

    with_spool(f, SHORT_NS);
    with_daemon(f, FAKE_BUSY);
    const uint64_t before = time_coarse_ns();
    assert_int_equal(invalidate(f), ETAG_OK);
    assert_true(time_coarse_ns() - before >= SHORT_NS);
    assert_int_equal(f->receipt.lsn, 0);
    assert_int_equal(events(f), 1);
    etag_op *op = start_op(f);
    op->spool_ns = UINT64_MAX; /* however patient it is */
    assert_int_equal(await_result(f, op, &turns), ETAG_OK);
    assert_int_equal(events(f), 2);
    fake_spool_remove(&f->spool);
    assert_int_equal(invalidate(f), ETAG_UNAVAILABLE);
    client_expect_text(f, "no room");
}

/* ---- No usable spool ---- */

CASE(never_means_never)
{
    with_spool(f, SHORT_NS);
    f->options.spool = ETAG_SPOOL_NEVER;
    f->options.timeout_ms = 80;
    client_open(f);
    assert_int_equal(invalidate(f), ETAG_UNAVAILABLE);
    client_expect_text(f, "cannot connect");
    with_daemon(f, FAKE_SILENT);
    assert_int_equal(invalidate(f), ETAG_TIMEOUT);
    assert_int_equal(events(f), 0);
}

CASE(the_mark_denies)
{
    with_spool(f, SHORT_NS);
    f->spool.mark.writers[0]++;
    fake_spool_mark(&f->spool);
    f->options.timeout_ms = 80;
    client_open(f);
    assert_int_equal(invalidate(f), ETAG_DENIED);
    client_expect_text(f, "role 'mutate'");
    with_daemon(f, FAKE_SILENT);
    assert_int_equal(invalidate(f), ETAG_TIMEOUT);
    assert_int_equal(events(f), 0);
}

CASE(a_spool_of_another_daemon_is_not_used)
{
    with_spool(f, SHORT_NS);
    f->options.timeout_ms = 80;
    f->daemon.spool_id = FAKE_SPOOL_ID + 1;
    with_daemon(f, FAKE_SILENT);
    assert_int_equal(invalidate(f), ETAG_TIMEOUT);
    client_expect_text(f, "another daemon");
    fake_kill(&f->daemon);
    assert_int_equal(invalidate(f), ETAG_UNAVAILABLE);
    assert_int_equal(events(f), 0);
}

/* It renews its lease without having read it. */
CASE(a_daemon_without_a_spool_reads_none)
{
    with_spool(f, SHORT_NS);
    f->options.timeout_ms = 80;
    f->daemon.spool_id = 0;
    with_daemon(f, FAKE_SILENT);
    assert_int_equal(invalidate(f), ETAG_TIMEOUT);
    client_expect_text(f, "has no spool");
    assert_int_equal(events(f), 0);
}

CASE(a_spool_that_appears_is_used)
{
    int turns;

    with_daemon(f, FAKE_SILENT);
    etag_op *op = start_op(f);
    poll(NULL, 0, 260);
    assert_int_equal(etag_op_result(op, NULL), ETAG_AGAIN);
    with_spool(f, SHORT_NS);
    assert_int_equal(await_result(f, op, &turns), ETAG_OK);
    assert_int_equal(events(f), 1);
}

/* The spool is of our version, whatever the daemon speaks. */
CASE(another_version_leaves_the_spool)
{
    with_spool(f, SHORT_NS);
    f->daemon.mood = FAKE_OTHER_VERSION;
    fake_start(&f->daemon, true);
    assert_int_equal(etag_client_open(&f->client, &f->options), ETAG_VERSION);
    assert_int_equal(invalidate(f), ETAG_OK);
    assert_int_equal(events(f), 1);
}

CASE(a_hold_is_never_less_than_that)
{
    with_spool(f, SHORT_NS);
    fake_spool_fill(&f->spool, 1);
    client_open(f);
    f->targets.hold_ms = 5;
    assert_int_equal(invalidate(f), ETAG_UNAVAILABLE);
    client_expect_text(f, "full");
    assert_int_equal(fake_spool_count(&f->spool, SPOOL_NAME_ALL, NULL), 0);
    f->targets.hold_ms = 0;
    assert_int_equal(invalidate(f), ETAG_OK);
    assert_int_equal(fake_spool_count(&f->spool, SPOOL_NAME_ALL, NULL), 1);
}

/* ---- The interface ---- */

CASE(options)
{
    f->options.spool = (etag_spool_use)2;
    assert_int_equal(etag_client_open(&f->client, &f->options), ETAG_INVALID);
    assert_null(f->client);
    f->options.spool = ETAG_SPOOL_ALLOWED;
    f->options.timeout_ms = 0;
    client_open(f);
    assert_int_equal(f->client->timeout_ms, 3000);
}

CASE(holds_travel)
{
    f->targets.hold_ms = 4711;
    with_daemon(f, FAKE_ANSWERS);
    assert_int_equal(invalidate(f), ETAG_OK);
    assert_int_equal(fake_get(&f->daemon, last_hold_ms), 4711);
    f->targets.hold_ms = HOLD_MS_MAX + 1;
    assert_int_equal(invalidate(f), ETAG_INVALID);
}

CASE(closing_leaves_what_is_recorded_pending)
{
    with_spool(f, LONG_NS);
    client_open(f);
    etag_op *op = start_op(f);
    f->client = etag_client_close(f->client);
    assert_int_equal(etag_op_result(op, &f->receipt), ETAG_PENDING);
}

CASE(a_childs_parent_waits_on)
{
    int turns, status = -1;

    with_spool(f, SHORT_NS);
    client_open(f);
    etag_op *op = start_op(f);
    const pid_t child = fork();
    if (child == 0)
        _exit(etag_op_result(op, NULL) == ETAG_TIMEOUT && invalidate(f) == ETAG_OK ? 0 : 1);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_int_equal(await_result(f, op, &turns), ETAG_OK);
    assert_int_equal(events(f), 2);
}

/* The memory of frames goes from one to the next. */
CASE(frames_do_not_mix)
{
    with_daemon(f, FAKE_ANSWERS);
    const etag_str many[3] = {ETAG_LIT("a"), ETAG_LIT("b"), ETAG_LIT("c")};
    etag_op *first = start_op(f);
    f->targets.surrogates = many;
    f->targets.surrogate_count = 3;
    assert_int_equal(invalidate(f), ETAG_OK);
    assert_int_equal(fake_get(&f->daemon, last_surrogate_count), 3);
    const uint8_t *bytes = f->client->spare_frame.bytes;
    assert_non_null(bytes);
    f->targets.surrogate_count = 2;
    assert_int_equal(invalidate(f), ETAG_OK);
    assert_ptr_equal(f->client->spare_frame.bytes, bytes);
    assert_int_equal(fake_get(&f->daemon, last_surrogate_count), 2);
    assert_int_equal(etag_op_result(first, &f->receipt), ETAG_OK);
    assert_int_equal(f->receipt.lsn, 1);
}
