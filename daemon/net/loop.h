/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The event loop: the few operations that the daemon needs, with two backends of one interface,
 * io_uring and epoll. It knows bytes, not frames.
 *
 * One turn: sends what was queued, waits for at most the given time, hands over what came, returns.
 * What one turn hands over is bounded, whatever peers send: LOOP_RECEIVE_BYTES of each stream,
 * LOOP_ACCEPTS_MAX connections; the rest waits in the kernel. The caller handles a turn as a group
 * (one commit for all its events). All calls from one thread.
 */
#ifndef ETAGD_LOOP_H
#define ETAGD_LOOP_H

#include "cleanup.h"
#include "config.h"

#include <etag/etag.h>
#include <stdbool.h>
#include <sys/types.h>

#define LOOP_RECEIVE_BYTES (16u * 1024u) /* at most, of one stream in one turn */
#define LOOP_ACCEPTS_MAX 64              /* in one turn */

struct loop;
struct loop_stream; /* one connected socket */

/* Called from loop_turn only. ctx: of loop_open; owner: of loop_stream_open. */
struct loop_handler {
    /* A new connection; the callee owns fd. */
    void (*accepted)(void *ctx, int fd);
    /* Accepting failed (-EMFILE, -ENFILE, -ENOMEM, ...): called once until it works again. The loop
     * itself pauses accepting for a second. */
    void (*accept_failed)(void *ctx, int error);
    /* Bytes arrived; borrowed during the call. */
    void (*received)(void *ctx, void *owner, etag_str bytes);
    /* The peer closed (0) or the stream failed (negative errno); called once, after everything that
     * the peer sent before. The callee calls loop_stream_close(), now or later; until then it may
     * still send to a peer that has only closed its half. */
    void (*ended)(void *ctx, void *owner, int error);
    /* A watched descriptor is readable. */
    void (*woken)(void *ctx, int fd);
};

/* Opens a loop. Returns 0 or a negative errno. *used: LOOP_URING or LOOP_EPOLL. *refused (may be
 * NULL): if LOOP_AUTO chose epoll, the errno with which the kernel refused io_uring. handler:
 * borrowed until loop_close(). */
MUST_USE int loop_open(struct loop **out, enum loop_kind kind, const struct loop_handler *handler,
                       void *ctx, enum loop_kind *used, int *refused);

/* Closes all streams (their fds too; without callbacks) and the loop, but not the listening and
 * watched descriptors. Returns NULL. */
struct loop *loop_close(struct loop *loop);

/* "io_uring" or "epoll". */
const char *loop_name(const struct loop *loop);

/* Accepts on a listening socket from the next turn on, until loop_unlisten. One at a time. */
MUST_USE int loop_listen(struct loop *loop, int listen_fd);
void loop_unlisten(struct loop *loop);
/* Accepts no connection for this time, beginning in this turn. */
void loop_accept_pause(struct loop *loop, uint64_t ns);

/* Calls woken() when fd (eventfd, signalfd; non-blocking) is readable, level-triggered: the callee
 * reads it empty. The fd stays open for the loop's life. */
MUST_USE int loop_watch(struct loop *loop, int fd);

/* Opens a stream on fd (consumed, also on an error) and starts to receive. Returns 0 or a negative
 * errno. */
MUST_USE int loop_stream_open(struct loop *loop, int fd, void *owner, struct loop_stream **out);

/* Queues bytes (copied), in order, which are sent at the latest at the beginning of the next turn.
 * Descriptors (at most 2; duplicated, the caller keeps its own) are sent with the first of these
 * bytes. Returns 0, -ENOMEM, or the error of dup (-EMFILE): then nothing is queued. An error of
 * sending calls ended(). */
MUST_USE int loop_stream_send(struct loop_stream *stream, etag_str bytes, const int *fds,
                              size_t fd_count);

/* Returns the bytes that are queued and not yet taken by the kernel. */
size_t loop_stream_queued(const struct loop_stream *stream);
/* Returns whether sending failed: the peer has gone and reads no more answers. */
bool loop_stream_failed(const struct loop_stream *stream);
/* Returns the queued bytes of all streams together. */
size_t loop_queued(const struct loop *loop);

/* Stops or resumes reading a stream. While it is held, the peer's bytes wait in its socket, and
 * when that is full, the peer waits. One receive that has begun may still be delivered. Sending
 * goes on. ended() comes during a hold only if sending failed, else after it. */
void loop_stream_hold(struct loop_stream *stream, bool hold);

/* Closes a stream: no callback for it from now on. Tries once to send the queued bytes without
 * waiting, then closes the descriptor and frees the stream, now or when the kernel no longer uses
 * it. */
void loop_stream_close(struct loop_stream *stream);

/* Runs one turn. timeout_ns: the longest wait; 0: do not wait. A turn may end earlier without a
 * callback. Returns 0 or a negative errno (fatal: the loop is broken). */
MUST_USE int loop_turn(struct loop *loop, uint64_t timeout_ns);

#endif
