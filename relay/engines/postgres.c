/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Connecting goes on in steps that look like statements: CONNECT (libpq's own), RIGHTS and VERSION
 * (is there our schema, may we use it?), LISTEN, PREPARE. They ask in an order in which no question
 * fails for a reason that a later one would have said better.
 *
 * Statements that are sent again and again are parsed and planned once, when the connection begins,
 * and executed by name: to do that each time takes PostgreSQL longer than to execute the poll of an
 * idle host. A pooler may give them to a process of the server that does not know the name: then
 * the text is sent.
 *
 * What the server refuses is sorted by its SQLSTATE. REFUSED is what stays refused however often it
 * is sent, and harms nothing else: a wrong argument (22, 23), a step out of its order (55000). All
 * else ends the connection: the next one may meet another server, a mended schema, granted rights.
 * What waited too long for a lock (55P03) is BUSY, and the connection is as before.
 */
#include "postgres.h"

#include "clocktime.h"
#include "numbers.h"
#include "text.h"

#include <endian.h>
#include <errno.h>
#include <libpq-fe.h>
#include <poll.h>
#include <stdio.h>
#include <sys/random.h>

#define MIN_VERSION 130000
#define SESSION_NAME_BYTES 300
#define STATEMENT_NAME_BYTES 48

enum postgres_step {
    STEP_CONNECT,
    STEP_RIGHTS,
    STEP_VERSION,
    STEP_LISTEN,
    /* one of our caller's */
    STEP_PREPARE,
    STEP_READY,
    /* a statement of our caller */
    STEP_BUSY,
    /* its result is there */
    STEP_DONE,
};

/* The statement under way, as libpq takes it; values point into bytes, a NUL after each. */
struct sent {
    const char *sql;
    const char *values[POSTGRES_VALUES_MAX];
    int lengths[POSTGRES_VALUES_MAX], formats[POSTGRES_VALUES_MAX];
    int value_count;
    bool text;
    char *bytes;
};

struct postgres {
    PGconn *connection;
    struct sent sent;
    bool sent_by_name;
    /* borrowed; some may be NULL */
    const char *const *statements;
    /* The server knows those before known_below by their names, as far as we know. */
    size_t statement_count, known_below;
    /* Random, in the names: where there is a pooler, other relays, and other releases, use the
     * server's processes too. */
    uint64_t tag;
    /* of the last statement, NULL until it is whole */
    PGresult *result;
    enum postgres_step step;
    /* CONNECT */
    PostgresPollingStatusType polling;
    bool unchecked;
    bool woken;
    /* libpq has bytes that the kernel did not take yet */
    bool unsent;
};

static const char rights_sql[] =
    "SELECT current_setting('server_version_num')::int4, pg_is_in_recovery(),"
    " to_regnamespace('etagd') IS NOT NULL,"
    " CASE WHEN to_regnamespace('etagd') IS NOT NULL"
    " THEN has_schema_privilege('etagd', 'USAGE') END,"
    " current_user::text, current_database()::text,"
    " EXISTS (SELECT FROM pg_proc p WHERE p.pronamespace = to_regnamespace('etagd')"
    " AND p.proname = 'version'),"
    " coalesce((SELECT has_function_privilege(p.oid, 'EXECUTE') FROM pg_proc p"
    " WHERE p.pronamespace = to_regnamespace('etagd') AND p.proname = 'poll' LIMIT 1), true)";
/* The second: who answers is who connected, unless a pooler is between. */
static const char version_sql[] = "SELECT etagd.version(), pg_backend_pid()";
/* What is read in a serializable transaction can make writers of the application fail. */
static const char listen_sql[] =
    "SET default_transaction_isolation = 'read committed'; LISTEN etagd";

/* ---- Open, close ----------------------------------------------------------------------------- */

struct postgres *postgres_close(struct postgres *postgres)
{
    if (!postgres)
        return NULL;
    PQclear(postgres->result);
    PQfinish(postgres->connection);
    free(postgres->sent.bytes);
    free(postgres);
    return NULL;
}

static void cleanup_postgres(struct postgres **postgres)
{
    postgres_close(*postgres);
}

/* What libpq says may have several lines, and ends in a newline. */
static void say(struct why *why, const char *what, const char *text, const char *advice)
{
    size_t len = strlen(text);

    while (len > 0 && strchr("\n?.", text[len - 1]))
        len--;
    (void)why_set(why, "%s: %.*s%s%s", what, (int)min_of(len, 2048), text, advice ? ". " : "",
                  advice ? advice : "");
    for (char *c = why->text; *c; c++)
        if (*c == '\n' || *c == '\t')
            *c = ' ';
}

static int connection_error(struct postgres *postgres, const char *doing, struct why *why)
{
    say(why, doing, PQerrorMessage(postgres->connection), NULL);
    return -ECONNRESET;
}

static bool string_is_sound(const char *connection)
{
    PQconninfoOption *const options = PQconninfoParse(connection, NULL);

    PQconninfoFree(options);
    return options != NULL;
}

/* Notices ("already exists, skipping") are not logged. */
static void ignore_notice(void *context, const PGresult *result)
{
    (void)context;
    (void)result;
}

int postgres_open(struct postgres **out, const char *connection, const char *name, bool unchecked,
                  struct why *why)
{
    /* The connection string has the last word on all but the encoding. */
    const char *const keywords[] = {"fallback_application_name", "dbname", "client_encoding", NULL};
    const char *const values[] = {name, connection ? connection : "", "UTF8", NULL};
    CLEANUP(cleanup_postgres) struct postgres *postgres = calloc(1, sizeof(*postgres));

    *out = NULL;
    if (!postgres)
        return -ENOMEM;
    postgres->unchecked = unchecked;
    postgres->connection = PQconnectStartParams(keywords, values, 1);
    if (!postgres->connection)
        return -ENOMEM;
    if (PQstatus(postgres->connection) == CONNECTION_BAD && !string_is_sound(values[1])) {
        say(why, "cannot use the connection string", PQerrorMessage(postgres->connection),
            "It is written as host=... dbname=... user=..., or as postgresql://user@host/database");
        return -EINVAL;
    }
    if (PQstatus(postgres->connection) == CONNECTION_BAD)
        return connection_error(postgres, "cannot connect to PostgreSQL", why);
    PQsetNoticeReceiver(postgres->connection, ignore_notice, NULL);
    postgres->polling = PGRES_POLLING_WRITING;
    *out = take_ptr(postgres);
    return 0;
}

void postgres_prepare(struct postgres *postgres, const char *const *statements, size_t count)
{
    postgres->statements = statements;
    if (getrandom(&postgres->tag, sizeof(postgres->tag), 0) == sizeof(postgres->tag))
        postgres->statement_count = count;
}

/* ---- What went wrong ------------------------------------------------------------------------- */

static bool state_is(const char *state, const char *prefix)
{
    return state && strncmp(state, prefix, strlen(prefix)) == 0;
}

struct advice {
    const char *state, *text;
};

static const struct advice advices[] = {
    {"42501", "Grant the role: GRANT etagd_relay TO ..., or etag-relay setup --relay ROLE"},
    {"42883", "The schema etagd is of another release: run etag-relay setup of this one"},
    {"42P01", "The schema etagd is not whole: run etag-relay setup"},
    {"42704", "The schema etagd is not whole: run etag-relay setup"},
    {"3F000", "There is no schema etagd in this database: run etag-relay setup"},
    {"25006",
     "A standby answered: name the primary, or all hosts with target_session_attrs=read-write"},
    {"0A000",
     "A standby answered: name the primary, or all hosts with target_session_attrs=read-write"},
};

static int result_error(struct postgres *postgres, struct why *why)
{
    const char *const state = PQresultErrorField(postgres->result, PG_DIAG_SQLSTATE);
    const char *const message = PQresultErrorField(postgres->result, PG_DIAG_MESSAGE_PRIMARY);
    const char *advice = PQresultErrorField(postgres->result, PG_DIAG_MESSAGE_HINT);

    for (size_t i = 0; i < COUNT_OF(advices) && !postgres->unchecked; i++)
        if (state_is(state, advices[i].state))
            advice = advices[i].text;
    if (postgres->unchecked && state_is(state, "42501"))
        advice = "Setting up is for a superuser, or for a role that may make roles, and schemas in "
                 "this database, and that set it up before";
    say(why, "PostgreSQL", message ? message : PQresultErrorMessage(postgres->result), advice);
    if (state_is(state, "55P03"))
        return -EBUSY;
    if (state_is(state, "22") || state_is(state, "23") || state_is(state, "55000"))
        return ENGINE_E_REFUSED;
    return state_is(state, "42") || state_is(state, "3F") ? -EACCES : -EPROTO;
}

/* ---- Bytes ----------------------------------------------------------------------------------- */

int postgres_fd(const struct postgres *postgres)
{
    return PQsocket(postgres->connection);
}

short postgres_events(const struct postgres *postgres)
{
    if (postgres->step == STEP_CONNECT)
        return postgres->polling == PGRES_POLLING_WRITING ? POLLOUT : POLLIN;
    return postgres->unsent ? POLLIN | POLLOUT : POLLIN;
}

static int flush(struct postgres *postgres, struct why *why)
{
    const int left = PQflush(postgres->connection);

    if (left < 0)
        return connection_error(postgres, "the connection to PostgreSQL was lost", why);
    postgres->unsent = left > 0;
    return 0;
}

static int sent_set(struct sent *sent, const struct postgres_statement *statement)
{
    size_t len = 0;

    for (int i = 0; i < statement->value_count; i++)
        len += statement->values[i].bytes.len + 1;
    char *at = realloc(sent->bytes, len + 1);
    if (!at)
        return -ENOMEM;
    *sent = (struct sent){.sql = statement->sql,
                          .value_count = statement->value_count,
                          .text = statement->text,
                          .bytes = at};
    for (int i = 0; i < statement->value_count; i++) {
        const struct postgres_value *const value = &statement->values[i];
        sent->formats[i] = !value->text;
        if (!value->bytes.data)
            continue;
        copy_bytes(at, value->bytes.data, value->bytes.len);
        at[value->bytes.len] = '\0';
        sent->values[i] = at;
        sent->lengths[i] = (int)value->bytes.len;
        at += value->bytes.len + 1;
    }
    return 0;
}

static void statement_name(const struct postgres *postgres, size_t i,
                           char out[STATEMENT_NAME_BYTES])
{
    (void)snprintf(out, STATEMENT_NAME_BYTES, "etagd_%016llx_%zu",
                   (unsigned long long)postgres->tag, i);
}

/* By the text's address. */
static bool statement_is_known(const struct postgres *postgres, const char *sql,
                               char name[STATEMENT_NAME_BYTES])
{
    for (size_t i = 0; i < postgres->known_below; i++)
        if (postgres->statements[i] == sql) {
            statement_name(postgres, i, name);
            return true;
        }
    return false;
}

static int sent_send(struct postgres *postgres, struct why *why)
{
    const struct sent *const sent = &postgres->sent;
    char name[STATEMENT_NAME_BYTES];

    PQclear(take_ptr(postgres->result));
    postgres->sent_by_name = statement_is_known(postgres, sent->sql, name);
    const int done = postgres->sent_by_name
                         ? PQsendQueryPrepared(postgres->connection, name, sent->value_count,
                                               sent->values, sent->lengths, sent->formats,
                                               !sent->text)
                         : PQsendQueryParams(postgres->connection, sent->sql, sent->value_count,
                                             NULL, sent->values, sent->lengths, sent->formats,
                                             !sent->text);
    return done ? flush(postgres, why)
                : connection_error(postgres, "cannot send to PostgreSQL", why);
}

static int statement_send(struct postgres *postgres, const struct postgres_statement *statement,
                          struct why *why)
{
    const int r = sent_set(&postgres->sent, statement);

    if (r != 0)
        return why_set(why, "no memory for a statement"), r;
    return sent_send(postgres, why);
}

/* The last result, once nothing more comes: 0 or AGAIN. */
static int result_collect(struct postgres *postgres)
{
    while (!PQisBusy(postgres->connection)) {
        PGresult *const next = PQgetResult(postgres->connection);
        if (!next)
            return 0;
        /* Of several statements the first that failed. */
        if (postgres->result && PQresultStatus(postgres->result) == PGRES_FATAL_ERROR) {
            PQclear(next);
        } else {
            PQclear(postgres->result);
            postgres->result = next;
        }
    }
    return ENGINE_E_AGAIN;
}

static int result_judge(struct postgres *postgres, struct why *why)
{
    if (!postgres->result || PQstatus(postgres->connection) == CONNECTION_BAD)
        return connection_error(postgres, "the connection to PostgreSQL was lost", why);
    switch (PQresultStatus(postgres->result)) {
    case PGRES_TUPLES_OK:
    case PGRES_COMMAND_OK:
        return 0;
    case PGRES_FATAL_ERROR:
        return result_error(postgres, why);
    default:
        (void)why_set(why, "PostgreSQL answered with %s",
                      PQresStatus(PQresultStatus(postgres->result)));
        return -EPROTO;
    }
}

/* ---- Connecting ------------------------------------------------------------------------------ */

static int rights_judge(const struct postgres *postgres, struct why *why)
{
    const etag_str user = postgres_get(postgres, 0, 4), database = postgres_get(postgres, 0, 5);
    const uint64_t version = postgres_get_u64(postgres, 0, 0);

    if (version < MIN_VERSION)
        (void)why_set(why, "this is PostgreSQL %u: etagd needs 13 or later",
                      (unsigned)version / 10000);
    else if (postgres_get_bool(postgres, 0, 1))
        (void)why_set(why, "a standby answered: name the primary, or all hosts with "
                           "target_session_attrs=read-write");
    else if (!postgres_get_bool(postgres, 0, 2))
        (void)why_set(why,
                      "the database %.*s has no schema etagd: run etag-relay setup, or name "
                      "the application's database in the connection string",
                      (int)database.len, database.data);
    else if (!postgres_get_bool(postgres, 0, 3) || !postgres_get_bool(postgres, 0, 7))
        (void)why_set(why, "the role %.*s may not use the schema etagd: GRANT etagd_relay TO %.*s",
                      (int)user.len, user.data, (int)user.len, user.data);
    else if (!postgres_get_bool(postgres, 0, 6))
        (void)why_set(why,
                      "the schema etagd of the database %.*s is not of etag-relay: rename it, "
                      "then run etag-relay setup",
                      (int)database.len, database.data);
    else
        return 0;
    return -EACCES;
}

static int version_judge(const struct postgres *postgres, struct why *why)
{
    const uint64_t version = postgres_get_u64(postgres, 0, 0);

    if (version == POSTGRES_SCHEMA_VERSION)
        return 0;
    (void)why_set(why, "the schema etagd has version %llu, this etag-relay works with %d: %s",
                  (unsigned long long)version, POSTGRES_SCHEMA_VERSION,
                  version > POSTGRES_SCHEMA_VERSION ? "install the release that set it up"
                                                    : "run etag-relay setup of this release");
    return -EACCES;
}

/* A pooler names no process of the server: it would not be the same one next time, and keep
 * what is not asked for. */
static bool pooler_is_seen(const struct postgres *postgres)
{
    return postgres_get_u64(postgres, 0, 1) != (uint64_t)PQbackendPID(postgres->connection);
}

static int listen_send(struct postgres *postgres, struct why *why)
{
    if (pooler_is_seen(postgres))
        postgres->statement_count = 0;
    PQclear(take_ptr(postgres->result));
    if (!PQsendQuery(postgres->connection, listen_sql))
        return connection_error(postgres, "cannot send to PostgreSQL", why);
    return flush(postgres, why);
}

static int prepare_send(struct postgres *postgres, size_t i, struct why *why)
{
    char name[STATEMENT_NAME_BYTES];

    statement_name(postgres, i, name);
    PQclear(take_ptr(postgres->result));
    if (!PQsendPrepare(postgres->connection, name, postgres->statements[i], 0, NULL))
        return connection_error(postgres, "cannot send to PostgreSQL", why);
    return flush(postgres, why);
}

/* The next one that there is, or READY. */
static int prepare_next(struct postgres *postgres, size_t from, struct why *why)
{
    while (from < postgres->statement_count && !postgres->statements[from])
        from++;
    postgres->known_below = from;
    postgres->step = from < postgres->statement_count ? STEP_PREPARE : STEP_READY;
    return postgres->step == STEP_PREPARE ? prepare_send(postgres, from, why) : 0;
}

/* The step is over: the next one. */
static int step_next(struct postgres *postgres, struct why *why)
{
    switch (postgres->step) {
    case STEP_CONNECT:
        if (postgres->unchecked) {
            postgres->step = STEP_READY;
            return 0;
        }
        postgres->step = STEP_RIGHTS;
        return statement_send(postgres, &(struct postgres_statement){.sql = rights_sql}, why);
    case STEP_RIGHTS:
        postgres->step = STEP_VERSION;
        return statement_send(postgres, &(struct postgres_statement){.sql = version_sql}, why);
    case STEP_VERSION:
        postgres->step = STEP_LISTEN;
        return listen_send(postgres, why);
    case STEP_LISTEN:
        return prepare_next(postgres, 0, why);
    case STEP_PREPARE:
        return prepare_next(postgres, postgres->known_below + 1, why);
    default:
        postgres->step = STEP_DONE;
        return 0;
    }
}

static int connect_go_on(struct postgres *postgres, struct why *why)
{
    postgres->polling = PQconnectPoll(postgres->connection);
    if (postgres->polling == PGRES_POLLING_FAILED)
        return connection_error(postgres, "cannot connect to PostgreSQL", why);
    if (postgres->polling != PGRES_POLLING_OK)
        return 0;
    if (PQsetnonblocking(postgres->connection, 1) != 0)
        return connection_error(postgres, "cannot use the connection to PostgreSQL", why);
    return step_next(postgres, why);
}

/* Notifications of this very session wake no other. */
static void notifications_take(struct postgres *postgres)
{
    PGnotify *notify;

    while ((notify = PQnotifies(postgres->connection)) != NULL) {
        postgres->woken |= notify->be_pid != PQbackendPID(postgres->connection);
        PQfreemem(notify);
    }
}

/* A step of ours has its result. */
static int step_judge(struct postgres *postgres, struct why *why)
{
    int r = result_judge(postgres, why);

    if (r == 0 && postgres->step == STEP_RIGHTS)
        r = rights_judge(postgres, why);
    if (r == 0 && postgres->step == STEP_VERSION)
        r = version_judge(postgres, why);
    if (r > 0) /* nothing is refused here that may be refused */
        r = -EPROTO;
    return r != 0 ? r : step_next(postgres, why);
}

int postgres_dispatch(struct postgres *postgres, struct why *why)
{
    if (postgres->step == STEP_CONNECT)
        return connect_go_on(postgres, why);
    /* What is left to say of a connection that ends (a server that shuts down) comes as a
     * result. */
    const bool lost = !PQconsumeInput(postgres->connection);
    int r = postgres->unsent && !lost ? flush(postgres, why) : 0;
    notifications_take(postgres);
    while (r == 0 && postgres->step != STEP_READY && postgres->step != STEP_DONE &&
           result_collect(postgres) == 0) {
        if (postgres->step == STEP_BUSY)
            postgres->step = STEP_DONE;
        else
            r = step_judge(postgres, why);
    }
    if (r == 0 && lost && postgres->step != STEP_DONE)
        return connection_error(postgres, "the connection to PostgreSQL was lost", why);
    return r;
}

bool postgres_ready(const struct postgres *postgres)
{
    return postgres->step == STEP_READY;
}

bool postgres_woken(struct postgres *postgres)
{
    const bool woken = postgres->woken;

    postgres->woken = false;
    return woken;
}

/* ---- Statements ------------------------------------------------------------------------------ */

int postgres_send(struct postgres *postgres, const struct postgres_statement *statement,
                  struct why *why)
{
    postgres->step = STEP_BUSY;
    return statement_send(postgres, statement, why);
}

/* Another process of the server than the one which prepared it, or DISCARD ALL: of this connection
 * nothing is known by its name any more. */
static bool name_is_unknown(const struct postgres *postgres)
{
    return postgres->sent_by_name &&
           state_is(PQresultErrorField(postgres->result, PG_DIAG_SQLSTATE), "26000");
}

int postgres_take(struct postgres *postgres, struct why *why)
{
    if (postgres->step != STEP_DONE)
        return ENGINE_E_AGAIN;
    if (name_is_unknown(postgres)) { /* it did nothing: once more, by its text */
        postgres->known_below = 0;
        postgres->step = STEP_BUSY;
        const int r = sent_send(postgres, why);
        return r != 0 ? r : ENGINE_E_AGAIN;
    }
    postgres->step = STEP_READY;
    return result_judge(postgres, why);
}

int postgres_row_count(const struct postgres *postgres)
{
    return PQntuples(postgres->result);
}

etag_str postgres_get(const struct postgres *postgres, int row, int column)
{
    if (column >= PQnfields(postgres->result) || PQgetisnull(postgres->result, row, column))
        return (etag_str){0};
    return (etag_str){PQgetvalue(postgres->result, row, column),
                      (size_t)PQgetlength(postgres->result, row, column)};
}

uint64_t postgres_get_u64(const struct postgres *postgres, int row, int column)
{
    const etag_str value = postgres_get(postgres, row, column);
    uint64_t wide;
    uint32_t narrow;

    if (value.len == sizeof(wide)) {
        memcpy(&wide, value.data, sizeof(wide));
        return be64toh(wide);
    }
    if (value.len != sizeof(narrow))
        return 0;
    memcpy(&narrow, value.data, sizeof(narrow));
    return be32toh(narrow);
}

bool postgres_get_bool(const struct postgres *postgres, int row, int column)
{
    const etag_str value = postgres_get(postgres, row, column);

    return value.len == 1 && value.data[0] == 1;
}

/* ---- For commands, which may wait ------------------------------------------------------------ */

static int wait_for(struct postgres *postgres, enum postgres_step step, uint32_t timeout_ms,
                    struct why *why)
{
    const uint64_t end_ns = time_coarse_ns() + timeout_ms * NS_PER_MS;

    while (postgres->step != step) {
        const uint64_t now_ns = time_coarse_ns();
        struct pollfd wait = {.fd = postgres_fd(postgres), .events = postgres_events(postgres)};
        if (now_ns >= end_ns) {
            (void)why_set(why, "PostgreSQL did not answer within %u ms", timeout_ms);
            return -ETIMEDOUT;
        }
        if (poll(&wait, 1, (int)((end_ns - now_ns) / NS_PER_MS) + 1) < 0 && errno != EINTR)
            return -errno;
        const int r = wait.revents != 0 ? postgres_dispatch(postgres, why) : 0;
        if (r != 0)
            return r;
    }
    return 0;
}

int postgres_wait(struct postgres *postgres, uint32_t timeout_ms, struct why *why)
{
    return wait_for(postgres, STEP_READY, timeout_ms, why);
}

int postgres_ask(struct postgres *postgres, const struct postgres_statement *statement,
                 uint32_t timeout_ms, struct why *why)
{
    int r = postgres_send(postgres, statement, why);

    if (r == 0)
        r = wait_for(postgres, STEP_DONE, timeout_ms, why);
    return r != 0 ? r : postgres_take(postgres, why);
}

int postgres_run(struct postgres *postgres, const char *sql, struct why *why)
{
    if (PQsetnonblocking(postgres->connection, 0) != 0)
        return connection_error(postgres, "cannot use the connection to PostgreSQL", why);
    PQclear(postgres->result);
    postgres->result = PQexec(postgres->connection, sql);
    return result_judge(postgres, why);
}
