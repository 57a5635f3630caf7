/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SQLite in WAL mode: readers and one writer of several processes do not wait for each other. The
 * statements are made from the table of resources, and kept. A read transaction ends before the
 * answer is sent, so that the snapshot is never older than the fill token, which was taken before
 * it began.
 */
#include "uploads_db_sqlite.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *db_error(const struct db *db)
{
    return db->error;
}

enum db_status db_refuse(struct db *db, const char *why)
{
    snprintf(db->error, sizeof(db->error), "%s", why);
    return DB_REFUSED;
}

static enum db_status execute(struct db *db, const char *sql)
{
    return sqlite3_exec(db->sqlite, sql, NULL, NULL, NULL) == SQLITE_OK ? DB_OK : db_failed(db);
}

/* Runs a statement that gives at most one number. DB_NOT_FOUND: none. */
static enum db_status finish_number(struct db *db, sqlite3_stmt *statement, int64_t *out)
{
    const int rc = sqlite3_step(statement);
    enum db_status status = DB_OK;

    if (rc == SQLITE_ROW)
        *out = sqlite3_column_int64(statement, 0);
    else
        status = rc == SQLITE_DONE ? DB_NOT_FOUND : db_failed(db);
    sqlite3_reset(statement);
    return status;
}

/* ---- Statements from the table ---- */

/* "json_object('id', id, 'version', version, ...)" */
static void append_json_object(sqlite3_str *sql, const struct resource *r)
{
    sqlite3_str_appendall(sql, "json_object('id', id, 'version', version");
    for (const struct column *c = r->columns; c->name; c++)
        sqlite3_str_appendf(sql, ", '%s', %s", c->name, c->name);
    sqlite3_str_appendall(sql, ", 'updated_at', updated_at)");
}

static void append_schema(sqlite3_str *sql, const struct resource *r)
{
    sqlite3_str_appendf(sql,
                        "CREATE TABLE IF NOT EXISTS %s(id INTEGER PRIMARY KEY AUTOINCREMENT,"
                        " customer_id INTEGER NOT NULL, version INTEGER NOT NULL,"
                        " updated_at TEXT NOT NULL",
                        r->table);
    for (const struct column *c = r->columns; c->name; c++)
        sqlite3_str_appendf(sql, ", %s %s NOT NULL", c->name, c->type);
    sqlite3_str_appendf(sql,
                        ") STRICT; CREATE INDEX IF NOT EXISTS %s_of_customer"
                        " ON %s(customer_id, id);",
                        r->table, r->table);
}

static void append_statement(sqlite3_str *sql, const struct resource *r, enum row_statement which)
{
    switch (which) {
    case ROW:
        sqlite3_str_appendall(sql, "SELECT customer_id, version, ");
        append_json_object(sql, r);
        sqlite3_str_appendf(sql, " FROM %s WHERE id = ?1", r->table);
        break;
    case VERSION:
        sqlite3_str_appendf(sql, "SELECT customer_id, version FROM %s WHERE id = ?1", r->table);
        break;
    case CHECK:
        sqlite3_str_appendall(sql, "SELECT CASE"
                                   " WHEN NOT json_valid(?1) THEN 'the body is not JSON'"
                                   " WHEN json_type(?1) <> 'object' THEN 'the body is no object'"
                                   " ELSE (SELECT 'unknown member: ' || key FROM json_each(?1)"
                                   " WHERE key NOT IN ('id', 'version', 'updated_at'");
        for (const struct column *c = r->columns; c->name; c++)
            sqlite3_str_appendf(sql, ", '%s'", c->name);
        sqlite3_str_appendall(sql, ") LIMIT 1) END");
        break;
    case PUT:
        sqlite3_str_appendf(sql, "INSERT INTO %s(id, customer_id, version, updated_at", r->table);
        for (const struct column *c = r->columns; c->name; c++)
            sqlite3_str_appendf(sql, ", %s", c->name);
        sqlite3_str_appendall(sql, ") VALUES(nullif(?1, 0), ?2, ?3,"
                                   " coalesce(?4, strftime('%Y-%m-%dT%H:%M:%SZ', 'now'))");
        for (const struct column *c = r->columns; c->name; c++)
            sqlite3_str_appendf(sql, ", json_extract(?5, '$.%s')", c->name);
        sqlite3_str_appendall(sql, ") ON CONFLICT(id) DO UPDATE SET"
                                   " version = excluded.version, updated_at = excluded.updated_at");
        for (const struct column *c = r->columns; c->name; c++)
            sqlite3_str_appendf(sql, ", %s = excluded.%s", c->name, c->name);
        sqlite3_str_appendall(sql, " RETURNING id");
        break;
    case DELETE:
        sqlite3_str_appendf(sql, "DELETE FROM %s WHERE id = ?1", r->table);
        break;
    case ROW_STATEMENT_COUNT:
        break;
    }
}

static enum db_status prepare_built(struct db *db, sqlite3_str *sql, sqlite3_stmt **out)
{
    char *text = sqlite3_str_finish(sql);
    const enum db_status status = db_prepare(db, out, text);

    sqlite3_free(text);
    return status;
}

static sqlite3_stmt *statement_of(struct db *db, const struct resource *r, enum row_statement which)
{
    return db->of[r - resources][which];
}

/* ---- Open and close ---- */

static enum db_status make_tables(struct db *db)
{
    sqlite3_str *sql = sqlite3_str_new(db->sqlite);

    sqlite3_str_appendall(
        sql, "BEGIN IMMEDIATE;"
             "CREATE TABLE IF NOT EXISTS tokens(token TEXT PRIMARY KEY,"
             " customer_id INTEGER NOT NULL, may_write INTEGER NOT NULL) STRICT;"
             "CREATE TABLE IF NOT EXISTS list_versions(resource TEXT, customer_id INTEGER,"
             " version INTEGER NOT NULL, PRIMARY KEY(resource, customer_id)) STRICT;"
             "CREATE TABLE IF NOT EXISTS sequence(one INTEGER PRIMARY KEY CHECK(one = 1),"
             " value INTEGER NOT NULL) STRICT;"
             "INSERT OR IGNORE INTO sequence VALUES(1, 0);"
             "CREATE TABLE IF NOT EXISTS outbox(id INTEGER PRIMARY KEY AUTOINCREMENT,"
             " surrogate TEXT NOT NULL) STRICT;");
    for (size_t i = 0; i < RESOURCE_COUNT; i++)
        append_schema(sql, &resources[i]);
    sqlite3_str_appendall(sql, files_schema);
    sqlite3_str_appendall(sql, "COMMIT");
    char *text = sqlite3_str_finish(sql);
    const enum db_status status = text ? execute(db, text) : DB_FAILED;
    sqlite3_free(text);
    return status;
}

static enum db_status prepare_all(struct db *db)
{
    const struct {
        sqlite3_stmt **out;
        const char *sql;
    } fixed[] = {
        {&db->authenticate, "SELECT customer_id, may_write FROM tokens WHERE token = ?1"},
        {&db->list_version,
         "SELECT version FROM list_versions WHERE resource = ?1 AND customer_id = ?2"},
        {&db->sequence, "UPDATE sequence SET value = value + 1 RETURNING value"},
        {&db->list_touch, "INSERT INTO list_versions VALUES(?1, ?2, ?3)"
                          " ON CONFLICT DO UPDATE SET version = excluded.version"},
        {&db->outbox_add, "INSERT INTO outbox(surrogate) VALUES(?1)"},
    };
    for (size_t i = 0; i < sizeof(fixed) / sizeof(fixed[0]); i++)
        if (db_prepare(db, fixed[i].out, fixed[i].sql) != DB_OK)
            return DB_FAILED;
    for (size_t i = 0; i < RESOURCE_COUNT; i++)
        for (int s = 0; s < ROW_STATEMENT_COUNT; s++) {
            sqlite3_str *sql = sqlite3_str_new(db->sqlite);
            append_statement(sql, &resources[i], s);
            if (prepare_built(db, sql, &db->of[i][s]) != DB_OK)
                return DB_FAILED;
        }
    return db_prepare_files(db);
}

enum db_status db_open(struct db **out, const char *path)
{
    *out = NULL;
    struct db *db = calloc(1, sizeof(*db));
    if (!db)
        return DB_FAILED;
    if (sqlite3_open(path, &db->sqlite) == SQLITE_OK &&
        sqlite3_busy_timeout(db->sqlite, 5000) == 0 &&
        execute(db, "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL") == DB_OK &&
        make_tables(db) == DB_OK && prepare_all(db) == DB_OK) {
        *out = db;
        return DB_OK;
    }
    fprintf(stderr, "%s: %s\n", path, sqlite3_errmsg(db->sqlite));
    db_close(db);
    return DB_FAILED;
}

struct db *db_close(struct db *db)
{
    if (db) {
        for (sqlite3_stmt *s; (s = sqlite3_next_stmt(db->sqlite, NULL));)
            sqlite3_finalize(s);
        sqlite3_close(db->sqlite);
        free(db);
    }
    return NULL;
}

/* ---- Reading ---- */

enum db_status db_authenticate(struct db *db, etag_str token, struct principal *out)
{
    db_bind_str(db->authenticate, 1, token);
    const int rc = sqlite3_step(db->authenticate);
    enum db_status status = DB_OK;
    if (rc == SQLITE_ROW)
        *out = (struct principal){.customer = sqlite3_column_int64(db->authenticate, 0),
                                  .may_write = sqlite3_column_int(db->authenticate, 1) != 0};
    else
        status = rc == SQLITE_DONE ? DB_NOT_FOUND : db_failed(db);
    sqlite3_reset(db->authenticate);
    return status;
}

/* Copies a column of JSON out of the statement. */
static enum db_status take_json(struct db *db, sqlite3_stmt *statement, int column,
                                struct rendering *out)
{
    const char *text = (const char *)sqlite3_column_text(statement, column);

    out->len = (size_t)sqlite3_column_bytes(statement, column);
    out->json = text ? malloc(out->len + 2) : NULL;
    if (!out->json) {
        snprintf(db->error, sizeof(db->error), "no memory");
        return DB_FAILED;
    }
    memcpy(out->json, text, out->len);
    out->json[out->len++] = '\n';
    out->json[out->len] = '\0';
    return DB_OK;
}

enum db_status db_render_row(struct db *db, const struct resource *resource, int64_t customer,
                             int64_t id, struct rendering *out)
{
    /* One statement is one read transaction. */
    sqlite3_stmt *statement = statement_of(db, resource, ROW);

    sqlite3_bind_int64(statement, 1, id);
    const int rc = sqlite3_step(statement);
    enum db_status status = rc == SQLITE_DONE ? DB_NOT_FOUND : DB_OK;
    if (rc == SQLITE_ROW && sqlite3_column_int64(statement, 0) != customer)
        status = DB_FOREIGN;
    else if (rc == SQLITE_ROW) {
        out->version = sqlite3_column_int64(statement, 1);
        status = take_json(db, statement, 2, out);
    } else if (rc != SQLITE_DONE)
        status = db_failed(db);
    sqlite3_reset(statement);
    return status;
}

/* "FROM uploads WHERE customer_id = ?1 AND status = ?4": column names come from our table, values
 * are bound. */
static void append_list_source(sqlite3_str *sql, const struct resource *r, const struct page *page)
{
    sqlite3_str_appendf(sql, " FROM %s WHERE customer_id = ?1", r->table);
    for (size_t i = 0; i < page->filter_count; i++)
        sqlite3_str_appendf(sql, " AND %s = ?%d", resource_column(r, page->filters[i].name)->name,
                            (int)i + 4);
}

static enum db_status render_items(struct db *db, const struct resource *resource, int64_t customer,
                                   const struct page *page, struct rendering *out)
{
    sqlite3_str *sql = sqlite3_str_new(db->sqlite);

    sqlite3_str_appendall(sql, "SELECT json_object('page', ?2, 'per_page', ?3, 'total',"
                               " (SELECT count(*)");
    append_list_source(sql, resource, page);
    sqlite3_str_appendall(sql, "), 'items', json((SELECT json_group_array(json(item)) FROM"
                               " (SELECT ");
    append_json_object(sql, resource);
    sqlite3_str_appendall(sql, " AS item");
    append_list_source(sql, resource, page);
    sqlite3_str_appendall(sql, " ORDER BY id DESC LIMIT ?3 OFFSET (?2 - 1) * ?3))))");
    sqlite3_stmt *statement = NULL;
    enum db_status status = prepare_built(db, sql, &statement);
    if (status != DB_OK)
        return status;
    sqlite3_bind_int64(statement, 1, customer);
    sqlite3_bind_int64(statement, 2, page->number);
    sqlite3_bind_int64(statement, 3, page->size);
    for (size_t i = 0; i < page->filter_count; i++)
        db_bind_str(statement, (int)i + 4, page->filters[i].value);
    status = sqlite3_step(statement) == SQLITE_ROW ? take_json(db, statement, 0, out)
                                                   : db_failed(db);
    sqlite3_finalize(statement);
    return status;
}

enum db_status db_render_list(struct db *db, const struct resource *resource, int64_t customer,
                              const struct page *page, struct rendering *out)
{
    enum db_status status = execute(db, "BEGIN");

    if (status != DB_OK)
        return status;
    status = db_list_version(db, resource, customer, &out->version);
    if (status == DB_OK)
        status = render_items(db, resource, customer, page, out);
    db_rollback(db);
    return status;
}

/* ---- Writing ---- */

enum db_status db_begin_write(struct db *db)
{
    return execute(db, "BEGIN IMMEDIATE");
}

enum db_status db_commit(struct db *db)
{
    const enum db_status status = execute(db, "COMMIT");

    if (status != DB_OK)
        db_rollback(db);
    return status;
}

void db_rollback(struct db *db)
{
    sqlite3_exec(db->sqlite, "ROLLBACK", NULL, NULL, NULL);
}

enum db_status db_row_version(struct db *db, const struct resource *resource, int64_t customer,
                              int64_t id, int64_t *version)
{
    sqlite3_stmt *statement = statement_of(db, resource, VERSION);

    sqlite3_bind_int64(statement, 1, id);
    const int rc = sqlite3_step(statement);
    enum db_status status = DB_NOT_FOUND;
    if (rc == SQLITE_ROW) {
        *version = sqlite3_column_int64(statement, 1);
        status = sqlite3_column_int64(statement, 0) == customer ? DB_OK : DB_FOREIGN;
    } else if (rc != SQLITE_DONE)
        status = db_failed(db);
    sqlite3_reset(statement);
    return status;
}

enum db_status db_list_version(struct db *db, const struct resource *resource, int64_t customer,
                               int64_t *version)
{
    db_bind_str(db->list_version, 1, etag_str_of(resource->path));
    sqlite3_bind_int64(db->list_version, 2, customer);
    *version = 0;
    const enum db_status status = finish_number(db, db->list_version, version);
    return status == DB_NOT_FOUND ? DB_OK : status;
}

/* The next version, for the row that is written and for the list that it is in. */
static enum db_status next_version(struct db *db, const struct resource *resource, int64_t customer,
                                   int64_t *version)
{
    enum db_status status = finish_number(db, db->sequence, version);

    if (status != DB_OK)
        return status;
    db_bind_str(db->list_touch, 1, etag_str_of(resource->path));
    sqlite3_bind_int64(db->list_touch, 2, customer);
    sqlite3_bind_int64(db->list_touch, 3, *version);
    return db_finish(db, db->list_touch);
}

/* DB_REFUSED, with the reason, if the body is not an object of known members. */
static enum db_status check_body(struct db *db, const struct resource *resource, etag_str json)
{
    sqlite3_stmt *statement = statement_of(db, resource, CHECK);

    db_bind_str(statement, 1, json);
    enum db_status status = DB_OK;
    if (sqlite3_step(statement) != SQLITE_ROW)
        status = db_failed(db);
    else if (sqlite3_column_type(statement, 0) != SQLITE_NULL)
        status = db_refuse(db, (const char *)sqlite3_column_text(statement, 0));
    sqlite3_reset(statement);
    return status;
}

enum db_status db_put_row(struct db *db, struct row_write *write)
{
    enum db_status status = check_body(db, write->resource, write->json);

    if (status == DB_OK)
        status = next_version(db, write->resource, write->customer, &write->version);
    if (status != DB_OK)
        return status;
    sqlite3_stmt *statement = statement_of(db, write->resource, PUT);
    sqlite3_bind_int64(statement, 1, write->id);
    sqlite3_bind_int64(statement, 2, write->customer);
    sqlite3_bind_int64(statement, 3, write->version);
    db_bind_str(statement, 4, etag_str_of(write->updated_at));
    db_bind_str(statement, 5, write->json);
    return finish_number(db, statement, &write->id);
}

enum db_status db_delete_row(struct db *db, const struct resource *resource, int64_t customer,
                             int64_t id)
{
    int64_t version = 0;
    const enum db_status status = next_version(db, resource, customer, &version);

    if (status != DB_OK)
        return status;
    sqlite3_stmt *statement = statement_of(db, resource, DELETE);
    sqlite3_bind_int64(statement, 1, id);
    return db_finish(db, statement);
}

/* ---- Outbox ---- */

enum db_status db_outbox_add(struct db *db, const char *surrogate)
{
    db_bind_str(db->outbox_add, 1, etag_str_of(surrogate));
    return db_finish(db, db->outbox_add);
}

enum db_status db_outbox_read(struct db *db, struct outbox *out)
{
    out->count = 0;
    sqlite3_stmt *statement = NULL;
    enum db_status status = db_prepare(db, &statement,
                                       "SELECT id, surrogate FROM outbox ORDER BY id LIMIT 256");
    if (status != DB_OK)
        return status;
    int rc = SQLITE_DONE;
    while (out->count < OUTBOX_BATCH_MAX && (rc = sqlite3_step(statement)) == SQLITE_ROW) {
        char *text = out->text[out->count];
        out->last_id = sqlite3_column_int64(statement, 0);
        snprintf(text, sizeof(out->text[0]), "%s", sqlite3_column_text(statement, 1));
        out->names[out->count++] = etag_str_of(text);
    }
    status = rc == SQLITE_DONE || rc == SQLITE_ROW ? DB_OK : db_failed(db);
    sqlite3_finalize(statement);
    return status;
}

enum db_status db_outbox_remove(struct db *db, const struct outbox *sent)
{
    sqlite3_stmt *statement = NULL;
    enum db_status status = db_prepare(db, &statement, "DELETE FROM outbox WHERE id <= ?1");

    if (status != DB_OK)
        return status;
    sqlite3_bind_int64(statement, 1, sent->last_id);
    status = db_finish(db, statement);
    sqlite3_finalize(statement);
    return status;
}

enum db_status db_add_token(struct db *db, const char *token, struct principal principal)
{
    sqlite3_stmt *statement = NULL;
    enum db_status status = db_prepare(
        db, &statement,
        "INSERT INTO tokens VALUES(?1, ?2, ?3) ON CONFLICT DO UPDATE SET may_write = ?3");

    if (status != DB_OK)
        return status;
    db_bind_str(statement, 1, etag_str_of(token));
    sqlite3_bind_int64(statement, 2, principal.customer);
    sqlite3_bind_int(statement, 3, principal.may_write);
    status = db_finish(db, statement);
    sqlite3_finalize(statement);
    return status;
}
