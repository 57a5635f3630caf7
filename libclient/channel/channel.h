/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A connection to the daemon, for the library and for etagctl. It never raises SIGPIPE and is
 * usable again after every failure. Only the three functions that take a deadline block
 * (CLOCK_MONOTONIC, see channel_now_ns()). One thread at a time.
 *
 * A function that waits for a reply returns it; all other replies go to the handler. A reply
 * borrows from the channel and is valid until the next call on it.
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
    /* connected, the hello is sent and not answered; requests may be sent after it */
    CHANNEL_GREETING,
    /* the daemon has answered the hello */
    CHANNEL_READY,
};

/* What the daemon's hello has. */
struct channel_hello {
    char software[64];
    uint32_t protocol;
    /* enum role */
    uint32_t roles;
    uint64_t clock_ns, lease_ns, incarnation_id, index_bytes, counters_bytes;
    uint64_t spool_id, linger_ns;
    etag_reach default_reach;
    /* our CLOCK_MONOTONIC_COARSE before the hello was sent and after the answer was read */
    uint64_t clock_before_ns, clock_after_ns;
    /* -1: none. The channel owns them until channel_take_hello() */
    int index_fd, counters_fd;
    /* this process had no free descriptor, so the kernel dropped those of the hello */
    bool fds_lost;
};

/* Both functions may be NULL; neither may call the channel. */
struct channel_handler {
    /* a reply for which no call waits */
    void (*reply)(void *context, const struct reply *reply);
    /* the connection has ended */
    void (*closed)(void *context);
    void *context;
};

/* The position of a request in the stream of a connection. */
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
    /* bytes at the beginning of each buffer that are sent, or handled */
    size_t out_sent, in_used;
    /* bytes sent on this connection, or on the last one */
    uint64_t sent_total;
    /* requests were queued by channel_hold_frame(), and the socket was not asked to take them */
    bool held;
    struct arena arena;
    struct channel_hello hello;
    /* channel_take_hello() was not called since the last hello */
    bool hello_fresh;
    int fds[CHANNEL_FDS_MAX];
    size_t fd_count;
    bool fds_lost;
    /* the last attempt to connect failed because the backlog was full: a daemon exists, but is busy
     * or stopped */
    bool backlog_full;
};

/* path: copied. handler: copied; NULL: none. Returns false if the path is empty or too long for a
 * Unix socket. */
MUST_USE bool channel_init(struct channel *channel, const char *path,
                           const struct channel_handler *handler);
void channel_deinit(struct channel *channel);

/* ---- Connection ---- */

/* Begins to connect if there is no connection. OK: GREETING or READY. Errors: UNAVAILABLE,
 * SYSTEM. */
MUST_USE etag_status channel_connect_start(struct channel *channel, struct fault *fault);

/* Connects and waits for the hello. Errors: UNAVAILABLE (no daemon, or no hello in time; then the
 * connection stays open and may become READY later), VERSION, DENIED, PROTOCOL, SYSTEM. */
MUST_USE etag_status channel_connect(struct channel *channel, uint64_t deadline_ns,
                                     struct fault *fault);

void channel_close(struct channel *channel);

/* Returns true once after each hello: copies it to *out with the descriptors, which the caller owns
 * then. */
MUST_USE bool channel_take_hello(struct channel *channel, struct channel_hello *out);

/* ---- Requests ---- */

/* Queues a request under a new id (request->id) and sends what the socket takes without blocking.
 * Errors: AGAIN (CLIENT_OUTGOING_BYTES_MAX are waiting; nothing was queued), INVALID (larger than a
 * frame), UNAVAILABLE (not connected, or the connection was lost before the whole request was
 * sent), SYSTEM. sent: may be NULL. */
MUST_USE etag_status channel_send(struct channel *channel, struct request *request,
                                  struct channel_sent *sent, struct fault *fault);

/* Appends the request's frame. Errors: INVALID (larger than a frame), SYSTEM. */
MUST_USE etag_status channel_encode(struct buffer *out, const struct request *request,
                                    struct fault *fault);

/* Returns a new id, for a request whose owner encodes it and keeps the frame, to send it again over
 * the next connection. */
uint64_t channel_new_id(struct channel *channel);

/* Queues such a frame. Errors as channel_send(). */
MUST_USE etag_status channel_send_frame(struct channel *channel, uint64_t id, etag_str frame,
                                        struct channel_sent *sent, struct fault *fault);

/* Queues such a frame and sends nothing: it goes with the next call that sends, in one piece with
 * what is queued until then. Errors as channel_send_frame(). */
MUST_USE etag_status channel_hold_frame(struct channel *channel, uint64_t id, etag_str frame,
                                        struct channel_sent *sent, struct fault *fault);

/* Sends what the socket takes of what was held, if anything is. A connection that is lost shows
 * with the next call that reads. */
void channel_send_held(struct channel *channel);

/* Returns whether the whole request was handed to the socket, so that the daemon may have seen it.
 * Valid for the current connection, or for the last one until the next is made. */
bool channel_was_sent(const struct channel *channel, const struct channel_sent *sent);

/* Sends a request and waits for the reply with its id, which may be REPLY_ERROR (see
 * channel_reply_status()). Errors: TIMEOUT, UNAVAILABLE (the connection is lost: reconnect and
 * repeat), INVALID, PROTOCOL, SYSTEM. sent: may be NULL; set before any error after which the
 * request may have been sent. */
MUST_USE etag_status channel_call(struct channel *channel, struct request *request,
                                  uint64_t deadline_ns, struct channel_sent *sent,
                                  struct reply *reply, struct fault *fault);

/* Waits for the next reply, whatever its id: for watching. Errors: TIMEOUT, UNAVAILABLE, PROTOCOL,
 * SYSTEM. */
MUST_USE etag_status channel_receive(struct channel *channel, uint64_t deadline_ns,
                                     struct reply *reply, struct fault *fault);

/* Sends what is queued and passes every reply that came to the handler. Never blocks. Errors:
 * UNAVAILABLE, VERSION, DENIED, PROTOCOL, SYSTEM; each closes the connection. */
MUST_USE etag_status channel_pump(struct channel *channel, struct fault *fault);

/* Returns OK if the reply is of the expected kind; for REPLY_ERROR its status, with its text in
 * fault; else PROTOCOL. */
MUST_USE etag_status channel_reply_status(const struct reply *reply, enum reply_kind expected,
                                          struct fault *fault);

/* ---- For event loops ---- */

short channel_events(const struct channel *channel); /* of poll(2); 0 without a connection */
/* Returns whether a reply is in the buffer, for channel_pump() or channel_receive(). poll(2) does
 * not report it. */
bool channel_has_reply(const struct channel *channel);

uint64_t channel_now_ns(void);
/* Returns the milliseconds until the deadline for poll(2), rounded up; 0: it has passed. */
int channel_ms_until(uint64_t deadline_ns);

#endif
