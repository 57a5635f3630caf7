/* SPDX-License-Identifier: Apache-2.0 */
/* Guards as writers see them: their steps, the time for a COMMIT, restarts of the daemon, the
 * spool, fork. */
#include "client_fixture.h"
#include "guard.h"

#include <sys/wait.h>

#define SHORT_NS (120 * NS_PER_MS)
#define LONG_NS (60 * NS_PER_S)
#define LINGER_MS 30000
/* What is left of it at once: less 5 % and two ticks. */
#define LEFT_MS_MAX (LINGER_MS - LINGER_MS / 20 - 20)

static int setup(void **state)
{
    struct fixture *f = client_setup(state);

    f->daemon.spool_id = FAKE_SPOOL_ID;
    f->daemon.linger_ns = LINGER_MS * NS_PER_MS;
    f->targets.surrogate_count = 2;
    return 0;
}

#define CASE(name) TEST_OF(name, struct fixture *f, setup, client_teardown)

static void start_without_daemon(struct fixture *f, uint64_t lease_ns)
{
    fake_spool_make(&f->spool, f->daemon.dir, lease_ns);
    client_open(f);
}

static void begin(struct fixture *f)
{
    assert_int_equal(etag_guard_begin(f->client, &f->targets, &f->guard), ETAG_OK);
    assert_non_null(f->guard);
}

static void confirm(struct fixture *f)
{
    assert_int_equal(etag_guard_confirm(f->guard), ETAG_OK);
}

/* As an event loop, until the daemon has counted that far. */
#define loop_until(f, member, count)                                                               \
    do {                                                                                           \
        for (int i_ = 0; i_ < 1000 && fake_get(&(f)->daemon, member) < (count); i_++)              \
            client_loop_once(f, 10);                                                               \
        assert_int_equal(fake_get(&(f)->daemon, member), (count));                                 \
    } while (0)

/* ---- Steps ---- */

CASE(steps)
{
    client_start(f);
    f->targets.hold_ms = 99;
    begin(f);
    assert_int_equal(fake_get(&f->daemon, begins), 1);
    assert_int_equal(fake_get(&f->daemon, last_surrogate_count), 2);
    const uint64_t id = fake_get(&f->daemon, last_guard_low);
    /* What the caller does with its targets is its own business. */
    memset(&f->surrogates, 0, sizeof(f->surrogates));
    f->targets.surrogate_count = 0;
    assert_int_equal(etag_guard_time_left_ms(f->guard), 0);
    confirm(f);
    assert_int_equal(fake_get(&f->daemon, confirms), 1);
    assert_int_equal(fake_get(&f->daemon, last_surrogate_count), 2);
    assert_in_range(etag_guard_time_left_ms(f->guard), LEFT_MS_MAX - 5000, LEFT_MS_MAX);
    confirm(f);
    assert_true(fake_get(&f->daemon, last_guard_low) == id);
    assert_int_equal(etag_guard_commit(f->guard, &f->receipt), ETAG_OK);
    f->guard = NULL;
    assert_int_equal(f->receipt.lsn, 4);
    assert_int_equal(fake_get(&f->daemon, commits), 1);
    assert_int_equal(fake_get(&f->daemon, last_surrogate_count), 2);
    assert_int_equal(fake_get(&f->daemon, last_hold_ms), 99);
    assert_true(fake_get(&f->daemon, last_guard_low) == id);
    assert_int_equal(f->client->guard_count, 0);
    assert_int_equal(f->client->counters->guards_begun, 1);
    assert_int_equal(f->client->counters->guards_confirmed, 2);

    f->surrogates[0] = ETAG_LIT("upload:42");
    f->targets.surrogate_count = 1;
    begin(f);
    assert_true(fake_get(&f->daemon, last_guard_low) != id);
    assert_int_equal(etag_guard_abort(f->guard), ETAG_OK);
    f->guard = NULL;
    assert_int_equal(fake_get(&f->daemon, aborts), 1);
    assert_null(etag_guard_forget(NULL));
}

CASE(what_does_not_begin)
{
    client_start(f);
    f->guard = (etag_guard *)f;
    f->targets.surrogate_count = 0;
    assert_int_equal(etag_guard_begin(f->client, &f->targets, &f->guard), ETAG_INVALID);
    assert_null(f->guard);
    f->targets.surrogate_count = 1;
    f->targets.max_ms = GUARD_MS_MAX + 1;
    assert_int_equal(etag_guard_begin(f->client, &f->targets, &f->guard), ETAG_INVALID);
    f->targets.max_ms = 0;
    /* It may have begun, so it is aborted. */
    fake_set(&f->daemon, mood, FAKE_REFUSES);
    assert_int_equal(etag_guard_begin(f->client, &f->targets, &f->guard), ETAG_FAILED);
    client_expect_text(f, "the disk is full");
    assert_null(f->guard);
    fake_await(&f->daemon, aborts, 1);
    fake_set(&f->daemon, mood, FAKE_DENIES);
    assert_int_equal(etag_guard_begin(f->client, &f->targets, &f->guard), ETAG_DENIED);
    fake_set(&f->daemon, mood, FAKE_ANSWERS);
    begin(f);
    assert_int_equal(fake_get(&f->daemon, aborts), 1);
    assert_int_equal(f->client->guard_count, 1);
    loop_until(f, aborts, 1);
}

CASE(an_end_that_fails_lets_the_guard_linger)
{
    client_start(f);
    begin(f);
    fake_set(&f->daemon, mood, FAKE_REFUSES);
    assert_int_equal(etag_guard_commit(f->guard, &f->receipt), ETAG_FAILED);
    f->guard = NULL;
    client_expect_text(f, "the disk is full");
    assert_int_equal(f->client->guard_count, 0);
    assert_int_equal(etag_client_fd(f->client), -1);
}

/* A confirmation behind it would begin the guard again. */
CASE(nothing_follows_the_end_of_a_guard)
{
    client_start(f);
    begin(f);
    fake_set(&f->daemon, mood, FAKE_CLOSES_ONCE);
    assert_int_equal(etag_guard_commit(f->guard, NULL), ETAG_OK);
    f->guard = NULL;
    assert_int_equal(fake_get(&f->daemon, hellos), 2);
    assert_int_equal(fake_get(&f->daemon, commits), 2);
    assert_int_equal(fake_get(&f->daemon, confirms), 0);
}

/* To the daemon an open connection is a sign of life. */
CASE(a_forgotten_guard_loses_its_connection)
{
    etag_guard *other;

    client_start(f);
    begin(f);
    const uint64_t id = fake_get(&f->daemon, last_guard_low);
    assert_int_equal(etag_guard_begin(f->client, &f->targets, &other), ETAG_OK);
    assert_null(etag_guard_forget(other));
    assert_int_equal(etag_client_fd(f->client), -1);
    loop_until(f, confirms, 1);
    assert_int_equal(fake_get(&f->daemon, connections), 2);
    assert_true(fake_get(&f->daemon, last_guard_low) == id);
    assert_int_equal(fake_get(&f->daemon, commits) + fake_get(&f->daemon, aborts), 0);
}

/* ---- Time ---- */

CASE(the_time_counts_from_the_sending)
{
    client_start(f);
    begin(f);
    f->daemon.late_ms = 300;
    fake_set(&f->daemon, mood, FAKE_SLOW);
    f->client->spool_use = ETAG_SPOOL_NEVER;
    confirm(f);
    assert_in_range(etag_guard_time_left_ms(f->guard), LEFT_MS_MAX - 5000, LEFT_MS_MAX - 280);
}

CASE(a_confirmation_that_fails_leaves_no_time)
{
    client_start(f);
    begin(f);
    confirm(f);
    assert_int_not_equal(etag_guard_time_left_ms(f->guard), 0);
    fake_set(&f->daemon, mood, FAKE_REFUSES);
    assert_int_equal(etag_guard_confirm(f->guard), ETAG_FAILED);
    assert_int_equal(etag_guard_time_left_ms(f->guard), 0);
}

CASE(time_runs_out)
{
    f->daemon.linger_ns = 200 * NS_PER_MS;
    client_start(f);
    begin(f);
    confirm(f);
    assert_in_range(etag_guard_time_left_ms(f->guard), 1, 170);
    poll(NULL, 0, 180);
    assert_int_equal(etag_guard_time_left_ms(f->guard), 0);
}

/* ---- Restarts ---- */

CASE(a_restarted_daemon_gets_the_guards)
{
    etag_guard *other;

    client_start(f);
    begin(f);
    assert_int_equal(etag_guard_begin(f->client, &f->targets, &other), ETAG_OK);
    client_restart_daemon(f);
    loop_until(f, confirms, 2);
    assert_int_equal(fake_get(&f->daemon, last_surrogate_count), 2);
    /* That was the library; the application has confirmed nothing. */
    assert_int_equal(etag_guard_time_left_ms(f->guard), 0);
    assert_int_equal(f->client->counters->guards_confirmed, 0);
    confirm(f);
    assert_int_equal(etag_guard_abort(other), ETAG_OK);
    client_restart_daemon(f);
    loop_until(f, confirms, 4);
    assert_int_equal(etag_guard_commit(f->guard, NULL), ETAG_OK);
    f->guard = NULL;
    client_restart_daemon(f);
    assert_int_equal(etag_invalidate(f->client, &f->targets, NULL), ETAG_OK);
    assert_int_equal(fake_get(&f->daemon, confirms), 4);
}

CASE(following_the_daemon_gives_no_time)
{
    client_start(f);
    begin(f);
    confirm(f);
    poll(NULL, 0, 60);
    f->daemon.linger_ns = 5 * NS_PER_S;
    client_restart_daemon(f);
    loop_until(f, confirms, 2);
    /* What the shorter linger leaves, from the application's confirmation on. */
    assert_in_range(etag_guard_time_left_ms(f->guard), 1, 5000 - 250 - 20 - 50);
    f->daemon.linger_ns = 10 * LINGER_MS * NS_PER_MS;
    client_restart_daemon(f);
    loop_until(f, confirms, 3);
    assert_in_range(etag_guard_time_left_ms(f->guard), 5000, LEFT_MS_MAX - 50);
}

CASE(a_reader_sends_no_confirmations)
{
    client_start(f);
    begin(f);
    f->daemon.roles = ROLE_READ;
    client_restart_daemon(f);
    loop_until(f, hellos, 2);
    assert_int_equal(etag_guard_confirm(f->guard), ETAG_DENIED);
    assert_int_equal(fake_get(&f->daemon, confirms), 0);
}

/* ---- The spool ---- */

CASE(steps_without_a_daemon)
{
    static const enum request_kind kinds[] = {REQUEST_GUARD_BEGIN, REQUEST_GUARD_CONFIRM,
                                              REQUEST_GUARD_COMMIT};
    struct guard_id id = {0};

    start_without_daemon(f, SHORT_NS);
    for (size_t i = 0; i < 3; i++) {
        struct arena arena;
        struct request request;
        char name[SPOOL_NAME_BYTES], path[200];
        const uint64_t before = time_coarse_ns();
        if (i == 0)
            begin(f);
        else if (i == 1)
            confirm(f);
        else
            assert_int_equal(etag_guard_commit(f->guard, &f->receipt), ETAG_OK);
        assert_true(time_coarse_ns() - before >= SHORT_NS);
        fake_spool_event(&f->spool, &arena, &request);
        assert_int_equal(request.kind, kinds[i]);
        assert_true(request.guard.id.high != 0);
        assert_true(i == 0 || guard_id_equal(request.guard.id, id));
        assert_int_equal(request.guard.targets.surrogate_count, 2);
        id = request.guard.id;
        arena_deinit(&arena);
        assert_int_equal(fake_spool_count(&f->spool, SPOOL_NAME_EVENT, name), 1);
        snprintf(path, sizeof(path), "%s/%s", f->spool.path, name);
        assert_int_equal(unlink(path), 0);
        /* linger of the mark: 20 s; counted from before the rename. */
        if (i == 1)
            assert_in_range(etag_guard_time_left_ms(f->guard), 1,
                            20000 - 1000 - 20 - SHORT_NS / NS_PER_MS);
    }
    f->guard = NULL;
    assert_int_equal(f->receipt.lsn, 0);
}

CASE(an_abort_is_only_recorded)
{
    start_without_daemon(f, SHORT_NS);
    begin(f);
    f->spool.mark.lease_ns = LONG_NS;
    fake_spool_mark(&f->spool);
    const uint64_t before = time_coarse_ns();
    assert_int_equal(etag_guard_abort(f->guard), ETAG_PENDING);
    f->guard = NULL;
    assert_true(time_coarse_ns() - before < 4 * NS_PER_S);
    assert_int_equal(fake_spool_count(&f->spool, SPOOL_NAME_EVENT, NULL), 2);
}

CASE(a_beginning_that_is_pending_is_aborted)
{
    f->options.timeout_ms = 50;
    start_without_daemon(f, LONG_NS);
    assert_int_equal(etag_guard_begin(f->client, &f->targets, &f->guard), ETAG_PENDING);
    assert_null(f->guard);
    client_expect_text(f, "recorded");
    assert_int_equal(fake_spool_count(&f->spool, SPOOL_NAME_EVENT, NULL), 2);
    assert_int_equal(f->client->op_count, 0);
}

CASE(a_beginning_needs_a_slot)
{
    start_without_daemon(f, SHORT_NS);
    fake_spool_fill(&f->spool, 1);
    assert_int_equal(etag_guard_begin(f->client, &f->targets, &f->guard), ETAG_UNAVAILABLE);
    client_expect_text(f, "full");
    assert_int_equal(fake_spool_count(&f->spool, SPOOL_NAME_ALL, NULL), 0);
}

/* ---- Fork, closing ---- */

/* In a child; 0 if all is well. */
static int behave_as_child(struct fixture *f)
{
    etag_guard *second = f->guard, *own;

    if (etag_guard_time_left_ms(f->guard) != 0)
        return 1;
    if (etag_guard_confirm(f->guard) != ETAG_INVALID)
        return 2;
    if (!strstr(etag_client_error(f->client), "parent"))
        return 3;
    if (etag_guard_begin(f->client, &f->targets, &own) != ETAG_OK ||
        etag_guard_confirm(own) != ETAG_OK || etag_guard_time_left_ms(own) == 0)
        return 4;
    if (etag_guard_commit(second, NULL) != ETAG_INVALID)
        return 5;
    if (f->client->guard_count != 1 || etag_guard_commit(own, NULL) != ETAG_OK)
        return 6;
    etag_client_close(f->client);
    return 0;
}

CASE(a_childs_guards_are_dead)
{
    int status = -1;

    client_start(f);
    begin(f);
    confirm(f);
    const pid_t child = fork();
    if (child == 0)
        _exit(behave_as_child(f));
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    /* The child sent nothing for the parent's guard: one confirmation each, and the child's own
     * commit. */
    assert_int_equal(fake_get(&f->daemon, confirms), 2);
    assert_int_equal(fake_get(&f->daemon, commits), 1);
    assert_int_not_equal(etag_guard_time_left_ms(f->guard), 0);
    confirm(f);
    /* A child that only forgets leaves the parent's connection alone. */
    const pid_t second = fork();
    if (second == 0) {
        etag_guard_forget(f->guard);
        _exit(0);
    }
    assert_int_equal(waitpid(second, &status, 0), second);
    assert_int_equal(etag_guard_commit(f->guard, NULL), ETAG_OK);
    f->guard = NULL;
    assert_int_equal(fake_get(&f->daemon, connections), 2);
}

CASE(a_guard_outlives_its_client)
{
    etag_guard *other;

    client_start(f);
    begin(f);
    assert_int_equal(etag_guard_begin(f->client, &f->targets, &other), ETAG_OK);
    confirm(f);
    f->client = etag_client_close(f->client);
    assert_int_equal(etag_guard_time_left_ms(f->guard), 0);
    assert_int_equal(etag_guard_confirm(f->guard), ETAG_INVALID);
    assert_int_equal(etag_guard_commit(other, NULL), ETAG_INVALID);
    assert_int_equal(fake_get(&f->daemon, commits) + fake_get(&f->daemon, aborts), 0);
}
