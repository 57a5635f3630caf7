/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For people two columns, front ends on the left, the daemon on the right: what a rate of, say,
 * unknown lookups is due to is beside it. Below them what operators watch, and what to do where
 * something is wrong.
 */
#include "ctl_stats_show.h"

#include "clocktime.h"
#include "ctl_output.h"
#include "numbers.h"
#include "stats_metrics.h"
#include "text.h"

#include <inttypes.h>
#include <math.h>

#define HEAD_EVERY 20 /* lines, of a line an interval */

/* ---- Numbers ---- */

const char *short_text(double number, char out[SHORT_TEXT_BYTES])
{
    static const char units[] = " kMGTPE";
    size_t unit = 0;

    if (number < 10 && number != floor(number)) {
        snprintf(out, SHORT_TEXT_BYTES, "%.1f", number);
        return out;
    }
    if (number < 100000) {
        snprintf(out, SHORT_TEXT_BYTES, "%.0f", number);
        return out;
    }
    for (; number >= 999.5 && units[unit + 1]; unit++)
        number /= 1000;
    snprintf(out, SHORT_TEXT_BYTES,
             number < 9.995   ? "%.2f%c"
             : number < 99.95 ? "%.1f%c"
                              : "%.0f%c",
             number, units[unit]);
    return out;
}

const char *age_text(uint64_t ms, char out[SHORT_TEXT_BYTES])
{
    const uint64_t s = ms / 1000;

    if (s < 120)
        snprintf(out, SHORT_TEXT_BYTES, "%" PRIu64 "s", s);
    else if (s < 7200)
        snprintf(out, SHORT_TEXT_BYTES, "%" PRIu64 "m", s / 60);
    else if (s < UINT64_C(48) * 3600)
        snprintf(out, SHORT_TEXT_BYTES, "%" PRIu64 "h", s / 3600);
    else
        snprintf(out, SHORT_TEXT_BYTES, "%" PRIu64 "d", s / 86400);
    return out;
}

/* "850 ns", "12 us", "3.4 ms" */
static const char *duration_text(uint64_t ns, char out[SHORT_TEXT_BYTES])
{
    const double value = (double)ns;

    if (ns < 1000)
        snprintf(out, SHORT_TEXT_BYTES, "%" PRIu64 " ns", ns);
    else if (ns < NS_PER_MS)
        snprintf(out, SHORT_TEXT_BYTES, value < 9950 ? "%.1f us" : "%.0f us", value / 1e3);
    else if (ns < NS_PER_S)
        snprintf(out, SHORT_TEXT_BYTES, value < 9.95e6 ? "%.1f ms" : "%.0f ms", value / 1e6);
    else
        snprintf(out, SHORT_TEXT_BYTES, "%.1f s", value / 1e9);
    return out;
}

static uint64_t sum(const struct sample *sample, const char *const *names)
{
    uint64_t total = 0;

    for (; *names; names++)
        total += sample_number(sample, *names);
    return total;
}

static double rate_sum(const struct stats_view *view, const char *const *names)
{
    double total = 0;

    for (; *names; names++)
        total += sample_rate(view->now, view->before, *names);
    return total;
}

/* ---- The two columns ---- */

struct row {
    const char *label;
    /* added up; none: a blank line */
    const char *stats[9];
    bool only_if_any;
};

#define UNKNOWN                                                                                    \
    "clients.unknown_no_index", "clients.unknown_no_lease", "clients.unknown_no_entry",            \
        "clients.unknown_stale", "clients.unknown_in_flux", "clients.unknown_expired",             \
        "clients.unknown_torn", "clients.unknown_bad_key"
#define REFUSED                                                                                    \
    "fills_token_stale", "fills_token_in_flux", "fills_token_foreign", "fills_older",              \
        "fills_no_room", "fills_paused", "fills_store_failed"

static const struct row front_end_rows[] = {
    {"lookups", {"clients.checks"}},
    {"  304", {"clients.not_modified"}},
    {"  412", {"clients.precondition_failed"}},
    {"  428", {"clients.precondition_required"}, true},
    {"  no 304: other version", {"clients.proceed"}},
    {"  unknown, rendered", {UNKNOWN}},
    {"    no entry", {"clients.unknown_no_entry"}},
    {"    stale", {"clients.unknown_stale"}},
    {"    in flux", {"clients.unknown_in_flux"}},
    {"    expired", {"clients.unknown_expired"}},
    {"    no lease", {"clients.unknown_no_lease"}, true},
    {"    no index", {"clients.unknown_no_index"}, true},
    {"    torn", {"clients.unknown_torn"}, true},
    {"    bad key", {"clients.unknown_bad_key"}, true},
    {"  shadow: a 304", {"clients.shadow_not_modified"}, true},
    {"  shadow: a 412", {"clients.shadow_precondition_failed"}, true},
    {"  shadow: another", {"clients.shadow_proceed"}, true},
    {"    same ETag", {"clients.shadow_matches"}, true},
    {"    OTHER ETAG", {"clients.shadow_mismatches"}, true},
    {"    not decided", {"clients.shadow_undecided"}, true},
};

static const struct row daemon_rows[] = {
    {"fills accepted", {"fills_stored"}},
    {"fills refused", {REFUSED}},
    {"  token stale", {"fills_token_stale"}},
    {"  in flux", {"fills_token_in_flux"}},
    {"  other run's token", {"fills_token_foreign"}, true},
    {"  older than another", {"fills_older"}, true},
    {"  no room", {"fills_no_room"}, true},
    {"  paused", {"fills_paused"}, true},
    {"  store failed", {"fills_store_failed"}, true},
    {"fills not sent", {"clients.fills_dropped", "clients.fills_refused"}},
    {"mutations", {"mutations"}},
    {"  names in them", {"targets"}},
    {"  guards", {"guards_begun"}},
    {"  guards lingered", {"guards_lingered"}, true},
    {"  holds", {"holds"}, true},
    {"    one of all instead", {"holds_folded"}, true},
    {"  by the spool", {"spool_applied"}, true},
    {"evicted", {"evicted_stale", "evicted_expired", "evicted_oldest", "evicted_pool"}},
    {"  still of use", {"evicted_oldest", "evicted_pool"}, true},
    {"    for pool space", {"evicted_pool"}, true},
};

/* The next one that is to be shown; NULL: no more. */
static const struct row *row_next(const struct stats_view *view, const struct row *rows,
                                  size_t count, size_t *at)
{
    while (*at < count) {
        const struct row *row = &rows[(*at)++];
        if (!row->only_if_any || sum(view->now, row->stats) > 0)
            return row;
    }
    return NULL;
}

static void print_row(const struct stats_view *view, const struct row *row)
{
    char rate[SHORT_TEXT_BYTES], total[SHORT_TEXT_BYTES];

    if (!row) {
        printf("%39s", "");
        return;
    }
    printf("%-23s%7s %8s", row->label, short_text(rate_sum(view, row->stats), rate),
           short_text((double)sum(view->now, row->stats), total));
}

static void print_columns(const struct stats_view *view)
{
    size_t left_at = 0, right_at = 0;

    printf("%-23s%7s %8s  %-23s%7s %8s\n", "FRONT ENDS", "/s", "TOTAL", "DAEMON", "/s", "TOTAL");
    for (;;) {
        const struct row *left = row_next(view, front_end_rows, COUNT_OF(front_end_rows), &left_at);
        const struct row *right = row_next(view, daemon_rows, COUNT_OF(daemon_rows), &right_at);
        if (!left && !right)
            return;
        print_row(view, left);
        if (right) {
            printf("  ");
            print_row(view, right);
        }
        putchar('\n');
    }
}

/* ---- Below them ---- */

static void print_times(const struct stats_view *view)
{
    static const unsigned wanted[] = {500, 900, 990, 1000};
    static const char *const words[] = {"half", "90 %", "99 %", "all"};
    const struct sample_histogram *shown = &view->times;
    const char *since = "now";
    char text[SHORT_TEXT_BYTES];

    if (shown->count == 0) {
        shown = sample_histogram(view->now, "mutation_times");
        since = "since the start";
    }
    printf("answered in   ");
    if (!shown || shown->count == 0) {
        printf("no mutation yet\n");
    } else {
        for (size_t i = 0; i < COUNT_OF(wanted); i++)
            printf("%s %s, ", words[i], duration_text(sample_quantile_ns(shown, wanted[i]), text));
        printf("%s\n", since);
    }
}

static double percent(uint64_t part, uint64_t whole)
{
    return whole > 0 ? 100.0 * (double)part / (double)whole : 0;
}

static bool has_relay(const struct sample *now)
{
    return sample_number(now, "relay_l_net_ms") > 0 || sample_number(now, "relay_queue") > 0 ||
           strcmp(sample_text(now, "relay"), "required") == 0;
}

static void print_relay(const struct sample *now)
{
    printf("relay         %s, %s: %" PRIu64 " ms left, read %" PRIu64 " ms ago; %" PRIu64
           " events to publish\n",
           sample_text(now, "relay"),
           sample_number(now, "relay_connected") ? "connected" : "NOT CONNECTED",
           sample_number(now, "relay_margin_ms"), sample_number(now, "relay_fresh_age_ms"),
           sample_number(now, "relay_queue"));
}

static void print_state(const struct stats_view *view)
{
    const struct sample *now = view->now;
    char text[SHORT_TEXT_BYTES];
    const uint64_t entries = sample_number(now, "entries");
    const uint64_t capacity = sample_number(now, "capacity");

    printf("lease         %s, %" PRIu64 " of %" PRIu64 " ms left; at renewals at least %" PRIu64
           "\n",
           sample_text(now, "lease"), sample_number(now, "lease_margin_ms"),
           sample_number(now, "lease_ms"), sample_number(now, "lease_margin_min_ms"));
    if (has_relay(now))
        print_relay(now);
    printf("index         %" PRIu64 " of %" PRIu64 " entries (%.1f %%), pool %.1f %%, %s bytes\n",
           entries, capacity, percent(entries, capacity),
           percent(sample_number(now, "pool_units_used"), sample_number(now, "pool_units")),
           short_text((double)sample_number(now, "index_bytes"), text));
    printf("store         %s, %" PRIu64 " entries wait\n", sample_text(now, "store"),
           sample_number(now, "store_waiting"));
    printf("connections   %" PRIu64 " open, %" PRIu64 " so far; %" PRIu64 " refused, %" PRIu64
           " broke the protocol, %" PRIu64 " slow\n",
           sample_number(now, "peers"), sample_number(now, "peers_accepted"),
           sample_number(now, "peers_refused"), sample_number(now, "peers_protocol_errors"),
           sample_number(now, "peers_slow"));
}

static bool grows(const struct stats_view *view, const char *name)
{
    return sample_rate(view->now, view->before, name) > 0;
}

/* What is wrong, and what to do about it: the first that holds. NULL: nothing. */
static const char *advice(const struct stats_view *view)
{
    const struct sample *now = view->now;

    if (strcmp(sample_text(now, "lease"), "paused") == 0)
        return "paused: every front end renders. 'etagctl resume' ends it";
    if (strcmp(sample_text(now, "relay"), "required") == 0 &&
        sample_number(now, "relay_margin_ms") == 0)
        return "no lease, as the relay proves nothing: see 'etag-relay status' and its log";
    if (strcmp(sample_text(now, "lease"), "held") != 0)
        return "no lease: every front end renders. See the daemon's log for why";
    if (strcmp(sample_text(now, "store"), "ok") != 0)
        return "the store cannot be written, fills are refused: see the log";
    if (sample_number(now, "clients.shadow_mismatches") > 0)
        return "pages changed that no write announced: a 304 would be wrong there";
    if (sample_number(now, "spool_waiting") > 0)
        return "files wait in the spool: if they stay there, see the daemon's log";
    if (grows(view, "evicted_pool"))
        return "entries go that are still of use: a larger --pool-mib keeps them";
    if (grows(view, "evicted_oldest"))
        return "entries go that are still of use: a larger --capacity keeps them";
    if (grows(view, "fills_token_foreign") || grows(view, "clients.fills_dropped"))
        return "fills get lost: was the daemon restarted? do front ends dispatch?";
    if (sample_number(now, "clients.checks") == 0)
        return "no lookup yet: 'etagctl clients' shows who is connected";
    return NULL;
}

static void show_whole(const struct stats_view *view)
{
    const struct sample *now = view->now;
    char age[SHORT_TEXT_BYTES], time[TIME_TEXT_BYTES];
    const char *todo = advice(view);

    printf("etagd ");
    output_text(str_of(sample_text(now, "version")));
    printf(", pid %" PRIu64 ", up %s, %s start; /s: over %.1f s until %.8s UTC\n\n",
           sample_number(now, "pid"), age_text(sample_number(now, "uptime_ms"), age),
           sample_text(now, "start"),
           (double)(now->taken_ns - view->before->taken_ns) / (double)NS_PER_S,
           time_text(now->wall_ms, time) + strlen("2026-01-31T"));
    print_columns(view);
    putchar('\n');
    print_times(view);
    print_state(view);
    if (todo)
        printf("to do         %s\n", todo);
}

/* ---- A line an interval ---- */

static void show_line(struct stats_view *view)
{
    static const char *const columns[][9] = {
        {"clients.checks"}, {"clients.not_modified"}, {UNKNOWN}, {"fills_stored"}, {REFUSED},
        {"mutations"},      {"evicted_oldest"},
    };
    char text[SHORT_TEXT_BYTES], time[TIME_TEXT_BYTES];

    if (view->lines++ % HEAD_EVERY == 0)
        printf("TIME     LOOKUPS    304 UNKNOWN  FILLS REFUSED WRITES EVICTED 99_PCT LEASE\n");
    printf("%.8s", time_text(view->now->wall_ms, time) + strlen("2026-01-31T"));
    static const int widths[] = {8, 7, 8, 7, 8, 7, 8};
    for (size_t i = 0; i < COUNT_OF(columns); i++)
        printf("%*s", widths[i], short_text(rate_sum(view, columns[i]), text));
    printf("%7s", view->times.count > 0 ? duration_text(sample_quantile_ns(&view->times, 990), text)
                                        : "-");
    printf("%6" PRIu64 "\n", sample_number(view->now, "lease_margin_ms"));
}

/* ---- JSON ---- */

static doc *doc_times(const struct sample_histogram *histogram)
{
    doc *out = doc_object();

    doc_number(out, "count", histogram->count);
    if (histogram->count == 0)
        return out;
    doc_number(out, "p50_us", (sample_quantile_ns(histogram, 500) + 999) / 1000);
    doc_number(out, "p90_us", (sample_quantile_ns(histogram, 900) + 999) / 1000);
    doc_number(out, "p99_us", (sample_quantile_ns(histogram, 990) + 999) / 1000);
    doc_number(out, "p999_us", (sample_quantile_ns(histogram, 999) + 999) / 1000);
    doc_number(out, "max_us", (sample_quantile_ns(histogram, 1000) + 999) / 1000);
    return out;
}

static void show_json(const struct stats_view *view)
{
    const struct sample *now = view->now;
    char time[TIME_TEXT_BYTES];
    doc *out = doc_object(), *totals = doc_object(), *rates = doc_object(), *state = doc_object();

    for (size_t i = 0; i < now->number_count; i++) {
        const char *const name = now->numbers[i].name;
        if (!metrics_is_counter(name)) {
            doc_number(state, name, now->numbers[i].value);
            continue;
        }
        doc_number(totals, name, now->numbers[i].value);
        doc_real(rates, name, sample_rate(now, view->before, name));
    }
    for (size_t i = 0; i < now->text_count; i++)
        doc_words(state, now->texts[i].name, now->texts[i].text);
    doc_bool(out, "up", true);
    doc_words(out, "time", time_text(now->wall_ms, time));
    doc_real(out, "interval_s",
             (double)(now->taken_ns - view->before->taken_ns) / (double)NS_PER_S);
    doc_add(out, "per_second", rates);
    doc_add(out, "total", totals);
    doc_add(out, "mutation_times", doc_times(&view->times));
    const struct sample_histogram *all = sample_histogram(now, "mutation_times");
    if (all)
        doc_add(out, "mutation_times_total", doc_times(all));
    doc_add(out, "state", state);
    if (advice(view))
        doc_words(out, "to_do", advice(view));
    if (view->watch)
        output_json_line(out, "\n");
    else
        output_json(out);
}

/* ---- Which ---- */

#define TERMINAL_HOME_AND_CLEAR "\033[H\033[J"

void stats_show(struct stats_view *view)
{
    sample_histogram_between(&view->times, view->now, view->before, "mutation_times");
    if (view->ctl->json) {
        show_json(view);
    } else if (!view->watch) {
        show_whole(view);
    } else if (isatty(STDOUT_FILENO)) {
        fputs(TERMINAL_HOME_AND_CLEAR, stdout);
        show_whole(view);
    } else {
        show_line(view);
    }
    fflush(stdout);
}

void stats_show_down(struct stats_view *view, const char *why)
{
    char time[TIME_TEXT_BYTES];
    const uint64_t now_ms = time_wall_ms();

    if (view->ctl->json) {
        doc *out = doc_object();
        doc_bool(out, "up", false);
        doc_words(out, "time", time_text(now_ms, time));
        doc_words(out, "error", why);
        output_json_line(out, "\n");
    } else {
        if (isatty(STDOUT_FILENO))
            fputs(TERMINAL_HOME_AND_CLEAR, stdout);
        printf("%.8s down: ", time_text(now_ms, time) + strlen("2026-01-31T"));
        output_text(str_of(why));
        printf(isatty(STDOUT_FILENO) ? "\n\nIt is asked again and again; Ctrl-C ends this.\n"
                                     : "\n");
    }
    fflush(stdout);
}
