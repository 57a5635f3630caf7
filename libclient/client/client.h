/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A client: one heap object. The hot path touches the fork word, the mapping, the scratch and the
 * counters; everything else is for calls that talk to the daemon.
 */
#ifndef LIBETAG_CLIENT_H
#define LIBETAG_CLIENT_H

#include "abi.h"
#include "answer.h"
#include "channel.h"
#include "forkword.h"
#include "mapping.h"
#include "repeated.h"

#define SPOOL_PATH_BYTES_MAX (CHANNEL_PATH_BYTES_MAX + 8)
struct shadow;
struct refill_limit;

/* What operations and guards do at these moments, of which the client has no knowledge: open.c has
 * the table. */
struct client_events {
    /* a daemon said hello */
    void (*greeted)(struct etag_client *client);
    /* the connection was looked after: what is due goes on */
    void (*kept_up)(struct etag_client *client);
    /* the first sign of fork in a child; and its first call that talks, which has closed the
     * parent's socket */
    void (*became_child)(struct etag_client *client);
    void (*left_socket)(struct etag_client *client);
};

struct etag_client {
    struct fork_word fork_word;
    struct mapping mapping;
    /* the mapping's, else own_counters; never NULL */
    struct counters *counters;
    /* without a daemon, and in a child of fork */
    struct counters own_counters;
    struct lookup_scratch scratch;
    struct repeated_fields repeated;
    /* every lookup is in shadow mode */
    bool shadows;
    /* shadow.c. NULL: none was yet */
    struct shadow *shadow;
    /* NULL: no fields alone differed yet */
    struct refill_limit *refill_limit;

    const struct client_events *events;
    uint32_t timeout_ms, connect_timeout_ms;
    struct channel channel;
    /* after fork, until the first call that talks */
    bool socket_is_parents;
    /* fill and dispatch don't try before */
    uint64_t connect_again_ns;
    /* 0: no need. The system refused the last mapping; ask again then */
    uint64_t map_again_ns;
    /* why there is no connection, or was none */
    struct fault link;
    /* there is none, and the last attempt to make one failed */
    bool link_down;

    etag_spool_use spool_use;
    /* "": there can be none */
    char spool_path[SPOOL_PATH_BYTES_MAX];
    /* of any daemon; the three below are the last one's */
    bool hello_seen;
    /* 0: none */
    uint64_t spool_id;
    /* guard_linger; also from a mark. 0: not known */
    uint64_t linger_ns;
    /* also from a mark. DEFAULT: not known, or HOST */
    etag_reach default_reach;

    /* op.h */
    struct etag_op *first_op, *last_op;
    size_t op_count;
    /* of an operation that is done */
    struct buffer spare_frame;
    /* mutate.c: of the mutation that is being made */
    struct arena names;
    /* guard.c */
    struct etag_guard *first_guard;
    size_t guard_count;

    /* of the last refused fill */
    etag_reason reason;
    /* of the last call that failed */
    struct fault fault;
};

/* The first sign of fork in a child: see client.c. */
void client_become_child(struct etag_client *client);

static inline void client_notice_fork(struct etag_client *client)
{
    if (__builtin_expect(!fork_word_stands(&client->fork_word), 0))
        client_become_child(client);
}

/* Every call that talks begins with this: it forgets the former fault and, in a child, gives up the
 * parent's socket. */
void client_begin(struct etag_client *client);

/* Sends and reads what is due; connects if there is no connection, not more often than every
 * RECONNECT_MS_MIN unless 'at_once'. Never blocks. */
MUST_USE etag_status client_keep_up(struct etag_client *client, bool at_once);

/* Waits for a connection; OK also where its index can't be mapped. */
MUST_USE etag_status client_connect(struct etag_client *client, uint64_t deadline_ns);

/* Sends a request and waits for the answer, which is of the expected kind if this returns OK.
 * Connects if need be; where the connection dies before the answer, connects again and repeats the
 * request: it must be harmless twice. */
MUST_USE etag_status client_call(struct etag_client *client, struct request *request,
                                 enum reply_kind expected, struct reply *reply);

/* OK, or DENIED where the daemon's hello did not give that role (enum role). */
MUST_USE etag_status client_require_role(struct etag_client *client, uint32_t role,
                                         const char *what);

/* The connection was just lost, and that is why. */
void client_lose_link(struct etag_client *client, const struct fault *why);

/* False in a child that has not talked yet. */
bool client_socket_is_ours(const struct etag_client *client);

#endif
