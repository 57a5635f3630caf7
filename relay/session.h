/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the relay does, and when: it asks the engine, hands what comes of it to the daemon, and says
 * again what the daemon wants to be said. It waits for nothing: session_turn() does what can be
 * done now, and session_timeout_ns() says when there is more. What may be concluded is relay.c's
 * matter; who the daemon is, and how its messages look, is link.c's (in tests: a recorder).
 */
#ifndef ETAG_RELAY_SESSION_H
#define ETAG_RELAY_SESSION_H

#include "log.h"
#include "own_rows.h"
#include "publication.h"
#include "relay_figures.h"

#define POLLS_PER_LEASE 5
#define WAKE_EVERY_MS 5          /* rule WAKE_PROVES_NOTHING: at most */
#define ENGINE_OPEN_MS_MAX 5000  /* until it is ready */
#define ENGINE_OP_MS_MIN 1000    /* an operation may take this time, or L_net if that is longer */
#define ENGINE_REOPEN_MS_MIN 100 /* doubles with each failure ... */
#define ENGINE_REOPEN_MS_MAX 2000
#define TRIM_EVERY_MS 60000
#define TRIM_AGAIN_MS 500     /* where more is left than goes at once */
#define DISPLACED_MS 30000    /* before we take a name back that another host has taken */
#define LOOK_FIRST_NS 2000000 /* at the members, if this host has not acknowledged before */
#define LOOK_HERE_NS 600000   /* ... if it need not: the others poll, apply and acknowledge */
#define WAKE_APART_MS 1000    /* how long transactions are apart after a wake had to wait */
#define LOOK_AFTER_NS 150000  /* ... its own acknowledgement: the others were woken with it */
#define LOOK_EVERY_NS_MIN 100000
#define LOOK_EVERY_NS_MAX 50000000

/* One poll for the daemon. All borrowed. */
struct session_batch {
    uint64_t t0_ns;
    /* where everything is raised: those with a hold */
    const struct engine_row *rows;
    size_t row_count;
    enum relay_reason everything;
    etag_str cursor;
    /* the daemon may call itself fresh by it */
    bool member;
    uint32_t l_net_ms;
};

struct session_outcome {
    uint64_t token;
    enum relay_outcome outcome;
    uint64_t position;
    /* why it was refused */
    const char *text;
};

struct session_daemon {
    /* Sends it. False: it is too large, or the connection is lost. session_settled() follows. */
    bool (*batch)(void *ctx, const struct session_batch *batch);
    void (*done)(void *ctx, const struct session_outcome *outcome);
    void *ctx;
};

enum registration {
    REGISTRATION_NONE,
    /* our name is another's: it is to be put out */
    REGISTRATION_FOREIGN,
    /* ... it is leaving: wait */
    REGISTRATION_LEAVING,
    REGISTRATION_DONE,
};

/* Borrowed while the session is open. */
struct session_options {
    const struct engine_kind *kind;
    struct engine_options engine;
    uint64_t retention_ms;
};

/* What the daemon has been sent and has not settled yet. */
struct session_flight {
    bool there;
    struct cursor cursor;
    bool asked, counts;
    uint64_t t0_ns, begun_ns, sent_ns;
};

struct session {
    const struct session_options *options;
    struct session_daemon daemon;
    const struct log *log;
    struct figures figures;

    struct engine *engine;
    bool ready;
    enum engine_op under_way;
    /* fine clock, as all but what says coarse */
    uint64_t op_begun_ns;
    uint64_t reopen_ns, reopen_ms;
    /* of answers */
    struct arena arena;
    /* set by an answer: close this connection, and open another */
    bool leave_server;

    enum registration registration;
    /* in this run */
    bool was_registered;
    struct engine_nonce foreign;
    /* coarse */
    uint64_t leaving_ns;
    uint64_t displaced_until_ns;
    uint32_t lease_ms, wait_ms;

    bool daemon_ready;
    /* of its connection */
    uint64_t daemon_number;
    /* what the daemon has settled: rule CURSOR_OF_DAEMON */
    struct cursor cursor;
    bool cursor_unreadable;
    /* the connection whose cursor the poll under way was asked with */
    uint64_t poll_of_daemon;
    /* coarse; of the poll under way */
    uint64_t t0_ns;
    uint64_t poll_due_ns;
    struct session_flight flight;
    /* newest position of a mutation of this host; 0: none */
    uint64_t written;
    /* the last one: the next one names nothing */
    bool batch_refused;
    bool acknowledge_due;
    uint64_t acknowledge_begun_ns;

    /* published since the daemon said hello, and not covered by the cursor */
    struct own_rows own_rows;
    struct publications publications;
    /* the one that the operation under way is for */
    struct publication *published;
    bool wake_due;
    uint64_t wake_not_before_ns;
    /* the operation under way wakes, besides what it does; not before that time */
    bool wakes_along;
    uint64_t wake_along_not_before_ns;
    uint64_t trim_due_ns;
    /* before the look at the members under way was begun */
    uint64_t looked_ns;
};

void session_init(struct session *session, const struct session_options *options,
                  const struct session_daemon *daemon, const struct log *log);
void session_deinit(struct session *session);

/* Does what can be done without waiting. */
void session_turn(struct session *session);
/* Until the next turn is due, if nothing happens on the engine's descriptor or the daemon's;
 * UINT64_MAX: no matter when. */
uint64_t session_timeout_ns(const struct session *session);

/* ---- From the daemon ---- */

/* A connection, on which the daemon sent its cursor (copied; empty: none). */
void session_daemon_ready(struct session *session, etag_str cursor, bool of_this_engine);
void session_daemon_lost(struct session *session);
/* Somebody says that there is something to read. */
void session_woken(struct session *session);
/* The daemon refuses the last batch; session_daemon_lost() follows. */
void session_batch_refused(struct session *session);
/* The receipt of the last batch. */
void session_settled(struct session *session);
/* A mutation of this host; targets with reach and position, copied. False: no room for it, so the
 * daemon has to hand it over again, on another connection. */
MUST_USE bool session_publish(struct session *session, uint64_t token, const etag_targets *targets);

#endif
