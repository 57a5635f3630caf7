/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a backend of the loop is: a table of loop.h's operations, chosen once by loop.c. Private to
 * loop*.c, and to tests that put a backend of their own in its place.
 */
#ifndef ETAGD_LOOP_BACKEND_H
#define ETAGD_LOOP_BACKEND_H

#include "loop.h"

struct loop_backend {
    const char *name;
    int (*open)(struct loop **out, const struct loop_handler *handler, void *ctx);
    struct loop *(*close)(struct loop *loop);
    int (*listen)(struct loop *loop, int listen_fd);
    void (*unlisten)(struct loop *loop);
    void (*accept_pause)(struct loop *loop, uint64_t ns);
    int (*watch)(struct loop *loop, int fd);
    int (*stream_open)(struct loop *loop, int fd, void *owner, struct loop_stream **out);
    int (*stream_send)(struct loop_stream *stream, etag_str bytes, const int *fds, size_t fd_count);
    size_t (*stream_queued)(const struct loop_stream *stream);
    bool (*stream_failed)(const struct loop_stream *stream);
    size_t (*queued)(const struct loop *loop);
    void (*stream_hold)(struct loop_stream *stream, bool hold);
    void (*stream_close)(struct loop_stream *stream);
    int (*turn)(struct loop *loop, uint64_t timeout_ns);
};

/* The first member of each backend's loop and stream. */
struct loop {
    const struct loop_backend *backend;
};

struct loop_stream {
    const struct loop_backend *backend;
};

extern const struct loop_backend loop_uring_backend;
extern const struct loop_backend loop_epoll_backend;

#endif
