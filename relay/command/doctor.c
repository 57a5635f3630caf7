/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What operators should know before it hurts, as far as the database can say it; "etagctl doctor"
 * does the same beside the daemon. The judging is done in SQL, where the figures are: each part is
 * a query of level, topic and text. Only what needs a clock or several statements is done here.
 */
#include "doctor.h"

#include "clocktime.h"
#include "text.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define DOCTOR_ANSWER_MS_MAX 30000
#define POOLER_ASKS 4
#define CLOCK_WAIT_MS 1000
/* Of two clocks against each other: EVERYWHERE_WAIT's quarter covers 8 % (docs/relay.md). */
#define CLOCK_PERMILLE_MAX 80
#define CLOCK_PERMILLE_WARN 10

/* $1: how long rows are kept, in seconds; of hosts: which is this one. A session says when it last
 * finished something: its poll. */
static const char database_sql[] =
    "WITH s AS (SELECT * FROM etagd.status()), standby AS (SELECT count(*) AS n FROM "
    "pg_stat_replication), dead AS (SELECT coalesce(sum(n_dead_tup), 0) AS n FROM "
    "pg_stat_all_tables WHERE schemaname = 'etagd' AND relname = 'outbox')"
    " SELECT 'ok', 'primary', format('database %s on PostgreSQL %s, schema %s', current_database(),"
    " current_setting('server_version'), s.version) FROM s"
    " UNION ALL SELECT CASE WHEN wait_ms >= lease_ms * 1.25 + 50 THEN 'ok' ELSE 'FAIL' END,"
    " 'waits', format('a poll makes a host fresh for %s ms, writers wait for %s ms by time%s',"
    " lease_ms, wait_ms, CASE WHEN wait_ms < lease_ms * 1.25 + 50 THEN ': too short; etag-relay "
    "setup --lease-ms N writes both' ELSE '' END) FROM s"
    " UNION ALL SELECT CASE WHEN witness IS NULL THEN 'WARN' ELSE 'ok' END, 'witness',"
    " CASE WHEN witness IS NULL THEN 'there is none: no relay has joined since the server crashed, "
    "restarted or was restored' ELSE 'nothing was lost since ' || etagd.age(witness_s) || ' ago' "
    "END FROM s"
    " UNION ALL SELECT CASE WHEN oldest_s > 1.5 * $1::text::float8 + 60 OR dead.n > 100000 + 3 * "
    "row_count THEN 'WARN' ELSE 'ok' END, 'outbox', format('%s rows, %s, the oldest of %s ago%s%s',"
    " row_count, pg_size_pretty(bytes), coalesce(etagd.age(oldest_s), 'never'),"
    " CASE WHEN oldest_s > 1.5 * $1::text::float8 + 60 THEN '; relays keep them for ' || "
    "etagd.age($1::text::float8) || ', so no relay trims: see their logs' ELSE '' END,"
    " CASE WHEN dead.n > 100000 + 3 * row_count THEN '; ' || dead.n || ' dead ones: autovacuum "
    "does not keep up, or an old transaction holds it back' ELSE '' END) FROM s, dead"
    " UNION ALL SELECT CASE WHEN n > 0 AND current_setting('synchronous_standby_names') = '' THEN "
    "'WARN' ELSE 'ok' END, 'fencing', CASE WHEN n = 0 THEN 'no standby follows'"
    " WHEN current_setting('synchronous_standby_names') <> '' THEN format('%s standbys, "
    "synchronous: %s. A primary that was replaced can commit nothing', n, "
    "current_setting('synchronous_standby_names')) ELSE format('%s standbys, asynchronous: hosts "
    "that still reach a primary which was replaced go on with its data. Fence it, or set "
    "synchronous_standby_names', n) END FROM standby"
    " UNION ALL SELECT 'WARN', 'timeout', 'statement_timeout of this role is ' || setting || ' ms: "
    "polls that are cut short cost 304s' FROM pg_settings WHERE name = 'statement_timeout' AND "
    "setting::bigint BETWEEN 1 AND 999"
    " UNION ALL SELECT 'WARN', 'wake-ups', format('the queue of NOTIFY is full to %s %%: a session "
    "that listens has been in a transaction for long', round(pg_notification_queue_usage() * 100)) "
    "WHERE pg_notification_queue_usage() > 0.5";
static const char hosts_sql[] =
    "WITH h AS (SELECT h.*, (SELECT min(extract(epoch FROM clock_timestamp() - a.state_change)) "
    "FROM pg_stat_activity a WHERE a.datname = current_database() AND a.application_name = "
    "left('etag-relay ' || h.host, 63)) AS polled_s, (SELECT lease_ms FROM etagd.status()) / "
    "1000.0 AS lease_s FROM etagd.hosts() h)"
    " SELECT CASE WHEN state = 'leaving' OR polled_s IS NULL THEN 'WARN' WHEN polled_s > lease_s "
    "THEN 'FAIL' ELSE 'ok' END, 'host ' || host, CASE WHEN state = 'leaving' THEN 'is leaving "
    "since ' || etagd.age(since_s) || ': etag-relay leave puts it out'"
    " WHEN polled_s IS NULL THEN 'is not connected: it renders, and \"everywhere\" waits for it by "
    "time. Start its etag-relay, or: etag-relay leave ' || host"
    " WHEN polled_s > lease_s THEN 'has not polled for ' || etagd.age(polled_s::float8) || ': it "
    "renders' ELSE 'polled ' || etagd.age(polled_s::float8) || ' ago' END FROM h"
    " UNION ALL SELECT 'FAIL', 'host ' || $1::text, 'this host is no member: start etag-relay here'"
    " WHERE NOT EXISTS (SELECT FROM h WHERE host = $1::text)";

static void finding(const char *level, const char *topic, const char *text)
{
    printf("%-5s %-10s %s\n", level, topic, text);
}

/* The findings of a query. */
static int findings(struct postgres *postgres, const struct postgres_statement *statement,
                    struct why *why)
{
    const int r = postgres_ask(postgres, statement, DOCTOR_ANSWER_MS_MAX, why);
    int fail_count = 0;

    for (int row = 0; r == 0 && row < postgres_row_count(postgres); row++) {
        char words[3][1024];
        for (int column = 0; column < 3; column++) {
            const etag_str text = postgres_get(postgres, row, column);
            (void)snprintf(words[column], sizeof(words[column]), "%.*s", (int)text.len,
                           text.data ? text.data : "");
        }
        finding(words[0], words[1], words[2]);
        fail_count += strcmp(words[0], "FAIL") == 0;
    }
    return r == 0 ? fail_count : r < 0 ? r : -EIO;
}

static int ask_number(struct postgres *postgres, const char *sql, uint64_t *out, struct why *why)
{
    const int r = postgres_ask(postgres, &(struct postgres_statement){.sql = sql},
                               DOCTOR_ANSWER_MS_MAX, why);

    *out = r == 0 ? postgres_get_u64(postgres, 0, 0) : 0;
    return r > 0 ? -EIO : r;
}

/* One that gives each statement another server process loses LISTEN. */
static int pooler_check(struct postgres *postgres, struct why *why)
{
    uint64_t first = 0;
    uint64_t pid;
    bool differs = false;

    for (int i = 0; i < POOLER_ASKS; i++) {
        const int r = ask_number(postgres, "SELECT pg_backend_pid()", &pid, why);
        if (r != 0)
            return r;
        first = i == 0 ? pid : first;
        differs |= pid != first;
    }
    if (differs)
        finding("WARN", "pooler",
                "it is in transaction mode: no relay is woken, so events come with the next poll. "
                "Let relays connect past it");
    else
        finding("ok", "pooler", "this connection keeps its server process");
    return 0;
}

static int server_us(struct postgres *postgres, uint64_t *server, uint64_t *ours, uint64_t *unsure,
                     struct why *why)
{
    const uint64_t before = time_ns_of(CLOCK_MONOTONIC);
    const int r = ask_number(
        postgres, "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint", server, why);
    const uint64_t after = time_ns_of(CLOCK_MONOTONIC);

    *ours = before / 1000 / 2 + after / 1000 / 2;
    *unsure += (after - before) / 1000;
    return r;
}

/* Only intervals are compared, and "by time" covers clocks that run a little differently. */
static int clock_check(struct postgres *postgres, struct why *why)
{
    uint64_t server[2];
    uint64_t ours[2];
    uint64_t unsure = 0;
    char text[256];
    int r = server_us(postgres, &server[0], &ours[0], &unsure, why);

    if (r != 0)
        return r;
    time_sleep_ms(CLOCK_WAIT_MS);
    r = server_us(postgres, &server[1], &ours[1], &unsure, why);
    if (r != 0)
        return r;
    const int64_t theirs = (int64_t)(server[1] - server[0]);
    const int64_t here = (int64_t)(ours[1] - ours[0]);
    const int64_t beyond = llabs(theirs - here) - (int64_t)unsure;
    const int64_t permille = beyond > 0 ? beyond * 1000 / here : 0;
    (void)snprintf(
        text, sizeof(text),
        "in %" PRId64 " ms of this host's clock the server's went on by %" PRId64 " ms%s",
        here / 1000, theirs / 1000,
        permille > CLOCK_PERMILLE_MAX
            ? ": more than \"by time\" covers (8 %); acknowledgements do not depend on it"
            : "");
    finding(permille > CLOCK_PERMILLE_MAX    ? "FAIL"
            : permille > CLOCK_PERMILLE_WARN ? "WARN"
                                             : "ok",
            "clock", text);
    return permille > CLOCK_PERMILLE_MAX;
}

int doctor_run(struct postgres *postgres, const struct options *options, struct why *why)
{
    char keep_s[32];
    int fail_count = 0;

    (void)snprintf(keep_s, sizeof(keep_s), "%" PRIu64, options->retention_ms / 1000);
    const struct postgres_statement parts[] = {
        {.sql = database_sql, .values = {{str_of(keep_s), true}}, .value_count = 1, .text = true},
        {.sql = hosts_sql,
         .values = {{str_of(options->host), true}},
         .value_count = 1,
         .text = true}};
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        const int r = findings(postgres, &parts[i], why);
        if (r < 0)
            return r;
        fail_count += r;
    }
    int r = pooler_check(postgres, why);
    if (r == 0)
        r = clock_check(postgres, why);
    return r < 0 ? r : fail_count + r;
}
