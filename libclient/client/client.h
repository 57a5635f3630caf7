/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A client: one heap object, used by one thread at a time. A lookup touches only the fork word, the
 * mapping, the scratch and the counters; everything else is for calls that talk to the daemon.
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

/* Hooks by which the client calls operations and guards, on which it does not depend: open.c has
 * the table. */
struct client_events {
    /* a daemon said hello */
    void (*greeted)(struct etag_client *client);
    /* the client has sent and read what it could: operations that are due go on */
    void (*kept_up)(struct etag_client *client);
    /* a child of fork was noticed; and its first call that talks has closed the parent's socket */
    void (*became_child)(struct etag_client *client);
    void (*left_socket)(struct etag_client *client);
};

struct etag_client {
    struct fork_word fork_word;
    struct mapping mapping;
    /* the mapping's, else own_counters; never NULL */
    struct counters *counters;
    /* used without a daemon, and in a child of fork */
    struct counters own_counters;
    struct lookup_scratch scratch;
    struct repeated_fields repeated;
    /* every lookup is in shadow mode */
    bool shadows;
    /* shadow.c. NULL: no lookup in shadow mode yet */
    struct shadow *shadow;
    /* NULL: no answer differed from its entry in the fields alone yet */
    struct refill_limit *refill_limit;

    const struct client_events *events;
    uint32_t timeout_ms, connect_timeout_ms;
    struct channel channel;
    /* in a child of fork, until its first call that talks */
    bool socket_is_parents;
    /* etag_fill() and etag_dispatch() do not connect before this time */
    uint64_t connect_again_ns;
    /* when to ask for the index again, because the system refused the last mapping; 0: no need */
    uint64_t map_again_ns;
    /* why the last connection, or attempt to connect, failed */
    struct fault link;
    /* there is no connection, and the last attempt to make one failed */
    bool link_down;

    etag_spool_use spool_use;
    /* "": no spool is possible */
    char spool_path[SPOOL_PATH_BYTES_MAX];
    /* a daemon has said hello; the three members below are the last one's */
    bool hello_seen;
    /* 0: none */
    uint64_t spool_id;
    /* guard_linger, from a hello or a mark. 0: not known */
    uint64_t linger_ns;
    /* from a hello or a mark. DEFAULT: not known, or HOST */
    etag_reach default_reach;

    /* op.h */
    struct etag_op *first_op, *last_op;
    size_t op_count;
    /* the frame's memory of an operation that is done, for the next one */
    struct buffer spare_frame;
    /* mutate.c: names of the mutation that is being made */
    struct arena names;
    /* guard.c */
    struct etag_guard *first_guard;
    size_t guard_count;

    /* why the last fill was refused */
    etag_reason reason;
    /* the error of the last call that failed */
    struct fault fault;
};

/* Called when a child notices the fork: see client.c. */
void client_become_child(struct etag_client *client);

static inline void client_notice_fork(struct etag_client *client)
{
    if (__builtin_expect(!fork_word_stands(&client->fork_word), 0))
        client_become_child(client);
}

/* Begins every call that talks: clears the former fault and, in a child, closes the parent's
 * socket. */
void client_begin(struct etag_client *client);

/* Sends and reads what is possible without blocking. If there is no connection, tries to connect,
 * at most once in RECONNECT_MS_MIN unless 'at_once'. */
MUST_USE etag_status client_progress(struct etag_client *client, bool at_once);

/* Waits for a connection. Returns OK also if its index can't be mapped. deadline_ns:
 * CLOCK_MONOTONIC. */
MUST_USE etag_status client_connect(struct etag_client *client, uint64_t deadline_ns);

/* Sends a request and waits for the answer, which is of the expected kind if this returns OK.
 * Connects if needed. If the connection ends before the answer, connects again and repeats the
 * request, which must be harmless when applied twice. */
MUST_USE etag_status client_call(struct etag_client *client, struct request *request,
                                 enum reply_kind expected, struct reply *reply);

/* Returns OK, or DENIED if the daemon's hello did not give that role (enum role). */
MUST_USE etag_status client_require_role(struct etag_client *client, uint32_t role,
                                         const char *what);

/* Notes that the connection was lost, and why. */
void client_lose_link(struct etag_client *client, const struct fault *why);

/* Returns false in a child of fork that has not talked yet. */
bool client_socket_is_ours(const struct etag_client *client);

#endif
