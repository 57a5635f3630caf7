/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The event loop: the few operations that the daemon needs, with two backends of one interface,
 * io_uring and epoll. Above it there are only bytes.
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
    /* A new connection; fd is the callee's. */
    void (*accepted)(void *ctx, int fd);
    /* Accepting failed (-EMFILE, -ENFILE, -ENOMEM, ...): said once, accepting pauses for a second
     * by itself. */
    void (*accept_failed)(void *ctx, int error);
    /* Bytes came; borrowed during the call. */
    void (*received)(void *ctx, void *owner, etag_str bytes);
    /* The peer closed (0) or the stream failed (negative errno); once, after everything that it
     * sent before. The callee calls loop_stream_close, now or later; until then it may still send
     * to a peer that only closed its half. */
    void (*ended)(void *ctx, void *owner, int error);
    /* A watched descriptor is readable. */
    void (*woken)(void *ctx, int fd);
};

/* 0 or a negative errno. *used: LOOP_URING or LOOP_EPOLL. *refused (may be NULL): with LOOP_AUTO
 * and epoll, the errno with which io_uring was refused. handler: borrowed for the loop's life. */
MUST_USE int loop_open(struct loop **out, enum loop_kind kind, const struct loop_handler *handler,
                       void *ctx, enum loop_kind *used, int *refused);

/* Closes all streams (their fds too; no callbacks) and the loop; not the listening and watched
 * descriptors. Returns NULL. */
struct loop *loop_close(struct loop *loop);

/* "io_uring" or "epoll". */
const char *loop_name(const struct loop *loop);

/* Accepts on a listening socket from the next turn on, until loop_unlisten. One at a time. */
MUST_USE int loop_listen(struct loop *loop, int listen_fd);
void loop_unlisten(struct loop *loop);
/* Accepts nothing more for so long, not even in this turn. */
void loop_accept_pause(struct loop *loop, uint64_t ns);

/* Calls woken() when fd (eventfd, signalfd; non-blocking) is readable, level-triggered: the callee
 * reads it empty. The fd stays open for the loop's life. */
MUST_USE int loop_watch(struct loop *loop, int fd);

/* Takes fd over, whatever it returns, and starts to receive. */
MUST_USE int loop_stream_open(struct loop *loop, int fd, void *owner, struct loop_stream **out);

/* Queues bytes (copied), in order; sent at the latest at the beginning of the next turn. With
 * descriptors (at most 2; duplicated, the caller keeps its own) they travel with the first of these
 * bytes. 0, -ENOMEM, or what duplicating says (-EMFILE): nothing is queued then. Sending errors
 * come as ended(). */
MUST_USE int loop_stream_send(struct loop_stream *stream, etag_str bytes, const int *fds,
                              size_t fd_count);

/* Bytes queued and not yet taken by the kernel. */
size_t loop_stream_queued(const struct loop_stream *stream);
/* Sending failed: the peer has gone, and reads no answer any more. */
bool loop_stream_failed(const struct loop_stream *stream);
/* Bytes queued of all streams together. */
size_t loop_queued(const struct loop *loop);

/* A held stream is not read: what the peer sends waits in its socket, and in the end the peer does.
 * One receive that is under way may still come. Not held any more, it goes on. Sending goes on all
 * the time, and so does the end of a stream whose sending failed; that of another one comes when it
 * is not held. */
void loop_stream_hold(struct loop_stream *stream, bool hold);

/* Stops receiving now: no callback for this stream from here on. Queued bytes are still sent where
 * the peer takes them without waiting (one attempt), then the descriptor is closed and the stream
 * freed, now or when the kernel lets go of it. */
void loop_stream_close(struct loop_stream *stream);

/* One turn. timeout_ns: longest wait (a turn may end earlier with nothing to hand over); 0: do not
 * wait. 0 or a negative errno (fatal: the loop is broken). */
MUST_USE int loop_turn(struct loop *loop, uint64_t timeout_ns);

#endif
