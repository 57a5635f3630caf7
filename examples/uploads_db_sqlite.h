/* SPDX-License-Identifier: Apache-2.0 */
/* What the two halves of the database share: uploads_db.c, and uploads_files_db.c below it. */
#ifndef UPLOADS_DB_SQLITE_H
#define UPLOADS_DB_SQLITE_H

#include "uploads_db.h"

#include <sqlite3.h>

enum row_statement { ROW, VERSION, CHECK, PUT, DELETE, ROW_STATEMENT_COUNT };
enum file_statement { FILE_READ, FILE_PUT, FILE_DELETE, FILE_STATEMENT_COUNT };

struct db {
    sqlite3 *sqlite;
    sqlite3_stmt *authenticate, *list_version, *sequence, *list_touch, *outbox_add;
    sqlite3_stmt *of[RESOURCE_COUNT][ROW_STATEMENT_COUNT];
    sqlite3_stmt *of_files[FILE_STATEMENT_COUNT];
    char error[256];
};

/* Takes SQLite's message over. */
MUST_USE enum db_status db_failed(struct db *db);

/* The statement is kept: db_close() ends it. */
MUST_USE enum db_status db_prepare(struct db *db, sqlite3_stmt **out, const char *sql);

/* Copied. */
void db_bind_str(sqlite3_stmt *statement, int index, etag_str value);

/* Runs a statement that gives no row, and makes it ready for the next time. */
MUST_USE enum db_status db_finish(struct db *db, sqlite3_stmt *statement);

/* ---- Of uploads_files_db.c ---- */

extern const char files_schema[];
MUST_USE enum db_status db_prepare_files(struct db *db);

#endif
