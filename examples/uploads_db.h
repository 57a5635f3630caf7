/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The application's database: one SQLite file that all its processes share. Rows, per-customer
 * lists, bearer tokens, and an outbox of names that still have to be sent to etagd. Rendering
 * happens in SQL: it makes the JSON.
 */
#ifndef UPLOADS_DB_H
#define UPLOADS_DB_H

#include "uploads_resources.h"

#define MUST_USE __attribute__((warn_unused_result))

struct db;

enum db_status {
    DB_OK = 0,
    /* no such row */
    DB_NOT_FOUND,
    /* the row is another customer's */
    DB_FOREIGN,
    /* what the client sent does not fit: see db_error() */
    DB_REFUSED,
    /* the database can't: see db_error() */
    DB_FAILED,
};

/* Opens or creates the file and its tables. DB_FAILED: *out is NULL and the reason was printed. */
MUST_USE enum db_status db_open(struct db **out, const char *path);
struct db *db_close(struct db *db); /* returns NULL */
const char *db_error(const struct db *db);
/* DB_REFUSED, with a reason of the caller's. */
enum db_status db_refuse(struct db *db, const char *why);

struct principal {
    int64_t customer;
    bool may_write;
};

/* The token's owner. DB_NOT_FOUND: none. */
MUST_USE enum db_status db_authenticate(struct db *db, etag_str token, struct principal *out);

/* One representation: JSON of the caller's (free), and the version it is made of. */
struct rendering {
    char *json;
    size_t len;
    int64_t version;
};

/* Each renders in one read transaction of its own: the version belongs to the JSON. */
MUST_USE enum db_status db_render_row(struct db *db, const struct resource *resource,
                                      int64_t customer, int64_t id, struct rendering *out);

struct page {
    /* from 1 */
    int64_t number;
    int64_t size;
    /* column = value; the columns were checked */
    const etag_field *filters;
    size_t filter_count;
};
MUST_USE enum db_status db_render_list(struct db *db, const struct resource *resource,
                                       int64_t customer, const struct page *page,
                                       struct rendering *out);

/* A write transaction. Whatever happens in between, end it with one of the two. */
MUST_USE enum db_status db_begin_write(struct db *db);
MUST_USE enum db_status db_commit(struct db *db);
void db_rollback(struct db *db);

/* Inside a write transaction. Versions come from one sequence and are never used twice, not even
 * for a row that is deleted and made again; every change gives the customer's list of the resource
 * a new version too. */
MUST_USE enum db_status db_row_version(struct db *db, const struct resource *resource,
                                       int64_t customer, int64_t id, int64_t *version);
/* 0 for a list that never had a row. */
MUST_USE enum db_status db_list_version(struct db *db, const struct resource *resource,
                                        int64_t customer, int64_t *version);
struct row_write {
    const struct resource *resource;
    int64_t customer;
    /* 0: a new one; then the one that it got */
    int64_t id;
    /* set by db_put_row */
    int64_t version;
    /* all columns; others are refused, "id", "version", "updated_at" ignored */
    etag_str json;
    /* NULL: now */
    const char *updated_at;
};
MUST_USE enum db_status db_put_row(struct db *db, struct row_write *write);
MUST_USE enum db_status db_delete_row(struct db *db, const struct resource *resource,
                                      int64_t customer, int64_t id);

/* Inside a write transaction: these names must be sent to etagd once it is committed. */
MUST_USE enum db_status db_outbox_add(struct db *db, const char *surrogate);

#define OUTBOX_BATCH_MAX 256
struct outbox {
    int64_t last_id;
    size_t count;
    etag_str names[OUTBOX_BATCH_MAX];
    char text[OUTBOX_BATCH_MAX][64];
};
/* The oldest names of the outbox, also those that other processes left there. */
MUST_USE enum db_status db_outbox_read(struct db *db, struct outbox *out);
/* They have been sent. */
MUST_USE enum db_status db_outbox_remove(struct db *db, const struct outbox *sent);

/* For uploads_seed, inside a write transaction. */
MUST_USE enum db_status db_add_token(struct db *db, const char *token, struct principal principal);

#endif
