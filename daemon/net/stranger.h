/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Strangers: peers without any role, and the one thread that serves them. They get a hello without
 * roles, and answers to pings. What they do can slow down other strangers only: the loop thread
 * accepts a connection, gets its identity from the kernel, and passes a stranger's descriptor to
 * this thread. It never reads from a stranger and never closes its connection.
 */
#ifndef ETAGD_STRANGER_H
#define ETAGD_STRANGER_H

#include "log_limit.h"
#include "message.h"

struct strangers;

struct strangers_options {
    /* the answer to a hello, without roles; its texts are borrowed until strangers_stop() */
    struct reply hello;
    /* borrowed until strangers_stop() */
    struct log_limit *log;
};

/* A connection that the loop accepted. */
struct stranger_arrival {
    /* -1: closed already */
    int fd;
    uint32_t pid, uid;
    /* NULL, or the reason (a literal) for which it is refused at once */
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

/* The loop thread calls the functions below; they never wait for a peer. */

/* Passes a connection to the thread; consumes the descriptor. Call only if
 * strangers_have_room(). */
void strangers_take(struct strangers *strangers, const struct stranger_arrival *arrival);
/* Returns false if the thread has too many waiting connections. Then the loop must not accept. */
bool strangers_have_room(struct strangers *strangers);

/* The rules of roles changed: tells all present strangers to connect again, and closes them. */
void strangers_dismiss(struct strangers *strangers);

struct strangers_figures strangers_figures(struct strangers *strangers);

#endif
