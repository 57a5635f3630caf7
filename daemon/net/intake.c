/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The queues are lists through the peers. A closed peer may still be in one: it is removed when its
 * turn comes, and peers_reap() does not free it before that.
 *
 * After urgent work the turn ends, so that its answers are sent before fills are handled. The next
 * turn then handles fills and people's requests in any case.
 */
#include "intake.h"

#include "clocktime.h"
#include "greeting.h"
#include "text.h"

#include <assert.h>
#include <string.h>

/* ---- What a turn may do ---- */

/* The figures of the table decide how late a turn may be. Fills have the smallest share of time: a
 * mutation that comes while they are handled waits that long. Their share of the CPU is not smaller
 * for that, since turns without anything urgent follow each other at once. */
static const struct {
    uint32_t frames;
    uint32_t peer_frames;
    uint64_t ns;
} shares[WORK_KINDS] = {
    [WORK_URGENT] = {TURN_URGENT_MAX, PEER_TURN_URGENT_MAX, TURN_URGENT_US *NS_PER_US},
    [WORK_FILL] = {TURN_FILLS_MAX, PEER_TURN_FILLS_MAX, TURN_FILLS_US *NS_PER_US},
    [WORK_ASKED] = {TURN_ASKED_MAX, PEER_TURN_ASKED_MAX, TURN_ASKED_US *NS_PER_US},
};

enum work work_of(enum request_kind kind)
{
    switch (kind) {
    case REQUEST_FILL:
        return WORK_FILL;
    case REQUEST_GET:
    case REQUEST_EXPLAIN:
    case REQUEST_LIST:
    case REQUEST_STATUS:
    case REQUEST_CLIENTS:
    case REQUEST_LOG:
        return WORK_ASKED;
    default:
        return WORK_URGENT;
    }
}

uint32_t work_share(enum work work)
{
    return shares[work].peer_frames;
}

struct budget budget_begin(enum work work, uint64_t now_ns)
{
    return (struct budget){.until_ns = now_ns + shares[work].ns,
                           .frames_left = shares[work].frames};
}

bool budget_left(const struct budget *budget, uint64_t now_ns)
{
    return budget->frames_left > 0 && (!budget->used || now_ns < budget->until_ns);
}

bool budget_take(struct budget *budget, uint64_t now_ns)
{
    if (!budget_left(budget, now_ns))
        return false;
    budget->frames_left--;
    budget->used = true;
    return true;
}

void intake_init(struct intake *intake, struct peers *peers, intake_handler *handle, void *ctx)
{
    *intake = (struct intake){.peers = peers, .handle = handle, .ctx = ctx};
}

/* ---- Lines ---- */

static void line_join(struct line *line, struct peer *peer)
{
    assert(!peer->in_line);
    peer->in_line = true;
    peer->next_in_line = NULL;
    if (line->last)
        line->last->next_in_line = peer;
    else
        line->first = peer;
    line->last = peer;
    line->count++;
}

static struct peer *line_leave(struct line *line)
{
    struct peer *peer = line->first;

    assert(peer); /* its count says so */
    line->first = peer->next_in_line;
    if (!line->first)
        line->last = NULL;
    line->count--;
    peer->in_line = false;
    return peer;
}

/* ---- The buffer ---- */

static etag_str waiting_bytes(const struct peer *peer)
{
    if (!peer->in.bytes)
        return (etag_str){"", 0};
    return (etag_str){(const char *)peer->in.bytes + peer->in_used, peer->in.len - peer->in_used};
}

static void in_compact(struct peer *peer)
{
    const etag_str waiting = waiting_bytes(peer);

    if (waiting.len == 0) {
        /* Thousands of quiet peers hold no buffers. */
        buffer_deinit(&peer->in);
    } else if (peer->in_used > 0) {
        memmove(peer->in.bytes, waiting.data, waiting.len);
        peer->in.len = waiting.len;
    }
    peer->in_used = 0;
}

static bool in_append(struct peer *peer, etag_str bytes)
{
    if (peer->in_used > 0)
        in_compact(peer);
    if (buffer_reserve(&peer->in, bytes.len) < 0)
        return false;
    memcpy(peer->in.bytes + peer->in.len, bytes.data, bytes.len);
    peer->in.len += bytes.len;
    return true;
}

/* ---- Who is next ---- */

/* A peer gets no more answers until it has read the former ones. */
static bool stands_aside(const struct peer *peer)
{
    return loop_stream_queued(peer->stream) > PEER_UNREAD_BYTES_MAX;
}

/* For a peer that has gone without its answers: its questions are dropped. The events that it
 * sent still count. */
static void questions_drop(struct peer *peer)
{
    etag_str payload;

    if (!loop_stream_failed(peer->stream))
        return;
    while (frame_next(waiting_bytes(peer), &payload) > 0 &&
           work_of(request_peek(payload)) == WORK_ASKED)
        peer->in_used += FRAME_HEADER_BYTES + payload.len;
}

static void partial_note(struct peer *peer, size_t waiting, bool handled)
{
    if (waiting == 0)
        peer->partial_since_ns = 0;
    else if (handled || peer->partial_since_ns == 0)
        peer->partial_since_ns = peer->last_ns;
}

/* Finds the peer's place after bytes came or frames were handled. */
static void peer_place(struct intake *intake, struct peer *peer, bool handled)
{
    etag_str payload;

    if (!peer->stream || peer->in_line)
        return;
    questions_drop(peer);
    const etag_str waiting = waiting_bytes(peer);
    const int r = frame_next(waiting, &payload);
    if (r < 0) {
        peer_break(intake->peers, peer, WIRE_ERROR_MALFORMED, TEXT_FRAMING_LOST);
        return;
    }
    if (r == 0) {
        partial_note(peer, waiting.len, handled);
        if (waiting.len == 0)
            in_compact(peer);
        if (peer->ended)
            peer_close(intake->peers, peer);
        else
            loop_stream_hold(peer->stream, false);
        return;
    }
    peer->partial_since_ns = 0;
    peer->aside = stands_aside(peer);
    loop_stream_hold(peer->stream, peer->aside || waiting.len >= PEER_IN_BYTES_MAX);
    line_join(peer->aside ? &intake->aside : &intake->lines[work_of(request_peek(payload))], peer);
}

/* ---- What the loop brings ---- */

void intake_received(struct intake *intake, struct peer *peer, etag_str bytes)
{
    if (!peer->stream)
        return;
    peer->last_ns = time_coarse_ns();
    if (!peer->in_line)
        peer->arrived_ns = time_ns_of(CLOCK_MONOTONIC);
    if (!in_append(peer, bytes)) {
        peer_break(intake->peers, peer, WIRE_ERROR_BUSY, "the daemon is out of memory");
        return;
    }
    if (peer->in_line && waiting_bytes(peer).len >= PEER_IN_BYTES_MAX)
        loop_stream_hold(peer->stream, true);
    peer_place(intake, peer, false);
}

void intake_ended(struct intake *intake, struct peer *peer)
{
    peer->ended = true;
    peer_place(intake, peer, false);
}

/* ---- Serving ---- */

/* Whether the peer's next frame is of this kind. */
static bool next_frame(const struct peer *peer, enum work work, etag_str *payload)
{
    return peer->stream && !stands_aside(peer) && frame_next(waiting_bytes(peer), payload) > 0 &&
           work_of(request_peek(*payload)) == work;
}

static void peer_serve(struct intake *intake, struct peer *peer, enum work work,
                       struct budget *budget)
{
    etag_str payload;

    for (uint32_t left = work_share(work); left > 0 && next_frame(peer, work, &payload); left--) {
        if (!budget_take(budget, time_ns_of(CLOCK_MONOTONIC)))
            break;
        peer->in_used += FRAME_HEADER_BYTES + payload.len;
        intake->frames++;
        intake->handle(intake->ctx, peer, payload);
    }
    peer_place(intake, peer, true);
}

static bool line_serve(struct intake *intake, enum work work)
{
    struct line *line = &intake->lines[work];
    struct budget budget = budget_begin(work, time_ns_of(CLOCK_MONOTONIC));

    /* Those that are queued now, once each. */
    for (size_t left = line->count; left > 0; left--) {
        if (!budget_left(&budget, time_ns_of(CLOCK_MONOTONIC)))
            break;
        peer_serve(intake, line_leave(line), work, &budget);
    }
    return budget.used;
}

/* Those who have read their answers go on. */
static void aside_look(struct intake *intake)
{
    struct line *aside = &intake->aside;

    for (size_t left = aside->count; left > 0; left--)
        peer_place(intake, line_leave(aside), true);
}

/* Long answers wait while many bytes are unread; peers_expire() sees to it that this does not
 * last. */
static bool may_answer(const struct intake *intake)
{
    return loop_queued(intake->peers->loop) <= PEERS_QUEUED_BYTES_MAX / 2;
}

bool intake_serve(struct intake *intake)
{
    const uint64_t before = intake->frames;

    aside_look(intake);
    const bool urgent = line_serve(intake, WORK_URGENT);
    if (urgent && !intake->put_off) {
        intake->put_off = true;
    } else {
        intake->put_off = false;
        (void)line_serve(intake, WORK_FILL);
        if (may_answer(intake))
            (void)line_serve(intake, WORK_ASKED);
    }
    if (intake->frames - before > intake->frames_max)
        intake->frames_max = intake->frames - before;
    return intake->lines[WORK_URGENT].count > 0 || intake->lines[WORK_FILL].count > 0 ||
           (intake->lines[WORK_ASKED].count > 0 && may_answer(intake));
}
