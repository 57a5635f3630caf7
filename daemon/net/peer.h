/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Peers: one connection each, with its identity, what it sent and was not handled yet, and its
 * limits. A peer that breaks the protocol or a limit loses its connection, and nobody else notices.
 * Only who has a role becomes one: others go to stranger.h when they are accepted.
 *
 * A peer that was closed stays in memory until peers_reap(), at the end of the turn, so that no
 * pointer to it dangles in between; work that outlives a turn (an answer that waits for the store)
 * keeps the id instead.
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
    /* supplementary, as of the connect */
    uint32_t *groups;
    size_t group_count;
    uint32_t roles;
    bool greeted;
    bool watching;
    /* since the last one that it was sent */
    uint64_t events_dropped;

    /* intake.h: */
    /* frames that wait, and an unfinished one */
    struct buffer in;
    /* of it: handled */
    size_t in_used;
    struct peer *next_in_line;
    bool in_line;
    /* its requests wait until it has read its answers */
    bool aside;
    /* sends nothing more */
    bool ended;

    uint64_t opened_ns, last_ns;
    /* of the bytes being handled, CLOCK_MONOTONIC */
    uint64_t arrived_ns;
    /* 0: no unfinished frame */
    uint64_t partial_since_ns;
    /* more than it may; 0: not so */
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
    /* wait for peers_reap() */
    size_t closed_count;
    struct peer *watchers[WATCHERS_MAX];
    size_t watching_count;
    uint64_t ids;
    /* scratch for encoding */
    struct buffer out;
    /* so that a daemon without descriptors can still hand some out; -1: used */
    int spare_fds[PEER_SPARE_FDS];
    /* of clients that are gone */
    struct counters departed;
    uint64_t accepted, protocol_errors, slow;
    /* of loop_queued(), since the start */
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

/* Before each turn of the loop: no connection is accepted that would have to be closed by the loop
 * thread. */
void peers_turn_begin(struct peers *peers);

/* NULL: gone. */
struct peer *peers_find(struct peers *peers, uint64_t id);

/* Sends a reply, with descriptors if there are any. A peer that does not read its answers is
 * closed. */
void peer_send(struct peers *peers, struct peer *peer, const struct reply *reply, const int *fds,
               size_t fd_count);
void peer_send_error(struct peers *peers, struct peer *peer, uint64_t request_id,
                     enum wire_error code, const char *text);

/* From here on the peer is told of events. NULL, or why not (static text). */
MUST_USE const char *peer_watch(struct peers *peers, struct peer *peer);

/* Sends the event to those who watch. One that reads slowly misses events, and is told how many.
 * event: borrowed. */
void peers_tell(struct peers *peers, const struct event_view *event);

/* Says why and closes. */
void peer_break(struct peers *peers, struct peer *peer, enum wire_error code, const char *text);
void peer_close(struct peers *peers, struct peer *peer);

/* The rules of roles were changed. A peer that has other roles now is told so and closed: its next
 * hello says which, and whoever may not read any more is not given the index again. Those without a
 * role are told to come again, too. Returns how many had one. */
size_t peers_judge(struct peers *peers);

/* Those who said hello and may mutate. */
void peers_each_writer(const struct peers *peers, void (*each)(void *ctx, uint32_t uid), void *ctx);

/* Limits of time; call it about once a second. */
void peers_expire(struct peers *peers, uint64_t now_ns);
/* Frees the closed ones: end of a turn. */
void peers_reap(struct peers *peers);

/* What all clients counted, gone ones included. */
struct counters peers_counters(const struct peers *peers);

#endif
