/* SPDX-License-Identifier: Apache-2.0 */
/* What both halves of the database do with SQLite. */
#include "uploads_db_sqlite.h"

#include <stdio.h>

enum db_status db_failed(struct db *db)
{
    snprintf(db->error, sizeof(db->error), "%s", sqlite3_errmsg(db->sqlite));
    return sqlite3_errcode(db->sqlite) == SQLITE_CONSTRAINT ? DB_REFUSED : DB_FAILED;
}

enum db_status db_prepare(struct db *db, sqlite3_stmt **out, const char *sql)
{
    if (!sql)
        return DB_FAILED;
    const int rc = sqlite3_prepare_v3(db->sqlite, sql, -1, SQLITE_PREPARE_PERSISTENT, out, NULL);
    return rc == SQLITE_OK ? DB_OK : db_failed(db);
}

void db_bind_str(sqlite3_stmt *statement, int index, etag_str value)
{
    sqlite3_bind_text(statement, index, value.data, (int)value.len, SQLITE_TRANSIENT);
}

enum db_status db_finish(struct db *db, sqlite3_stmt *statement)
{
    const int rc = sqlite3_step(statement);
    const enum db_status status = rc == SQLITE_DONE || rc == SQLITE_ROW ? DB_OK : db_failed(db);

    sqlite3_reset(statement);
    return status;
}
