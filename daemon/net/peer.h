/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Peers: one connection each, with its identity, the bytes that it sent and that are not handled
 * yet, and its limits. A peer that breaks the protocol or a limit loses its connection, without
 * effect on others. Only a process with a role becomes a peer; others go to stranger.h when they
 * are accepted. Loop thread only.
 *
 * A closed peer stays in memory until peers_reap(), at the end of the turn, so that no pointer to
 * it dangles before that; work that outlasts a turn (an answer that waits for the store) keeps the
 * id instead.
 */
#ifndef ETAGD_PEER_H
#define ETAGD_PEER_H

#include "client_page.h"
#include "config.h"
#include "log_limit.h"
#include "loop.h"
#include "message.h"
#include "stranger.h"

#define PEER_GROUPS_MAX 256
#define PEER_SOFTWARE_BYTES_MAX 64
#define PEER_ID_TABLE_BITS                                                                         \
    12 /* the low bits of an id are its place in the table; above them, in the order of arrival */
#define PEER_SPARE_FDS 2 /* that a hello brings */

struct server;

struct peer {
    uint64_t id;
    /* NULL: closed */
    struct loop_stream *stream;
    uint32_t pid, uid, gid;
    /* supplementary groups at the time of the connect */
    uint32_t *groups;
    size_t group_count;
    uint32_t roles;
    bool greeted;
    bool watching;
    /* events that it missed since the last one that it was sent */
    uint64_t events_dropped;

    /* intake.h: */
    /* frames that wait, and an incomplete one */
    struct buffer in;
    /* bytes of 'in' that are handled */
    size_t in_used;
    struct peer *next_in_line;
    bool in_line;
    /* its requests wait until it has read its answers */
    bool aside;
    /* sends nothing more */
    bool ended;

    uint64_t opened_ns, last_ns;
    /* when the bytes being handled arrived, CLOCK_MONOTONIC */
    uint64_t arrived_ns;
    /* since when its last frame is incomplete; 0: it is not */
    uint64_t partial_since_ns;
    /* since when it has more unread answers than it may; 0: it has not */
    uint64_t unread_since_ns;
    /* mutations that wait for the store */
    size_t pending;
    struct client_page page;
    char software[PEER_SOFTWARE_BYTES_MAX];
};

struct peers {
    struct loop *loop;
    const struct config *config;
    struct log_limit *log;
    struct strangers *strangers;
    uint32_t own_uid, overflow_uid;
    struct peer *table[PEERS_MAX];
    size_t count;
    /* closed peers that wait for peers_reap() */
    size_t closed_count;
    struct peer *watchers[WATCHERS_MAX];
    size_t watching_count;
    uint64_t ids;
    /* scratch for encoding */
    struct buffer out;
    /* kept open, so that a daemon that has run out of descriptors can still send a hello; -1:
     * used */
    int spare_fds[PEER_SPARE_FDS];
    /* counts of clients that have disconnected */
    struct counters departed;
    uint64_t accepted, protocol_errors, slow;
    /* the largest loop_queued() since the start */
    size_t queued_max;
};

struct peers_options {
    struct loop *loop;
    const struct config *config;
    struct log_limit *log;
    struct strangers *strangers;
};

/* All borrowed. */
void peers_init(struct peers *peers, const struct peers_options *options);
void peers_deinit(struct peers *peers);

/* A new connection; fd is consumed. */
void peers_accept(struct peers *peers, int fd);

/* Call before each turn of the loop: pauses accepting while the strangers' thread has no room, so
 * that the loop thread never has to close a stranger. */
void peers_turn_begin(struct peers *peers);

/* Returns the peer of this id; NULL: it has gone. */
struct peer *peers_find(struct peers *peers, uint64_t id);

/* Sends a reply, with descriptors if there are any. A peer that does not read its answers is
 * closed. */
void peer_send(struct peers *peers, struct peer *peer, const struct reply *reply, const int *fds,
               size_t fd_count);
void peer_send_error(struct peers *peers, struct peer *peer, uint64_t request_id,
                     enum wire_error code, const char *text);

/* Makes the peer a watcher, which gets every event from now on. Returns NULL, or why not (static
 * text). */
MUST_USE const char *peer_watch(struct peers *peers, struct peer *peer);

/* Sends the event to all watchers. A watcher that reads slowly misses events, and the next one says
 * how many. event: borrowed. */
void peers_tell(struct peers *peers, const struct event_view *event);

/* Sends the error and closes the peer. */
void peer_break(struct peers *peers, struct peer *peer, enum wire_error code, const char *text);
void peer_close(struct peers *peers, struct peer *peer);

/* The rules of roles changed: sends an error to each peer whose roles changed, and closes it. Its
 * next hello has its new roles, and gives it the index only if it may still read. Strangers have to
 * connect again too. Returns how many peers with a role were closed. */
size_t peers_reauthorize(struct peers *peers);

/* Calls each() with the uid of each peer that has said hello and may mutate. */
void peers_each_writer(const struct peers *peers, void (*each)(void *ctx, uint32_t uid), void *ctx);

/* Closes peers that are over a limit of time; call it about once a second. now_ns:
 * CLOCK_MONOTONIC_COARSE. */
void peers_expire(struct peers *peers, uint64_t now_ns);
/* Frees closed peers, at the end of a turn. */
void peers_reap(struct peers *peers);

/* Returns the counts of all clients, disconnected ones included. */
struct counters peers_counters(const struct peers *peers);

#endif
