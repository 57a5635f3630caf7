/* SPDX-License-Identifier: Apache-2.0 */
/* Operations that are started while others are under way, and join one send: when they go, in which
 * order, and what became of each when the connection dies. */
#include "client_fixture.h"
#include "op.h"

#include <sys/wait.h>

/* What send() did, and what it does. */
static struct {
    int calls;
    /* bytes that the socket takes; -1: all */
    ssize_t room;
} sending;

ssize_t __real_send(int fd, const void *bytes, size_t len, int flags);
ssize_t __wrap_send(int fd, const void *bytes, size_t len, int flags);

ssize_t __wrap_send(int fd, const void *bytes, size_t len, int flags)
{
    sending.calls++;
    if (sending.room == 0) {
        errno = EAGAIN;
        return -1;
    }
    if (sending.room > 0 && (size_t)sending.room < len)
        len = (size_t)sending.room;
    const ssize_t n = __real_send(fd, bytes, len, flags);
    if (n > 0 && sending.room > 0)
        sending.room -= n;
    return n;
}

struct joined {
    struct fixture *f;
    /* the daemon's end of the connection, and what came there */
    int fd;
    struct buffer in;
    uint64_t last_id;
};

static int setup(void **state)
{
    struct fixture *f = client_setup(state);

    f->options.spool = ETAG_SPOOL_NEVER;
    f->options.timeout_ms = 400;
    sending.room = -1;
    sending.calls = 0;
    return 0;
}

#define CASE(name) TEST_OF(name, struct fixture *f, setup, client_teardown)

static struct joined joined_open(struct fixture *f)
{
    struct joined j = {.f = f, .fd = client_greet_only(f), .last_id = 1};
    char hello[256];

    assert_true(recv(j.fd, hello, sizeof(hello), MSG_DONTWAIT) > 0);
    sending.calls = 0;
    return j;
}

static void joined_close(struct joined *j)
{
    if (j->fd >= 0)
        close(j->fd);
    buffer_deinit(&j->in);
}

static etag_op *start(struct fixture *f)
{
    etag_op *op;

    assert_int_equal(etag_invalidate_start(f->client, &f->targets, &op), ETAG_OK);
    return op;
}

/* How many whole requests have come since the last look. Their ids grow: they are in order. */
static int arrived(struct joined *j)
{
    etag_str payload;
    size_t used = 0;
    int count = 0;

    assert_int_equal(buffer_reserve(&j->in, 65536), 0);
    const ssize_t n = recv(j->fd, j->in.bytes + j->in.len, 65536, MSG_DONTWAIT);
    j->in.len += n > 0 ? (size_t)n : 0;
    while (frame_next((etag_str){(char *)j->in.bytes + used, j->in.len - used}, &payload) == 1) {
        struct arena arena;
        struct request request;
        arena_init(&arena, ARENA_BYTES_MAX);
        assert_null(request_decode(&request, &arena, payload));
        arena_deinit(&arena);
        assert_int_equal(request.kind, REQUEST_INVALIDATE);
        assert_true(request.id > j->last_id);
        j->last_id = request.id;
        used += FRAME_HEADER_BYTES + payload.len;
        count++;
    }
    j->in.len -= used;
    memmove(j->in.bytes, j->in.bytes + used, j->in.len);
    return count;
}

static void answer(const struct joined *j, const struct etag_op *op, uint64_t lsn)
{
    const struct reply receipt = {
        .id = op->id,
        .kind = REPLY_RECEIPT,
        .receipt = {.lsn = lsn, .reach = ETAG_REACH_HOST, .proof = ETAG_PROOF_DAEMON}};

    fake_send(j->fd, &receipt, NULL, 0);
}

static etag_status await_result(struct fixture *f, etag_op *op)
{
    etag_status status = etag_op_result(op, &f->receipt);

    for (int i = 0; i < 1000 && status == ETAG_AGAIN; i++) {
        client_loop_once(f, 5000);
        status = etag_op_result(op, &f->receipt);
    }
    return status;
}

/* ---- When they go ---- */

CASE(what_is_started_under_way_goes_in_one_send)
{
    struct joined j = joined_open(f);
    etag_op *ops[64];

    ops[0] = start(f);
    assert_int_equal(sending.calls, 1);
    assert_int_equal(arrived(&j), 1);
    for (int i = 1; i < 64; i++)
        ops[i] = start(f);
    assert_int_equal(sending.calls, 1);
    assert_int_equal(arrived(&j), 0);
    /* An event loop is told. */
    assert_true(etag_client_events(f->client) & POLLOUT);
    client_loop_once(f, 5000);
    assert_int_equal(sending.calls, 2);
    assert_int_equal(arrived(&j), 63);
    assert_false(etag_client_events(f->client) & POLLOUT);
    for (int i = 0; i < 64; i++)
        answer(&j, ops[i], (uint64_t)i + 1);
    for (int i = 0; i < 64; i++) {
        assert_int_equal(await_result(f, ops[i]), ETAG_OK);
        assert_int_equal(f->receipt.lsn, i + 1);
    }
    assert_int_equal(sending.calls, 2);
    joined_close(&j);
}

/* Where nothing is under way, nobody may look at the socket soon. */
CASE(one_alone_goes_at_once)
{
    struct joined j = joined_open(f);
    etag_op *op = start(f);

    assert_int_equal(arrived(&j), 1);
    answer(&j, op, 1);
    assert_int_equal(await_result(f, op), ETAG_OK);
    op = start(f);
    assert_int_equal(arrived(&j), 1);
    /* It is done, and its result was not taken yet. */
    answer(&j, op, 2);
    client_loop_once(f, 5000);
    etag_op *const next = start(f);
    assert_int_equal(arrived(&j), 1);
    assert_int_equal(etag_op_result(op, NULL), ETAG_OK);
    /* Nobody waits for it, so it waits for nobody. */
    etag_targets targets = f->targets;
    struct request request = {.kind = REQUEST_INVALIDATE, .targets = targets};
    op_start_detached(f->client, &request);
    assert_int_equal(arrived(&j), 1);
    etag_op_forget(next);
    joined_close(&j);
}

enum next_call {
    NEXT_DISPATCH,
    NEXT_RESULT,
    NEXT_FORGET,
    NEXT_FORGET_OTHER,
    NEXT_WAIT,
    NEXT_CLOSE
};

CASE(the_next_call_sends_them)
{
    for (enum next_call next = NEXT_DISPATCH; next <= NEXT_CLOSE; next++) {
        struct joined j = joined_open(f);
        etag_op *first = start(f), *second = start(f), *third = start(f);
        int expected = 2;
        assert_int_equal(arrived(&j), 1);
        if (next == NEXT_DISPATCH)
            assert_int_equal(etag_client_dispatch(f->client), ETAG_OK);
        else if (next == NEXT_RESULT)
            assert_int_equal(etag_op_result(third, NULL), ETAG_AGAIN);
        else if (next == NEXT_FORGET)
            third = etag_op_forget(third);
        else if (next == NEXT_FORGET_OTHER)
            first = etag_op_forget(first);
        else if (next == NEXT_CLOSE)
            f->client = etag_client_close(f->client);
        else {
            assert_int_equal(etag_invalidate(f->client, &f->targets, NULL), ETAG_TIMEOUT);
            expected = 3;
        }
        assert_int_equal(arrived(&j), expected);
        first = etag_op_forget(first);
        second = etag_op_forget(second);
        third = etag_op_forget(third);
        f->client = etag_client_close(f->client);
        joined_close(&j);
        fake_kill(&f->daemon);
    }
}

/* Somebody who only starts operations has them sent all the same, and answers are read. */
CASE(what_waits_is_bounded)
{
    static etag_op *ops[CLIENT_OPS_MAX];
    struct joined j = joined_open(f);
    const struct channel *const channel = &f->client->channel;
    int count = 0;

    for (int i = 0; i < CLIENT_OPS_MAX; i++) {
        ops[i] = start(f);
        assert_true(channel->out.len - channel->out_sent <= 16384);
    }
    assert_in_range(sending.calls, 2, 20);
    assert_int_equal(etag_client_dispatch(f->client), ETAG_OK);
    for (int more = 1; more > 0; count += more)
        more = arrived(&j);
    assert_int_equal(count, CLIENT_OPS_MAX);
    for (int i = 0; i < CLIENT_OPS_MAX; i++)
        etag_op_forget(ops[i]);
    joined_close(&j);
}

/* ---- A socket that takes little ---- */

CASE(a_socket_that_takes_little_gets_all_of_them_in_order)
{
    struct joined j = joined_open(f);
    etag_op *ops[8];
    int count = 0;

    for (int i = 0; i < 8; i++)
        ops[i] = start(f);
    assert_int_equal(arrived(&j), 1);
    for (int i = 0; i < 1000 && count < 7; i++) {
        sending.room = 11;
        assert_int_equal(etag_client_dispatch(f->client), ETAG_OK);
        count += arrived(&j);
        if (count < 7)
            assert_int_equal(sending.room, 0);
        /* It was tried: a result that is not there tries no more, the loop is told. */
        const int calls = sending.calls;
        assert_int_equal(etag_op_result(ops[7], NULL), ETAG_AGAIN);
        assert_int_equal(sending.calls, calls);
        if (count < 7)
            assert_true(etag_client_events(f->client) & POLLOUT);
    }
    assert_int_equal(count, 7);
    sending.room = -1;
    for (int i = 0; i < 8; i++)
        answer(&j, ops[i], (uint64_t)i + 1);
    for (int i = 0; i < 8; i++)
        assert_int_equal(await_result(f, ops[i]), ETAG_OK);
    joined_close(&j);
}

/* ---- A connection that dies ---- */

/* Which of them a daemon may have applied, and which it can't have seen. */
CASE(of_a_connection_that_dies_each_outcome_is_right)
{
    struct joined j = joined_open(f);
    etag_op *ops[4];

    for (int i = 0; i < 4; i++)
        ops[i] = start(f);
    const ssize_t frame = (ssize_t)ops[1]->frame.len;
    sending.room = 2 * frame - 1;
    assert_int_equal(etag_client_dispatch(f->client), ETAG_OK);
    sending.room = -1;
    assert_int_equal(arrived(&j), 2);
    fake_kill(&f->daemon);
    joined_close(&j);
    assert_int_equal(await_result(f, ops[0]), ETAG_TIMEOUT);
    assert_int_equal(await_result(f, ops[1]), ETAG_TIMEOUT);
    /* Half of it left, and nothing of it. */
    assert_int_equal(await_result(f, ops[2]), ETAG_UNAVAILABLE);
    assert_int_equal(await_result(f, ops[3]), ETAG_UNAVAILABLE);
}

CASE(what_was_held_when_the_connection_died_has_not_happened)
{
    struct joined j = joined_open(f);
    etag_op *sent = start(f), *held = start(f);

    fake_kill(&f->daemon);
    joined_close(&j);
    assert_int_equal(etag_op_result(held, NULL), ETAG_AGAIN);
    assert_int_equal(await_result(f, held), ETAG_UNAVAILABLE);
    assert_int_equal(await_result(f, sent), ETAG_TIMEOUT);
}

/* What the daemon said before it went is not lost for a send that fails. */
CASE(answers_that_came_are_read_where_sending_fails)
{
    struct joined j = joined_open(f);
    etag_op *first = start(f), *second = start(f);

    assert_int_equal(arrived(&j), 1);
    answer(&j, first, 5);
    fake_kill(&f->daemon);
    joined_close(&j);
    assert_int_equal(etag_op_result(second, NULL), ETAG_AGAIN);
    assert_int_equal(sending.calls, 2);
    assert_int_equal(await_result(f, first), ETAG_OK);
    assert_int_equal(f->receipt.lsn, 5);
    assert_int_equal(await_result(f, second), ETAG_UNAVAILABLE);
}

CASE(they_go_over_the_next_connection)
{
    etag_op *ops[32];

    f->options.timeout_ms = 5000;
    fake_start(&f->daemon, true);
    client_open(f);
    fake_set(&f->daemon, mood, FAKE_CLOSES_ONCE);
    for (int i = 0; i < 32; i++)
        ops[i] = start(f);
    for (int i = 0; i < 32; i++) {
        assert_int_equal(await_result(f, ops[i]), ETAG_OK);
        /* The first one was seen twice. */
        assert_int_equal(f->receipt.lsn, i + 2);
    }
    assert_int_equal(fake_get(&f->daemon, connections), 2);
}

/* As for one that is started without a connection: the pause between two attempts is for calls that
 * have no need of one. */
CASE(what_was_held_looks_for_the_next_daemon_at_once)
{
    for (int tried = 0; tried < 2; tried++) {
        struct joined j = joined_open(f);
        etag_op *sent = start(f), *held = start(f);
        fake_kill(&f->daemon);
        joined_close(&j);
        fake_start(&f->daemon, true);
        f->client->connect_again_ns = channel_now_ns() + 60 * NS_PER_S;
        if (tried)
            assert_int_equal(etag_op_result(held, NULL), ETAG_AGAIN);
        assert_int_equal(await_result(f, held), ETAG_OK);
        assert_int_equal(f->receipt.lsn, 2 * tried + 2);
        assert_int_equal(await_result(f, sent), ETAG_OK);
        f->client = etag_client_close(f->client);
        fake_kill(&f->daemon);
    }
}

/* The parent's are the parent's, to be sent too. */
CASE(a_child_sends_nothing_of_its_parent)
{
    struct joined j = joined_open(f);
    etag_op *first = start(f), *second = start(f);
    int status = -1;

    const pid_t child = fork();
    if (child == 0) {
        etag_op_forget(second);
        f->client = etag_client_close(f->client);
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_int_equal(arrived(&j), 1);
    assert_int_equal(etag_op_result(second, NULL), ETAG_AGAIN);
    assert_int_equal(arrived(&j), 1);
    etag_op_forget(first);
    etag_op_forget(second);
    joined_close(&j);
}
