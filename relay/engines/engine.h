/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An engine: what hosts have in common. It keeps an outbox of mutations and answers one question of
 * a host: "what was committed until now that I do not have?" The rules are relay.c's; an engine
 * reports what it saw and judges nothing.
 *
 * Positions and snapshots. A position names a mutation in the outbox (PostgreSQL: the transaction
 * id). Positions become visible out of order, so "what I have" is no number but a snapshot:
 * positions below `next` are covered, but for those that were `running`. An engine whose positions
 * become visible in order (etcd: revisions) has snapshots without running ones.
 *
 * One operation at a time: start it, wait for the descriptor or the engine's timeout, dispatch,
 * finish. Nothing blocks (PostgreSQL: but for the look-up of a host's name). The caller gives up on
 * an operation that is late by closing the engine.
 *
 *     engine->kind->open(&engine, &options, &why)              begins to connect
 *     while (!ready) poll(fd, events, timeout_ms); dispatch    connected, its version checked
 *     start(engine, &request)
 *     while ((r = finish(engine, &arena, &answer, &why)) == ENGINE_E_AGAIN) poll(...); dispatch
 *     engine = engine->kind->close(engine)
 *
 * Errors. Negative: the connection is of no use any more; close it, open another after a while.
 * why: what is wrong and what to do, also for mistakes of the operator (a wrong connection string,
 * a schema of another version, missing rights): they may be mended while we try. ENGINE_E_REFUSED:
 * this operation had no effect, and has none if it is repeated; the connection is as before.
 */
#ifndef ETAG_RELAY_ENGINE_H
#define ETAG_RELAY_ENGINE_H

#include "arena.h"
#include "why.h"

#include <etag/etag.h>

#define ENGINE_HOST_BYTES_MAX 255       /* name of a host */
#define ENGINE_WRITER_BYTES_MAX 255     /* who wrote a row */
#define ENGINE_NONCE_BYTES 16           /* of a host's registration, and a witness */
#define ENGINE_RUNNING_MAX 8192         /* of a snapshot */
#define ENGINE_ROWS_MAX 4096            /* of a poll */
#define ENGINE_TARGETS_BYTES_MAX 262144 /* names of all rows of a poll, together */
#define ENGINE_MEMBERS_MAX 1024
#define ENGINE_TRIM_ROWS_MAX 10000 /* removed at once: then there may be more */

#define ENGINE_E_AGAIN 1   /* not yet */
#define ENGINE_E_REFUSED 2 /* not done; repeating it does not help */
#define ENGINE_E_BUSY 3    /* not done: to wake others would take a while. Repeat it without */

/* What a reader has. A smaller one is always right too, and costs reading rows once more: one with
 * more than ENGINE_RUNNING_MAX running positions becomes `next` = the lowest of them, none running.
 */
struct engine_snapshot {
    /* no position at or above it is covered */
    uint64_t next;
    /* below it and not covered either; ascending */
    uint64_t *running;
    size_t running_count;
};

/* 128 random bits. A host's registration has one, so that a second host of the same name is not
 * taken for the first; the engine has one, the witness, which it loses when it may have lost
 * mutations that were seen. */
struct engine_nonce {
    uint8_t bytes[ENGINE_NONCE_BYTES];
};

/* Who answered: all of it in the statement that also read the outbox, since a pooler changes
 * servers in silence. */
struct engine_origin {
    /* PostgreSQL: system identifier; etcd: cluster id */
    uint64_t system;
    /* start time of the server, wall clock, as the server says it */
    uint64_t started_us;
    uint64_t timeline;
    /* oid: a database made from a template has the template's witness */
    uint64_t database;
};

enum engine_membership {
    /* no row of this host, or one with another nonce */
    ENGINE_NO_MEMBER,
    ENGINE_MEMBER,
    /* is being put out: its polls do not count */
    ENGINE_LEAVING,
};

/* One mutation of the outbox. */
struct engine_row {
    uint64_t position;
    /* empty where unreadable is set */
    etag_targets targets;
    /* For people: who wrote it, the name of a host where its relay did; empty: it does not say. At
     * most ENGINE_WRITER_BYTES_MAX, any bytes. */
    etag_str writer;
    /* NULL, or why no release of ours can have written it */
    const char *unreadable;
};

/* What one statement saw. */
struct engine_poll {
    struct engine_origin origin;
    /* a standby answered */
    bool in_recovery;
    /* there is a witness */
    bool witnessed;
    struct engine_nonce witness;
    /* of the host and nonce that were asked with */
    enum engine_membership membership;
    /* Covered only by snapshots that cover all that retention has removed; 0: it removed nothing.
     * Not the newest removed position: a transaction with a lower one may have ended later.
     * PostgreSQL: the id of the transaction that made the mark by which was trimmed (ENGINE_TRIM);
     * etcd: the revision that did.
     */
    uint64_t trimmed;
    /* L_net; how long a writer waits for "everywhere" */
    uint32_t lease_ms, wait_ms;
    /* of the watched tables; 0: none is watched */
    uint64_t digest;
    /* writes to a watched table may go unseen: a trigger is missing, say */
    bool watch_broken;
    /* becomes the cursor */
    struct engine_snapshot snapshot;
    /* no position at or above it has been given out yet: a row has none */
    uint64_t unassigned;
    /* visible in snapshot and not covered by the cursor asked with */
    struct engine_row *rows;
    size_t row_count;
    /* more than ENGINE_ROWS_MAX, or ENGINE_TARGETS_BYTES_MAX: some are left out */
    bool rows_cut;
    /* somebody waits for "everywhere": acknowledge the snapshot once it is settled */
    bool asked;
};

/* What a writer that waits for "everywhere" reads, in one statement, after it has read its clock.
 */
struct engine_member {
    etag_str host;
    enum engine_membership membership;
    /* the registration of who asks: its name, and its nonce */
    bool own;
    /* there is an acknowledgement of this registration */
    bool acknowledged;
    /* under which it was given */
    struct engine_nonce witness;
    struct engine_snapshot snapshot;
};

struct engine_members {
    struct engine_origin origin;
    bool in_recovery;
    bool witnessed;
    struct engine_nonce witness;
    uint32_t wait_ms;
    /* those that leave among them: they may hold a lease yet */
    struct engine_member *members;
    size_t member_count;
    /* more than ENGINE_MEMBERS_MAX: only time proves */
    bool members_cut;
};

enum engine_op {
    ENGINE_NONE,
    /* Reads the outbox in one statement, without a transaction id of its own. */
    ENGINE_POLL,
    /* Registers the host as a member and commits that; makes a witness where there is none. A row
     * of this name with another nonce is left as it is: the answer says so. */
    ENGINE_JOIN,
    /* Puts a mutation of this host into the outbox, in a transaction of its own, and commits it. */
    ENGINE_PUBLISH,
    /* Wakes the others, in a transaction of its own (etcd: nothing, each watches the outbox). */
    ENGINE_WAKE,
    /* Looks whether the event at a position is visible to all, and then asks all members to
     * acknowledge what they have read and read will. */
    ENGINE_ASK,
    ENGINE_MEMBERS,
    /* This host has settled a poll: its snapshot and witness. */
    ENGINE_ACKNOWLEDGE,
    /* Marks what is visible now, and removes what was visible in a mark older than the retention;
     * `trimmed` moves in the same transaction. */
    ENGINE_TRIM,
    /* The host's row becomes "leaving"; the row of a host that is leaving is removed. Committed
       when answered. */
    ENGINE_LEAVE,
    ENGINE_GONE,
};

/* All is borrowed until the operation is finished. */
struct engine_request {
    enum engine_op op;
    union {
        struct {
            /* what a writer says that it has committed; 0: do not look, only ask */
            uint64_t position;
            /* do not ask */
            bool look_only;
            /* wake the others with it (as ENGINE_WAKE), if the event is there */
            bool wake;
        } ask;
        struct {
            /* NULL: none. Then no rows are asked for */
            const struct engine_snapshot *cursor;
            /* the newest position that PUBLISH gave to this host; 0: none */
            uint64_t written;
        } poll;
        struct {
            const etag_targets *targets;
            /* somebody will wait for "everywhere" */
            bool ask;
            /* wake the others with it (as ENGINE_WAKE) */
            bool wake;
        } publish;
        struct {
            const struct engine_snapshot *snapshot;
            struct engine_nonce witness;
        } acknowledge;
        struct {
            uint64_t retention_ms;
        } trim;
        struct {
            etag_str host;
            /* GONE: the one that LEAVE answered */
            struct engine_nonce nonce;
        } leave;
    };
};

/* Arrays and text are in the arena given to finish. */
struct engine_answer {
    enum engine_op op;
    union {
        struct engine_poll poll;
        struct {
            /* after it: MEMBER, or of the row that is another's */
            enum engine_membership membership;
            /* a row of this name has another nonce */
            bool foreign;
            /* of the row that is there now */
            struct engine_nonce nonce;
            uint32_t lease_ms, wait_ms;
        } join;
        struct {
            uint64_t position;
        } publish;
        struct {
            /* NULL: it is visible. Else why it is not; no host was asked */
            const char *missing;
        } ask;
        struct engine_members members;
        struct {
            /* rows */
            uint64_t removed;
        } trim;
        struct {
            /* there was such a row: LEAVE any nonce, GONE this nonce and leaving */
            bool found;
            struct engine_nonce nonce;
            uint32_t lease_ms, wait_ms;
        } leave;
    };
};

/* Borrowed while the engine is open. */
struct engine_options {
    /* PostgreSQL: a connection string; etcd: its endpoints, with commas; script: a path */
    const char *connection;
    /* etcd; of all keys, ends in '/' */
    const char *prefix;
    /* etcd; NULL or empty: none. Paths but for the first */
    const char *user, *password_file, *ca_file, *cert_file, *key_file;
    /* of this host, at most ENGINE_HOST_BYTES_MAX */
    etag_str host;
    struct engine_nonce nonce;
};

struct engine;

/* An implementation: a table of operations, chosen by name. */
struct engine_kind {
    const char *name;
    /* 0, or negative. */
    int (*open)(struct engine **out, const struct engine_options *options, struct why *why);
    /* NULL is allowed; returns NULL */
    struct engine *(*close)(struct engine *engine);
    /* For poll(2). The descriptor may change with each dispatch; -1: none now. timeout_ms -1: none.
     */
    int (*fd)(const struct engine *engine);
    short (*events)(const struct engine *engine);
    int (*timeout_ms)(const struct engine *engine);
    /* Does what can be done without waiting. 0 or negative. */
    int (*dispatch)(struct engine *engine, struct why *why);
    /* Connected: an operation may be started. */
    bool (*ready)(const struct engine *engine);
    /* Once ready, and with no operation under way. 0, ENGINE_E_REFUSED (see finish), or negative.
     */
    int (*start)(struct engine *engine, const struct engine_request *request, struct why *why);
    /* The answer of the operation under way, which is over then: 0, AGAIN (not over), REFUSED, BUSY
     * (of a publication or a question that was to wake others), or negative. */
    int (*finish)(struct engine *engine, struct arena *arena, struct engine_answer *answer,
                  struct why *why);
    /* Whether another host or a writer woke us since this was asked last. It proves nothing: poll.
     */
    bool (*woken)(struct engine *engine);
};

/* The first member of each implementation's engine. */
struct engine {
    const struct engine_kind *kind;
};

extern const struct engine_kind engine_postgres;
extern const struct engine_kind engine_etcd;
extern const struct engine_kind engine_script;

#endif
