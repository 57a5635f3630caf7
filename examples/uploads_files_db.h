/* SPDX-License-Identifier: Apache-2.0 */
/* Files in the database: bytes of a customer's under a name, with the validators that they are sent
 * with. */
#ifndef UPLOADS_FILES_DB_H
#define UPLOADS_FILES_DB_H

#include "uploads_db.h"

#define FILE_NAMES_BYTES_MAX 4096

struct file {
    /* malloc'ed: file_deinit() */
    char *body;
    size_t body_len;
    char etag[ETAG_BYTES_MAX];
    /* 0: it has none */
    size_t etag_len;
    /* seconds since 1970; ETAG_NO_DATE: it has none */
    int64_t last_modified;
    bool last_modified_is_strong;
    /* A list of surrogate keys: the sources of its bytes. */
    char names[FILE_NAMES_BYTES_MAX];
    size_t names_len;
};

void file_deinit(struct file *file);
etag_str file_etag(const struct file *file); /* points into it; absent: none */

/* A read transaction of its own, or a part of the write transaction. DB_NOT_FOUND: there is none,
 * and nothing to free. */
MUST_USE enum db_status db_read_file(struct db *db, int64_t customer, etag_str name,
                                     struct file *out);

/* Inside a write transaction. */
MUST_USE enum db_status db_put_file(struct db *db, int64_t customer, etag_str name,
                                    const struct file *file);
MUST_USE enum db_status db_delete_file(struct db *db, int64_t customer, etag_str name);

#endif
