/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What both backends of the loop share: streams with their outgoing queues, the state of accepting,
 * watched descriptors. A backend adds how it waits.
 *
 * A stream that needs work at the beginning of the next turn (to be sent, armed or freed) is in the
 * loop's pending list. No stream is freed during the callbacks of a turn, so any callback may close
 * any stream.
 */
#ifndef ETAGD_LOOP_COMMON_H
#define ETAGD_LOOP_COMMON_H

#include "loop.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#define SEND_FDS_MAX 2
#define SEND_CHUNKS_MAX 16    /* in one sendmsg */
#define WATCHES_MAX 8         /* the daemon has three */
#define ACCEPT_PAUSE_MS 1000u /* after a failure */

/* What a backend adds: a table, chosen once by loop.c. */
struct loop_backend {
    const char *name;
    int (*open)(struct loop **out, const struct loop_handler *handler, void *ctx);
    struct loop *(*close)(struct loop *loop);
    int (*listen)(struct loop *loop, int listen_fd);
    void (*unlisten)(struct loop *loop);
    int (*watch)(struct loop *loop, int fd);
    int (*stream_open)(struct loop *loop, int fd, void *owner, struct loop_stream **out);
    void (*stream_close)(struct loop_stream *stream);
    int (*turn)(struct loop *loop, uint64_t timeout_ns);
};

extern const struct loop_backend loop_uring_backend;
extern const struct loop_backend loop_epoll_backend;

/* ---- The outgoing queue ---- */

struct send_chunk;

struct send_queue {
    struct send_chunk *first, *last;
    size_t bytes;
    /* bytes of all queues together */
    size_t *total;
};

/* A sendmsg over the chunks at the front of a queue. Must not move while the kernel uses it. */
struct send_message {
    struct msghdr header;
    struct iovec parts[SEND_CHUNKS_MAX];
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(SEND_FDS_MAX * sizeof(int))];
};

/* Appends bytes (copied) and descriptors (duplicated; they need at least one byte). Returns 0,
 * -ENOMEM, or the error of dup. */
MUST_USE int send_queue_push(struct send_queue *queue, etag_str bytes, const int *fds,
                             size_t fd_count);
void send_queue_clear(struct send_queue *queue);

/* Makes the message for the front of the queue, up to the next chunk with descriptors of its own.
 * The queue may grow while the message is in use, but not shrink. */
void send_queue_message(const struct send_queue *queue, struct send_message *out);
/* Removes the bytes that the kernel took from the front. */
void send_queue_sent(struct send_queue *queue, size_t bytes);

/* Sends what the peer takes without waiting. Returns 0 if that was all, -EAGAIN if not, or another
 * negative errno. */
MUST_USE int send_queue_flush(struct send_queue *queue, int fd);

/* ---- Loop and stream ---- */

/* The first member of each backend's own. */
struct loop_stream {
    struct loop *loop;
    /* of all */
    struct loop_stream *previous, *next;
    struct loop_stream *next_pending;
    bool is_pending;
    /* closed by the caller, so no more callbacks */
    bool closed;
    /* ended() was called */
    bool ended;
    /* not read at present */
    bool held;
    /* negative errno of sending: nothing more is sent, and ended() has it when receiving ends */
    int failure;
    int fd;
    void *owner;
    struct send_queue queue;
};

struct common_watch {
    /* aligned, so that the low bits of its address have room for a tag */
    _Alignas(8) int fd;
    bool armed;
};

/* The first member of each backend's own. */
struct loop {
    const struct loop_backend *backend;
    const struct loop_handler *handler;
    void *ctx;
    struct loop_stream *streams;
    struct loop_stream *pending_first, **pending_last;
    struct common_watch watches[WATCHES_MAX];
    size_t watch_count;
    /* of all streams */
    size_t queued_bytes;
    /* -1: none */
    int listen_fd;
    /* accept_failed() was called, and no connection was accepted since */
    bool accept_failing;
    /* accepting is paused until then (CLOCK_MONOTONIC); 0: not paused */
    uint64_t accept_paused_ns;
};

void common_loop_init(struct loop *loop, const struct loop_backend *backend,
                      const struct loop_handler *handler, void *ctx);

/* stream: zeroed; the first member of the backend's own struct. */
void common_stream_init(struct loop_stream *stream, struct loop *loop, int fd, void *owner);
/* Removes the stream from the loop's list, closes its descriptor if there is one, frees its queue
 * and itself. */
void common_stream_free(struct loop_stream *stream);
/* Tries once to send what is queued, then frees all streams. */
void common_streams_close(struct loop *loop);

void common_pending_add(struct loop_stream *stream);
/* Takes the oldest stream off the pending list; NULL: none. */
struct loop_stream *common_pending_take(struct loop *loop);

/* Returns whether the stream should receive now. A failed one should, to reach its end. */
bool common_stream_receives(const struct loop_stream *stream);

/* Sending failed: clears the queue, and lets receiving end after what the peer sent before. */
void common_stream_fail(struct loop_stream *stream, int error);
/* Receiving ended with 0 or a negative errno: calls ended(), once. */
void common_stream_end(struct loop_stream *stream, int error);

/* ---- Accepting ---- */

/* Accepts on this descriptor from now on, and makes it non-blocking. Returns 0 or a negative
 * errno. */
MUST_USE int common_listen(struct loop *loop, int listen_fd);
void common_unlisten(struct loop *loop);
/* Passes waiting connections to accepted(), up to the bound of a turn. A failure pauses
 * accepting. */
void common_accept_some(struct loop *loop);
/* Returns whether the loop accepts now; ends a pause whose time is over. */
bool common_accepting(struct loop *loop);
/* Returns the timeout, cut to the end of the pause. */
uint64_t common_wait_ns(const struct loop *loop, uint64_t timeout_ns);

/* Adds a watch; NULL: too many. */
struct common_watch *common_watch_add(struct loop *loop, int fd);

/* ---- What an event belongs to: a pointer or number with a tag in its low bits ---- */

enum event_tag { EVENT_STREAM, EVENT_SEND, EVENT_ACCEPT, EVENT_WATCH, EVENT_OTHER };
#define EVENT_TAG_MASK UINT64_C(7)

static inline uint64_t event_of(const void *pointer, enum event_tag tag)
{
    return (uint64_t)(uintptr_t)pointer | tag;
}

static inline enum event_tag event_tag(uint64_t event)
{
    return (enum event_tag)(event & EVENT_TAG_MASK);
}

static inline void *event_pointer(uint64_t event)
{
    return (void *)(uintptr_t)(event & ~EVENT_TAG_MASK);
}

#endif
