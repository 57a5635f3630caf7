/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The loop on epoll, for kernels and containers that refuse io_uring. Level-triggered: bytes that a
 * turn leaves unread are reported in the next, so a busy peer gets one read in each turn. The loop
 * tries to send at the beginning of a turn, once for all that was queued before, and polls for room
 * only if a peer's socket is full.
 */
#include "loop_common.h"

#include "clocktime.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/epoll.h>

#define EVENTS_PER_TURN 256

struct epoll_loop {
    struct loop shared;
    int epoll_fd;
    /* that are registered */
    uint32_t listen_events;
    char buffer[LOOP_RECEIVE_BYTES];
};

struct epoll_stream {
    struct loop_stream shared;
    /* that are registered; 0: not in the set */
    uint32_t events;
};

static int epoll_control(struct epoll_loop *loop, int operation, int fd, uint32_t events,
                         uint64_t data)
{
    struct epoll_event event = {.events = events, .data.u64 = data};

    return epoll_ctl(loop->epoll_fd, operation, fd, &event) < 0 ? -errno : 0;
}

static struct loop *epoll_loop_close(struct loop *base)
{
    struct epoll_loop *const loop = (struct epoll_loop *)base;

    common_streams_close(&loop->shared);
    cleanup_fd(&loop->epoll_fd);
    free(loop);
    return NULL;
}

static int epoll_loop_open(struct loop **out, const struct loop_handler *handler, void *ctx)
{
    struct epoll_loop *const loop = calloc(1, sizeof(*loop));

    if (!loop)
        return -ENOMEM;
    common_loop_init(&loop->shared, &loop_epoll_backend, handler, ctx);
    loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (loop->epoll_fd < 0) {
        const int r = -errno;
        epoll_loop_close(&loop->shared);
        return r;
    }
    *out = &loop->shared;
    return 0;
}

/* ---- Accepting and watching ---- */

static int epoll_listen(struct loop *base, int listen_fd)
{
    struct epoll_loop *const loop = (struct epoll_loop *)base;
    const int r = epoll_control(loop, EPOLL_CTL_ADD, listen_fd, EPOLLIN,
                                event_of(loop, EVENT_ACCEPT));

    if (r < 0)
        return r;
    loop->listen_events = EPOLLIN;
    return common_listen(&loop->shared, listen_fd);
}

static void epoll_unlisten(struct loop *base)
{
    struct epoll_loop *const loop = (struct epoll_loop *)base;

    if (loop->shared.listen_fd >= 0)
        (void)epoll_control(loop, EPOLL_CTL_DEL, loop->shared.listen_fd, 0, 0);
    common_unlisten(&loop->shared);
}

static int epoll_watch(struct loop *base, int fd)
{
    struct epoll_loop *const loop = (struct epoll_loop *)base;
    struct common_watch *const watch = common_watch_add(&loop->shared, fd);

    if (!watch)
        return -ENOSPC;
    return epoll_control(loop, EPOLL_CTL_ADD, fd, EPOLLIN, event_of(watch, EVENT_WATCH));
}

/* ---- Streams ---- */

static int stream_update(struct epoll_stream *stream, uint32_t events)
{
    struct epoll_loop *const loop = (struct epoll_loop *)stream->shared.loop;
    int operation = EPOLL_CTL_MOD;

    if (events == stream->events)
        return 0;
    if (events == 0)
        operation = EPOLL_CTL_DEL; /* a hang-up would be reported for ever */
    else if (stream->events == 0)
        operation = EPOLL_CTL_ADD;
    const int r = epoll_control(loop, operation, stream->shared.fd, events,
                                event_of(stream, EVENT_STREAM));
    if (r == 0)
        stream->events = events;
    return r;
}

static void stream_flush(struct epoll_stream *stream)
{
    struct loop_stream *const shared = &stream->shared;
    int r = send_queue_flush(&shared->queue, shared->fd);
    const uint32_t waiting_for_room = r == -EAGAIN ? EPOLLOUT : 0;

    if (r < 0 && r != -EAGAIN)
        common_stream_fail(shared, r);
    const uint32_t reading = common_stream_receives(shared) ? EPOLLIN : 0;
    r = stream_update(stream, reading | waiting_for_room);
    if (r < 0)
        common_stream_fail(shared, r);
}

static void stream_receive(struct epoll_stream *stream)
{
    struct loop_stream *const shared = &stream->shared;
    struct epoll_loop *const loop = (struct epoll_loop *)shared->loop;

    if (shared->closed || !common_stream_receives(shared))
        return;
    const ssize_t n = recv(shared->fd, loop->buffer, sizeof(loop->buffer), MSG_DONTWAIT);
    if (n < 0 && (errno == EINTR || errno == EAGAIN))
        return;
    if (n <= 0) {
        common_stream_end(shared, n < 0 ? -errno : 0);
        if (!shared->closed)
            (void)stream_update(stream, stream->events & EPOLLOUT);
        return;
    }
    loop->shared.handler->received(loop->shared.ctx, shared->owner,
                                   (etag_str){loop->buffer, (size_t)n});
}

static void stream_event(struct epoll_stream *stream, uint32_t events)
{
    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR))
        stream_receive(stream);
    if (events & (EPOLLOUT | EPOLLHUP | EPOLLERR) && !stream->shared.closed)
        stream_flush(stream);
}

static int epoll_stream_open(struct loop *base, int fd, void *owner, struct loop_stream **out)
{
    CLEANUP(cleanup_fd) int owned_fd = fd;
    struct epoll_stream *const stream = calloc(1, sizeof(*stream));

    if (!stream)
        return -ENOMEM;
    common_stream_init(&stream->shared, base, take_fd(&owned_fd), owner);
    const int r = stream_update(stream, EPOLLIN);
    if (r < 0) {
        common_stream_free(&stream->shared);
        return r;
    }
    *out = &stream->shared;
    return 0;
}

static void epoll_stream_close(struct loop_stream *base)
{
    struct epoll_stream *const stream = (struct epoll_stream *)base;

    stream->shared.closed = true;
    (void)!send_queue_flush(&stream->shared.queue, stream->shared.fd);
    (void)stream_update(stream, 0);
    close(take_fd(&stream->shared.fd));
    common_pending_add(&stream->shared);
}

/* ---- A turn ---- */

static int begin_turn(struct epoll_loop *loop)
{
    struct loop_stream *shared;

    while ((shared = common_pending_take(&loop->shared))) {
        if (shared->closed)
            common_stream_free(shared);
        else
            stream_flush((struct epoll_stream *)shared);
    }
    if (loop->shared.listen_fd < 0)
        return 0;
    const uint32_t events = common_accepting(&loop->shared) ? EPOLLIN : 0;
    if (events == loop->listen_events)
        return 0;
    loop->listen_events = events;
    return epoll_control(loop, EPOLL_CTL_MOD, loop->shared.listen_fd, events,
                         event_of(loop, EVENT_ACCEPT));
}

static int wait_ms(uint64_t timeout_ns)
{
    const uint64_t ms = timeout_ns / NS_PER_MS + (timeout_ns % NS_PER_MS > 0);

    return ms < INT32_MAX ? (int)ms : INT32_MAX;
}

static void hand_over(struct epoll_loop *loop, const struct epoll_event *event)
{
    const uint64_t data = event->data.u64;

    switch (event_tag(data)) {
    case EVENT_STREAM:
        stream_event(event_pointer(data), event->events);
        break;
    case EVENT_ACCEPT:
        common_accept_some(&loop->shared);
        break;
    case EVENT_WATCH:
        loop->shared.handler->woken(loop->shared.ctx,
                                    ((struct common_watch *)event_pointer(data))->fd);
        break;
    default:
        break;
    }
}

static int epoll_turn(struct loop *base, uint64_t timeout_ns)
{
    struct epoll_loop *const loop = (struct epoll_loop *)base;
    struct epoll_event events[EVENTS_PER_TURN];
    const int r = begin_turn(loop);

    if (r < 0)
        return r;
    const int count = epoll_wait(loop->epoll_fd, events, EVENTS_PER_TURN,
                                 wait_ms(common_wait_ns(&loop->shared, timeout_ns)));
    if (count < 0)
        return errno == EINTR ? 0 : -errno;
    for (int i = 0; i < count; i++)
        hand_over(loop, &events[i]);
    return 0;
}

const struct loop_backend loop_epoll_backend = {
    .name = "epoll",
    .open = epoll_loop_open,
    .close = epoll_loop_close,
    .listen = epoll_listen,
    .unlisten = epoll_unlisten,
    .watch = epoll_watch,
    .stream_open = epoll_stream_open,
    .stream_close = epoll_stream_close,
    .turn = epoll_turn,
};
