/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What operators do by hand with PostgreSQL, on a connection of its own. Setting up is done by a
 * role that may make schemas; the others by the relay's own. Each says what it did, and what is
 * left to do.
 */
#include "command_parts.h"

#include "clocktime.h"
#include "doctor.h"
#include "postgres.h"
#include "schema.h"
#include "text.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <unistd.h>

#define ROLES_MAX 32
#define SETTING_STEPS_MAX 4
#define GONE_TRIES_MAX 5

static const char setup_usage[] =
    "Usage: etag-relay [OPTION...] setup [--print] [--relay ROLE]... [--writer ROLE]...\n"
    "                  [--lease-ms N]\n"
    "Installs the schema etagd in the database of the option connection, or upgrades it.\n"
    "\n"
    "      --print          Print the script, and do nothing\n"
    "      --relay ROLE     Relays of all hosts connect as ROLE: grant it etagd_relay\n"
    "      --writer ROLE    The application connects as ROLE: grant it etagd_writer\n"
    "      --lease-ms N     How long one poll makes a host fresh (default 2000), 100 to\n"
    "                       60000; where relays run already it is changed step by step\n"
    "      --restored       With the engine etcd, where --lease-ms is the only other one: it was\n"
    "                       restored from a backup, so all hosts purge everything once\n";
static const char status_usage[] =
    "Usage: etag-relay [OPTION...] status\n"
    "Shows the hosts, how old their polls and acknowledgements are, the outbox, and the\n"
    "watched tables.\n";
static const char doctor_usage[] =
    "Usage: etag-relay [OPTION...] doctor\n"
    "Says what is wrong, or will be: the primary, waits, the outbox, standbys, hosts,\n"
    "a pooler, clocks. Exit status 1: something is.\n";
static void cleanup_connection(struct postgres **postgres)
{
    postgres_close(*postgres);
}

/* NULL: said why. */
static struct postgres *connect_to(const struct options *options, bool unchecked)
{
    struct why why = {""};
    struct postgres *postgres;
    int r = postgres_open(&postgres, options->connection, "etag-relay by hand", unchecked, &why);

    if (r == 0)
        r = postgres_wait(postgres, COMMAND_ANSWER_MS_MAX, &why);
    if (r == 0)
        return postgres;
    (void)command_failed(&why);
    return postgres_close(postgres);
}

static int ask_text(struct postgres *postgres, const char *sql, struct why *why)
{
    return postgres_ask(postgres, &(struct postgres_statement){.sql = sql, .text = true},
                        COMMAND_ANSWER_MS_MAX, why);
}

/* ---- Setup ----------------------------------------------------------------------------------- */

struct setup {
    bool print;
    const char *relays[ROLES_MAX], *writers[ROLES_MAX];
    size_t relay_count, writer_count;
    /* 0: as it is */
    uint32_t lease_ms;
};

static int grant(struct postgres *postgres, const char *group, const char *role, struct why *why)
{
    const struct postgres_statement statement = {
        .sql = "SELECT format('GRANT %I TO %I', $1::text, $2::text)",
        .values = {{str_of(group), true}, {str_of(role), true}},
        .value_count = 2,
        .text = true};
    char sql[1024];
    int r = postgres_ask(postgres, &statement, COMMAND_ANSWER_MS_MAX, why);

    if (r != 0)
        return r;
    const etag_str text = postgres_get(postgres, 0, 0);
    (void)snprintf(sql, sizeof(sql), "%.*s", (int)text.len, text.data);
    r = postgres_run(postgres, sql, why);
    if (r == 0)
        printf("%s\n", sql);
    return r;
}

static int setting_read(void *ctx, struct relay_setting *setting, struct why *why)
{
    const struct postgres_statement statement = {.sql = "SELECT lease_ms, wait_ms FROM "
                                                        "etagd.status()"};
    struct postgres *const postgres = ctx;
    const int r = postgres_ask(postgres, &statement, COMMAND_ANSWER_MS_MAX, why);

    if (r == 0)
        *setting = (struct relay_setting){(uint32_t)postgres_get_u64(postgres, 0, 0),
                                          (uint32_t)postgres_get_u64(postgres, 0, 1)};
    return r;
}

static int setting_write(void *ctx, struct relay_setting now, struct relay_setting next,
                         struct why *why)
{
    char sql[128];

    if (next.wait_ms != now.wait_ms)
        (void)snprintf(sql, sizeof(sql), "SELECT etagd.set_wait_ms(%u)", next.wait_ms);
    else
        (void)snprintf(sql, sizeof(sql), "SELECT etagd.set_lease_ms(%u)", next.lease_ms);
    const int r = postgres_run(ctx, sql, why);
    if (r == 0)
        printf("lease_ms %u, wait_ms %u\n", next.lease_ms, next.wait_ms);
    return r;
}

static int setup_run(struct postgres *postgres, const struct setup *setup, struct why *why)
{
    const struct setting_place place = {postgres, setting_read, setting_write, SETTING_STEPS_MAX};
    int r = postgres_run(postgres, relay_schema, why);

    for (size_t i = 0; i < setup->relay_count && r == 0; i++)
        r = grant(postgres, "etagd_relay", setup->relays[i], why);
    for (size_t i = 0; i < setup->writer_count && r == 0; i++)
        r = grant(postgres, "etagd_writer", setup->writers[i], why);
    if (r == 0 && setup->lease_ms > 0)
        r = command_lease_change(&place, setup->lease_ms, why);
    if (r == 0)
        r = ask_text(postgres, "SELECT current_database(), current_setting('server_version')", why);
    return r;
}

static int setup_do(const struct options *options, const struct setup *setup)
{
    struct why why = {""};

    if (setup->print)
        return fputs(relay_schema, stdout) < 0 || fflush(stdout) != 0 ? EXIT_FAILURE : EXIT_SUCCESS;
    CLEANUP(cleanup_connection) struct postgres *postgres = connect_to(options, true);
    if (!postgres)
        return EXIT_FAILURE;
    if (setup_run(postgres, setup, &why) != 0)
        return command_failed(&why);
    const etag_str database = postgres_get(postgres, 0, 0), version = postgres_get(postgres, 0, 1);
    printf("the database %.*s (PostgreSQL %.*s) has the schema etagd, version %d\n",
           (int)database.len, database.data, (int)version.len, version.data,
           POSTGRES_SCHEMA_VERSION);
    if (setup->relay_count == 0)
        printf("relays connect as a role that has etagd_relay: setup --relay ROLE grants it\n");
    return EXIT_SUCCESS;
}

static int setup_command(const struct options *options, int argc, char **argv)
{
    static const struct option flags[] = {{"print", no_argument, NULL, 'p'},
                                          {"relay", required_argument, NULL, 'r'},
                                          {"writer", required_argument, NULL, 'w'},
                                          {"lease-ms", required_argument, NULL, 'l'},
                                          {"restored", no_argument, NULL, 'R'},
                                          {"help", no_argument, NULL, 'h'},
                                          {0}};
    struct setup setup = {0};
    int flag;

    while ((flag = getopt_long(argc, argv, "", flags, NULL)) != -1) {
        if (flag == 'p')
            setup.print = true;
        else if (flag == 'r' && setup.relay_count < ROLES_MAX)
            setup.relays[setup.relay_count++] = optarg;
        else if (flag == 'w' && setup.writer_count < ROLES_MAX)
            setup.writers[setup.writer_count++] = optarg;
        else if (flag == 'h')
            return fputs(setup_usage, stdout) < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
        else if (flag == 'R')
            return command_usage_wrong(setup_usage, "setup: --restored is for the engine etcd");
        else if (flag != 'l')
            return command_usage_wrong(setup_usage, "setup: no such option, or too many of them");
        else if (!command_lease_read(optarg, &setup.lease_ms))
            return command_usage_wrong(setup_usage, "setup: --lease-ms is a number, 100 to 60000");
    }
    if (optind != argc)
        return command_usage_wrong(setup_usage, "setup takes no arguments");
    return setup_do(options, &setup);
}

/* ---- Status ---------------------------------------------------------------------------------- */

/* Columns of text, the first row their heads. */
#define COLUMNS_MAX 8

static void table_print(const struct postgres *postgres, const char *const *heads, int columns)
{
    int widths[COLUMNS_MAX];

    for (int column = 0; column < columns; column++) {
        widths[column] = (int)strlen(heads[column]);
        for (int row = 0; row < postgres_row_count(postgres); row++) {
            const int len = (int)postgres_get(postgres, row, column).len;
            widths[column] = len > widths[column] ? len : widths[column];
        }
    }
    for (int row = -1; row < postgres_row_count(postgres); row++) {
        for (int column = 0; column < columns; column++) {
            const etag_str text = row < 0 ? str_of(heads[column])
                                          : postgres_get(postgres, row, column);
            printf("%s%-*.*s", column > 0 ? "  " : "", column + 1 < columns ? widths[column] : 0,
                   (int)text.len, text.data ? text.data : "");
        }
        printf("\n");
    }
}

static const char summary_sql[] =
    "SELECT format('database %s on PostgreSQL %s, schema %s; lease %s ms, wait %s ms',"
    " current_database(), current_setting('server_version'), version, lease_ms, wait_ms),"
    " CASE WHEN witness IS NULL THEN 'no witness: no relay has joined since the server crashed,"
    " restarted or was restored'"
    " ELSE format('witness %s, of %s ago', witness, etagd.age(witness_s)) END,"
    " format('outbox: %s rows, %s%s; trimmed by mark %s', row_count, pg_size_pretty(bytes),"
    " ', the oldest of ' || etagd.age(oldest_s) || ' ago', coalesce(trimmed::text, 'none')),"
    " (SELECT CASE count(*) WHEN 0 THEN 'watched tables: none' ELSE format('watched tables: %s%s',"
    " count(*), CASE WHEN bool_or(w.state = 'broken') THEN ', watch_broken: each poll raises"
    " everything until it is mended' ELSE '' END) END FROM etagd.watches() w)"
    " FROM etagd.status()";

static const char watches_sql[] =
    "SELECT name, state, part_count::text, array_to_string(templates, ' '), coalesce(why, '')"
    " FROM etagd.watches()";

/* A relay's session tells when it last finished something: its poll. Whoever has its role sees
 * it. */
static const char hosts_sql[] =
    "SELECT h.host, h.state, etagd.age(h.since_s),"
    " coalesce((SELECT etagd.age(min(extract(epoch FROM clock_timestamp() - a.state_change))"
    "::double precision) FROM pg_stat_activity a WHERE a.datname = current_database()"
    " AND a.application_name = left('etag-relay ' || h.host, 63)), 'not connected'),"
    " coalesce(etagd.age(h.ack_s), 'never')"
    " || CASE WHEN NOT h.ack_current THEN ', other witness' ELSE '' END,"
    " coalesce(h.missing::text, 'unknown') FROM etagd.hosts() h";

static int hosts_print(struct postgres *postgres, struct why *why)
{
    static const char *const heads[] = {"HOST",   "STATE",        "FOR",
                                        "POLLED", "ACKNOWLEDGED", "ROWS SINCE"};
    const int r = ask_text(postgres, hosts_sql, why);

    if (r != 0)
        return r;
    if (postgres_row_count(postgres) == 0)
        printf("no host has joined\n");
    else
        table_print(postgres, heads, 6);
    return 0;
}

static int watches_print(struct postgres *postgres, struct why *why)
{
    static const char *const heads[] = {"TABLE", "STATE", "PARTS", "TEMPLATES", "WHY"};
    const int r = ask_text(postgres, watches_sql, why);

    if (r == 0 && postgres_row_count(postgres) > 0)
        table_print(postgres, heads, 5);
    return r;
}

static int status_command(const struct options *options, int argc, char **argv)
{
    struct why why = {""};
    int status;

    if (!command_is_plain(argc, argv, status_usage, &status))
        return status;
    CLEANUP(cleanup_connection) struct postgres *postgres = connect_to(options, false);
    if (!postgres)
        return EXIT_FAILURE;
    if (ask_text(postgres, summary_sql, &why) != 0)
        return command_failed(&why);
    for (int column = 0; column < 4; column++) {
        const etag_str line = postgres_get(postgres, 0, column);
        printf("%.*s\n", (int)line.len, line.data);
    }
    if (hosts_print(postgres, &why) != 0 || watches_print(postgres, &why) != 0)
        return command_failed(&why);
    return EXIT_SUCCESS;
}

static int doctor_command(const struct options *options, int argc, char **argv)
{
    struct why why = {""};
    int status;

    if (!command_is_plain(argc, argv, doctor_usage, &status))
        return status;
    CLEANUP(cleanup_connection) struct postgres *postgres = connect_to(options, false);
    if (!postgres)
        return EXIT_FAILURE;
    const int r = doctor_run(postgres, options, &why);
    if (r < 0)
        return command_failed(&why);
    return r == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* ---- Leave ----------------------------------------------------------------------------------- */

struct leaving {
    etag_str host;
    struct engine_nonce nonce;
    uint32_t wait_ms;
    /* coarse clock, read after "leaving" was committed */
    uint64_t committed_ns;
};

static int leave_begin(struct postgres *postgres, struct leaving *leaving, struct why *why)
{
    const struct postgres_statement statement = {
        .sql = "SELECT nonce, wait_ms FROM etagd.leave($1::text)",
        .values = {{leaving->host, true}},
        .value_count = 1};
    const int r = postgres_ask(postgres, &statement, COMMAND_ANSWER_MS_MAX, why);

    leaving->committed_ns = time_coarse_ns();
    if (r != 0)
        return r;
    const etag_str nonce = postgres_get(postgres, 0, 0);
    if (nonce.len != sizeof(leaving->nonce.bytes)) {
        (void)why_set(why, "no host %.*s has joined: see etag-relay status", (int)leaving->host.len,
                      leaving->host.data);
        return -ENOENT;
    }
    memcpy(leaving->nonce.bytes, nonce.data, nonce.len);
    leaving->wait_ms = (uint32_t)postgres_get_u64(postgres, 0, 1);
    return 0;
}

/* Refused where the server's clock says that it is too early: it may have been set meanwhile. */
static int leave_end(struct postgres *postgres, const struct leaving *leaving, struct why *why)
{
    const struct postgres_statement statement = {
        .sql = "SELECT etagd.gone($1::text, $2::uuid)",
        .values = {{leaving->host, true},
                   {{(const char *)leaving->nonce.bytes, sizeof(leaving->nonce.bytes)}, false}},
        .value_count = 2};
    int r = ENGINE_E_REFUSED;

    for (int i = 0; i < GONE_TRIES_MAX && r == ENGINE_E_REFUSED; i++) {
        command_wait_for_lease(leaving->committed_ns, leaving->wait_ms);
        r = postgres_ask(postgres, &statement, COMMAND_ANSWER_MS_MAX, why);
        if (r == ENGINE_E_REFUSED)
            time_sleep_ms(leaving->wait_ms);
    }
    if (r != 0 || postgres_get_bool(postgres, 0, 0))
        return r;
    (void)why_set(why, "the host has joined again meanwhile: stop its etag-relay first");
    return -EEXIST;
}

static int leave_command(const struct options *options, int argc, char **argv)
{
    struct leaving leaving = {0};
    struct why why = {""};
    int status;

    if (!command_host_read(argc, argv, &leaving.host, &status))
        return status;
    CLEANUP(cleanup_connection) struct postgres *postgres = connect_to(options, false);
    if (!postgres)
        return EXIT_FAILURE;
    if (leave_begin(postgres, &leaving, &why) != 0)
        return command_failed(&why);
    command_say_leaving(leaving.host, leaving.wait_ms);
    if (leave_end(postgres, &leaving, &why) != 0)
        return command_failed(&why);
    return command_say_out(leaving.host);
}

const struct command commands_postgres[] = {{"setup", setup_command},
                                            {"status", status_command},
                                            {"doctor", doctor_command},
                                            {"leave", leave_command},
                                            {0}};
