/* SPDX-License-Identifier: Apache-2.0 */
#include "rows.h"

#include "numbers.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define OPEN_MS 3000
#define ASK_MS 3000
#define WAIT_MS 20000 /* more than wait_ms ever is */
#define NUMBER_BYTES 24
#define SQL_BYTES 512

void rows_close(struct rows *rows)
{
    rows->postgres = postgres_close(rows->postgres);
}

static bool rows_open(struct rows *rows)
{
    struct why why = {""};

    if (rows->postgres)
        return true;
    if (postgres_open(&rows->postgres, rows->connection, "torture", true, &why) == 0 &&
        postgres_wait(rows->postgres, OPEN_MS, &why) == 0)
        return true;
    rows_close(rows);
    return false;
}

static bool rows_ask(struct rows *rows, const struct postgres_statement *statement, uint32_t ms)
{
    struct why why = {""};

    if (rows_open(rows) && postgres_ask(rows->postgres, statement, ms, &why) == 0)
        return true;
    rows_close(rows);
    return false;
}

static struct postgres_value number_value(char text[NUMBER_BYTES], uint64_t number)
{
    (void)snprintf(text, NUMBER_BYTES, "%" PRIu64, number);
    return (struct postgres_value){.bytes = etag_str_of(text), .text = true};
}

bool rows_read(struct rows *rows, uint32_t key, uint64_t *version)
{
    char text[NUMBER_BYTES];
    const struct postgres_statement statement = {
        .sql = "SELECT version FROM page WHERE key = $1::int4",
        .values = {number_value(text, key)},
        .value_count = 1,
    };

    if (!rows_ask(rows, &statement, ASK_MS) || postgres_row_count(rows->postgres) != 1)
        return false;
    *version = postgres_get_u64(rows->postgres, 0, 0);
    return true;
}

bool rows_lock(struct rows *rows, uint32_t key)
{
    char text[NUMBER_BYTES];
    const struct postgres_statement begin = {.sql = "BEGIN"};
    const struct postgres_statement lock = {
        .sql = "SELECT version FROM page WHERE key = $1::int4 FOR UPDATE",
        .values = {number_value(text, key)},
        .value_count = 1,
    };

    return rows_ask(rows, &begin, ASK_MS) && rows_ask(rows, &lock, ASK_MS) &&
           postgres_row_count(rows->postgres) == 1;
}

bool rows_change(struct rows *rows, const struct row_change *change, uint64_t *position)
{
    char sql[SQL_BYTES], key[NUMBER_BYTES], version[NUMBER_BYTES];
    const struct postgres_statement statement = {
        .sql = sql,
        .values = {number_value(key, change->key),
                   number_value(version, change->version),
                   {.bytes = etag_str_of(change->name), .text = true}},
        .value_count = 3,
    };

    (void)snprintf(sql, sizeof(sql),
                   "WITH changed AS (UPDATE page SET version = $2::int8 WHERE key = $1::int4 "
                   "RETURNING $3::text AS name) SELECT %s FROM changed",
                   change->event);
    if (!rows_ask(rows, &statement, ASK_MS) || postgres_row_count(rows->postgres) != 1)
        return false;
    *position = postgres_get_u64(rows->postgres, 0, 0);
    return true;
}

bool rows_commit(struct rows *rows)
{
    return rows_ask(rows, &(struct postgres_statement){.sql = "COMMIT"}, ASK_MS);
}

bool rows_wait(struct rows *rows, uint64_t position, bool *acknowledged)
{
    char text[NUMBER_BYTES];
    const struct postgres_statement statement = {
        .sql = "SELECT etagd.wait($1::xid8)",
        .values = {number_value(text, position)},
        .value_count = 1,
    };

    if (!rows_ask(rows, &statement, WAIT_MS))
        return false;
    const etag_str proof = postgres_get(rows->postgres, 0, 0);
    *acknowledged = proof.len == strlen("acknowledged");
    return true;
}
