/* SPDX-License-Identifier: Apache-2.0 */
#include "uploads_files_db.h"

#include "uploads_db_sqlite.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char files_schema[] =
    "CREATE TABLE IF NOT EXISTS files(customer_id INTEGER NOT NULL, name TEXT NOT NULL,"
    " body BLOB NOT NULL, etag BLOB, last_modified INTEGER, strong INTEGER NOT NULL,"
    " names BLOB NOT NULL,"
    " PRIMARY KEY(customer_id, name)) STRICT, WITHOUT ROWID;";

enum db_status db_prepare_files(struct db *db)
{
    static const char *const sql[FILE_STATEMENT_COUNT] = {
        [FILE_READ] = ("SELECT body, etag, last_modified, strong, names FROM files"
                       " WHERE customer_id = ?1 AND name = ?2"),
        [FILE_PUT] = "INSERT OR REPLACE INTO files VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        [FILE_DELETE] = "DELETE FROM files WHERE customer_id = ?1 AND name = ?2",
    };

    for (int s = 0; s < FILE_STATEMENT_COUNT; s++)
        if (db_prepare(db, &db->of_files[s], sql[s]) != DB_OK)
            return DB_FAILED;
    return DB_OK;
}

/* A statement with the file's name bound. */
static sqlite3_stmt *statement_of(struct db *db, enum file_statement which, int64_t customer,
                                  etag_str name)
{
    sqlite3_stmt *statement = db->of_files[which];

    sqlite3_bind_int64(statement, 1, customer);
    db_bind_str(statement, 2, name);
    return statement;
}

void file_deinit(struct file *file)
{
    free(file->body);
    file->body = NULL;
}

etag_str file_etag(const struct file *file)
{
    return file->etag_len ? (etag_str){file->etag, file->etag_len} : (etag_str){0};
}

/* Out of the statement's current row. */
static enum db_status take_file(struct db *db, sqlite3_stmt *statement, struct file *out)
{
    const void *body = sqlite3_column_blob(statement, 0);
    const void *etag = sqlite3_column_blob(statement, 1);
    const void *names = sqlite3_column_blob(statement, 4);

    *out = (struct file){.body_len = (size_t)sqlite3_column_bytes(statement, 0),
                         .etag_len = (size_t)sqlite3_column_bytes(statement, 1),
                         .last_modified = sqlite3_column_type(statement, 2) == SQLITE_NULL
                                              ? ETAG_NO_DATE
                                              : sqlite3_column_int64(statement, 2),
                         .last_modified_is_strong = sqlite3_column_int(statement, 3) != 0,
                         .names_len = (size_t)sqlite3_column_bytes(statement, 4)};
    out->body = malloc(out->body_len + 1);
    if (!out->body || out->etag_len > sizeof(out->etag) || out->names_len > sizeof(out->names)) {
        snprintf(db->error, sizeof(db->error),
                 out->body ? "a tag or list is too long" : "no memory");
        file_deinit(out);
        return DB_FAILED;
    }
    if (out->body_len)
        memcpy(out->body, body, out->body_len);
    if (out->etag_len)
        memcpy(out->etag, etag, out->etag_len);
    if (out->names_len)
        memcpy(out->names, names, out->names_len);
    return DB_OK;
}

enum db_status db_read_file(struct db *db, int64_t customer, etag_str name, struct file *out)
{
    sqlite3_stmt *statement = statement_of(db, FILE_READ, customer, name);
    const int rc = sqlite3_step(statement);
    enum db_status status = DB_NOT_FOUND;

    if (rc == SQLITE_ROW)
        status = take_file(db, statement, out);
    else if (rc != SQLITE_DONE)
        status = db_failed(db);
    sqlite3_reset(statement);
    return status;
}

enum db_status db_put_file(struct db *db, int64_t customer, etag_str name, const struct file *file)
{
    sqlite3_stmt *statement = statement_of(db, FILE_PUT, customer, name);

    sqlite3_bind_blob(statement, 3, file->body, (int)file->body_len, SQLITE_TRANSIENT);
    sqlite3_bind_null(statement, 4);
    sqlite3_bind_null(statement, 5);
    if (file->etag_len)
        sqlite3_bind_blob(statement, 4, file->etag, (int)file->etag_len, SQLITE_TRANSIENT);
    if (file->last_modified != ETAG_NO_DATE)
        sqlite3_bind_int64(statement, 5, file->last_modified);
    sqlite3_bind_int(statement, 6, file->last_modified_is_strong);
    sqlite3_bind_blob(statement, 7, file->names, (int)file->names_len, SQLITE_TRANSIENT);
    return db_finish(db, statement);
}

enum db_status db_delete_file(struct db *db, int64_t customer, etag_str name)
{
    return db_finish(db, statement_of(db, FILE_DELETE, customer, name));
}
