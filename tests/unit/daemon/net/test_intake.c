/* SPDX-License-Identifier: Apache-2.0 */
/* Which request of which peer is handled in which turn. The streams below it are real, but lead
 * nowhere; the handlers above it are the test's. */
#include "intake.h"

#include "clocktime.h"
#include "loop_common.h"
#include "testing.h"

#include <errno.h>

#define PEERS 8
#define SEEN_MAX 100000

struct seen {
    size_t peer;
    uint64_t id;
    enum request_kind kind;
};

struct fixture {
    struct intake intake;
    struct peers table;
    struct arena arena;
    struct loop loop;
    struct log log;
    struct log_limit log_limit;
    struct config config;
    struct loop_stream streams[PEERS];
    struct peer *peers[PEERS];
    struct seen seen[SEEN_MAX];
    size_t seen_count;
    /* that each handled request leaves unread */
    size_t answer_bytes;
};

/* That so many bytes of answers are unread. */
static void leave_unread(struct fixture *f, size_t peer, size_t bytes)
{
    f->loop.queued_bytes += bytes - f->streams[peer].queue.bytes;
    f->streams[peer].queue.bytes = bytes;
}

/* In place of the daemon's. */
static void handle(void *ctx, struct peer *peer, etag_str payload)
{
    struct fixture *f = ctx;
    struct request request;

    arena_reset(&f->arena);
    assert_null(request_decode(&request, &f->arena, payload));
    assert_true(f->seen_count < SEEN_MAX);
    f->seen[f->seen_count++] = (struct seen){peer->id, request.id, request.kind};
    leave_unread(f, peer->id, f->streams[peer->id].queue.bytes + f->answer_bytes);
}

static void fake_close(struct loop_stream *stream)
{
    stream->closed = true;
    send_queue_clear(&stream->queue);
}

static const struct loop_backend fake_backend = {.name = "fake", .stream_close = fake_close};

static int setup(void **state)
{
    struct fixture *const f = calloc(1, sizeof(*f));

    if (!f)
        return -1;
    f->log = (struct log){.fd = -1, .least = LOG_ERROR};
    common_loop_init(&f->loop, &fake_backend, NULL, NULL);
    arena_init(&f->arena, ARENA_BYTES_MAX);
    log_limit_init(&f->log_limit, &f->log);
    peers_init(&f->table, &(struct peers_options){
                              .loop = &f->loop, .config = &f->config, .log = &f->log_limit});
    intake_init(&f->intake, &f->table, handle, f);
    for (size_t i = 0; i < PEERS; i++) {
        f->peers[i] = calloc(1, sizeof(*f->peers[i]));
        assert_non_null(f->peers[i]);
        f->peers[i]->id = i;
        common_stream_init(&f->streams[i], &f->loop, -1, f->peers[i]);
        f->peers[i]->stream = &f->streams[i];
        f->table.table[i] = f->peers[i];
        f->table.count++;
    }
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *const f = *state;

    peers_deinit(&f->table);
    arena_deinit(&f->arena);
    log_limit_deinit(&f->log_limit);
    free(f);
    return 0;
}

#define CASE(name) TEST_OF(name, struct fixture *f, setup, teardown)

static struct request request_of(enum request_kind kind, uint64_t id)
{
    struct request request = {.id = id, .kind = kind};

    if (kind == REQUEST_INVALIDATE)
        ETAG_INIT(&request.targets);
    if (kind == REQUEST_FILL)
        request.fill.entry.last_modified = ETAG_NO_DATE;
    return request;
}

/* As many requests with ids from 'first' on come from the peer, all at once. */
static void come(struct fixture *f, size_t peer, enum request_kind kind, size_t count,
                 uint64_t first)
{
    struct buffer buffer = {0};

    for (size_t i = 0; i < count; i++) {
        const struct request request = request_of(kind, first + i);
        assert_int_equal(request_encode(&buffer, &request), 0);
    }
    intake_received(&f->intake, f->peers[peer], (etag_str){(const char *)buffer.bytes, buffer.len});
    buffer_deinit(&buffer);
}

static size_t seen_of(const struct fixture *f, enum request_kind kind, size_t from)
{
    size_t count = 0;

    for (size_t i = from; i < f->seen_count; i++)
        count += f->seen[i].kind == kind;
    return count;
}

static void serve_all(struct fixture *f)
{
    while (intake_serve(&f->intake))
        ;
}

/* ---- The order ---- */

CASE(nothing_is_handled_before_the_turn_says_so)
{
    come(f, 0, REQUEST_PING, 1, 1);
    assert_int_equal(f->seen_count, 0);
    assert_false(intake_serve(&f->intake));
    assert_int_equal(f->seen_count, 1);
    assert_int_equal(f->intake.frames_max, 1);
}

CASE(mutations_come_before_fills_that_came_first)
{
    for (size_t i = 0; i < 4; i++)
        come(f, i, REQUEST_FILL, 10, 1);
    come(f, 4, REQUEST_LOG, 1, 1);
    come(f, 5, REQUEST_INVALIDATE, 1, 1);
    assert_true(intake_serve(&f->intake));
    /* Its answer leaves before anything else is done ... */
    assert_int_equal(f->seen_count, 1);
    assert_int_equal(f->seen[0].kind, REQUEST_INVALIDATE);
    /* ... and the rest is done then. (Where the turn's time is over before, a question is not the
     * last.) */
    serve_all(f);
    assert_int_equal(f->seen[1].kind, REQUEST_FILL);
    assert_int_equal(seen_of(f, REQUEST_FILL, 0), 40);
    assert_int_equal(seen_of(f, REQUEST_LOG, 0), 1);
}

CASE(a_peers_own_requests_stay_in_order)
{
    static const enum request_kind kinds[] = {REQUEST_FILL, REQUEST_INVALIDATE, REQUEST_LOG,
                                              REQUEST_FILL, REQUEST_PING};

    for (uint64_t id = 0; id < 100; id++)
        come(f, 0, kinds[id % 5], 1, id);
    serve_all(f);
    assert_int_equal(f->seen_count, 100);
    for (uint64_t id = 0; id < 100; id++)
        assert_int_equal(f->seen[id].id, id);
}

CASE(fills_get_their_turn_whatever_else_comes)
{
    come(f, 0, REQUEST_FILL, 4, 1);
    come(f, 1, REQUEST_STATUS, 1, 1);
    /* Every second turn is theirs; where its time is over before they are done, the next one. */
    for (int turn = 0; seen_of(f, REQUEST_FILL, 0) + seen_of(f, REQUEST_STATUS, 0) < 5; turn++) {
        assert_true(turn < 40);
        for (size_t i = 2; i < PEERS; i++)
            come(f, i, REQUEST_PING, 1000, 1);
        assert_true(intake_serve(&f->intake));
    }
}

/* ---- The bounds of a turn ---- */

CASE(a_turn_handles_a_bounded_number)
{
    for (size_t i = 0; i < PEERS; i++)
        come(f, i, REQUEST_PING, 1000, 1);
    size_t before = 0;
    for (bool more = true; more; before = f->seen_count) {
        more = intake_serve(&f->intake);
        assert_true(f->seen_count - before <= TURN_URGENT_MAX);
        assert_true(f->seen_count - before <= PEERS * PEER_TURN_URGENT_MAX);
    }
    assert_int_equal(f->seen_count, PEERS * 1000);
    assert_true(f->intake.frames_max <= TURN_URGENT_MAX);
}

CASE(a_turn_handles_a_bounded_number_of_fills)
{
    for (size_t i = 0; i < PEERS; i++)
        come(f, i, REQUEST_FILL, 200, 1);
    size_t before = 0;
    for (bool more = true; more; before = f->seen_count) {
        more = intake_serve(&f->intake);
        assert_true(f->seen_count - before <= TURN_FILLS_MAX);
    }
    assert_int_equal(f->seen_count, PEERS * 200);
}

/* One peer's pile keeps another one's question waiting for one of its own. */
CASE(peers_take_turns)
{
    come(f, 0, REQUEST_LOG, 1000, 1);
    come(f, 1, REQUEST_LOG, 1, 1);
    while (f->seen_count < 2)
        (void)!intake_serve(&f->intake);
    assert_int_equal(f->seen[0].peer, 0);
    assert_int_equal(f->seen[1].peer, 1);
}

/* ---- Backpressure ---- */

CASE(a_peer_that_is_far_ahead_is_not_read)
{
    come(f, 0, REQUEST_FILL, 10, 1);
    assert_false(f->streams[0].held);
    come(f, 0, REQUEST_FILL, PEER_IN_BYTES_MAX / 8, 11);
    assert_true(f->streams[0].held);
    serve_all(f);
    assert_false(f->streams[0].held);
    assert_int_equal(f->seen_count, 10 + PEER_IN_BYTES_MAX / 8);
    assert_int_equal(f->peers[0]->in.capacity, 0); /* quiet peers hold no buffers */
}

/* Else a frame of a megabyte would never be whole. */
CASE(an_unfinished_frame_is_read_to_its_end)
{
    struct buffer buffer = {0};
    struct request request = {.id = 7, .kind = REQUEST_LIST};
    static char long_text[FRAME_BYTES_MAX / 2];

    memset(long_text, 'x', sizeof(long_text));
    request.list.prefix = (etag_str){long_text, sizeof(long_text)};
    assert_int_equal(request_encode(&buffer, &request), 0);
    for (size_t at = 0; at < buffer.len; at += 16384) {
        assert_false(f->streams[0].held);
        const size_t len = buffer.len - at < 16384 ? buffer.len - at : 16384;
        intake_received(&f->intake, f->peers[0], (etag_str){(const char *)buffer.bytes + at, len});
        assert_true(at + len == buffer.len || f->peers[0]->partial_since_ns != 0);
    }
    assert_int_equal(f->peers[0]->partial_since_ns, 0);
    serve_all(f);
    assert_int_equal(f->seen_count, 1);
    buffer_deinit(&buffer);
}

CASE(a_peer_with_unread_answers_is_neither_served_nor_read)
{
    f->answer_bytes = PEER_UNREAD_BYTES_MAX / 4;
    come(f, 0, REQUEST_STATUS, 100, 1);
    come(f, 1, REQUEST_PING, 1, 1);
    serve_all(f);
    assert_int_equal(seen_of(f, REQUEST_STATUS, 0), 5);
    assert_true(f->streams[0].queue.bytes <= PEER_UNREAD_BYTES_MAX + f->answer_bytes);
    assert_true(f->streams[0].held);
    assert_true(f->peers[0]->aside);
    assert_int_equal(seen_of(f, REQUEST_PING, 0), 1); /* that is its own affair */
    leave_unread(f, 0, 0);                            /* it reads */
    serve_all(f);
    assert_int_equal(seen_of(f, REQUEST_STATUS, 0), 10);
    f->answer_bytes = 0;
    leave_unread(f, 0, 0);
    serve_all(f);
    assert_int_equal(seen_of(f, REQUEST_STATUS, 0), 100);
    assert_false(f->streams[0].held);
}

/* The answers of all together are bounded; who changes something does not wait for that. */
CASE(questions_wait_while_much_is_unread)
{
    f->loop.queued_bytes += PEERS_QUEUED_BYTES_MAX / 2 + 1; /* of others */
    come(f, 0, REQUEST_LIST, 1, 1);
    come(f, 1, REQUEST_INVALIDATE, 1, 1);
    come(f, 2, REQUEST_FILL, 1, 1);
    serve_all(f); /* and does not spin */
    assert_int_equal(f->seen_count, 2);
    f->loop.queued_bytes -= PEERS_QUEUED_BYTES_MAX / 2 + 1;
    assert_false(intake_serve(&f->intake));
    assert_int_equal(f->seen_count, 3);
}

/* ---- Ends ---- */

CASE(what_was_sent_before_the_end_is_handled)
{
    come(f, 0, REQUEST_INVALIDATE, 500, 1);
    intake_ended(&f->intake, f->peers[0]);
    assert_false(f->streams[0].closed);
    serve_all(f);
    assert_int_equal(f->seen_count, 500);
    assert_true(f->streams[0].closed);
    intake_ended(&f->intake, f->peers[1]); /* nothing is left */
    assert_true(f->streams[1].closed);
}

CASE(what_a_peer_that_has_gone_asked_is_dropped_and_what_it_told_counts)
{
    come(f, 0, REQUEST_LOG, 500, 1);
    come(f, 0, REQUEST_INVALIDATE, 2, 501);
    come(f, 0, REQUEST_LOG, 500, 503);
    come(f, 0, REQUEST_FILL, 1, 1003);
    f->streams[0].failure = -EPIPE;
    intake_ended(&f->intake, f->peers[0]);
    serve_all(f);
    assert_int_equal(seen_of(f, REQUEST_INVALIDATE, 0), 2);
    assert_int_equal(seen_of(f, REQUEST_FILL, 0), 1);
    assert_in_range(seen_of(f, REQUEST_LOG, 0), 0, 1); /* the one that stood in line */
    assert_true(f->streams[0].closed);
}

CASE(a_peer_that_is_closed_while_it_waits_is_dropped)
{
    come(f, 0, REQUEST_FILL, 100, 1);
    peer_close(&f->table, f->peers[0]);
    peers_reap(&f->table);
    assert_int_equal(f->table.count, PEERS); /* it stands in a line */
    serve_all(f);
    assert_int_equal(f->seen_count, 0);
    peers_reap(&f->table);
    assert_int_equal(f->table.count, PEERS - 1);
}

CASE(a_length_of_nothing_closes_only_its_sender)
{
    come(f, 1, REQUEST_PING, 1, 1);
    intake_received(&f->intake, f->peers[0], (etag_str){"\0\0\0\0", 4});
    assert_true(f->streams[0].closed);
    assert_int_equal(f->table.protocol_errors, 1);
    serve_all(f);
    assert_int_equal(f->seen_count, 1);
}

/* ---- Answers that nobody reads (peers_expire) ---- */

CASE(unread_answers_are_dropped_after_a_while)
{
    f->answer_bytes = PEER_UNREAD_BYTES_MAX + 1;
    come(f, 0, REQUEST_STATUS, 2, 1);
    f->peers[0]->greeted = f->peers[1]->greeted = true;
    leave_unread(f, 1, PEER_UNREAD_BYTES_MAX + 1); /* asks nothing more: it may take its time */
    serve_all(f);
    const uint64_t now_ns = time_coarse_ns();
    peers_expire(&f->table, now_ns);
    assert_false(f->streams[0].closed);
    peers_expire(&f->table, now_ns + PEER_UNREAD_MS_MAX * NS_PER_MS);
    assert_true(f->streams[0].closed);
    assert_false(f->streams[1].closed);
    /* Unless all wait for it. */
    f->loop.queued_bytes += PEERS_QUEUED_BYTES_MAX;
    peers_expire(&f->table, now_ns + PEER_UNREAD_MS_MAX * NS_PER_MS);
    assert_true(f->streams[1].closed);
}

/* Each of them is below the bound of one, and all together keep everybody's questions waiting. */
CASE(many_who_leave_a_little_unread_do_not_stop_questions_for_ever)
{
    for (size_t i = 0; i < PEERS; i++)
        f->peers[i]->greeted = true;
    f->loop.queued_bytes += PEERS_QUEUED_BYTES_MAX / 2 + 1; /* of others like these */
    leave_unread(f, 0, PEERS_UNREAD_BYTES_MAX + 1);
    leave_unread(f, 1, PEERS_UNREAD_BYTES_MAX);
    const uint64_t now_ns = time_coarse_ns();
    peers_expire(&f->table, now_ns);
    assert_false(f->streams[0].closed);
    peers_expire(&f->table, now_ns + PEERS_UNREAD_MS_MAX * NS_PER_MS);
    assert_true(f->streams[0].closed);
    assert_false(f->streams[1].closed);
    assert_true((uint64_t)PEERS_MAX * PEERS_UNREAD_BYTES_MAX <= PEERS_QUEUED_BYTES_MAX / 2);
}
