/* SPDX-License-Identifier: Apache-2.0 */
/* The client's life with a daemon: opening, filling, invalidating, restarts, lost connections,
 * roles, fork, event loops. */
#include "client_fixture.h"

#include <sys/resource.h>
#include <sys/wait.h>

static int setup(void **state)
{
    struct fixture *f = client_setup(state);

    f->response.key = &f->key;
    f->response.etag = ETAG_LIT("\"v1\"");
    f->response.surrogate_count = 1;
    return 0;
}

#define CASE(name) TEST_OF(name, struct fixture *f, setup, client_teardown)

static etag_reason check_reason(struct fixture *f)
{
    etag_request request;
    etag_answer answer;

    ETAG_INIT(&request);
    ETAG_INIT(&answer);
    request.method = ETAG_LIT("GET");
    request.key = &f->key;
    (void)etag_check(f->client, &request, (etag_token){0}, &answer);
    return answer.reason;
}

/* ---- Opening ---- */

CASE(opens_without_a_daemon)
{
    client_open(f);
    assert_string_not_equal(etag_client_error(f->client), "");
    assert_int_equal(etag_client_fd(f->client), -1);
    assert_int_equal(etag_client_events(f->client), 0);
    assert_in_range(etag_client_timeout_ms(f->client), 0, RECONNECT_MS_MIN);
    assert_int_equal(check_reason(f), ETAG_REASON_NO_INDEX);
    assert_int_equal(etag_invalidate(f->client, &f->targets, NULL), ETAG_UNAVAILABLE);
    client_expect_text(f, f->daemon.path);
    assert_int_equal(etag_client_dispatch(f->client), ETAG_UNAVAILABLE);
    /* It comes up later. */
    fake_start(&f->daemon, true);
    client_loop_until_ready(f);
    assert_int_equal(check_reason(f), ETAG_REASON_NO_ENTRY);
}

CASE(bad_options)
{
    char path[200];

    memset(path, 'p', sizeof(path));
    path[sizeof(path) - 1] = '\0';
    f->options.socket_path = path;
    f->client = (etag_client *)f;
    assert_int_equal(etag_client_open(&f->client, &f->options), ETAG_INVALID);
    assert_null(f->client);
    const etag_str framing = ETAG_LIT("Content-Length");
    f->options.socket_path = f->daemon.path;
    f->options.repeated_fields = &framing;
    f->options.repeated_field_count = 1;
    assert_int_equal(etag_client_open(&f->client, &f->options), ETAG_INVALID);
    assert_null(f->client);
    f->options.size = 0;
    assert_int_equal(etag_client_open(&f->client, &f->options), ETAG_INVALID);
    assert_null(f->client);
    assert_null(etag_client_close(NULL));
}

CASE(the_environment_names_the_socket)
{
    fake_start(&f->daemon, true);
    setenv("ETAGD_SOCKET", f->daemon.path, 1);
    f->options.socket_path = NULL;
    client_open(f);
    unsetenv("ETAGD_SOCKET");
    assert_int_equal(check_reason(f), ETAG_REASON_NO_ENTRY);
}

CASE(another_version_is_told)
{
    f->daemon.mood = FAKE_OTHER_VERSION;
    fake_start(&f->daemon, true);
    assert_int_equal(etag_client_open(&f->client, &f->options), ETAG_VERSION);
    assert_non_null(f->client);
    client_expect_text(f, "protocol 77");
    assert_int_equal(check_reason(f), ETAG_REASON_NO_INDEX);
    assert_int_equal(etag_invalidate(f->client, &f->targets, NULL), ETAG_VERSION);
}

CASE(a_stopped_daemon_does_not_hang_the_opening)
{
    fake_start(&f->daemon, false);
    f->options.connect_timeout_ms = f->options.timeout_ms = 50;
    const uint64_t begin = channel_now_ns();
    client_open(f);
    assert_in_range(channel_now_ns() - begin, 50 * NS_PER_MS, 4000 * NS_PER_MS);
    assert_int_equal(etag_invalidate(f->client, &f->targets, NULL), ETAG_UNAVAILABLE);
    fake_continue(&f->daemon);
    client_loop_until_ready(f);
    assert_int_equal(check_reason(f), ETAG_REASON_NO_ENTRY);
    assert_int_equal(fake_get(&f->daemon, invalidations), 0);
}

CASE(no_wait_does_not_wait)
{
    fake_start(&f->daemon, false);
    f->options.no_wait = true;
    client_open(f);
    assert_int_equal(check_reason(f), ETAG_REASON_NO_INDEX);
    fake_continue(&f->daemon);
    client_loop_until_ready(f);
    assert_int_equal(check_reason(f), ETAG_REASON_NO_ENTRY);
}

/* ---- What must not be used ---- */

CASE(uses_no_index_of_another_clock)
{
    f->daemon.clock_shift_ns = 3600 * (int64_t)NS_PER_S;
    client_start(f);
    assert_int_equal(check_reason(f), ETAG_REASON_NO_INDEX);
    assert_int_equal(etag_token_now(f->client).incarnation, 0);
    client_expect_text(f, "CLOCK_MONOTONIC");
    assert_int_equal(etag_invalidate(f->client, &f->targets, NULL), ETAG_OK);
}

/* The bracket of a hello that was read late is wide; the lease tells. */
CASE(uses_no_index_with_a_lease_from_the_future)
{
    fake_start(&f->daemon, true);
    shm_lease_store(index_view(f->daemon.index), time_coarse_ns() + FAKE_LEASE_NS + 60 * NS_PER_S);
    client_open(f);
    assert_int_equal(check_reason(f), ETAG_REASON_NO_INDEX);
}

CASE(an_unsealed_index_is_not_used)
{
    f->daemon.mood = FAKE_UNSEALED;
    client_start(f);
    assert_int_equal(check_reason(f), ETAG_REASON_NO_INDEX);
    client_expect_text(f, "not sealed");
    assert_int_equal(etag_invalidate(f->client, &f->targets, NULL), ETAG_OK);
}

CASE(roles)
{
    const etag_token token = {FAKE_INCARNATION, 100};
    etag_op *op;

    f->daemon.roles = ROLE_READ;
    client_start(f);
    assert_int_equal(check_reason(f), ETAG_REASON_NO_ENTRY);
    assert_int_equal(etag_fill(f->client, token, &f->response), ETAG_DENIED);
    assert_int_equal(etag_fill_wait(f->client, token, &f->response, NULL), ETAG_DENIED);
    assert_int_equal(etag_invalidate(f->client, &f->targets, NULL), ETAG_DENIED);
    assert_int_equal(etag_invalidate_start(f->client, &f->targets, &op), ETAG_DENIED);
    assert_null(op);
    client_expect_text(f, "role");
}

CASE(no_role_to_read_is_no_index)
{
    f->daemon.roles = ROLE_FILL;
    client_start(f);
    assert_int_equal(check_reason(f), ETAG_REASON_NO_INDEX);
}

/* ---- Filling ---- */

CASE(fills)
{
    client_start(f);
    const etag_token token = etag_token_now(f->client);
    assert_true(token.incarnation == FAKE_INCARNATION);
    assert_int_equal(token.lsn, 100);
    assert_int_equal(etag_fill(f->client, token, &f->response), ETAG_OK);
    fake_await(&f->daemon, fills, 1);
    assert_int_equal(fake_get(&f->daemon, last_fill_lsn), 100);
    assert_int_equal(fake_get(&f->daemon, last_surrogate_count), 1);
    assert_int_equal(f->client->counters->fills_sent, 1);
    assert_ptr_equal(f->client->counters, f->client->mapping.counters);

    assert_int_equal(etag_fill_wait(f->client, token, &f->response, &f->receipt), ETAG_OK);
    assert_int_equal(f->receipt.lsn, 100);
    f->daemon.fill_reason = ETAG_REASON_TOKEN_STALE;
    assert_int_equal(etag_fill_wait(f->client, token, &f->response, &f->receipt), ETAG_REFUSED);
    assert_int_equal(etag_fill_reason(f->client), ETAG_REASON_TOKEN_STALE);
}

CASE(what_must_not_be_stored_is_not_sent)
{
    client_start(f);
    const etag_token token = etag_token_now(f->client);
    const etag_field no_store = {ETAG_LIT("Cache-Control"), ETAG_LIT("no-store")};
    assert_int_equal(etag_fill(f->client, (etag_token){0}, &f->response), ETAG_REFUSED);
    assert_int_equal(etag_fill_reason(f->client), ETAG_REASON_TOKEN_FOREIGN);
    f->response.fields = &no_store;
    f->response.field_count = 1;
    assert_int_equal(etag_fill(f->client, token, &f->response), ETAG_REFUSED);
    assert_int_equal(etag_fill_reason(f->client), ETAG_REASON_NO_STORE);
    f->response.field_count = 0;
    f->key.resource.target = ETAG_LIT("no slash");
    assert_int_equal(etag_fill_wait(f->client, token, &f->response, NULL), ETAG_REFUSED);
    assert_int_equal(etag_fill_reason(f->client), ETAG_REASON_BAD_KEY);
    assert_string_not_equal(etag_client_error(f->client), "");
    f->response.key = NULL;
    assert_int_equal(etag_fill(f->client, token, &f->response), ETAG_INVALID);
    f->response.size = 3;
    assert_int_equal(etag_fill(f->client, token, &f->response), ETAG_INVALID);
    assert_int_equal(f->client->counters->fills_refused, 3);
    assert_int_equal(etag_invalidate(f->client, &f->targets, NULL), ETAG_OK);
    assert_int_equal(fake_get(&f->daemon, fills), 0);
}

/* What it does not know might be what the call is about: "only if", "not before", "on these hosts
 * too". */
CASE(what_is_asked_by_an_unknown_member_is_not_done)
{
    struct {
        etag_targets targets;
        uint64_t newer;
    } named;
    struct {
        etag_entry entry;
        uint64_t newer;
    } filled;
    struct {
        etag_client_options options;
        uint64_t newer;
    } opened;
    etag_client *client;
    etag_guard *guard;
    etag_op *op;
    client_start(f);
    named.targets = f->targets;
    named.targets.size = sizeof(named);
    named.newer = 1;
    assert_int_equal(etag_invalidate(f->client, &named.targets, NULL), ETAG_INVALID);
    client_expect_text(f, "the targets have a member that this libetag does not know");
    assert_int_equal(etag_invalidate_start(f->client, &named.targets, &op), ETAG_INVALID);
    assert_int_equal(etag_guard_begin(f->client, &named.targets, &guard), ETAG_INVALID);
    named.newer = 0;
    assert_int_equal(etag_invalidate(f->client, &named.targets, NULL), ETAG_OK);

    filled.entry = f->response;
    filled.entry.size = sizeof(filled);
    filled.newer = 1;
    const etag_token token = etag_token_now(f->client);
    assert_int_equal(etag_fill(f->client, token, &filled.entry), ETAG_INVALID);
    client_expect_text(f, "the entry has a member that this libetag does not know");
    filled.newer = 0;
    assert_int_equal(etag_fill(f->client, token, &filled.entry), ETAG_OK);

    ETAG_INIT(&opened.options);
    opened.options.size = sizeof(opened);
    opened.options.no_wait = true;
    opened.newer = 1;
    assert_int_equal(etag_client_open(&client, &opened.options), ETAG_INVALID);
    assert_null(client);
}

/* A front end that only checks and fills gets its index too, though its fills have no token yet. */
CASE(filling_connects_but_not_too_often)
{
    const etag_token token = {FAKE_INCARNATION, 100};

    f->options.no_wait = true;
    client_open(f);
    f->client->connect_again_ns = UINT64_MAX;
    assert_int_equal(etag_fill(f->client, token, &f->response), ETAG_UNAVAILABLE);
    assert_int_equal(f->client->counters->fills_dropped, 1);
    fake_start(&f->daemon, true);
    assert_int_equal(etag_fill(f->client, token, &f->response), ETAG_UNAVAILABLE);
    f->client->connect_again_ns = 0;
    for (int ms = 0; ms < 5000 && !f->client->mapping.base; ms++) {
        assert_int_equal(etag_fill(f->client, (etag_token){0}, &f->response), ETAG_REFUSED);
        poll(NULL, 0, 1);
    }
    assert_int_equal(check_reason(f), ETAG_REASON_NO_ENTRY);
    assert_int_equal(fake_get(&f->daemon, connections), 1);
}

CASE(a_fill_may_follow_the_hello_at_once)
{
    fake_start(&f->daemon, false);
    f->options.no_wait = true;
    client_open(f);
    assert_int_equal(f->client->channel.state, CHANNEL_GREETING);
    assert_int_equal(etag_fill(f->client, (etag_token){FAKE_INCARNATION, 1}, &f->response),
                     ETAG_OK);
    fake_continue(&f->daemon);
    fake_await(&f->daemon, fills, 1);
}

CASE(a_full_socket_drops_fills)
{
    const etag_token token = {FAKE_INCARNATION, 100};
    etag_status status = ETAG_OK;

    fake_start(&f->daemon, false);
    f->options.no_wait = true;
    client_open(f);
    for (int i = 0; i < 1000000 && status == ETAG_OK; i++)
        status = etag_fill(f->client, token, &f->response);
    assert_int_equal(status, ETAG_AGAIN);
    assert_int_equal(f->client->counters->fills_dropped, 1);
    assert_true(etag_client_events(f->client) & POLLOUT);
}

/* ---- Invalidating ---- */

CASE(invalidates)
{
    client_start(f);
    assert_int_equal(etag_invalidate(f->client, &f->targets, &f->receipt), ETAG_OK);
    assert_int_equal(f->receipt.lsn, 1);
    assert_string_equal(etag_client_error(f->client), "");
    assert_int_equal(etag_invalidate(f->client, &f->targets, NULL), ETAG_OK);
    assert_int_equal(f->client->counters->invalidations, 2);
    f->targets.surrogate_count = 0;
    assert_int_equal(etag_invalidate(f->client, &f->targets, NULL), ETAG_INVALID);
    assert_string_not_equal(etag_client_error(f->client), "");
    f->targets.size = 1;
    assert_int_equal(etag_invalidate(f->client, &f->targets, NULL), ETAG_INVALID);
    assert_int_equal(etag_invalidate(f->client, NULL, NULL), ETAG_INVALID);
    f->targets.size = sizeof(f->targets);
    f->targets.surrogate_count = 1;
    fake_set(&f->daemon, mood, FAKE_REFUSES);
    assert_int_equal(etag_invalidate(f->client, &f->targets, NULL), ETAG_FAILED);
    client_expect_text(f, "the disk is full");
    fake_set(&f->daemon, mood, FAKE_NONSENSE);
    assert_int_equal(etag_invalidate(f->client, &f->targets, NULL), ETAG_PROTOCOL);
    fake_set(&f->daemon, mood, FAKE_ANSWERS);
    assert_int_equal(etag_invalidate(f->client, &f->targets, NULL), ETAG_OK);
}

CASE(a_lost_connection_is_replaced_within_the_call)
{
    client_start(f);
    fake_set(&f->daemon, mood, FAKE_CLOSES_ONCE);
    assert_int_equal(etag_invalidate(f->client, &f->targets, &f->receipt), ETAG_OK);
    assert_int_equal(f->receipt.lsn, 2);
    assert_int_equal(fake_get(&f->daemon, connections), 2);
    fake_set(&f->daemon, mood, FAKE_SENDS_AWAY);
    assert_int_equal(etag_invalidate(f->client, &f->targets, NULL), ETAG_OK);
}

CASE(a_request_that_may_have_happened_is_a_timeout)
{
    f->options.timeout_ms = 60;
    client_start(f);
    fake_set(&f->daemon, mood, FAKE_SILENT);
    const uint64_t begin = channel_now_ns();
    assert_int_equal(etag_invalidate(f->client, &f->targets, NULL), ETAG_TIMEOUT);
    assert_in_range(channel_now_ns() - begin, 60 * NS_PER_MS, 4000 * NS_PER_MS);
    fake_set(&f->daemon, mood, FAKE_CLOSES_ALWAYS);
    assert_int_equal(etag_invalidate(f->client, &f->targets, NULL), ETAG_TIMEOUT);
    fake_kill(&f->daemon);
    assert_int_equal(etag_invalidate(f->client, &f->targets, NULL), ETAG_UNAVAILABLE);
}

static void restart(struct fixture *f)
{
    fake_kill(&f->daemon);
    f->daemon.incarnation_id++;
    fake_start(&f->daemon, true);
}

CASE(every_call_that_talks_follows_a_restart)
{
    client_start(f);
    const uint64_t first = etag_token_now(f->client).incarnation;
    void *former = f->client->mapping.base;
    restart(f);
    assert_true(etag_token_now(f->client).incarnation == first);
    assert_int_equal(etag_invalidate(f->client, &f->targets, NULL), ETAG_OK);
    assert_true(etag_token_now(f->client).incarnation == first + 1);
    if (!under_valgrind())
        assert_int_equal(msync(former, 4096, MS_ASYNC), -1); /* it is not mapped any more */

    restart(f);
    f->client->connect_again_ns = 0;
    client_loop_until_ready(f);
    for (int i = 0; i < 1000 && etag_token_now(f->client).incarnation != first + 2; i++)
        client_loop_once(f, 5000);
    assert_true(etag_token_now(f->client).incarnation == first + 2);

    restart(f);
    for (int ms = 0; ms < 5000 && etag_token_now(f->client).incarnation != first + 3; ms++) {
        (void)etag_fill(f->client, etag_token_now(f->client), &f->response);
        poll(NULL, 0, 1);
    }
    assert_true(etag_token_now(f->client).incarnation == first + 3);
    assert_int_equal(check_reason(f), ETAG_REASON_NO_ENTRY);
}

/* ---- Operations ---- */

static etag_status await_result(struct fixture *f, etag_op *op)
{
    etag_status status = ETAG_AGAIN;

    for (int i = 0; i < 1000 && status == ETAG_AGAIN; i++) {
        client_loop_once(f, 5000);
        status = etag_op_result(op, &f->receipt);
    }
    return status;
}

CASE(operations)
{
    etag_op *first, *second, *third;

    client_start(f);
    assert_int_equal(etag_invalidate_start(f->client, &f->targets, &first), ETAG_OK);
    assert_int_equal(etag_invalidate_start(f->client, &f->targets, &second), ETAG_OK);
    assert_int_equal(etag_invalidate_start(f->client, &f->targets, &third), ETAG_OK);
    assert_in_range(etag_client_timeout_ms(f->client), 0, 5000);
    assert_null(etag_op_forget(second));
    assert_null(etag_op_forget(NULL));
    assert_int_equal(await_result(f, third), ETAG_OK);
    assert_int_equal(f->receipt.lsn, 3);
    assert_int_equal(etag_op_result(first, &f->receipt), ETAG_OK);
    assert_int_equal(f->receipt.lsn, 1);
    assert_int_equal(f->client->op_count, 0);
    /* An answer that came while another call waited. */
    assert_int_equal(etag_invalidate_start(f->client, &f->targets, &first), ETAG_OK);
    assert_int_equal(etag_invalidate(f->client, &f->targets, NULL), ETAG_OK);
    assert_int_equal(etag_op_result(first, &f->receipt), ETAG_OK);
    assert_int_equal(f->receipt.lsn, 4);
    f->targets.surrogate_count = 0;
    assert_int_equal(etag_invalidate_start(f->client, &f->targets, &first), ETAG_INVALID);
    assert_null(first);
}

CASE(operations_fail)
{
    etag_op *op, *other;

    client_start(f);
    fake_set(&f->daemon, mood, FAKE_REFUSES);
    assert_int_equal(etag_invalidate_start(f->client, &f->targets, &op), ETAG_OK);
    assert_int_equal(await_result(f, op), ETAG_FAILED);
    client_expect_text(f, "the disk is full");

    /* It goes over the next connection. */
    fake_set(&f->daemon, mood, FAKE_CLOSES_ONCE);
    assert_int_equal(etag_invalidate_start(f->client, &f->targets, &op), ETAG_OK);
    assert_int_equal(await_result(f, op), ETAG_OK);
    assert_int_equal(fake_get(&f->daemon, connections), 2);

    /* The whole request had left. */
    f->client->timeout_ms = 400;
    fake_set(&f->daemon, mood, FAKE_CLOSES_ALWAYS);
    assert_int_equal(etag_invalidate_start(f->client, &f->targets, &op), ETAG_OK);
    assert_int_equal(await_result(f, op), ETAG_TIMEOUT);
    client_expect_text(f, "no answer");

    fake_set(&f->daemon, mood, FAKE_SILENT);
    assert_int_equal(etag_invalidate_start(f->client, &f->targets, &op), ETAG_OK);
    assert_int_equal(etag_invalidate_start(f->client, &f->targets, &other), ETAG_OK);
    assert_int_equal(await_result(f, op), ETAG_TIMEOUT);
    assert_null(etag_op_forget(other));

    fake_kill(&f->daemon);
    assert_int_equal(etag_invalidate_start(f->client, &f->targets, &op), ETAG_UNAVAILABLE);
    assert_null(op);
}

/* So many names that the socket does not take them at once. */
static void name_many(struct fixture *f)
{
    static char bytes[SURROGATE_BYTES_MAX];
    static etag_str names[3000];

    memset(bytes, 'n', sizeof(bytes));
    for (size_t i = 0; i < 3000; i++)
        names[i] = (etag_str){bytes, sizeof(bytes)};
    f->targets.surrogates = names;
    f->targets.surrogate_count = 3000;
}

/* What still waited in the client when the connection ended has not happened. */
CASE(what_was_not_sent_has_not_happened)
{
    etag_op *sent, *queued, *early;
    const int fd = client_greet_only(f);

    f->client->timeout_ms = 400;
    assert_int_equal(etag_invalidate_start(f->client, &f->targets, &sent), ETAG_OK);
    name_many(f);
    assert_int_equal(etag_invalidate_start(f->client, &f->targets, &queued), ETAG_OK);
    assert_true(etag_client_events(f->client) & POLLOUT);
    fake_kill(&f->daemon);
    close(fd);
    (void)etag_client_dispatch(f->client);
    assert_int_equal(etag_op_result(queued, NULL), ETAG_UNAVAILABLE);
    assert_int_equal(await_result(f, sent), ETAG_TIMEOUT);
    /* Nothing leaves before the daemon's hello. */
    fake_start(&f->daemon, false);
    assert_int_equal(etag_invalidate_start(f->client, &f->targets, &early), ETAG_OK);
    assert_int_equal(await_result(f, early), ETAG_UNAVAILABLE);
}

/* What waits in the client while the connection lives may go out later: it may yet happen. */
CASE(what_is_queued_may_still_happen)
{
    const etag_targets few = f->targets;
    etag_op *op;

    f->options.timeout_ms = 400;
    const int fd = client_greet_only(f);
    name_many(f);
    assert_int_equal(etag_invalidate_start(f->client, &f->targets, &op), ETAG_OK);
    assert_true(etag_client_events(f->client) & POLLOUT);
    assert_int_equal(etag_invalidate(f->client, &few, NULL), ETAG_TIMEOUT);
    assert_null(etag_op_forget(op));
    close(fd);
}

CASE(operations_are_bounded_and_survive_the_client)
{
    static etag_op *ops[CLIENT_OPS_MAX + 1];

    fake_start(&f->daemon, true);
    fake_set(&f->daemon, mood, FAKE_SILENT);
    client_open(f);
    for (size_t i = 0; i < CLIENT_OPS_MAX; i++)
        assert_int_equal(etag_invalidate_start(f->client, &f->targets, &ops[i]), ETAG_OK);
    assert_int_equal(etag_invalidate_start(f->client, &f->targets, &ops[CLIENT_OPS_MAX]),
                     ETAG_AGAIN);
    while (etag_client_events(f->client) & POLLOUT)
        client_loop_once(f, 5000);
    f->client = etag_client_close(f->client);
    for (size_t i = 0; i < CLIENT_OPS_MAX / 2; i++)
        assert_int_equal(etag_op_result(ops[i], NULL), ETAG_TIMEOUT);
    for (size_t i = CLIENT_OPS_MAX / 2; i < CLIENT_OPS_MAX; i++)
        etag_op_forget(ops[i]);
}

/* ---- Fork ---- */

/* In a child; 0 if all is well. */
static int behave_as_child(struct fixture *f, etag_op *parents_op, uint64_t parents_checks)
{
    const int parents_fd = f->client->channel.fd;

    if (etag_client_fd(f->client) != -1 || etag_client_events(f->client) != 0 ||
        etag_client_timeout_ms(f->client) != 0)
        return 1;
    if (check_reason(f) != ETAG_REASON_NO_ENTRY || etag_client_fd(f->client) != -1)
        return 2;
    if (f->client->mapping.counters->checks != parents_checks ||
        f->client->channel.fd != parents_fd)
        return 3;
    if (etag_op_result(parents_op, NULL) != ETAG_TIMEOUT)
        return 4;
    if (etag_invalidate(f->client, &f->targets, &f->receipt) != ETAG_OK || f->receipt.lsn != 2)
        return 5;
    if (f->client->counters != f->client->mapping.counters || f->client->counters->checks != 1)
        return 6;
    etag_client_close(f->client);
    return 0;
}

CASE(a_child_connects_anew)
{
    etag_op *op;
    int status = -1;

    client_start(f);
    assert_int_equal(check_reason(f), ETAG_REASON_NO_ENTRY);
    assert_int_equal(etag_invalidate_start(f->client, &f->targets, &op), ETAG_OK);
    fake_await(&f->daemon, invalidations, 1);
    /* The fake daemon's thread lives in the parent only, which is all that the child needs. */
    const pid_t child = fork();
    if (child == 0)
        _exit(behave_as_child(f, op, 1));
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    /* The parent's connection is untouched. */
    assert_int_equal(await_result(f, op), ETAG_OK);
    assert_int_equal(f->receipt.lsn, 1);
    assert_int_equal(etag_invalidate(f->client, &f->targets, &f->receipt), ETAG_OK);
    assert_int_equal(f->receipt.lsn, 3);
    assert_int_equal(fake_get(&f->daemon, connections), 2);
    assert_int_equal(f->client->counters->checks, 1);
}

/* ---- Counters, resources ---- */

CASE(counts_move_to_the_daemons_page)
{
    f->options.no_wait = true;
    client_open(f);
    assert_int_equal(check_reason(f), ETAG_REASON_NO_INDEX);
    fake_start(&f->daemon, true);
    assert_int_equal(etag_invalidate(f->client, &f->targets, NULL), ETAG_OK);
    assert_ptr_equal(f->client->counters, f->client->mapping.counters);
    assert_true(f->client->counters->magic == COUNTERS_MAGIC);
    assert_int_equal(f->client->counters->unknown_no_index, 1);
    assert_int_equal(f->client->counters->connects, 1);
    assert_int_equal(f->client->own_counters.checks, 0);
    /* What the former page says, its daemon has seen. */
    restart(f);
    assert_int_equal(etag_invalidate(f->client, &f->targets, NULL), ETAG_OK);
    assert_int_equal(f->client->counters->unknown_no_index, 0);
}

static void set_descriptor_limit(rlim_t limit)
{
    struct rlimit r;

    assert_int_equal(getrlimit(RLIMIT_NOFILE, &r), 0);
    r.rlim_cur = limit;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &r), 0);
}

CASE(without_descriptors_the_client_stays_usable)
{
    struct rlimit before;

    if (under_valgrind())
        skip();
    f->options.no_wait = true;
    client_open(f);
    fake_start(&f->daemon, false);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    /* Not one descriptor more: no socket. */
    const int next = dup(0);
    close(next);
    set_descriptor_limit((rlim_t)next);
    const etag_status status = etag_invalidate(f->client, &f->targets, NULL);
    set_descriptor_limit(before.rlim_cur);
    assert_int_equal(status, ETAG_SYSTEM);
    client_expect_text(f, "socket");

    /* One more: a socket, and no place for the index that comes with the hello. */
    f->client->connect_again_ns = 0;
    assert_int_equal(etag_client_dispatch(f->client), ETAG_OK);
    fake_continue(&f->daemon);
    fake_await(&f->daemon, hellos, 1);
    poll(&(struct pollfd){.fd = etag_client_fd(f->client), .events = POLLIN}, 1, 5000);
    const int last = dup(0);
    close(last);
    set_descriptor_limit((rlim_t)last);
    const etag_status no_index = etag_client_dispatch(f->client);
    set_descriptor_limit(before.rlim_cur);
    assert_int_equal(no_index, ETAG_SYSTEM);
    client_expect_text(f, "descriptors");
    assert_int_equal(check_reason(f), ETAG_REASON_NO_INDEX);
    assert_int_equal(etag_invalidate(f->client, &f->targets, NULL), ETAG_OK);
    /* Asked for again after a while. */
    f->client->map_again_ns = 1;
    assert_int_equal(etag_client_timeout_ms(f->client), 0);
    for (int i = 0; i < 1000 && !f->client->mapping.base; i++)
        client_loop_once(f, 5000);
    assert_int_equal(check_reason(f), ETAG_REASON_NO_ENTRY);
}
