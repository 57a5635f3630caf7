/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The stream of frames, as both ends read it: the daemon's peer and the library's channel are given
 * the same bytes in one piece and in the pieces that the input says. Both times they must take what
 * the reference below takes from whole bytes: no message lost, none twice, none behind the one that
 * broke the connection, and an unfinished frame kept.
 *
 * Input: flags, a size, the number of cuts and that many of them, the stream.
 */
#include "fuzz.h"

#include "channel.h"
#include "intake.h"
#include "loop_common.h"

#include <string.h>
#include <sys/socket.h>

#define FLAG_LIBRARY 1u  /* replies, for the channel; else requests, for the peer */
#define FLAG_GREETING 2u /* the channel has not seen its hello yet */
/* Of all flags, since a byte says this seldom by chance, and it takes long: a frame of about the
 * largest size stands before the stream; 'size' is by how much it differs. */
#define FLAGS_LARGE(flags) (((flags)&0xfc) == 0x54)

#define INPUT_BYTES_MAX 4096u
#define CUTS_MAX 32u
#define COARSE 1024u       /* how much larger the pieces of the large frame are */
#define PIECE_BYTES 65536u /* that a socket certainly takes */

struct plan {
    bool library, greeting, in_pieces;
    const uint8_t *cuts;
    size_t cut_count;
    etag_str stream;
    /* of the stream; they are cut coarsely */
    size_t coarse_bytes;
};

/* What came of a stream. */
struct outcome {
    /* every message, in order */
    struct buffer taken;
    /* the connection is closed */
    bool broken;
    /* not broken: an unfinished frame */
    etag_str left;
    /* what left points to, where it has to be copied */
    struct buffer kept;
};

/* Buffers stay from input to input: taking a megabyte from the system costs more than all else
 * here. */
static void outcome_reset(struct outcome *outcome)
{
    outcome->taken.len = outcome->kept.len = 0;
    outcome->broken = false;
    outcome->left = (etag_str){0};
}

static void append(struct buffer *buffer, const void *bytes, size_t len)
{
    fuzz_require(buffer_reserve(buffer, len) == 0);
    if (len > 0)
        memcpy(buffer->bytes + buffer->len, bytes, len);
    buffer->len += len;
}

/* ---- Messages ---- */

static void note_request(struct outcome *outcome, etag_str payload)
{
    append(&outcome->taken, &payload.len, sizeof(payload.len));
    append(&outcome->taken, payload.data, payload.len);
}

static void note_reply(struct outcome *outcome, const struct reply *reply)
{
    append(&outcome->taken, &reply->id, sizeof(reply->id));
    append(&outcome->taken, &reply->kind, sizeof(reply->kind));
    if (reply->kind != REPLY_NONE) /* nothing is appended where it would be too large */
        (void)!reply_encode(&outcome->taken, reply);
}

/* The message that one payload is. */
static void take_payload(const struct plan *plan, struct outcome *outcome, etag_str payload)
{
    struct request request;
    struct reply reply;
    struct arena arena;

    arena_init(&arena, ARENA_BYTES_MAX);
    if (!plan->library) {
        note_request(outcome, payload);
        outcome->broken = request_decode(&request, &arena, payload) != NULL;
    } else if (reply_decode(&reply, &arena, payload) ||
               (reply.kind == REPLY_ERROR && reply.id == 0)) {
        outcome->broken = true;
    } else {
        note_reply(outcome, &reply);
    }
    fuzz_require(arena.used_bytes <= ARENA_BYTES_MAX);
    arena_deinit(&arena);
}

/* The reference: the protocol's rule on whole bytes, with the numbers of the documentation. */
static void read_by_rule(const struct plan *plan, struct outcome *outcome)
{
    const uint8_t *at = (const uint8_t *)plan->stream.data;
    const uint8_t *const end = at + plan->stream.len;

    while (!outcome->broken && end - at >= 4) {
        const uint64_t len = at[0] + at[1] * UINT64_C(0x100) + at[2] * UINT64_C(0x10000) +
                             at[3] * UINT64_C(0x1000000);
        outcome->broken = len == 0 || len > 1048576;
        if (outcome->broken || (uint64_t)(end - at - 4) < len)
            break;
        take_payload(plan, outcome, (etag_str){(const char *)at + 4, len});
        at += 4 + len;
    }
    outcome->left = (etag_str){(const char *)at, (size_t)(end - at)};
}

/* ---- Pieces ---- */

typedef void feed_function(void *end, etag_str piece);

static size_t piece_bytes(const struct plan *plan, size_t at, size_t number)
{
    if (!plan->in_pieces || plan->cut_count == 0)
        return PIECE_BYTES;
    const size_t bytes = 1u + plan->cuts[number % plan->cut_count];
    return at < plan->coarse_bytes ? bytes * COARSE : bytes;
}

/* Each piece stands in a block of its size, so that ASan sees a read behind it. */
static void feed(const struct plan *plan, feed_function *to, void *end)
{
    size_t len;

    for (size_t at = 0, number = 0; at < plan->stream.len; at += len, number++) {
        const size_t left = plan->stream.len - at;
        len = piece_bytes(plan, at, number);
        if (len > PIECE_BYTES)
            len = PIECE_BYTES;
        if (len > left)
            len = left;
        char *const exact = malloc(len);
        fuzz_require(exact);
        memcpy(exact, plan->stream.data + at, len);
        to(end, (etag_str){exact, len});
        free(exact);
    }
}

/* ---- The daemon's end ---- */

struct daemon_end {
    struct intake intake;
    struct peers peers;
    struct loop loop;
    struct log log;
    struct log_limit log_limit;
    struct peer *peer;
    struct outcome *outcome;
};

static void deaf_close(struct loop_stream *stream)
{
}

/* Takes what is sent: only what a broken peer is told. */
static const struct loop_backend deaf_backend = {.name = "deaf", .stream_close = deaf_close};

/* How many answers wait in the stream, each as it has to be; they go. */
static size_t answers_take(struct loop_stream *stream)
{
    struct send_message message;
    struct reply reply;
    struct arena arena;
    size_t count = 0;

    arena_init(&arena, ARENA_BYTES_MAX);
    send_queue_message(&stream->queue, &message);
    for (size_t i = 0; i < message.header.msg_iovlen; i++) {
        etag_str left = {message.parts[i].iov_base, message.parts[i].iov_len}, payload;
        for (; left.len > 0; left = str_skip(left, FRAME_HEADER_BYTES + payload.len)) {
            fuzz_require(frame_next(left, &payload) == 1 && !reply_decode(&reply, &arena, payload));
            fuzz_require(reply.kind == REPLY_ERROR && reply.id == 0 &&
                         reply.error.code == WIRE_ERROR_MALFORMED);
            count++;
        }
    }
    fuzz_require(!message.header.msg_control);
    send_queue_clear(&stream->queue);
    arena_deinit(&arena);
    return count;
}

/* In place of the daemon's. */
static void take_frame(void *ctx, struct peer *peer, etag_str payload)
{
    struct daemon_end *const end = ctx;
    const struct plan plan = {.library = false};

    fuzz_require(!end->outcome->broken);
    take_payload(&plan, end->outcome, payload);
    if (end->outcome->broken)
        peer_break(&end->peers, peer, WIRE_ERROR_MALFORMED, "malformed");
}

static void daemon_feed(void *context, etag_str piece)
{
    struct daemon_end *const end = context;

    intake_received(&end->intake, end->peer, piece);
    while (intake_serve(&end->intake))
        ;
}

static void read_as_daemon(const struct plan *plan, struct outcome *outcome)
{
    static const struct config config;
    static struct daemon_end end;
    struct peers *const peers = &end.peers;

    if (!peers->config) {
        end.log = (struct log){.fd = -1, .least = LOG_ERROR};
        common_loop_init(&end.loop, &deaf_backend, NULL, NULL);
        log_limit_init(&end.log_limit, &end.log);
        peers_init(peers, &(struct peers_options){
                              .loop = &end.loop, .config = &config, .log = &end.log_limit});
        intake_init(&end.intake, peers, take_frame, &end);
    }
    struct loop_stream stream = {
        .loop = &end.loop, .fd = -1, .queue.total = &end.loop.queued_bytes};
    struct peer *const peer = calloc(
        1, sizeof(*peer)); /* as peer_new does; its id is 0, so is its place */
    fuzz_require(peer);
    peer->stream = &stream;
    peer->roles = ROLE_READ;
    peers->table[0] = end.peer = peer;
    peers->count = 1;
    end.outcome = outcome;

    feed(plan, daemon_feed, &end);
    outcome->broken = !peer->stream;
    fuzz_require(answers_take(&stream) == (outcome->broken ? 1 : 0));
    if (!outcome->broken) {
        const size_t waiting = peer->in.len - peer->in_used;
        if (waiting > 0)
            append(&outcome->kept, peer->in.bytes + peer->in_used, waiting);
        fuzz_require((peer->partial_since_ns != 0) == (waiting > 0));
        peer_close(peers, peer);
    }
    outcome->left = (etag_str){(const char *)outcome->kept.bytes, outcome->kept.len};
    peers_reap(peers);
    fuzz_require(peers->count == 0);
    while (common_pending_take(&end.loop))
        ; /* the stream is on the stack */
}

/* ---- The library's end ---- */

struct library_end {
    struct channel channel;
    int daemon_fd;
    struct outcome *outcome;
    size_t closed;
};

static void on_reply(void *context, const struct reply *reply)
{
    struct library_end *const end = context;

    fuzz_require(end->closed == 0);
    note_reply(end->outcome, reply);
}

static void on_closed(void *context)
{
    ((struct library_end *)context)->closed++;
}

static void library_feed(void *context, etag_str piece)
{
    struct library_end *const end = context;
    struct fault fault;

    if (end->channel.state == CHANNEL_CLOSED)
        return;
    fuzz_require(send(end->daemon_fd, piece.data, piece.len, MSG_NOSIGNAL | MSG_DONTWAIT) ==
                 (ssize_t)piece.len);
    const etag_status status = channel_pump(&end->channel, &fault);
    fuzz_require((status == ETAG_OK) == (end->channel.state != CHANNEL_CLOSED));
    fuzz_require(!channel_has_reply(&end->channel));
}

static void read_as_library(const struct plan *plan, struct outcome *outcome)
{
    struct library_end end = {.outcome = outcome};
    const struct channel_handler handler = {on_reply, on_closed, &end};
    int pair[2];

    fuzz_require(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
    fuzz_require(channel_init(&end.channel, "/nowhere", &handler));
    end.channel.fd = pair[0];
    end.daemon_fd = pair[1];
    end.channel.state = plan->greeting ? CHANNEL_GREETING : CHANNEL_READY;
    end.channel.hello_id = 1;

    feed(plan, library_feed, &end);
    outcome->broken = end.channel.state == CHANNEL_CLOSED;
    fuzz_require(end.closed == (outcome->broken ? 1 : 0));
    if (!outcome->broken)
        append(&outcome->kept, end.channel.in.bytes + end.channel.in_used,
               end.channel.in.len - end.channel.in_used);
    outcome->left = (etag_str){(const char *)outcome->kept.bytes, outcome->kept.len};
    channel_deinit(&end.channel);
    close(end.daemon_fd);
}

/* ---- Comparison ---- */

static void read_as_end(const struct plan *plan, bool in_pieces, struct outcome *outcome)
{
    struct plan cut = *plan;

    cut.in_pieces = in_pieces;
    (plan->library ? read_as_library : read_as_daemon)(&cut, outcome);
}

static bool same(const void *a, size_t a_len, const void *b, size_t b_len)
{
    return a_len == b_len && (a_len == 0 || memcmp(a, b, a_len) == 0);
}

static void require_same(const struct outcome *a, const struct outcome *b)
{
    fuzz_require(a->broken == b->broken);
    fuzz_require(same(a->taken.bytes, a->taken.len, b->taken.bytes, b->taken.len));
    if (!a->broken)
        fuzz_require(same(a->left.data, a->left.len, b->left.data, b->left.len));
}

/* A frame of one member that nobody knows. */
static void append_large_frame(struct buffer *stream, int differs)
{
    const uint32_t len = (uint32_t)((int)FRAME_BYTES_MAX + differs);
    const uint32_t member = len - 5;
    const uint8_t head[] = {
        len & 0xff,
        len >> 8 & 0xff,
        len >> 16 & 0xff,
        len >> 24,
        0xa2, /* number 100, bytes */
        0x06,
        0x80 | (member & 0x7f),
        0x80 | (member >> 7 & 0x7f),
        member >> 14,
    };

    append(stream, head, sizeof(head));
    fuzz_require(buffer_reserve(stream, member) == 0);
    memset(stream->bytes + stream->len, 'x', member);
    stream->len += member;
}

static void compare(const struct plan *plan)
{
    static struct outcome ruled, whole, cut;

    outcome_reset(&ruled);
    outcome_reset(&whole);
    outcome_reset(&cut);
    read_as_end(plan, false, &whole);
    read_as_end(plan, true, &cut);
    require_same(&whole, &cut);
    if (plan->greeting) /* what a hello must be is not this reference's to know */
        return;
    read_by_rule(plan, &ruled);
    require_same(&ruled, &cut);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct buffer stream;

    if (size < 3 || size > INPUT_BYTES_MAX)
        return 0;
    struct plan plan = {.library = data[0] & FLAG_LIBRARY,
                        .greeting = (data[0] & FLAG_LIBRARY) && (data[0] & FLAG_GREETING),
                        .cuts = data + 3,
                        .cut_count = data[2] % (CUTS_MAX + 1)};
    if (plan.cut_count > size - 3)
        plan.cut_count = size - 3;
    stream.len = 0;
    if (FLAGS_LARGE(data[0])) {
        append_large_frame(&stream, (int8_t)data[1]);
        plan.coarse_bytes = stream.len - COARSE;
    }
    append(&stream, data + 3 + plan.cut_count, size - 3 - plan.cut_count);
    plan.stream = (etag_str){(const char *)stream.bytes, stream.len};
    if (stream.len > 0)
        compare(&plan);
    return 0;
}
