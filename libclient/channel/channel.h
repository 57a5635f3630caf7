/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A connection to the daemon: for the library and for etagctl. Never raises SIGPIPE, never blocks
 * except in the three functions that take a deadline (CLOCK_MONOTONIC, see channel_now_ns), and is
 * usable again after every failure. One thread at a time.
 *
 * Replies that somebody waits for are returned, all others go to the handler. A reply borrows from
 * the channel: it is valid until the next call on it.
 */
#ifndef LIBETAG_CHANNEL_H
#define LIBETAG_CHANNEL_H

#include "fault.h"
#include "message.h"

#include <sys/un.h>

#define CHANNEL_PATH_BYTES_MAX sizeof(((struct sockaddr_un *)NULL)->sun_path)

enum channel_state {
    /* no connection */
    CHANNEL_CLOSED,
    /* connected, the hello is on its way; requests may be sent behind it */
    CHANNEL_GREETING,
    /* the daemon said hello */
    CHANNEL_READY,
};

/* What the daemon's hello said. */
struct channel_hello {
    char software[64];
    uint32_t protocol;
    /* enum role */
    uint32_t roles;
    uint64_t clock_ns, lease_ns, incarnation_id, index_bytes, counters_bytes;
    uint64_t spool_id, linger_ns;
    etag_reach default_reach;
    /* our own CLOCK_MONOTONIC_COARSE around the exchange */
    uint64_t clock_before_ns, clock_after_ns;
    /* -1: none. Owned by the channel until channel_take_hello */
    int index_fd, counters_fd;
    /* the kernel had no room for descriptors of ours */
    bool fds_lost;
};

/* Both may be NULL; neither may call the channel. */
struct channel_handler {
    /* one that nobody waits for */
    void (*reply)(void *context, const struct reply *reply);
    /* the connection has ended */
    void (*closed)(void *context);
    void *context;
};

/* Where a request stands in the stream. */
struct channel_sent {
    uint64_t id;
    /* 0: not queued */
    uint64_t end;
};

#define CHANNEL_FDS_MAX 2

struct channel {
    char path[CHANNEL_PATH_BYTES_MAX];
    struct channel_handler handler;
    enum channel_state state;
    int fd;
    uint64_t last_id, hello_id;
    struct buffer out, in;
    /* bytes at the beginning of the buffers that are done with */
    size_t out_sent, in_used;
    /* on this connection, or the last one */
    uint64_t sent_total;
    struct arena arena;
    struct channel_hello hello;
    /* channel_take_hello has not been called since */
    bool hello_fresh;
    int fds[CHANNEL_FDS_MAX];
    size_t fd_count;
    bool fds_lost;
    /* why the last attempt to connect failed: a daemon is there, but busy or stopped */
    bool backlog_full;
};

/* path: copied. False: it is empty or too long for a Unix socket. handler: copied; NULL for
 * none. */
MUST_USE bool channel_init(struct channel *channel, const char *path,
                           const struct channel_handler *handler);
void channel_deinit(struct channel *channel);

/* ---- Connection ---- */

/* Begins to connect if there is no connection. OK: GREETING or READY. Errors: UNAVAILABLE,
 * SYSTEM. */
MUST_USE etag_status channel_connect_start(struct channel *channel, struct fault *fault);

/* Connects and waits for the hello. Errors: UNAVAILABLE (no daemon, or no hello in time: the
 * connection is kept, and may become ready later), VERSION, DENIED, PROTOCOL, SYSTEM. */
MUST_USE etag_status channel_connect(struct channel *channel, uint64_t deadline_ns,
                                     struct fault *fault);

void channel_close(struct channel *channel);

/* True once after each hello: *out gets what it said and the descriptors, which the caller owns
 * then. */
MUST_USE bool channel_take_hello(struct channel *channel, struct channel_hello *out);

/* ---- Requests ---- */

/* Queues a request under a new id (request->id) and sends what the socket takes. Errors: AGAIN
 * (CLIENT_OUTGOING_BYTES_MAX are waiting; nothing was queued), INVALID (larger than a frame),
 * UNAVAILABLE (not connected, or lost now: this request did not get out whole), SYSTEM. sent: may
 * be NULL. */
MUST_USE etag_status channel_send(struct channel *channel, struct request *request,
                                  struct channel_sent *sent, struct fault *fault);

/* Appends the request's frame. Errors: INVALID (larger than a frame), SYSTEM. */
MUST_USE etag_status channel_encode(struct buffer *out, const struct request *request,
                                    struct fault *fault);

/* A new id, for a request that its owner encodes and keeps, to send it again over the next
 * connection. */
uint64_t channel_new_id(struct channel *channel);

/* Queues such a frame. Errors as channel_send. */
MUST_USE etag_status channel_send_frame(struct channel *channel, uint64_t id, etag_str frame,
                                        struct channel_sent *sent, struct fault *fault);

/* The whole request has been handed to the socket, so the daemon may have seen it. Answers for the
 * current connection, or for the last one until there is another. */
bool channel_was_sent(const struct channel *channel, const struct channel_sent *sent);

/* Sends a request and waits for the reply with its id, which may be REPLY_ERROR (see
 * channel_reply_status). Errors: TIMEOUT, UNAVAILABLE (the connection is lost: reconnect and
 * repeat), INVALID, PROTOCOL, SYSTEM. sent: may be NULL; is set before anything can fail that may
 * have been sent. */
MUST_USE etag_status channel_call(struct channel *channel, struct request *request,
                                  uint64_t deadline_ns, struct channel_sent *sent,
                                  struct reply *reply, struct fault *fault);

/* Waits for the next reply, whatever its id: for watching. Errors: TIMEOUT, UNAVAILABLE, PROTOCOL,
 * SYSTEM. */
MUST_USE etag_status channel_receive(struct channel *channel, uint64_t deadline_ns,
                                     struct reply *reply, struct fault *fault);

/* Sends what waits, hands every reply that came to the handler. Never blocks. Errors: UNAVAILABLE,
 * VERSION, DENIED, PROTOCOL, SYSTEM: the connection is closed then. */
MUST_USE etag_status channel_pump(struct channel *channel, struct fault *fault);

/* OK if the reply is of the expected kind; the status and text of REPLY_ERROR; else PROTOCOL. */
MUST_USE etag_status channel_reply_status(const struct reply *reply, enum reply_kind expected,
                                          struct fault *fault);

/* ---- For event loops ---- */

short channel_events(const struct channel *channel); /* of poll(2); 0 without a connection */
/* A reply that came is waiting for channel_pump or channel_receive; poll(2) does not know of it. */
bool channel_has_reply(const struct channel *channel);

uint64_t channel_now_ns(void);
/* Milliseconds until then for poll(2), rounded up; 0: it is over. */
int channel_ms_until(uint64_t deadline_ns);

#endif
