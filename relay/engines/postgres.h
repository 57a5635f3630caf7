/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A connection to PostgreSQL that never blocks (but for the look-up of a host's name): libpq stops
 * here. One statement at a time, values in binary form. What goes wrong becomes a sentence that
 * says what to do.
 */
#ifndef ETAG_RELAY_POSTGRES_H
#define ETAG_RELAY_POSTGRES_H

#include "engine.h"

#define POSTGRES_VALUES_MAX 8

/* Of the schema that this release works with: relay/sql/schema.sql. */
#define POSTGRES_SCHEMA_VERSION 2

struct postgres;

/* A parameter: bytes in PostgreSQL's binary form, or text. Absent (data NULL): NULL. */
struct postgres_value {
    etag_str bytes;
    bool text;
};

struct postgres_statement {
    const char *sql;
    struct postgres_value values[POSTGRES_VALUES_MAX];
    int value_count;
    /* Text comes back as text, for people. */
    bool text;
};

/* Begins to connect. connection: a connection string or URI; NULL or empty: what libpq finds in its
 * environment. name: what the server calls the session. unchecked: any PostgreSQL will do, with or
 * without our schema. 0, -ENOMEM, or -EINVAL and why. */
MUST_USE int postgres_open(struct postgres **out, const char *connection, const char *name,
                           bool unchecked, struct why *why);
/* NULL is allowed; returns NULL. */
struct postgres *postgres_close(struct postgres *postgres);

/* Before the first dispatch: these are sent often (the same pointers, in postgres_statement.sql),
 * so the server parses them once. Some may be NULL; borrowed while it is open. */
void postgres_prepare(struct postgres *postgres, const char *const *statements, size_t count);

/* For poll(2). */
int postgres_fd(const struct postgres *postgres);
short postgres_events(const struct postgres *postgres);

/* Does what can be done without waiting. 0, or negative: the connection is of no use any more. */
MUST_USE int postgres_dispatch(struct postgres *postgres, struct why *why);
/* Connected, what answers is a primary with our schema, and no statement is under way. */
bool postgres_ready(const struct postgres *postgres);
/* Somebody else notified since this was asked last. */
bool postgres_woken(struct postgres *postgres);

/* Sends a statement; only while ready. Its values are copied. 0 or negative. */
MUST_USE int postgres_send(struct postgres *postgres, const struct postgres_statement *statement,
                           struct why *why);
/* Its result, which is borrowed until the next send or close: 0, ENGINE_E_AGAIN, ENGINE_E_REFUSED,
 * or negative. */
MUST_USE int postgres_take(struct postgres *postgres, struct why *why);

/* Of that result. */
int postgres_row_count(const struct postgres *postgres);
/* Absent: NULL. */
etag_str postgres_get(const struct postgres *postgres, int row, int column);
uint64_t postgres_get_u64(const struct postgres *postgres, int row,
                          int column); /* int4, int8, xid8; NULL: 0 */
bool postgres_get_bool(const struct postgres *postgres, int row, int column); /* NULL: false */

/* Several statements in one transaction, without values, in the blocking manner of commands: no
 * more than ready is asked of the connection. 0 or negative. */
MUST_USE int postgres_run(struct postgres *postgres, const char *sql, struct why *why);
/* Sends a statement and waits for its result; the same results as postgres_take(). */
MUST_USE int postgres_ask(struct postgres *postgres, const struct postgres_statement *statement,
                          uint32_t timeout_ms, struct why *why);
/* Waits until ready. 0 or negative. */
MUST_USE int postgres_wait(struct postgres *postgres, uint32_t timeout_ms, struct why *why);

#endif
