/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Peers without any role, and the one thread that serves them: a hello that says so, and ping.
 * Whatever they do costs each other, and nobody else: the loop thread accepts them, sees from the
 * kernel who they are, and hands the descriptor over. It never reads what they send nor closes what
 * they hold.
 */
#ifndef ETAGD_STRANGER_H
#define ETAGD_STRANGER_H

#include "log_limit.h"
#include "message.h"

struct strangers;

struct strangers_options {
    /* the answer to a hello, without roles; its texts are borrowed for the life of the thread */
    struct reply hello;
    /* borrowed, too */
    struct log_limit *log;
};

/* A connection that the loop accepted. */
struct stranger_arrival {
    /* -1: closed already */
    int fd;
    uint32_t pid, uid;
    /* NULL; else it is sent away at once, for this reason (a literal), and counts as refused */
    const char *refusal;
    /* silence after which it is closed; 0: never */
    uint64_t idle_ns;
};

struct strangers_figures {
    size_t count;
    uint64_t accepted, refused, protocol_errors, slow;
};

/* Starts the thread. 0 or a negative errno. */
MUST_USE int strangers_start(struct strangers **out, const struct strangers_options *options);
/* Closes all and ends the thread. NULL is allowed. Returns NULL. */
struct strangers *strangers_stop(struct strangers *strangers);

/* The rest is called by the loop thread, and never waits for a peer. */

/* Consumes the descriptor. Only while there is room. */
void strangers_take(struct strangers *strangers, const struct stranger_arrival *arrival);
/* False: the thread is behind. The loop must not accept until there is room. */
bool strangers_have_room(struct strangers *strangers);

/* The rules of roles were changed: all that were taken before are told to connect again, and
 * closed. */
void strangers_dismiss(struct strangers *strangers);

struct strangers_figures strangers_figures(struct strangers *strangers);

#endif
