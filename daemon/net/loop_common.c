/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The outgoing queue is a list of chunks. Small answers share a chunk, so that one system call
 * sends thousands of them. Bytes with descriptors begin a chunk and a sendmsg of their own, because
 * the kernel attaches descriptors to the first byte of a message.
 */
#include "loop_common.h"

#include "clocktime.h"
#include "numbers.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#define CHUNK_BYTES_MIN 4000u

struct send_chunk {
    struct send_chunk *next;
    /* bytes from begin to end wait */
    size_t begin, end, capacity;
    /* until the first byte is taken */
    int fds[SEND_FDS_MAX];
    size_t fd_count;
    char bytes[];
};

/* ---- The outgoing queue ---- */

static void chunk_close_fds(struct send_chunk *chunk)
{
    for (size_t i = 0; i < chunk->fd_count; i++)
        close(chunk->fds[i]);
    chunk->fd_count = 0;
}

static void chunk_free(struct send_chunk *chunk)
{
    chunk_close_fds(chunk);
    free(chunk);
}

/* NULL with errno. */
static struct send_chunk *chunk_new(size_t bytes, const int *fds, size_t fd_count)
{
    const size_t capacity = max_of(bytes, CHUNK_BYTES_MIN);
    struct send_chunk *const chunk = malloc(sizeof(*chunk) + capacity);

    if (!chunk)
        return NULL;
    *chunk = (struct send_chunk){.capacity = capacity};
    for (; chunk->fd_count < fd_count; chunk->fd_count++) {
        const int copy = fcntl(fds[chunk->fd_count], F_DUPFD_CLOEXEC, 0);
        if (copy < 0) {
            const int error = errno;
            chunk_free(chunk);
            errno = error;
            return NULL;
        }
        chunk->fds[chunk->fd_count] = copy;
    }
    return chunk;
}

int send_queue_push(struct send_queue *queue, etag_str bytes, const int *fds, size_t fd_count)
{
    struct send_chunk *chunk = queue->last;

    assert(fd_count <= SEND_FDS_MAX && (fd_count == 0 || bytes.len > 0));
    if (bytes.len == 0)
        return 0;
    if (!chunk || fd_count > 0 || chunk->capacity - chunk->end < bytes.len) {
        chunk = chunk_new(bytes.len, fds, fd_count);
        if (!chunk)
            return -errno;
        if (queue->last)
            queue->last->next = chunk;
        else
            queue->first = chunk;
        queue->last = chunk;
    }
    memcpy(chunk->bytes + chunk->end, bytes.data, bytes.len);
    chunk->end += bytes.len;
    queue->bytes += bytes.len;
    *queue->total += bytes.len;
    return 0;
}

void send_queue_clear(struct send_queue *queue)
{
    while (queue->first) {
        struct send_chunk *const chunk = queue->first;
        queue->first = chunk->next;
        chunk_free(chunk);
    }
    *queue->total -= queue->bytes;
    *queue = (struct send_queue){.total = queue->total};
}

static void attach_fds(struct send_message *message, const struct send_chunk *chunk)
{
    const size_t bytes = chunk->fd_count * sizeof(int);

    message->header.msg_control = message->control;
    message->header.msg_controllen = CMSG_SPACE(bytes);
    memset(message->control, 0, sizeof(message->control));
    struct cmsghdr *const control = CMSG_FIRSTHDR(&message->header);
    control->cmsg_level = SOL_SOCKET;
    control->cmsg_type = SCM_RIGHTS;
    control->cmsg_len = CMSG_LEN(bytes);
    memcpy(CMSG_DATA(control), chunk->fds, bytes);
}

void send_queue_message(const struct send_queue *queue, struct send_message *out)
{
    size_t count = 0;

    out->header = (struct msghdr){.msg_iov = out->parts};
    for (struct send_chunk *chunk = queue->first; chunk && count < SEND_CHUNKS_MAX;
         chunk = chunk->next) {
        if (chunk->fd_count > 0 && count > 0)
            break;
        if (chunk->fd_count > 0)
            attach_fds(out, chunk);
        out->parts[count++] = (struct iovec){chunk->bytes + chunk->begin,
                                             chunk->end - chunk->begin};
    }
    out->header.msg_iovlen = count;
}

void send_queue_sent(struct send_queue *queue, size_t bytes)
{
    assert(bytes <= queue->bytes);
    queue->bytes -= bytes;
    *queue->total -= bytes;
    while (bytes > 0) {
        struct send_chunk *const chunk = queue->first;
        assert(chunk);
        const size_t waiting = chunk->end - chunk->begin;
        const size_t taken = min_of(bytes, waiting);
        chunk_close_fds(chunk);
        chunk->begin += taken;
        bytes -= taken;
        if (chunk->begin < chunk->end)
            break;
        queue->first = chunk->next;
        if (!queue->first)
            queue->last = NULL;
        chunk_free(chunk);
    }
}

int send_queue_flush(struct send_queue *queue, int fd)
{
    struct send_message message;

    while (queue->bytes > 0) {
        send_queue_message(queue, &message);
        const ssize_t n = sendmsg(fd, &message.header, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        send_queue_sent(queue, (size_t)n);
    }
    return 0;
}

/* ---- Loop and stream ---- */

void common_loop_init(struct loop *loop, const struct loop_backend *backend,
                      const struct loop_handler *handler, void *ctx)
{
    loop->backend = backend;
    loop->handler = handler;
    loop->ctx = ctx;
    loop->pending_last = &loop->pending_first;
    loop->listen_fd = -1;
}

void common_stream_init(struct loop_stream *stream, struct loop *loop, int fd, void *owner)
{
    stream->loop = loop;
    stream->fd = fd;
    stream->owner = owner;
    stream->queue.total = &loop->queued_bytes;
    stream->next = loop->streams;
    if (stream->next)
        stream->next->previous = stream;
    loop->streams = stream;
}

void common_stream_free(struct loop_stream *stream)
{
    if (stream->previous)
        stream->previous->next = stream->next;
    else
        stream->loop->streams = stream->next;
    if (stream->next)
        stream->next->previous = stream->previous;
    cleanup_fd(&stream->fd);
    send_queue_clear(&stream->queue);
    free(stream);
}

void common_streams_close(struct loop *loop)
{
    struct loop_stream *next;

    for (struct loop_stream *stream = loop->streams; stream; stream = next) {
        next = stream->next;
        if (stream->fd >= 0)
            (void)!send_queue_flush(&stream->queue, stream->fd);
        common_stream_free(stream);
    }
}

void common_pending_add(struct loop_stream *stream)
{
    struct loop *const loop = stream->loop;

    if (stream->is_pending)
        return;
    stream->is_pending = true;
    stream->next_pending = NULL;
    *loop->pending_last = stream;
    loop->pending_last = &stream->next_pending;
}

struct loop_stream *common_pending_take(struct loop *loop)
{
    struct loop_stream *const stream = loop->pending_first;

    if (!stream)
        return NULL;
    loop->pending_first = stream->next_pending;
    if (!loop->pending_first)
        loop->pending_last = &loop->pending_first;
    stream->is_pending = false;
    return stream;
}

int loop_stream_send(struct loop_stream *stream, etag_str bytes, const int *fds, size_t fd_count)
{
    assert(!stream->closed);
    if (stream->failure)
        return 0;
    const int r = send_queue_push(&stream->queue, bytes, fds, fd_count);
    if (r == 0 && stream->queue.bytes > 0)
        common_pending_add(stream);
    return r;
}

size_t loop_stream_queued(const struct loop_stream *stream)
{
    return stream->queue.bytes;
}

bool loop_stream_failed(const struct loop_stream *stream)
{
    return stream->failure != 0;
}

size_t loop_queued(const struct loop *loop)
{
    return loop->queued_bytes;
}

void loop_stream_hold(struct loop_stream *stream, bool hold)
{
    if (stream->held == hold)
        return;
    stream->held = hold;
    common_pending_add(stream);
}

bool common_stream_receives(const struct loop_stream *stream)
{
    return !stream->ended && (!stream->held || stream->failure);
}

/* Shut down rather than reported at once: a writer that does not wait for its answer may be
 * gone, and what it sent before still counts. */
void common_stream_fail(struct loop_stream *stream, int error)
{
    stream->failure = error;
    send_queue_clear(&stream->queue);
    shutdown(stream->fd, SHUT_RDWR);
}

void common_stream_end(struct loop_stream *stream, int error)
{
    if (stream->closed || stream->ended)
        return;
    stream->ended = true;
    stream->loop->handler->ended(stream->loop->ctx, stream->owner,
                                 stream->failure ? stream->failure : error);
}

/* ---- Accepting and watching ---- */

int common_listen(struct loop *loop, int listen_fd)
{
    const int flags = fcntl(listen_fd, F_GETFL);

    if (flags < 0 || fcntl(listen_fd, F_SETFL, flags | O_NONBLOCK) < 0)
        return -errno;
    loop->listen_fd = listen_fd;
    loop->accept_failing = false;
    loop->accept_paused_ns = 0;
    return 0;
}

void common_unlisten(struct loop *loop)
{
    loop->listen_fd = -1;
}

void loop_accept_pause(struct loop *loop, uint64_t ns)
{
    loop->accept_paused_ns = time_ns_of(CLOCK_MONOTONIC) + ns;
}

static bool accept_passing(int error)
{
    return error == -EAGAIN || error == -EINTR || error == -ECONNABORTED || error == -ECANCELED;
}

static void accept_failed(struct loop *loop, int error)
{
    if (accept_passing(error))
        return;
    loop_accept_pause(loop, ACCEPT_PAUSE_MS * NS_PER_MS);
    if (loop->accept_failing)
        return;
    loop->accept_failing = true;
    loop->handler->accept_failed(loop->ctx, error);
}

void common_accept_some(struct loop *loop)
{
    for (int i = 0; i < LOOP_ACCEPTS_MAX && common_accepting(loop); i++) {
        const int fd = accept4(loop->listen_fd, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0) {
            accept_failed(loop, -errno);
            return;
        }
        loop->accept_failing = false;
        loop->handler->accepted(loop->ctx, fd);
    }
}

bool common_accepting(struct loop *loop)
{
    if (loop->listen_fd < 0)
        return false;
    if (loop->accept_paused_ns != 0 && loop->accept_paused_ns > time_ns_of(CLOCK_MONOTONIC))
        return false;
    loop->accept_paused_ns = 0;
    return true;
}

uint64_t common_wait_ns(const struct loop *loop, uint64_t timeout_ns)
{
    if (loop->listen_fd < 0 || loop->accept_paused_ns == 0)
        return timeout_ns;
    const uint64_t now_ns = time_ns_of(CLOCK_MONOTONIC);
    const uint64_t pause_ns = loop->accept_paused_ns > now_ns ? loop->accept_paused_ns - now_ns : 0;
    return min_of(pause_ns, timeout_ns);
}

struct common_watch *common_watch_add(struct loop *loop, int fd)
{
    if (loop->watch_count == WATCHES_MAX)
        return NULL;
    struct common_watch *const watch = &loop->watches[loop->watch_count++];
    *watch = (struct common_watch){.fd = fd};
    return watch;
}

/* ---- What a backend does in its own way ---- */

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

int loop_watch(struct loop *loop, int fd)
{
    return loop->backend->watch(loop, fd);
}

int loop_stream_open(struct loop *loop, int fd, void *owner, struct loop_stream **out)
{
    return loop->backend->stream_open(loop, fd, owner, out);
}

void loop_stream_close(struct loop_stream *stream)
{
    stream->loop->backend->stream_close(stream);
}

int loop_turn(struct loop *loop, uint64_t timeout_ns)
{
    return loop->backend->turn(loop, timeout_ns);
}
