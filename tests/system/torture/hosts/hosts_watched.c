/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writers of a watched table: psql, which knows nothing of etagd and names nothing, and a Django
 * site, which has names of its own. The table's triggers put names into each transaction. Where
 * these are missing each poll raises everything, so what is due does not change: a version is
 * everywhere a while after its COMMIT.
 *
 * A row whose key becomes -1 - key is away: then no front end may show what it was. Only the
 * trigger's old values name it.
 */
#include "hosts_write.h"
#include "told.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ASK_MS 3000
#define OPEN_MS 20000 /* Django starts */
#define COMMIT_MS 15000
#define WAIT_MS 20000
#define SQL_BYTES 256
#define TEXT_BYTES 512

/* ---- The program ---- */

static bool told_start(struct worker *w, const char *const argv[])
{
    char log[TEXT_BYTES];

    (void)snprintf(log, sizeof(log), "%s/told-%" PRIu32, w->directory, w->number);
    return told_open(w->told, argv, log);
}

static bool psql_start(struct worker *w)
{
    const char *const argv[] = {w->program,        "-X", "-q",        "-A", "-t", "-v",
                                "ON_ERROR_STOP=1", "-d", w->database, NULL};

    return w->told->pid != 0 || told_start(w, argv);
}

static bool django_start(struct worker *w)
{
    const char *const argv[] = {w->program, "-B", w->script, NULL};
    char answer[TOLD_BYTES];

    if (w->told->pid != 0)
        return true;
    return told_start(w, argv) && told_ask(w->told, "hello\n", OPEN_MS, answer);
}

static void failed(struct worker *w)
{
    HOSTS_COUNT(w, writes_failed);
    sleep_ns(20 * NS_PER_MS);
}

/* Others commit meanwhile, and are read before it. */
static void linger(struct worker *w)
{
    if (one_in(w, 16))
        sleep_ns(random_below(w, 20 * NS_PER_MS));
    else if (one_in(w, 200))
        sleep_ns(random_below(w, 1500 * NS_PER_MS));
}

/* ---- psql ---- */

static bool psql_ask(struct worker *w, const char *sql, uint64_t ms, char answer[TOLD_BYTES])
{
    char text[TEXT_BYTES];

    (void)snprintf(text, sizeof(text), "%s;\n\\echo ok\n", sql);
    return told_ask(w->told, text, ms, answer);
}

static int64_t away(uint32_t key)
{
    return -1 - (int64_t)key;
}

/* Where the row is, its key or away(). A transaction has begun. */
static bool psql_lock(struct worker *w, uint32_t key, int64_t *at)
{
    char sql[SQL_BYTES], answer[TOLD_BYTES], *end = answer;

    (void)snprintf(sql, sizeof(sql),
                   "BEGIN; SELECT key FROM page WHERE key IN (%" PRIu32 ", %" PRId64 ") FOR UPDATE",
                   key, away(key));
    if (!psql_ask(w, sql, ASK_MS, answer))
        return false;
    *at = strtoll(answer, &end, 10);
    return end != answer;
}

static bool psql_change(struct worker *w, struct write *write, int64_t at)
{
    char sql[SQL_BYTES], answer[TOLD_BYTES];
    const bool leaves = at >= 0 && one_in(w, 12);
    const int64_t to = leaves ? away(write->key) : (int64_t)write->key;

    (void)snprintf(sql, sizeof(sql),
                   "UPDATE page SET key = %" PRId64 ", version = %" PRIu64 " WHERE key = %" PRId64
                   "; SELECT pg_current_xact_id()",
                   to, write->version, at);
    if (!psql_ask(w, sql, ASK_MS, answer))
        return false;
    write->position = strtoull(answer, NULL, 10);
    if (leaves)
        HOSTS_COUNT(w, writes_away);
    return true;
}

static bool psql_write(struct worker *w, struct write *write)
{
    char answer[TOLD_BYTES];
    int64_t at;

    if (!psql_start(w) || !psql_lock(w, write->key, &at))
        return false;
    write_draw(w, write);
    if (!psql_change(w, write, at))
        return false;
    linger(w);
    if (!psql_ask(w, "COMMIT", ASK_MS, answer))
        return false;
    write_committed(w, write, true);
    return true;
}

static void psql_wait(struct worker *w, const struct write *write)
{
    char sql[SQL_BYTES], answer[TOLD_BYTES];

    (void)snprintf(sql, sizeof(sql), "SELECT etagd.wait('%" PRIu64 "')", write->position);
    if (psql_ask(w, sql, WAIT_MS, answer))
        write_due_everywhere(w, write, strcmp(answer, "acknowledged") == 0);
    else
        HOSTS_COUNT(w, everywhere_failed);
}

void hosts_psql_step(struct worker *w)
{
    struct write write;

    write_pick(w, &write);
    if (psql_write(w, &write)) {
        HOSTS_COUNT(w, writes_psql);
        /* Nobody was asked to acknowledge it, so this takes its time. */
        if (one_in(w, 16))
            psql_wait(w, &write);
        else
            HOSTS_COUNT(w, log_ok);
    } else {
        /* A transaction that was begun ends with it, and may have been committed. */
        told_close(w->told);
        failed(w);
    }
    sleep_ns(random_below(w, 50 * NS_PER_MS));
}

/* ---- Django ---- */

static bool django_write(struct worker *w, struct write *write, bool *reached)
{
    char text[TEXT_BYTES], answer[TOLD_BYTES];

    (void)snprintf(text, sizeof(text), "lock %" PRIu32 "\n", write->key);
    if (!django_start(w) || !told_ask(w->told, text, ASK_MS, answer))
        return false;
    write_draw(w, write);
    (void)snprintf(text, sizeof(text), "change %" PRIu32 " %" PRIu64 " %s\n", write->key,
                   write->version, write->everywhere ? "everywhere" : "log");
    if (!told_ask(w->told, text, ASK_MS, answer))
        return false;
    linger(w);
    if (!told_ask(w->told, "commit\n", COMMIT_MS, answer))
        return false;
    *reached = strcmp(answer, "reached") == 0;
    write_committed(w, write, true);
    return true;
}

void hosts_django_step(struct worker *w)
{
    struct write write;
    bool reached;

    write_pick(w, &write);
    if (!django_write(w, &write, &reached)) {
        failed(w);
    } else {
        HOSTS_COUNT(w, writes_django);
        if (write.everywhere && reached) {
            HOSTS_COUNT(w, everywhere_django);
            write_due(w, &write, now_ns(), ETAG_PROOF_NONE, 0);
        } else if (write.everywhere) {
            HOSTS_COUNT(w, everywhere_failed);
        } else {
            HOSTS_COUNT(w, log_ok);
        }
    }
    sleep_ns(random_below(w, 50 * NS_PER_MS));
}
