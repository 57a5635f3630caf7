/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What both backends of the loop share: streams with their outgoing queues, the state of accepting,
 * watched descriptors. A backend adds how it waits.
 *
 * A stream that needs something at the beginning of the next turn (to send, to be armed, to be
 * freed) stands in the loop's pending list. Nothing is freed while a turn hands things over, so any
 * callback may close any stream.
 */
#ifndef ETAGD_LOOP_SHARED_H
#define ETAGD_LOOP_SHARED_H

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
    /* of all queues together */
    size_t *total;
};

/* A gathering sendmsg over the front of a queue. Must not move while the kernel uses it. */
struct send_message {
    struct msghdr header;
    struct iovec parts[SEND_CHUNKS_MAX];
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(SEND_FDS_MAX * sizeof(int))];
};

/* Copies bytes, duplicates descriptors (they need at least one byte). 0, -ENOMEM, or what dup
 * says. */
MUST_USE int send_queue_push(struct send_queue *queue, etag_str bytes, const int *fds,
                             size_t fd_count);
void send_queue_clear(struct send_queue *queue);

/* The message for the front of the queue: it ends before a chunk with descriptors of its own. The
 * queue may grow while the message is in use, but not shrink. */
void send_queue_message(const struct send_queue *queue, struct send_message *out);
/* The kernel took so many bytes. */
void send_queue_sent(struct send_queue *queue, size_t bytes);

/* Sends what the peer takes without waiting: 0 if that was all, -EAGAIN if not, or another negative
 * errno. */
MUST_USE int send_queue_flush(struct send_queue *queue, int fd);

/* ---- Loop and stream ---- */

/* The first member of each backend's own. */
struct loop_stream {
    struct loop *loop;
    /* of all */
    struct loop_stream *previous, *next;
    struct loop_stream *next_pending;
    bool is_pending;
    /* by the caller: no callbacks */
    bool closed;
    /* said */
    bool ended;
    /* not read at present */
    bool held;
    /* of sending, negative errno: nothing is sent any more; said when receiving ends */
    int failure;
    int fd;
    void *owner;
    struct send_queue queue;
};

struct shared_watch {
    /* room for a tag */
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
    struct shared_watch watches[WATCHES_MAX];
    size_t watch_count;
    /* of all streams */
    size_t queued_bytes;
    /* -1: none */
    int listen_fd;
    /* said; until a connection is accepted */
    bool accept_failing;
    /* until then (CLOCK_MONOTONIC); 0: not paused */
    uint64_t accept_paused_ns;
};

void shared_loop_init(struct loop *loop, const struct loop_backend *backend,
                      const struct loop_handler *handler, void *ctx);

/* stream: zeroed, at the beginning of the backend's own. */
void shared_stream_init(struct loop_stream *stream, struct loop *loop, int fd, void *owner);
/* Out of the list of all; closes the descriptor if there is one, frees the queue and the stream. */
void shared_stream_free(struct loop_stream *stream);
/* One attempt to send what is queued, then frees all. */
void shared_streams_close(struct loop *loop);

void shared_pending_add(struct loop_stream *stream);
/* The oldest pending stream, taken off the list; NULL: none. */
struct loop_stream *shared_pending_take(struct loop *loop);

/* Whether the stream wants to receive now. A failed one does, to come to its end. */
bool shared_stream_receives(const struct loop_stream *stream);

/* Sending failed: the queue goes, and receiving ends after what the peer sent before. */
void shared_stream_fail(struct loop_stream *stream, int error);
/* Receiving ended with 0 or a negative errno: says so, once. */
void shared_stream_end(struct loop_stream *stream, int error);

/* ---- Accepting ---- */

/* From now on on this descriptor, which becomes non-blocking. 0 or a negative errno. */
MUST_USE int shared_listen(struct loop *loop, int listen_fd);
void shared_unlisten(struct loop *loop);
/* Hands over the connections that wait, as many as belong into one turn. A failure pauses
 * accepting. */
void shared_accept_some(struct loop *loop);
/* Whether there is something to accept on now; ends a pause that is over. */
bool shared_accepting(struct loop *loop);
/* The wait, cut to the end of the pause. */
uint64_t shared_wait_ns(const struct loop *loop, uint64_t timeout_ns);

/* Adds a watch; NULL: too many. */
struct shared_watch *shared_watch_add(struct loop *loop, int fd);

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
