/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fills the database of uploads_api with some thousands of realistic rows: the same rows for the
 * same seed, on every machine. The rows are made as JSON and go through the same insertion as those
 * of a client.
 */
#include "uploads_db.h"

#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define CUSTOMERS 20
#define FIRST_DAY 1735689600 /* 2025-01-01 */
#define DAYS 300

/* splitmix64: small, and the same everywhere. */
static uint64_t next_random(uint64_t *state)
{
    uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15));

    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static uint64_t random_below(uint64_t *state, uint64_t bound)
{
    return next_random(state) % bound;
}

static void format_time(char out[32], uint64_t *random)
{
    const time_t t = FIRST_DAY + (time_t)random_below(random, DAYS) * 86400 +
                     (time_t)random_below(random, 86400);
    struct tm parts;

    gmtime_r(&t, &parts);
    strftime(out, 32, "%Y-%m-%dT%H:%M:%SZ", &parts);
}

/* One of "a|b|c". */
static etag_str choose(const char *choices, uint64_t *random)
{
    size_t count = 1;

    for (const char *c = choices; *c; c++)
        count += *c == '|';
    for (uint64_t skip = random_below(random, count); skip > 0; skip--)
        choices = strchr(choices, '|') + 1;
    return (etag_str){choices, strcspn(choices, "|")};
}

/* Row ids are 1, 2, 3, ... and row n belongs to customer n % CUSTOMERS + 1, in every table: so a
 * reference from a row to another one of the same customer can be made up. */
static int64_t customer_of(int64_t id)
{
    return id % CUSTOMERS + 1;
}

static int64_t reference(const char *table, int64_t id, uint64_t *random)
{
    for (size_t i = 0; i < RESOURCE_COUNT; i++)
        if (strcmp(resources[i].table, table) == 0) {
            const int64_t rounds = resources[i].seed_rows / CUSTOMERS;
            const int64_t first = id % CUSTOMERS ? id % CUSTOMERS : CUSTOMERS;
            return first + (int64_t)random_below(random, (uint64_t)rounds) * CUSTOMERS;
        }
    fprintf(stderr, "no table %s\n", table);
    exit(1);
}

/* Samples hold nothing that JSON would want escaped. */
static void write_value(FILE *out, const char *sample, int64_t id, uint64_t *random)
{
    char text[32];

    if (sample[0] == '@') {
        fprintf(out, "%" PRId64, reference(sample + 1, id, random));
    } else if (sample[0] == '#') {
        char *dash;
        const uint64_t low = strtoull(sample + 1, &dash, 10);
        const uint64_t high = strtoull(dash + 1, NULL, 10);
        fprintf(out, "%" PRIu64, low + random_below(random, high - low + 1));
    } else if (strcmp(sample, "date") == 0) {
        format_time(text, random);
        fprintf(out, "\"%s\"", text);
    } else {
        const etag_str choice = choose(sample, random);
        fputc('"', out);
        for (size_t i = 0; i < choice.len; i++)
            if (choice.data[i] == '%')
                fprintf(out, "%06" PRIu64, random_below(random, 1000000));
            else
                fputc(choice.data[i], out);
        fputc('"', out);
    }
}

static char *make_row(const struct resource *resource, int64_t id, uint64_t *random)
{
    char *json = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&json, &size);

    if (!out)
        return NULL;
    for (const struct column *c = resource->columns; c->name; c++) {
        fprintf(out, "%s\"%s\":", c == resource->columns ? "{" : ",", c->name);
        write_value(out, c->sample, id, random);
    }
    fputc('}', out);
    fclose(out);
    return json;
}

static enum db_status seed_resource(struct db *db, const struct resource *resource,
                                    uint64_t *random)
{
    for (int64_t id = 1; id <= resource->seed_rows; id++) {
        char updated_at[32];
        char *json = make_row(resource, id, random);
        if (!json)
            return DB_FAILED;
        format_time(updated_at, random);
        struct row_write write = {.resource = resource,
                                  .customer = customer_of(id),
                                  .id = id,
                                  .json = etag_str_of(json),
                                  .updated_at = updated_at};
        const enum db_status status = db_put_row(db, &write);
        free(json);
        if (status != DB_OK)
            return status;
    }
    return DB_OK;
}

/* "demo-customer-7" may read and write, "demo-reader-7" may read. A real application would keep
 * hashes of random ones. */
static enum db_status seed_tokens(struct db *db)
{
    enum db_status status = DB_OK;

    for (int customer = 1; customer <= CUSTOMERS && status == DB_OK; customer++) {
        char token[64];
        snprintf(token, sizeof(token), "demo-customer-%d", customer);
        status = db_add_token(db, token, (struct principal){customer, true});
        snprintf(token, sizeof(token), "demo-reader-%d", customer);
        if (status == DB_OK)
            status = db_add_token(db, token, (struct principal){customer, false});
    }
    return status;
}

static enum db_status seed_all(struct db *db, uint64_t seed)
{
    enum db_status status = db_begin_write(db);

    if (status == DB_OK)
        status = seed_tokens(db);
    for (size_t i = 0; i < RESOURCE_COUNT && status == DB_OK; i++) {
        uint64_t random = seed + i;
        status = seed_resource(db, &resources[i], &random);
    }
    if (status == DB_OK)
        return db_commit(db);
    db_rollback(db);
    return status;
}

int main(int argc, char **argv)
{
    static const struct option names[] = {
        {"db", required_argument, NULL, 'd'}, {"seed", required_argument, NULL, 's'}, {0}};
    const char *path = NULL;
    uint64_t seed = 1;

    for (int c; (c = getopt_long(argc, argv, "", names, NULL)) != -1;) {
        if (c == 'd')
            path = optarg;
        else if (c == 's')
            seed = strtoull(optarg, NULL, 10);
        else
            path = NULL, optind = argc;
    }
    if (!path || optind != argc) {
        fputs("Usage: uploads_seed --db FILE [--seed N]\n", stderr);
        return 2;
    }
    struct db *db = NULL;
    if (db_open(&db, path) != DB_OK)
        return 1;
    const enum db_status status = seed_all(db, seed);
    int rows = 0;
    for (size_t i = 0; i < RESOURCE_COUNT; i++)
        rows += resources[i].seed_rows;
    if (status == DB_OK)
        printf("%d rows of %d customers\n", rows, CUSTOMERS);
    else
        fprintf(stderr, "%s: %s\n", path, db_error(db));
    db_close(db);
    return status == DB_OK ? 0 : 1;
}
