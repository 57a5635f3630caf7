/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table of versions in PostgreSQL, as one process of a host reaches it. Every call has a bound
 * of time. One that fails leaves no connection, and the next one opens another.
 */
#ifndef TORTURE_ROWS_H
#define TORTURE_ROWS_H

#include "postgres.h"

#include <stdbool.h>
#include <stdint.h>

struct rows {
    const char *connection;
    struct postgres *postgres;
};

/* What a transaction changes, and what it names in the outbox. */
struct row_change {
    uint32_t key;
    uint64_t version;
    /* an expression of SQL: a call of etagd.invalidate(), or a number */
    const char *event;
    const char *name;
};

/* A front end's reading. */
bool rows_read(struct rows *rows, uint32_t key, uint64_t *version);

/* A transaction: nobody else has a newer version of the row while it goes on. */
bool rows_lock(struct rows *rows, uint32_t key);
/* What the event's expression gave. */
bool rows_change(struct rows *rows, const struct row_change *change, uint64_t *position);
/* False: it may have been committed. */
bool rows_commit(struct rows *rows);

/* etagd.wait() */
bool rows_wait(struct rows *rows, uint64_t position, bool *acknowledged);

void rows_close(struct rows *rows);

#endif
