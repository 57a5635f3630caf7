/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The channel: two byte buffers around a non-blocking socket. Each blocking function does what is
 * possible without blocking and then polls until the deadline, so there is one way to send and one
 * way to read.
 *
 * connect(2) to a Unix socket succeeds or fails at once; only the hello may take long, when the
 * daemon is stopped. Every failure of a connection closes it, in one place (channel_close()), which
 * calls the handler.
 */
#include "channel.h"

#include "clocktime.h"
#include "numbers.h"
#include "text.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>

#define RECEIVE_BYTES 65536u
#define RECEIVES_PER_PUMP_MAX 16
#define BACKLOG_RETRY_MS 5
#define CONTROL_FDS_MAX 8 /* more than anybody sends, so that surplus ones can be closed */

static const char software_name[] = "libetag " ETAG_VERSION_STRING;

uint64_t channel_now_ns(void)
{
    return time_ns_of(CLOCK_MONOTONIC);
}

int channel_ms_until(uint64_t deadline_ns)
{
    const uint64_t now = channel_now_ns();

    if (now >= deadline_ns)
        return 0;
    const uint64_t ms = (deadline_ns - now + NS_PER_MS - 1) / NS_PER_MS;
    return ms > INT32_MAX ? INT32_MAX : (int)ms;
}

bool channel_init(struct channel *channel, const char *path, const struct channel_handler *handler)
{
    const size_t len = strlen(path);

    *channel = (struct channel){.fd = -1, .hello = {.index_fd = -1, .counters_fd = -1}};
    arena_init(&channel->arena, ARENA_BYTES_MAX);
    if (handler)
        channel->handler = *handler;
    if (len == 0 || len >= sizeof(channel->path))
        return false;
    memcpy(channel->path, path, len + 1);
    return true;
}

void channel_deinit(struct channel *channel)
{
    channel_close(channel);
    buffer_deinit(&channel->out);
    buffer_deinit(&channel->in);
    arena_deinit(&channel->arena);
}

static void close_descriptors(struct channel *channel)
{
    for (size_t i = 0; i < channel->fd_count; i++)
        cleanup_fd(&channel->fds[i]);
    channel->fd_count = 0;
    cleanup_fd(&channel->hello.index_fd);
    cleanup_fd(&channel->hello.counters_fd);
    channel->hello.index_fd = channel->hello.counters_fd = -1;
}

void channel_close(struct channel *channel)
{
    if (channel->state == CHANNEL_CLOSED)
        return;
    channel->state = CHANNEL_CLOSED;
    if (channel->handler.closed)
        channel->handler.closed(channel->handler.context);
    cleanup_fd(&channel->fd);
    channel->fd = -1;
    close_descriptors(channel);
    channel->hello_fresh = channel->fds_lost = false;
    channel->out.len = channel->out_sent = 0;
    channel->held = false;
    channel->in.len = channel->in_used = 0;
}

/* The connection ends with this fault. */
static etag_status channel_fail(struct channel *channel, etag_status status)
{
    channel_close(channel);
    return status;
}

/* ---- Sending ---- */

/* 0 also where the socket is full and some bytes still wait; else a negative errno. */
static int send_queued(struct channel *channel)
{
    while (channel->out_sent < channel->out.len) {
        const ssize_t n = send(channel->fd, channel->out.bytes + channel->out_sent,
                               channel->out.len - channel->out_sent, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno != EAGAIN && errno != ENOBUFS)
            return -errno;
        channel->held = false;
        if (n < 0)
            return 0;
        channel->out_sent += (size_t)n;
        channel->sent_total += (uint64_t)n;
    }
    channel->out.len = channel->out_sent = 0;
    return 0;
}

static etag_status channel_flush(struct channel *channel, struct fault *fault)
{
    const int r = send_queued(channel);

    if (r == 0)
        return ETAG_OK;
    fault_set(fault, ETAG_UNAVAILABLE, "the connection to %s is lost: %s", channel->path,
              strerrordesc_np(-r));
    return channel_fail(channel, ETAG_UNAVAILABLE);
}

/* Drops the bytes at the beginning that were sent, so that the buffer's bound is a bound of waiting
 * bytes. */
static void compact_outgoing(struct channel *channel)
{
    const size_t left = channel->out.len - channel->out_sent;

    if (channel->out_sent > 0 && left > 0)
        memmove(channel->out.bytes, channel->out.bytes + channel->out_sent, left);
    channel->out.len = left;
    channel->out_sent = 0;
}

/* OK where the bytes after 'before' may be queued; else they are dropped. A frame may be as large
 * as the bound: alone it always passes. */
static etag_status channel_queued(struct channel *channel, size_t before, uint64_t id,
                                  struct channel_sent *sent, struct fault *fault)
{
    if (before > 0 && channel->out.len > CLIENT_OUTGOING_BYTES_MAX) {
        channel->out.len = before;
        return fault_set(fault, ETAG_AGAIN, "the socket is full, and %zu bytes wait already",
                         before);
    }
    *sent = (struct channel_sent){id, channel->sent_total + channel->out.len};
    return ETAG_OK;
}

etag_status channel_encode(struct buffer *out, const struct request *request, struct fault *fault)
{
    const int r = request_encode(out, request);

    if (r == -EMSGSIZE)
        return fault_set(fault, ETAG_INVALID, "the request is larger than %u bytes",
                         FRAME_BYTES_MAX);
    return r < 0 ? fault_system(fault, r, "cannot encode a request") : ETAG_OK;
}

static etag_status channel_queue(struct channel *channel, struct request *request,
                                 struct channel_sent *sent, struct fault *fault)
{
    compact_outgoing(channel);
    const size_t before = channel->out.len;
    request->id = channel->last_id + 1;
    etag_status status = channel_encode(&channel->out, request, fault);
    if (status != ETAG_OK)
        return status;
    status = channel_queued(channel, before, request->id, sent, fault);
    if (status == ETAG_OK)
        channel->last_id = request->id;
    return status;
}

etag_status channel_send(struct channel *channel, struct request *request,
                         struct channel_sent *sent, struct fault *fault)
{
    struct channel_sent unused;

    if (!sent)
        sent = &unused;
    *sent = (struct channel_sent){0};
    if (channel->state == CHANNEL_CLOSED)
        return fault_set(fault, ETAG_UNAVAILABLE, "not connected to %s", channel->path);
    const etag_status status = channel_queue(channel, request, sent, fault);
    if (status != ETAG_OK)
        return status;
    return channel_flush(channel, fault);
}

uint64_t channel_new_id(struct channel *channel)
{
    return ++channel->last_id;
}

static etag_status queue_frame(struct channel *channel, uint64_t id, etag_str frame,
                               struct channel_sent *sent, struct fault *fault)
{
    *sent = (struct channel_sent){0};
    if (channel->state == CHANNEL_CLOSED)
        return fault_set(fault, ETAG_UNAVAILABLE, "not connected to %s", channel->path);
    compact_outgoing(channel);
    const size_t before = channel->out.len;
    const int r = buffer_reserve(&channel->out, frame.len);
    if (r < 0)
        return fault_system(fault, r, "cannot queue a request");
    memcpy(channel->out.bytes + before, frame.data, frame.len);
    channel->out.len += frame.len;
    return channel_queued(channel, before, id, sent, fault);
}

etag_status channel_send_frame(struct channel *channel, uint64_t id, etag_str frame,
                               struct channel_sent *sent, struct fault *fault)
{
    const etag_status status = queue_frame(channel, id, frame, sent, fault);

    return status == ETAG_OK ? channel_flush(channel, fault) : status;
}

etag_status channel_hold_frame(struct channel *channel, uint64_t id, etag_str frame,
                               struct channel_sent *sent, struct fault *fault)
{
    const etag_status status = queue_frame(channel, id, frame, sent, fault);

    channel->held |= status == ETAG_OK;
    return status;
}

/* A daemon that closes has said why, and may have answered before: that is read first, by the next
 * call that reads, which then finds the end. */
void channel_send_held(struct channel *channel)
{
    if (channel->held && send_queued(channel) < 0)
        return;
}

bool channel_was_sent(const struct channel *channel, const struct channel_sent *sent)
{
    return sent->end > 0 && channel->sent_total >= sent->end;
}

/* ---- Receiving ---- */

/* Keeps the descriptors that a hello may bring, closes all others. */
static void take_descriptors(struct channel *channel, struct msghdr *message)
{
    for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        const size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < count; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
            if (channel->state == CHANNEL_GREETING && channel->fd_count < CHANNEL_FDS_MAX)
                channel->fds[channel->fd_count++] = fd;
            else
                close(fd);
        }
    }
    if (message->msg_flags & MSG_CTRUNC)
        channel->fds_lost = true;
}

/* Reads once: AGAIN where nothing is there. */
static etag_status channel_read(struct channel *channel, struct fault *fault)
{
    if (channel->in_used > 0) {
        channel->in.len -= channel->in_used;
        memmove(channel->in.bytes, channel->in.bytes + channel->in_used, channel->in.len);
        channel->in_used = 0;
    }
    const int r = buffer_reserve(&channel->in, RECEIVE_BYTES);
    if (r < 0) {
        fault_system(fault, r, "cannot read from the daemon");
        return channel_fail(channel, ETAG_SYSTEM);
    }

    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(CONTROL_FDS_MAX * sizeof(int))];
    } control;
    struct iovec io = {channel->in.bytes + channel->in.len, RECEIVE_BYTES};
    struct msghdr message = {.msg_iov = &io,
                             .msg_iovlen = 1,
                             .msg_control = &control,
                             .msg_controllen = sizeof(control)};
    ssize_t n;
    do
        n = recvmsg(channel->fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    while (n < 0 && errno == EINTR);
    if (n < 0 && errno == EAGAIN)
        return ETAG_AGAIN;
    if (n <= 0) {
        if (n == 0)
            fault_set(fault, ETAG_UNAVAILABLE, "the daemon closed the connection");
        else
            fault_set(fault, ETAG_UNAVAILABLE, "the connection to %s is lost: %s", channel->path,
                      strerrordesc_np(errno));
        return channel_fail(channel, ETAG_UNAVAILABLE);
    }
    take_descriptors(channel, &message);
    channel->in.len += (size_t)n;
    return ETAG_OK;
}

static etag_str unread_bytes(const struct channel *channel)
{
    return (etag_str){(const char *)channel->in.bytes + channel->in_used,
                      channel->in.len - channel->in_used};
}

bool channel_has_reply(const struct channel *channel)
{
    etag_str payload;

    if (channel->state == CHANNEL_CLOSED || channel->in.len == channel->in_used)
        return false;
    return frame_next(unread_bytes(channel), &payload) != 0;
}

etag_status channel_reply_status(const struct reply *reply, enum reply_kind expected,
                                 struct fault *fault)
{
    if (reply->kind == expected)
        return ETAG_OK;
    if (reply->kind != REPLY_ERROR)
        return fault_set(fault, ETAG_PROTOCOL,
                         "the daemon's answer is of another kind than the request's");
    const int len = (int)min_of(reply->error.text.len, ERROR_TEXT_BYTES_MAX);
    return fault_set(fault, wire_error_status(reply->error.code), "%s%s%.*s",
                     wire_error_word(reply->error.code), len > 0 ? ": " : "", len,
                     len > 0 ? reply->error.text.data : "");
}

/* ---- Hello ---- */

static etag_status hello_refused(struct channel *channel, const struct reply *reply,
                                 struct fault *fault)
{
    struct fault said;
    const etag_status status = channel_reply_status(reply, REPLY_HELLO, &said);

    if (status == ETAG_VERSION)
        fault_set(fault, status, "%s speaks protocol %u, which the daemon on %s refuses: %s",
                  software_name, PROTOCOL_VERSION, channel->path, said.text);
    else
        fault_set(fault, status, "the daemon on %s refuses the connection: %s", channel->path,
                  said.text);
    return channel_fail(channel, status);
}

/* The first descriptor is the index, the last one the counters; neither must be missing or
 * surplus. */
static etag_status hello_assign_descriptors(struct channel *channel, struct fault *fault)
{
    struct channel_hello *hello = &channel->hello;
    const size_t expected = (hello->index_bytes ? 1u : 0u) + (hello->counters_bytes ? 1u : 0u);

    if (channel->fd_count != expected && !channel->fds_lost) {
        fault_set(fault, ETAG_PROTOCOL,
                  "the daemon's hello came with %zu descriptors instead of %zu", channel->fd_count,
                  expected);
        return channel_fail(channel, ETAG_PROTOCOL);
    }
    hello->fds_lost = channel->fd_count != expected;
    if (!hello->fds_lost) {
        size_t i = 0;
        if (hello->index_bytes)
            hello->index_fd = channel->fds[i++];
        if (hello->counters_bytes)
            hello->counters_fd = channel->fds[i++];
        channel->fd_count = 0;
    }
    return ETAG_OK;
}

static etag_status hello_accept(struct channel *channel, const struct reply *reply,
                                struct fault *fault)
{
    struct channel_hello *hello = &channel->hello;

    if (reply->kind != REPLY_HELLO)
        return hello_refused(channel, reply, fault);

    const size_t name_len = reply->hello.software.len < sizeof(hello->software) - 1
                                ? reply->hello.software.len
                                : sizeof(hello->software) - 1;
    memset(hello->software, 0, sizeof(hello->software));
    if (name_len > 0)
        memcpy(hello->software, reply->hello.software.data, name_len);
    hello->protocol = reply->hello.protocol;
    if (hello->protocol != PROTOCOL_VERSION) {
        fault_set(fault, ETAG_VERSION, "%s speaks protocol %u, the daemon on %s (%s) protocol %u",
                  software_name, PROTOCOL_VERSION, channel->path, hello->software, hello->protocol);
        return channel_fail(channel, ETAG_VERSION);
    }
    hello->roles = reply->hello.roles;
    hello->clock_ns = reply->hello.clock_ns;
    hello->lease_ns = reply->hello.lease_ns;
    hello->incarnation_id = reply->hello.incarnation_id;
    hello->index_bytes = reply->hello.index_bytes;
    hello->counters_bytes = reply->hello.counters_bytes;
    hello->spool_id = reply->hello.spool_id;
    hello->linger_ns = reply->hello.linger_ns;
    hello->default_reach = reply->hello.default_reach;
    const etag_status status = hello_assign_descriptors(channel, fault);
    if (status != ETAG_OK)
        return status;
    /* Descriptors that come later have no reader: take_descriptors closes them. */
    channel->state = CHANNEL_READY;
    channel->hello_fresh = true;
    return ETAG_OK;
}

bool channel_take_hello(struct channel *channel, struct channel_hello *out)
{
    if (!channel->hello_fresh)
        return false;
    channel->hello_fresh = false;
    *out = channel->hello;
    channel->hello.index_fd = channel->hello.counters_fd = -1;
    return true;
}

/* ---- Replies ---- */

/* The next whole frame that came: OK and a reply, AGAIN where there is none. The hello's and errors
 * of the connection itself are dealt with here. */
static etag_status channel_next(struct channel *channel, struct reply *reply, struct fault *fault)
{
    for (;;) {
        etag_str payload;
        if (channel->in.len == channel->in_used)
            return ETAG_AGAIN;
        const int found = frame_next(unread_bytes(channel), &payload);
        if (found == 0)
            return ETAG_AGAIN;
        const char *wrong = found < 0 ? "a frame of a forbidden length" : NULL;
        if (!wrong) {
            channel->in_used += FRAME_HEADER_BYTES + payload.len;
            arena_reset(&channel->arena);
            wrong = reply_decode(reply, &channel->arena, payload);
        }
        if (wrong) {
            fault_set(fault, ETAG_PROTOCOL, "the daemon on %s sent nonsense: %s", channel->path,
                      wrong);
            return channel_fail(channel, ETAG_PROTOCOL);
        }
        if (reply->kind == REPLY_ERROR && reply->id == 0 && channel->state == CHANNEL_READY) {
            etag_status status = channel_reply_status(reply, REPLY_NONE, fault);
            /* Not a broken protocol: an idle or slow client is sent away and may come back. */
            if (reply->error.code == WIRE_ERROR_SLOW)
                status = fault->status = ETAG_UNAVAILABLE;
            return channel_fail(channel, status);
        }
        if (channel->state == CHANNEL_READY)
            return ETAG_OK;
        channel->hello.clock_after_ns = time_coarse_ns();
        if (reply->id != channel->hello_id && reply->kind != REPLY_ERROR) {
            fault_set(fault, ETAG_PROTOCOL, "the daemon on %s answered before its hello",
                      channel->path);
            return channel_fail(channel, ETAG_PROTOCOL);
        }
        const etag_status status = hello_accept(channel, reply, fault);
        if (status != ETAG_OK)
            return status;
    }
}

static void hand_over(struct channel *channel, const struct reply *reply)
{
    if (channel->handler.reply)
        channel->handler.reply(channel->handler.context, reply);
}

etag_status channel_pump(struct channel *channel, struct fault *fault)
{
    if (channel->state == CHANNEL_CLOSED)
        return fault_set(fault, ETAG_UNAVAILABLE, "not connected to %s", channel->path);
    /* A daemon that closes says why first: what it sent must be read even where sending fails. */
    struct reply reply;
    etag_status status = ETAG_OK;
    for (int i = 0; i < RECEIVES_PER_PUMP_MAX && status == ETAG_OK; i++) {
        while ((status = channel_next(channel, &reply, fault)) == ETAG_OK)
            hand_over(channel, &reply);
        if (status == ETAG_AGAIN)
            status = channel_read(channel, fault);
    }
    if (status != ETAG_OK && status != ETAG_AGAIN)
        return status;
    while ((status = channel_next(channel, &reply, fault)) == ETAG_OK)
        hand_over(channel, &reply);
    return status == ETAG_AGAIN ? channel_flush(channel, fault) : status;
}

short channel_events(const struct channel *channel)
{
    if (channel->state == CHANNEL_CLOSED)
        return 0;
    return (short)(POLLIN | (channel->out_sent < channel->out.len ? POLLOUT : 0));
}

/* OK when something may be done, TIMEOUT when the time is over. A signal may end the wait early,
 * which is harmless. */
static etag_status channel_wait(struct channel *channel, uint64_t deadline_ns, struct fault *fault)
{
    struct pollfd p = {.fd = channel->fd, .events = channel_events(channel)};
    const int ms = channel_ms_until(deadline_ns);

    if (ms == 0)
        return fault_set(fault, ETAG_TIMEOUT, "no answer from the daemon on %s in time",
                         channel->path);
    if (poll(&p, 1, ms) < 0 && errno != EINTR)
        return fault_system(fault, -errno, "cannot wait for the daemon");
    return ETAG_OK;
}

etag_status channel_receive(struct channel *channel, uint64_t deadline_ns, struct reply *reply,
                            struct fault *fault)
{
    for (;;) {
        if (channel->state == CHANNEL_CLOSED)
            return fault_set(fault, ETAG_UNAVAILABLE, "not connected to %s", channel->path);
        etag_status status = channel_next(channel, reply, fault);
        if (status != ETAG_AGAIN)
            return status;
        status = channel_read(channel, fault);
        if (status == ETAG_AGAIN) {
            status = channel_flush(channel, fault);
            if (status == ETAG_OK)
                status = channel_wait(channel, deadline_ns, fault);
        }
        if (status != ETAG_OK)
            return status;
    }
}

/* Queues a request however full the socket is, until the deadline. */
static etag_status send_until(struct channel *channel, struct request *request,
                              uint64_t deadline_ns, struct channel_sent *sent, struct fault *fault)
{
    for (;;) {
        etag_status status = channel_send(channel, request, sent, fault);
        if (status != ETAG_AGAIN)
            return status;
        status = channel_wait(channel, deadline_ns, fault);
        if (status == ETAG_OK)
            status = channel_pump(channel, fault);
        if (status != ETAG_OK)
            return status;
    }
}

etag_status channel_call(struct channel *channel, struct request *request, uint64_t deadline_ns,
                         struct channel_sent *sent, struct reply *reply, struct fault *fault)
{
    struct channel_sent unused;

    if (!sent)
        sent = &unused;
    etag_status status = send_until(channel, request, deadline_ns, sent, fault);
    while (status == ETAG_OK) {
        status = channel_receive(channel, deadline_ns, reply, fault);
        if (status == ETAG_OK && reply->id == sent->id)
            return ETAG_OK;
        if (status == ETAG_OK)
            hand_over(channel, reply);
    }
    return status;
}

/* ---- Connecting ---- */

static etag_status open_socket(struct channel *channel, int *out, struct fault *fault)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    CLEANUP(cleanup_fd) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return fault_system(fault, -errno, "cannot make a socket");
    memcpy(address.sun_path, channel->path, sizeof(address.sun_path));
    if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
        return fault_set(fault, errno == EAGAIN ? ETAG_AGAIN : ETAG_UNAVAILABLE,
                         "cannot connect to %s: %s", channel->path,
                         errno == EAGAIN ? "its queue is full" : strerrordesc_np(errno));
    *out = take_fd(&fd);
    return ETAG_OK;
}

/* AGAIN: the daemon's queue is full. */
static etag_status connect_once(struct channel *channel, struct fault *fault)
{
    if (channel->state != CHANNEL_CLOSED)
        return ETAG_OK;
    etag_status status = open_socket(channel, &channel->fd, fault);
    channel->backlog_full = status == ETAG_AGAIN;
    if (status != ETAG_OK)
        return status;
    channel->state = CHANNEL_GREETING;
    channel->sent_total = 0;
    struct request hello = {
        .kind = REQUEST_HELLO,
        .hello = {.protocol = PROTOCOL_VERSION, .software = str_of(software_name)}};
    struct channel_sent sent;
    channel->hello.clock_before_ns = time_coarse_ns();
    channel->hello_id = channel->last_id + 1;
    status = channel_send(channel, &hello, &sent, fault);
    return status == ETAG_OK ? ETAG_OK : channel_fail(channel, status);
}

etag_status channel_connect_start(struct channel *channel, struct fault *fault)
{
    const etag_status status = connect_once(channel, fault);

    return status == ETAG_AGAIN ? fault->status = ETAG_UNAVAILABLE : status;
}

/* No call waits for replies here, and there are none before the hello. */
static etag_status await_hello(struct channel *channel, uint64_t deadline_ns, struct fault *fault)
{
    etag_status status = channel_pump(channel, fault);

    while (status == ETAG_OK && channel->state == CHANNEL_GREETING) {
        status = channel_wait(channel, deadline_ns, fault);
        if (status == ETAG_TIMEOUT)
            return fault_set(fault, ETAG_UNAVAILABLE, "no hello from the daemon on %s in time",
                             channel->path);
        if (status == ETAG_OK)
            status = channel_pump(channel, fault);
    }
    return status;
}

etag_status channel_connect(struct channel *channel, uint64_t deadline_ns, struct fault *fault)
{
    etag_status status;

    while ((status = connect_once(channel, fault)) == ETAG_AGAIN) {
        const int ms = channel_ms_until(deadline_ns);
        if (ms == 0)
            return fault->status = ETAG_UNAVAILABLE;
        /* A full queue cannot be polled. */
        poll(NULL, 0, ms < BACKLOG_RETRY_MS ? ms : BACKLOG_RETRY_MS);
    }
    if (status != ETAG_OK || channel->state == CHANNEL_READY)
        return status;
    return await_hello(channel, deadline_ns, fault);
}
