/* SPDX-License-Identifier: Apache-2.0 */
/* watch and log: events as they happen, and those that did. */
#include "clocktime.h"
#include "ctl_daemon.h"
#include "ctl_key.h"
#include "ctl_targets.h"
#include "ctl_view.h"
#include "numbers.h"
#include "resource.h"
#include "surrogate.h"
#include "targets.h"
#include "text.h"

#include <inttypes.h>
#include <pwd.h>
#include <time.h>

#define WATCH_PATIENCE_MS 3600000
#define TARGETS_SHOWN_MAX 10
#define LOG_LIMIT_DEFAULT 50
#define LIMIT_UNSAID UINT64_MAX

/* ---- One event ---- */

static void print_name(void *context, const char *kind, etag_str name)
{
    (void)context;
    printf("  %s", kind);
    if (name.data) {
        putchar(' ');
        output_text(name);
    }
}

static void print_target(void *context, const char *kind, etag_str name)
{
    size_t *left = context;

    if (*left == 0)
        return;
    --*left;
    printf("  ");
    print_name(NULL, kind, name);
    putchar('\n');
}

static size_t target_count(const etag_targets *targets)
{
    return targets_names(targets) + targets->everything;
}

/* The writer's process; the daemon itself has none, and neither has a file in the spool. */
static void print_origin(const struct event_view *event)
{
    const struct passwd *user = getpwuid(event->peer_uid);
    char uid[16];

    snprintf(uid, sizeof(uid), "%" PRIu32, event->peer_uid);
    if (event->peer_pid == 0)
        printf("%8s", "-");
    else
        printf("%8" PRIu32, event->peer_pid);
    printf("  %-10.10s", user ? user->pw_name : uid);
}

static void print_columns(void)
{
    printf("%-26s%16s%8s  %-10s %s\n", "TIME (UTC)", "LSN", "PID", "USER", "EVENT");
}

static void print_event(const struct event_view *event)
{
    char time[TIME_TEXT_BYTES], origin[ORIGIN_TEXT_BYTES];
    size_t left = TARGETS_SHOWN_MAX;
    const size_t count = target_count(&event->targets);

    printf("%-26s%16" PRIu64, event->wall_ms ? time_text(event->wall_ms, time) : "unknown",
           event->lsn);
    print_origin(event);
    printf(" %s\n", event_kind_word(event->kind));
    targets_each(&event->targets, print_target, &left);
    if (count > TARGETS_SHOWN_MAX)
        printf("    and %zu more: --json names them\n", count - TARGETS_SHOWN_MAX);
    if (event->targets.hold_ms > 0)
        printf("    held for %" PRIu32 " ms\n", event->targets.hold_ms);
    if (event->relayed) {
        printf("    relay: ");
        output_text(str_of(origin_text(&event->origin, origin)));
        putchar('\n');
    }
}

/* ---- Events as they come ---- */

typedef void event_visit(void *ctx, const struct event_view *event);

static bool events_watch(struct ctl_daemon *daemon, struct ctl *ctl)
{
    struct request request = {.kind = REQUEST_WATCH};
    struct reply reply;

    return ctl_daemon_open(daemon, ctl) && ctl_daemon_ask(daemon, &request, REPLY_DONE, &reply);
}

static int events_follow(struct ctl_daemon *daemon, event_visit *visit, void *ctx)
{
    struct reply reply;
    etag_status status;

    do {
        fflush(stdout);
        const uint64_t deadline_ns = channel_now_ns() + WATCH_PATIENCE_MS * NS_PER_MS;
        status = channel_receive(&daemon->channel, deadline_ns, &reply, &daemon->fault);
        if (status == ETAG_OK && reply.kind == REPLY_EVENT)
            visit(ctx, &reply.event);
    } while (status == ETAG_OK || status == ETAG_TIMEOUT);
    return ctl_fail(daemon->ctl, status, daemon->fault.text);
}

/* ---- watch ---- */

static void watch_print(void *ctx, const struct event_view *event)
{
    const struct ctl *ctl = ctx;
    char time[TIME_TEXT_BYTES], origin[ORIGIN_TEXT_BYTES];

    if (ctl->json) {
        doc *out = doc_event(event);
        doc_number(out, "missed_before", event->dropped);
        output_json_line(out, "\n");
        return;
    }
    if (event->dropped > 0)
        printf("(%" PRIu64 " events missed)\n", event->dropped);
    printf("%s  lsn %" PRIu64 "  pid %" PRIu32 "  uid %" PRIu32,
           time_text(event->wall_ms ? event->wall_ms : 1, time), event->lsn, event->peer_pid,
           event->peer_uid);
    if (event->kind != EVENT_MUTATION)
        printf("  %s", event_kind_word(event->kind));
    targets_each(&event->targets, print_name, NULL);
    if (event->targets.hold_ms > 0)
        printf("  held for %" PRIu32 " ms", event->targets.hold_ms);
    if (event->relayed) {
        printf("  relay: ");
        output_text(str_of(origin_text(&event->origin, origin)));
    }
    putchar('\n');
}

static int watch_run(struct ctl *ctl)
{
    CLEANUP(cleanup_daemon) struct ctl_daemon daemon = {0};

    if (!ctl_no_options(ctl) || !events_watch(&daemon, ctl))
        return ctl->exit_status;
    fprintf(stderr, "watching %s; Ctrl-C ends it\n", daemon.channel.path);
    return events_follow(&daemon, watch_print, ctl);
}

const struct ctl_command ctl_watch = {
    "watch", "",       "Prints mutations as they happen, until interrupted", NULL, NULL,
    false,   watch_run};

/* ---- log: what is asked ---- */

struct log_query {
    struct ctl *ctl;
    uint64_t from_lsn, until_lsn, since_ms, until_ms;
    /* 0: none */
    uint64_t limit;
    bool since_given, follow;
    /* absent: any */
    etag_str surrogate;
    char surrogate_made[SURROGATE_MADE_BYTES];
    const char *resource;
    /* resource, canonical */
    struct resource named;
    uint64_t printed, last_lsn, oldest_lsn;
    bool columns_printed;
};

/* "90s", "15m", "6h", "2d" in milliseconds. */
static bool duration_parse(const char *text, uint64_t *ms)
{
    static const struct {
        char unit;
        uint64_t ms;
    } units[] = {{'s', 1000}, {'m', 60000}, {'h', 3600000}, {'d', 86400000}};
    const size_t digits = strspn(text, "0123456789");
    if (digits == 0 || digits > 9 || text[digits] == '\0' || text[digits + 1] != '\0')
        return false;
    for (size_t i = 0; i < COUNT_OF(units); i++)
        if (text[digits] == units[i].unit) {
            *ms = strtoull(text, NULL, 10) * units[i].ms;
            return true;
        }
    return false;
}

/* "2026-01-31T12:00:00.123Z" as this command prints it, or shorter; UTC. */
static bool instant_parse(const char *text, uint64_t *ms)
{
    static const char *const forms[] = {"%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M",
                                        "%Y-%m-%d %H:%M", "%Y-%m-%d"};

    for (size_t i = 0; i < COUNT_OF(forms); i++) {
        struct tm tm = {0};
        const char *rest = strptime(text, forms[i], &tm);
        uint64_t fraction_ms = 0;
        if (!rest)
            continue;
        if (*rest == '.' && strspn(rest + 1, "0123456789") == 3) {
            fraction_ms = strtoull(rest + 1, NULL, 10);
            rest += 4;
        }
        if (*rest == 'Z')
            rest++;
        if (*rest != '\0')
            continue;
        const time_t seconds = timegm(&tm);
        *ms = (uint64_t)seconds * 1000 + fraction_ms;
        return seconds >= 0;
    }
    return false;
}

/* Returns false after an error message. */
static bool moment_parse(const struct log_query *query, const char *option, const char *text,
                         uint64_t *lsn, uint64_t *ms)
{
    uint64_t ago_ms;

    if (text[0] && strspn(text, "0123456789") == strlen(text))
        return ctl_number(query->ctl, option, text, UINT64_MAX >> 1, lsn);
    if (duration_parse(text, &ago_ms)) {
        const uint64_t now_ms = time_wall_ms();
        *ms = now_ms > ago_ms ? now_ms - ago_ms : 1;
        return true;
    }
    if (instant_parse(text, ms))
        return true;
    ctl_usage_error(query->ctl,
                    "--%s %s: want an LSN (1099511627778), a time ago (90s, 15m, 6h, 2d) or a time "
                    "in UTC (2026-01-31T12:00)",
                    option, text);
    return false;
}

static bool log_option(struct ctl *ctl, void *into, int option, const char *value)
{
    struct log_query *query = into;
    etag_resource resource;
    const char *wrong;

    switch (option) {
    case 'b':
        query->since_given = true;
        return moment_parse(query, "since", value, &query->from_lsn, &query->since_ms);
    case 'u':
        return moment_parse(query, "until", value, &query->until_lsn, &query->until_ms);
    case 's':
        query->surrogate = surrogate_name(str_of(value), query->surrogate_made);
        return true;
    case 'r':
        query->resource = value;
        wrong = ctl_target_check('r', value, &resource);
        if (!wrong)
            wrong = resource_canonicalize(&query->named, &resource);
        if (wrong)
            ctl_usage_error(ctl, "--resource %s: %s", value, wrong);
        return !wrong;
    default:
        return false;
    }
}

/* ---- log: which events ---- */

struct name_match {
    const struct log_query *query;
    bool found;
};

static void match_target(void *context, const char *kind, etag_str name)
{
    struct name_match *match = context;
    const struct log_query *query = match->query;

    if (strcmp(kind, target_word(TARGET_EVERYTHING)) == 0)
        match->found = true;
    if (query->surrogate.data && strcmp(kind, target_word(TARGET_SURROGATE)) == 0)
        match->found |= surrogate_reaches(name, query->surrogate);
    if (query->surrogate.data && strcmp(kind, target_word(TARGET_FAMILY)) == 0)
        match->found |= surrogate_family_reaches(name, query->surrogate);
}

static bool is_resource(etag_str named, const struct resource *resource)
{
    char text[RESOURCE_TEXT_BYTES_MAX];

    return str_equal(named, (etag_str){text, resource_format(resource, text)});
}

static bool is_below(etag_str named, const struct resource *prefix)
{
    char text[RESOURCE_TEXT_BYTES_MAX];
    const size_t len = resource_format(prefix, text) - resource_target(prefix).len;

    return str_starts_with(named, (etag_str){text, len + resource_covered_prefix(prefix)});
}

/* Does the target mean it, in one of the ways in which servers read it? */
static bool target_means(const etag_resource *target, etag_str named,
                         bool (*means)(etag_str, const struct resource *))
{
    struct resource resource;

    return !resource_canonicalize(&resource, target) &&
           (means(named, &resource) ||
            (resource_canonicalize_loosely(&resource, target) && means(named, &resource)));
}

/* Would the event make an entry of the resource stale? */
static bool names_resource(const struct log_query *query, const etag_targets *targets)
{
    char text[RESOURCE_TEXT_BYTES_MAX];
    const etag_str named = {text, resource_format(&query->named, text)};

    for (size_t i = 0; i < targets->resource_count; i++)
        if (target_means(&targets->resources[i], named, is_resource))
            return true;
    for (size_t i = 0; i < targets->prefix_count; i++)
        if (target_means(&targets->prefixes[i], named, is_below))
            return true;
    return false;
}

static bool is_asked(const struct log_query *query, const struct event_view *event)
{
    struct name_match match = {.query = query};

    if (!query->surrogate.data && !query->resource)
        return true;
    targets_each(&event->targets, match_target, &match);
    return match.found || (query->resource && names_resource(query, &event->targets));
}

/* ---- log: pages ---- */

static void log_print(struct log_query *query, const struct event_view *event)
{
    query->last_lsn = event->lsn;
    query->printed++;
    if (query->ctl->json) {
        output_json_line(doc_event(event), "\n");
        return;
    }
    if (!query->columns_printed)
        print_columns();
    query->columns_printed = true;
    print_event(event);
}

static bool log_ask(struct log_query *query, struct ctl_daemon *daemon, bool newest_first,
                    uint64_t next_lsn, struct reply *reply)
{
    struct request request = {.kind = REQUEST_LOG,
                              .log = {.from_lsn = query->from_lsn,
                                      .until_lsn = query->until_lsn,
                                      .since_wall_ms = query->since_ms,
                                      .until_wall_ms = query->until_ms,
                                      .newest_first = newest_first}};

    if (next_lsn && newest_first)
        request.log.until_lsn = next_lsn;
    else if (next_lsn)
        request.log.from_lsn = next_lsn;
    if (!ctl_daemon_ask(daemon, &request, REPLY_LOG, reply))
        return false;
    query->oldest_lsn = reply->log.oldest_lsn;
    return true;
}

/* With a limit: first from the newest on backwards, until the first of them is found. Returns
 * false after an error message. */
static bool log_find_first(struct log_query *query, struct ctl_daemon *daemon)
{
    uint64_t next = 0, found = 0, first_lsn = 0;
    struct reply reply;

    do {
        if (!log_ask(query, daemon, true, next, &reply))
            return false;
        for (size_t i = 0; i < reply.log.event_count && found < query->limit; i++)
            if (is_asked(query, &reply.log.events[i])) {
                found++;
                first_lsn = reply.log.events[i].lsn;
            }
        next = reply.log.next_lsn;
    } while (next != 0 && found < query->limit);
    if (first_lsn > query->from_lsn)
        query->from_lsn = first_lsn;
    return true;
}

/* Oldest first. Returns false after an error message. */
static bool log_pages(struct log_query *query, struct ctl_daemon *daemon)
{
    uint64_t next = 0;
    struct reply reply;

    do {
        if (!log_ask(query, daemon, false, next, &reply))
            return false;
        for (size_t i = 0; i < reply.log.event_count; i++)
            if (is_asked(query, &reply.log.events[i]))
                log_print(query, &reply.log.events[i]);
        next = reply.log.next_lsn;
    } while (next != 0);
    return true;
}

static void log_say_nothing_found(const struct log_query *query)
{
    if (query->oldest_lsn == 0)
        fputs("no events are kept: nothing was invalidated, or they are older than the daemon "
              "keeps them\n(events-kept, events-kept-hours, events-kept-mib)\n",
              stderr);
    else
        fprintf(stderr, "no such event; the oldest one that is kept has LSN %" PRIu64 "\n",
                query->oldest_lsn);
}

/* What comes after the page that was printed last; events of both are printed once. */
static void follow_print(void *ctx, const struct event_view *event)
{
    struct log_query *query = ctx;

    if (event->dropped > 0)
        fprintf(stderr, "(%" PRIu64 " events missed)\n", event->dropped);
    if (event->lsn > query->last_lsn && is_asked(query, event))
        log_print(query, event);
}

static int log_show(struct log_query *query, struct ctl_daemon *daemon, struct ctl_daemon *watch)
{
    /* Before the log is read, so that no event falls in between. */
    if (query->follow && !events_watch(watch, query->ctl))
        return query->ctl->exit_status;
    if (!ctl_daemon_open(daemon, query->ctl) || (query->limit && !log_find_first(query, daemon)) ||
        !log_pages(query, daemon))
        return query->ctl->exit_status;
    if (query->follow)
        return events_follow(watch, follow_print, query);
    if (query->printed == 0) {
        log_say_nothing_found(query);
        return CTL_NO;
    }
    return CTL_DONE;
}

static int log_run(struct ctl *ctl)
{
    CLEANUP(cleanup_free) struct log_query *query = calloc(1, sizeof(*query));
    CLEANUP(cleanup_daemon) struct ctl_daemon daemon = {0};
    CLEANUP(cleanup_daemon) struct ctl_daemon watch = {0};

    if (!query)
        abort();
    query->ctl = ctl;
    query->limit = LIMIT_UNSAID;
    if (!ctl_parse(ctl, log_option, query) || !ctl_want_arguments(ctl, 0))
        return ctl->exit_status;
    if (query->limit == LIMIT_UNSAID)
        query->limit = query->since_given ? 0 : LOG_LIMIT_DEFAULT;
    return log_show(query, &daemon, &watch);
}

static const struct ctl_option log_options[] = {
    {'b', "since", "WHEN", "an LSN, a time ago (15m), or 2026-01-31T12:00 (UTC)"},
    {'u', "until", "WHEN", "the same"},
    {'s', "surrogate", "S", "only what made entries that depend on it stale"},
    {'r', "resource", "R", "only what named the resource or a prefix of it"},
    {'l', "limit", "N", "only the newest N (0: all)",
     CTL_NUMBER(struct log_query, limit, UINT64_MAX - 1)},
    {'f', "follow", NULL, "go on with what happens, until interrupted",
     CTL_FLAG(struct log_query, follow)},
    {0}};

const struct ctl_command ctl_log = {
    "log",
    "",
    "Shows which mutations happened, when, and by which process",
    "Without --since and --limit: the newest 50. With --json one object a line.\n"
    "The daemon keeps events by its options events-kept, events-kept-hours and\n"
    "events-kept-mib. What etag-relay brought says where in its log it is, as the\n"
    "transaction's id (PostgreSQL) or a revision (etcd). Examples:\n"
    "  etagctl log --since 15m --surrogate upload:42\n"
    "  etagctl log --resource //example.org/uploads/42 --limit 1",
    log_options,
    false,
    log_run};
