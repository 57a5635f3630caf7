/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The rules of many hosts (docs/consistency.md, "Many hosts"), each one function, on what an engine
 * saw and what the daemon has. Nothing here waits, sends or reads a clock: session.c does, and asks
 * here what it may conclude.
 *
 * The sentence that carries it: whoever says that a host is fresh has just read the outbox.
 */
#ifndef ETAG_RELAY_RELAY_H
#define ETAG_RELAY_RELAY_H

#include "cursor.h"

/* Why a batch raises everything: name, word for the log and the metrics. */
#define RELAY_REASONS(X)                                                                           \
    X(NONE, "none")                                                                                \
    X(NO_CURSOR, "no_cursor")                 /* a cold start */                                   \
    X(CURSOR_UNREADABLE, "cursor_unreadable") /* of another release, or engine */                  \
    X(SYSTEM, "other_system")                 /* another cluster: restored, recreated */           \
    X(DATABASE, "other_database")             /* made from a template, recreated */                \
    X(TIMELINE, "other_timeline")         /* a standby was promoted, or an archive recovered */    \
    X(SERVER_RUN, "server_restarted")     /* where unlogged tables survive that */                 \
    X(WITNESS_GONE, "witness_gone")       /* crashed, or promoted */                               \
    X(WITNESS_CHANGED, "witness_changed") /* the same, and somebody was here before us */          \
    X(WENT_BACK, "went_back")             /* the snapshot is older than the cursor */              \
    X(TRIMMED, "trimmed")                 /* we were away longer than rows are kept */             \
    X(FOREIGN_ROWS, "foreign_rows")       /* of another cluster: a dump was restored */            \
    X(ROWS_CUT, "too_many_rows")                                                                   \
    X(ROW_UNREADABLE, "unreadable_row")                                                            \
    X(REFUSED,                                                                                     \
      "daemon_refused_batch") /* it has names that we let through, and the daemon does not */      \
    X(TABLES, "watched_tables_changed")                                                            \
    X(WATCH_BROKEN, "watch_broken") /* a trigger is missing, and is still */

enum relay_reason {
#define RELAY_REASON_ENUM(name, word) RELAY_REASON_##name,
    RELAY_REASONS(RELAY_REASON_ENUM)
#undef RELAY_REASON_ENUM
        RELAY_REASON_COUNT
};

const char *relay_reason_word(enum relay_reason reason);

/* What a poll is good for. */
struct relay_verdict {
    /* false: a standby answered, nothing of it is used */
    bool batch;
    /* NONE: the rows, and nothing else */
    enum relay_reason everything;
    /* the daemon may call itself fresh by it */
    bool counts;
};

/* cursor: what the daemon has. unreadable: it has one, which could not be read. */
struct relay_verdict relay_judge(const struct cursor *cursor, bool unreadable,
                                 const struct engine_poll *poll);

/* ---- The conditions, for relay_judge() and for tests ---- */

/* Rule PRIMARY_ONLY: a standby's snapshot leaves out transactions that run on the primary. */
bool poll_is_of_primary(const struct engine_poll *poll);
/* Rule WITNESS: the engine has not lost what it had shown, as far as a witness can say. */
bool poll_keeps_witness(const struct cursor *cursor, const struct engine_poll *poll);
/* Rule MEMBER_IN_SNAPSHOT: who waits for all members waits for this host too. */
bool poll_shows_member(const struct engine_poll *poll);
/* Rule WRITTEN_IS_THERE: no poll is older than what this host has put into the outbox. */
bool poll_has_written(const struct engine_poll *poll, uint64_t written);
/* Rule WAIT_COVERS_LEASE: two clocks slewed against each other by 8 %, and coarse ones. */
bool setting_is_sound(uint32_t lease_ms, uint32_t wait_ms);
/* The shortest wait for a lease. */
uint64_t setting_wait_ms(uint64_t lease_ms);

/* ---- "Everywhere" ---- */

/* Rules MEMBERS and ACK_EPOCH: each member has said, under the witness of this very read, that it
 * has applied a snapshot which covers the position. here: this host's daemon handed the event over,
 * so that it has applied it (rule OWN_IS_APPLIED). */
bool everywhere_by_acknowledgements(const struct engine_members *members, uint64_t position,
                                    bool here);
/* Rule EVERYWHERE_WAIT: t_ns was read after COMMIT had returned, and wait_ms after that. */
bool everywhere_by_time(uint64_t t_ns, uint32_t wait_ms, uint64_t now_ns);

/* ---- Putting a host out, and changing the settings ---- */

/* Rule LEAVING_WAIT: committed_ns was read after "leaving" was committed; wait_ms after that. Then
 * no lease of that host runs, and its row may go. */
bool leaving_is_over(uint64_t committed_ns, uint32_t wait_ms, uint64_t now_ns);

struct relay_setting {
    uint32_t lease_ms, wait_ms;
};

/* Rules WAIT_RAISED_FIRST, LEASE_LOWERED_FIRST and OLD_WAIT_APART: what to write next to get from
 * `now` to the wanted lease, each in a transaction of its own. False: nothing is left to do.
 * *apart_ms: how long to wait before it is written, from when `now` was read. */
bool setting_next(struct relay_setting now, uint32_t wanted_lease_ms, struct relay_setting *next,
                  uint64_t *apart_ms);

#endif
