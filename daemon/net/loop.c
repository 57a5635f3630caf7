/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The choice of a backend, made once; from then on every call goes through the backend's table.
 * io_uring is refused in many places (containers' seccomp profiles, old kernels, a sysctl), so
 * falling back is normal and not an error.
 */
#include "loop_backend.h"

#include <errno.h>

static int open_with(const struct loop_backend *backend, enum loop_kind kind, struct loop **out,
                     const struct loop_handler *handler, void *ctx, enum loop_kind *used)
{
    const int r = backend->open(out, handler, ctx);

    if (r == 0)
        *used = kind;
    return r;
}

int loop_open(struct loop **out, enum loop_kind kind, const struct loop_handler *handler, void *ctx,
              enum loop_kind *used, int *refused)
{
    if (refused)
        *refused = 0;
    if (kind != LOOP_EPOLL) {
        const int r = open_with(&loop_uring_backend, LOOP_URING, out, handler, ctx, used);
        if (r == 0 || kind == LOOP_URING)
            return r;
        if (refused)
            *refused = -r;
    }
    return open_with(&loop_epoll_backend, LOOP_EPOLL, out, handler, ctx, used);
}

struct loop *loop_close(struct loop *loop)
{
    return loop ? loop->backend->close(loop) : NULL;
}

const char *loop_name(const struct loop *loop)
{
    return loop->backend->name;
}

int loop_listen(struct loop *loop, int listen_fd)
{
    return loop->backend->listen(loop, listen_fd);
}

void loop_unlisten(struct loop *loop)
{
    loop->backend->unlisten(loop);
}

void loop_accept_pause(struct loop *loop, uint64_t ns)
{
    loop->backend->accept_pause(loop, ns);
}

int loop_watch(struct loop *loop, int fd)
{
    return loop->backend->watch(loop, fd);
}

int loop_stream_open(struct loop *loop, int fd, void *owner, struct loop_stream **out)
{
    return loop->backend->stream_open(loop, fd, owner, out);
}

int loop_stream_send(struct loop_stream *stream, etag_str bytes, const int *fds, size_t fd_count)
{
    return stream->backend->stream_send(stream, bytes, fds, fd_count);
}

size_t loop_stream_queued(const struct loop_stream *stream)
{
    return stream->backend->stream_queued(stream);
}

bool loop_stream_failed(const struct loop_stream *stream)
{
    return stream->backend->stream_failed(stream);
}

size_t loop_queued(const struct loop *loop)
{
    return loop->backend->queued(loop);
}

void loop_stream_hold(struct loop_stream *stream, bool hold)
{
    stream->backend->stream_hold(stream, hold);
}

void loop_stream_close(struct loop_stream *stream)
{
    stream->backend->stream_close(stream);
}

int loop_turn(struct loop *loop, uint64_t timeout_ns)
{
    return loop->backend->turn(loop, timeout_ns);
}
