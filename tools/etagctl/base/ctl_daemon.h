/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The two ways to the daemon. What front ends and write paths do goes through the public API, as
 * theirs does; what only people ask goes through the channel below it.
 */
#ifndef ETAGCTL_DAEMON_H
#define ETAGCTL_DAEMON_H

#include "channel.h"
#include "ctl.h"

/* ---- Public API ---- */

static inline void cleanup_client(etag_client **client)
{
    etag_client_close(*client);
}

/* Opens a client and waits for the daemon's hello. Returns NULL after an error message: return
 * ctl->exit_status. */
MUST_USE etag_client *ctl_client_open(struct ctl *ctl);

/* True if the daemon said hello to the client that was just opened. Returns false after an error
 * message: return ctl->exit_status. */
MUST_USE bool ctl_client_connected(struct ctl *ctl, etag_client *client);

/* ---- Channel ---- */

/* The names of the bits of enum role, in their order. */
#define ROLE_WORD_COUNT 5
extern const char *const role_words[ROLE_WORD_COUNT];

struct ctl_daemon {
    struct ctl *ctl;
    struct channel channel;
    uint64_t deadline_ns;
    struct fault fault;
    /* ctl without --json: see ctl_daemon_plain() */
    struct ctl plain;
};

static inline void cleanup_daemon(struct ctl_daemon *daemon)
{
    channel_deinit(&daemon->channel);
}

/* Prepares without connecting. Returns false after an error message. Always followed by
 * cleanup_daemon. */
MUST_USE bool ctl_daemon_init(struct ctl_daemon *daemon, struct ctl *ctl);

/* Connects. Returns false after an error message: return ctl->exit_status. */
MUST_USE bool ctl_daemon_connect(struct ctl_daemon *daemon);

/* Prepares, connects, asks and waits for a reply of that kind, which stays valid until the next
 * call. The time limit holds for each call. Returns false after an error message: return
 * ctl->exit_status. */
MUST_USE bool ctl_daemon_open(struct ctl_daemon *daemon, struct ctl *ctl);
MUST_USE bool ctl_daemon_ask(struct ctl_daemon *daemon, struct request *request,
                             enum reply_kind expected, struct reply *reply);

/* A document has begun: from here on errors go to standard error alone. */
void ctl_daemon_plain(struct ctl_daemon *daemon);

#endif
