/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The loop on io_uring: one system call a turn submits everything and waits. Bytes arrive in a ring
 * of buffers that all streams share, so idle peers use none. Each stream has at most one receive
 * and one send at a time; a send covers its whole queue.
 *
 * No operation is multishot: one that stays armed would deliver all that a peer can send, and
 * accept all connections, before the loop does anything else. To arm again costs a submission, but
 * no system call. The ring only waits for connections; the loop then accepts them one by one, as
 * the epoll loop does.
 *
 * Submissions are made in one place, at the beginning of a turn; callbacks only note what they
 * need. The kernel uses a stream's memory until its last completion: closing shuts the socket down,
 * which ends receiving, and cancels a send that waits for room; after the last completion the
 * stream is freed.
 */
#include "loop_common.h"

#include "clocktime.h"
#include "numbers.h"

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <poll.h>
#include <sys/mman.h>

#define SUBMISSIONS 256u
#define COMPLETIONS 4096u
#define BUFFER_GROUP 0
#define BUFFER_COUNT 256u /* a power of two */
#define BUFFER_BYTES LOOP_RECEIVE_BYTES
#define CLOSE_TRIES 100 /* of 100 ms, to get all operations back */

/* The ring of buffers, then the buffers, in one mapping. */
#define BUFFER_RING_BYTES (BUFFER_COUNT * sizeof(struct io_uring_buf))
#define BUFFER_MAP_BYTES (BUFFER_RING_BYTES + (size_t)BUFFER_COUNT * BUFFER_BYTES)

struct uring_loop {
    struct loop shared;
    struct io_uring ring;
    bool has_ring;
    bool closing;
    struct io_uring_buf_ring *buffer_ring;
    char *buffers;
    /* submitted or about to be, whose last completion has not come */
    uint64_t operations;
    /* the waits for connections differ by their events */
    uint64_t accept_last;
    /* the one that is armed; 0: none */
    uint64_t accept_event;
    /* the one to be cancelled; 0: none */
    uint64_t accept_cancel;
};

struct uring_stream {
    struct loop_stream shared;
    /* operations that are in the kernel */
    bool receiving, sending, cancelling;
    struct send_message message;
};

/* What a completion says. */
struct completion {
    uint64_t event;
    int result;
    uint32_t flags;
};

/* ---- Opening ---- */

static int ring_open(struct uring_loop *loop)
{
    /* Single issuers came with 6.0, a release after rings of buffers: refusing them tells that a
     * kernel is too old. Deferred task work came with 6.1. */
    static const uint32_t flags[] = {IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN,
                                     IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_COOP_TASKRUN};
    int r = -EINVAL;

    for (size_t i = 0; i < COUNT_OF(flags) && r == -EINVAL; i++) {
        struct io_uring_params params = {
            .flags = flags[i] | IORING_SETUP_CLAMP | IORING_SETUP_CQSIZE,
            .cq_entries = COMPLETIONS,
        };
        r = io_uring_queue_init_params(SUBMISSIONS, &loop->ring, &params);
    }
    loop->has_ring = r == 0;
    return r;
}

static void buffer_give(struct uring_loop *loop, uint16_t number)
{
    io_uring_buf_ring_add(loop->buffer_ring, loop->buffers + (size_t)number * BUFFER_BYTES,
                          BUFFER_BYTES, number, io_uring_buf_ring_mask(BUFFER_COUNT), 0);
    io_uring_buf_ring_advance(loop->buffer_ring, 1);
}

static int buffers_open(struct uring_loop *loop)
{
    void *const map = mmap(NULL, BUFFER_MAP_BYTES, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (map == MAP_FAILED)
        return -errno;
    loop->buffer_ring = map;
    loop->buffers = (char *)map + BUFFER_RING_BYTES;
    struct io_uring_buf_reg registration = {
        .ring_addr = (uint64_t)(uintptr_t)map,
        .ring_entries = BUFFER_COUNT,
        .bgid = BUFFER_GROUP,
    };
    const int r = io_uring_register_buf_ring(&loop->ring, &registration, 0);
    if (r < 0)
        return r;
    io_uring_buf_ring_init(loop->buffer_ring);
    for (uint16_t i = 0; i < BUFFER_COUNT; i++)
        buffer_give(loop, i);
    return 0;
}

/* A free submission, marked with its event. NULL: none until the next turn. */
static struct io_uring_sqe *take_submission(struct uring_loop *loop)
{
    struct io_uring_sqe *submission = io_uring_get_sqe(&loop->ring);

    if (!submission && io_uring_submit(&loop->ring) > 0)
        submission = io_uring_get_sqe(&loop->ring);
    if (submission)
        loop->operations++;
    return submission;
}

/* A profile may allow a ring to be made, but not to be used. */
static int ring_try(struct uring_loop *loop)
{
    struct io_uring_sqe *const submission = take_submission(loop);

    if (!submission)
        return -ENOMEM;
    io_uring_prep_nop(submission);
    io_uring_sqe_set_data64(submission, EVENT_OTHER);
    const int r = io_uring_submit(&loop->ring);
    return r < 0 ? r : 0;
}

static struct loop *uring_loop_close(struct loop *base);

static int uring_loop_open(struct loop **out, const struct loop_handler *handler, void *ctx)
{
    struct uring_loop *const loop = calloc(1, sizeof(*loop));

    if (!loop)
        return -ENOMEM;
    common_loop_init(&loop->shared, &loop_uring_backend, handler, ctx);
    int r = ring_open(loop);
    if (r == 0)
        r = buffers_open(loop);
    if (r == 0)
        r = ring_try(loop);
    if (r < 0) {
        uring_loop_close(&loop->shared);
        return r;
    }
    *out = &loop->shared;
    return 0;
}

/* ---- Accepting and watching ---- */

static void uring_unlisten(struct loop *base)
{
    struct uring_loop *const loop = (struct uring_loop *)base;

    if (loop->accept_event)
        loop->accept_cancel = loop->accept_event;
    loop->accept_event = 0;
    common_unlisten(&loop->shared);
}

static int uring_watch(struct loop *base, int fd)
{
    return common_watch_add(base, fd) ? 0 : -ENOSPC;
}

static void accept_completed(struct uring_loop *loop, const struct completion *completion)
{
    if (completion->event != loop->accept_event)
        return;
    loop->accept_event = 0;
    if (!loop->closing)
        common_accept_some(&loop->shared);
}

static void watch_completed(struct uring_loop *loop, struct common_watch *watch,
                            const struct completion *completion)
{
    watch->armed = false;
    if (completion->result > 0 && !loop->closing)
        loop->shared.handler->woken(loop->shared.ctx, watch->fd);
}

/* ---- Streams ---- */

/* Waiting is the ring's: a non-blocking socket would make it give up at once on some kernels. */
static int make_blocking(int fd)
{
    const int flags = fcntl(fd, F_GETFL);

    if (flags < 0)
        return -errno;
    if (flags & O_NONBLOCK && fcntl(fd, F_SETFL, flags & ~O_NONBLOCK) < 0)
        return -errno;
    return 0;
}

static int uring_stream_open(struct loop *base, int fd, void *owner, struct loop_stream **out)
{
    CLEANUP(cleanup_fd) int owned_fd = fd;
    const int r = make_blocking(fd);

    if (r < 0)
        return r;
    struct uring_stream *const stream = calloc(1, sizeof(*stream));
    if (!stream)
        return -ENOMEM;
    common_stream_init(&stream->shared, base, take_fd(&owned_fd), owner);
    common_pending_add(&stream->shared);
    *out = &stream->shared;
    return 0;
}

/* The last attempt to send; from here on only completions are awaited. */
static void stream_finish(struct loop_stream *shared)
{
    (void)!send_queue_flush(&shared->queue, shared->fd);
    shutdown(shared->fd, SHUT_RDWR);
    common_pending_add(shared);
}

static void uring_stream_close(struct loop_stream *base)
{
    struct uring_stream *const stream = (struct uring_stream *)base;

    stream->shared.closed = true;
    if (stream->sending)
        common_pending_add(&stream->shared); /* to cancel it */
    else
        stream_finish(&stream->shared);
}

static void receive_completed(struct uring_loop *loop, struct uring_stream *stream,
                              const struct completion *completion)
{
    struct loop_stream *const shared = &stream->shared;
    const int r = completion->result;

    if (completion->flags & IORING_CQE_F_BUFFER) {
        const uint16_t number = (uint16_t)(completion->flags >> IORING_CQE_BUFFER_SHIFT);
        const etag_str bytes = {loop->buffers + (size_t)number * BUFFER_BYTES,
                                r > 0 ? (size_t)r : 0};
        if (bytes.len > 0 && !shared->closed && !shared->ended)
            loop->shared.handler->received(loop->shared.ctx, shared->owner, bytes);
        buffer_give(loop, number);
    }
    stream->receiving = false;
    common_pending_add(shared); /* to be armed again, or freed */
    if (r == 0 || (r < 0 && r != -ENOBUFS && r != -EINTR))
        common_stream_end(shared, r);
}

static void send_completed(struct uring_stream *stream, const struct completion *completion)
{
    struct loop_stream *const shared = &stream->shared;
    const int r = completion->result;

    stream->sending = false;
    if (r > 0)
        send_queue_sent(&shared->queue, (size_t)r);
    else if (r < 0 && r != -ECANCELED && r != -EINTR)
        common_stream_fail(shared, r);
    if (shared->closed)
        stream_finish(shared);
    else
        common_pending_add(shared);
}

/* ---- Submitting ---- */

static bool submit_cancel(struct uring_loop *loop, uint64_t event, int flags)
{
    struct io_uring_sqe *const submission = take_submission(loop);

    if (!submission)
        return false;
    io_uring_prep_cancel64(submission, event, flags);
    io_uring_sqe_set_data64(submission, EVENT_OTHER);
    return true;
}

static bool submit_receive(struct uring_loop *loop, struct uring_stream *stream)
{
    struct io_uring_sqe *const submission = take_submission(loop);

    if (!submission)
        return false;
    io_uring_prep_recv(submission, stream->shared.fd, NULL, BUFFER_BYTES, 0);
    submission->flags |= IOSQE_BUFFER_SELECT;
    submission->buf_group = BUFFER_GROUP;
    io_uring_sqe_set_data64(submission, event_of(stream, EVENT_STREAM));
    stream->receiving = true;
    return true;
}

static bool submit_send(struct uring_loop *loop, struct uring_stream *stream)
{
    struct io_uring_sqe *const submission = take_submission(loop);

    if (!submission)
        return false;
    send_queue_message(&stream->shared.queue, &stream->message);
    io_uring_prep_sendmsg(submission, stream->shared.fd, &stream->message.header, MSG_NOSIGNAL);
    io_uring_sqe_set_data64(submission, event_of(stream, EVENT_SEND));
    stream->sending = true;
    return true;
}

/* Whatever the stream wants; may free it. False: no room to submit. */
static bool submit_stream(struct uring_loop *loop, struct uring_stream *stream)
{
    struct loop_stream *const shared = &stream->shared;

    if (shared->closed) {
        if (!stream->receiving && !stream->sending)
            common_stream_free(shared);
        else if (stream->sending && !stream->cancelling)
            return stream->cancelling = submit_cancel(loop, event_of(stream, EVENT_SEND), 0);
        return true;
    }
    if (!stream->receiving && common_stream_receives(shared) && !submit_receive(loop, stream))
        return false;
    return stream->sending || shared->queue.bytes == 0 || submit_send(loop, stream);
}

static bool submit_accept(struct uring_loop *loop)
{
    if (loop->accept_cancel && !submit_cancel(loop, loop->accept_cancel, 0))
        return false;
    loop->accept_cancel = 0;
    if (loop->accept_event || !common_accepting(&loop->shared))
        return true;
    struct io_uring_sqe *const submission = take_submission(loop);
    if (!submission)
        return false;
    loop->accept_last += EVENT_TAG_MASK + 1;
    loop->accept_event = loop->accept_last | EVENT_ACCEPT;
    io_uring_prep_poll_add(submission, loop->shared.listen_fd, POLLIN);
    io_uring_sqe_set_data64(submission, loop->accept_event);
    return true;
}

/* One shot each, armed again after the call: that makes them level-triggered. */
static bool submit_watches(struct uring_loop *loop)
{
    for (size_t i = 0; i < loop->shared.watch_count; i++) {
        struct common_watch *const watch = &loop->shared.watches[i];
        if (watch->armed)
            continue;
        struct io_uring_sqe *const submission = take_submission(loop);
        if (!submission)
            return false;
        io_uring_prep_poll_add(submission, watch->fd, POLLIN);
        io_uring_sqe_set_data64(submission, event_of(watch, EVENT_WATCH));
        watch->armed = true;
    }
    return true;
}

/* False: there was no room for all; the rest comes with the next turn. */
static bool submit_all(struct uring_loop *loop)
{
    struct loop_stream *shared;

    if (!submit_accept(loop) || !submit_watches(loop))
        return false;
    while ((shared = common_pending_take(&loop->shared))) {
        if (!submit_stream(loop, (struct uring_stream *)shared)) {
            common_pending_add(shared);
            return false;
        }
    }
    return true;
}

/* ---- A turn ---- */

static void hand_over(struct uring_loop *loop, const struct completion *completion)
{
    void *const pointer = event_pointer(completion->event);

    if (!(completion->flags & IORING_CQE_F_MORE))
        loop->operations--;
    switch (event_tag(completion->event)) {
    case EVENT_STREAM:
        receive_completed(loop, pointer, completion);
        break;
    case EVENT_SEND:
        send_completed(pointer, completion);
        break;
    case EVENT_ACCEPT:
        accept_completed(loop, completion);
        break;
    case EVENT_WATCH:
        watch_completed(loop, pointer, completion);
        break;
    case EVENT_OTHER:
        break;
    }
}

/* Submits, waits, hands over all completions that are there. */
static int wait_and_hand_over(struct uring_loop *loop, uint64_t timeout_ns)
{
    struct io_uring_cqe *entry;
    struct __kernel_timespec timeout = {
        .tv_sec = (int64_t)(timeout_ns / NS_PER_S),
        .tv_nsec = (int64_t)(timeout_ns % NS_PER_S),
    };
    const int r = io_uring_submit_and_wait_timeout(&loop->ring, &entry, 1, &timeout, NULL);

    if (r < 0 && r != -ETIME && r != -EINTR && r != -EBUSY && r != -EAGAIN)
        return r;
    for (unsigned left = io_uring_cq_ready(&loop->ring); left > 0; left--) {
        if (io_uring_peek_cqe(&loop->ring, &entry) < 0)
            break;
        const struct completion completion = {entry->user_data, entry->res, entry->flags};
        io_uring_cqe_seen(&loop->ring, entry);
        hand_over(loop, &completion);
    }
    return 0;
}

static int uring_turn(struct loop *base, uint64_t timeout_ns)
{
    struct uring_loop *const loop = (struct uring_loop *)base;
    const bool all = submit_all(loop);

    return wait_and_hand_over(loop, all ? common_wait_ns(&loop->shared, timeout_ns) : 0);
}

/* ---- Closing ---- */

static void operations_end(struct uring_loop *loop)
{
    bool cancelled = false;

    for (int tries = 0; tries < CLOSE_TRIES && loop->operations > 0; tries++) {
        if (!cancelled)
            cancelled = submit_cancel(loop, 0, IORING_ASYNC_CANCEL_ANY | IORING_ASYNC_CANCEL_ALL);
        if (wait_and_hand_over(loop, 100 * NS_PER_MS) < 0)
            return;
    }
}

static struct loop *uring_loop_close(struct loop *base)
{
    struct uring_loop *const loop = (struct uring_loop *)base;

    loop->closing = true;
    uring_unlisten(base);
    for (struct loop_stream *stream = loop->shared.streams; stream; stream = stream->next)
        stream->closed = true;
    if (loop->has_ring && loop->buffer_ring)
        operations_end(loop);
    common_streams_close(&loop->shared);
    if (loop->has_ring)
        io_uring_queue_exit(&loop->ring);
    if (loop->buffer_ring)
        munmap(loop->buffer_ring, BUFFER_MAP_BYTES);
    free(loop);
    return NULL;
}

const struct loop_backend loop_uring_backend = {
    .name = "io_uring",
    .open = uring_loop_open,
    .close = uring_loop_close,
    .listen = common_listen,
    .unlisten = uring_unlisten,
    .watch = uring_watch,
    .stream_open = uring_stream_open,
    .stream_close = uring_stream_close,
    .turn = uring_turn,
};
