/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A family is a name with a type and a sentence; its series are figures of the daemon, that differ
 * by one label. A figure that this daemon does not say is left out. Histograms have a bucket for
 * each power of two, which are bounds of the daemon's finer ones too, so that nothing is shared out
 * between two.
 */
#include "stats_metrics.h"

#include "numbers.h"

#include <inttypes.h>
#include <string.h>

#define BUCKET_BITS_FIRST 10 /* 1.024 us */
#define BUCKET_BITS_LAST 34  /* 17.2 s */
#define NS_IN_S 1e9

enum metric_type { COUNTER, GAUGE };

struct series {
    /* its value; NULL: the family has no label */
    const char *label;
    const char *stat;
};

struct family {
    /* without "_total" */
    const char *name;
    enum metric_type type;
    const char *help;
    const char *label;
    /* from the daemon's unit to that of the metric; 0: counts as 1 */
    double divisor;
    /* NULL: none */
    const char *unit;
    const struct series *series;
};

#define SERIES(...)                                                                                \
    (const struct series[])                                                                        \
    {                                                                                              \
        __VA_ARGS__,                                                                               \
        {                                                                                          \
            0                                                                                      \
        }                                                                                          \
    }
#define ONE(stat) SERIES({NULL, stat})
#define SECONDS .divisor = 1000, .unit = "seconds"
#define BYTES .unit = "bytes"

static const struct family families[] = {
    /* What front ends count. */
    {"etagd_lookups", COUNTER, "Lookups of front ends.", .series = ONE("clients.checks")},
    {"etagd_answers", COUNTER, "Lookups that the memory answered, by what they came to.", "verdict",
     .series = SERIES({"not_modified", "clients.not_modified"},
                      {"precondition_failed", "clients.precondition_failed"},
                      {"precondition_required", "clients.precondition_required"},
                      {"proceed", "clients.proceed"})},
    {"etagd_unknown", COUNTER, "Lookups after which the front end had to render, by reason.",
     "reason",
     .series = SERIES(
         {"no_index", "clients.unknown_no_index"}, {"no_lease", "clients.unknown_no_lease"},
         {"no_entry", "clients.unknown_no_entry"}, {"stale", "clients.unknown_stale"},
         {"in_flux", "clients.unknown_in_flux"}, {"expired", "clients.unknown_expired"},
         {"torn", "clients.unknown_torn"}, {"bad_key", "clients.unknown_bad_key"})},
    {"etagd_shadow_answers", COUNTER,
     "Lookups in shadow mode that would have been answered, by what they would have come to.",
     "verdict",
     .series = SERIES({"not_modified", "clients.shadow_not_modified"},
                      {"precondition_failed", "clients.shadow_precondition_failed"},
                      {"proceed", "clients.shadow_proceed"})},
    {"etagd_shadow_renders", COUNTER,
     "Renders in shadow mode, compared with the entry that was current: mismatch is a write that "
     "no event announced.",
     "result",
     .series = SERIES({"match", "clients.shadow_matches"},
                      {"mismatch", "clients.shadow_mismatches"},
                      {"undecided", "clients.shadow_undecided"})},
    {"etagd_client_fills", COUNTER, "Fills of front ends, by what became of them there.", "result",
     .series = SERIES({"sent", "clients.fills_sent"}, {"dropped", "clients.fills_dropped"},
                      {"not_storable", "clients.fills_refused"},
                      {"held_back", "clients.fills_held_back"})},
    {"etagd_client_fills_grouped", COUNTER,
     "Fills of more than 128 surrogate keys: the entries depend on groups of names.",
     .series = ONE("clients.fills_grouped")},
    {"etagd_client_retires", COUNTER, "Entries that front ends asked to be removed.",
     .series = ONE("clients.retires_sent")},
    {"etagd_client_mutations", COUNTER, "Mutations of writers, by how they ended there.", "result",
     .series = SERIES({"answered", "clients.invalidations"},
                      {"spooled", "clients.mutations_spooled"},
                      {"pending", "clients.mutations_pending"})},
    {"etagd_client_connects", COUNTER, "Connections that clients made.",
     .series = ONE("clients.connects")},
    /* What the daemon counts. */
    {"etagd_fills_stored", COUNTER, "Fills accepted.", .series = ONE("fills_stored")},
    {"etagd_fills_refused", COUNTER, "Fills refused by the daemon, by reason.", "reason",
     .series = SERIES({"token_stale", "fills_token_stale"},
                      {"token_in_flux", "fills_token_in_flux"},
                      {"token_foreign", "fills_token_foreign"}, {"older_fill", "fills_older"},
                      {"no_room", "fills_no_room"}, {"paused", "fills_paused"},
                      {"store_failed", "fills_store_failed"})},
    {"etagd_retires", COUNTER, "Entries that were to go for what was answered later, by result.",
     "result", .series = SERIES({"removed", "retires"}, {"refused", "retires_refused"})},
    {"etagd_mutations", COUNTER, "Mutations applied.", .series = ONE("mutations")},
    {"etagd_targets", COUNTER, "Names that mutations made stale.", .series = ONE("targets")},
    {"etagd_guards", COUNTER, "Steps of guards.", "step",
     .series = SERIES({"begun", "guards_begun"}, {"committed", "guards_committed"},
                      {"aborted", "guards_aborted"}, {"lingered", "guards_lingered"},
                      {"rearmed", "guards_rearmed"})},
    {"etagd_holds", COUNTER, "Holds begun.", .series = ONE("holds")},
    {"etagd_holds_folded", COUNTER, "Holds that one of everything took the place of.",
     .series = ONE("holds_folded")},
    {"etagd_evictions", COUNTER, "Entries that had to go for another, by what they were.", "kind",
     .series = SERIES({"stale", "evicted_stale"}, {"expired", "evicted_expired"},
                      {"oldest", "evicted_oldest"}, {"pool", "evicted_pool"})},
    {"etagd_loaded", COUNTER, "Entries of the store at the start, by what they were.", "kind",
     .series = SERIES({"current", "loaded"}, {"stale", "loaded_stale"},
                      {"expired", "loaded_expired"})},
    {"etagd_spool_files", COUNTER, "Files of the spool, by what became of them.", "result",
     .series = SERIES({"applied", "spool_applied"}, {"garbage", "spool_garbage"},
                      {"ignored", "spool_ignored"})},
    {"etagd_connections", COUNTER, "Connections, by what became of them.", "result",
     .series = SERIES({"accepted", "peers_accepted"}, {"refused", "peers_refused"},
                      {"protocol_error", "peers_protocol_errors"}, {"slow", "peers_slow"})},
    {"etagd_relay_batches", COUNTER, "Batches of the relay that were recorded.",
     .series = ONE("relay_batches")},
    {"etagd_relay_events", COUNTER, "Events of other hosts in them.",
     .series = ONE("relay_events")},
    {"etagd_relay_everything", COUNTER, "Batches that purged everything.",
     .series = ONE("relay_everything")},
    {"etagd_relay_refused", COUNTER, "Messages of the relay that were refused.",
     .series = ONE("relay_refused")},
    {"etagd_relay_published", COUNTER, "Events of this host that were given to the relay.",
     .series = ONE("relay_published")},
    {"etagd_relay_queue_full", COUNTER,
     "How often events for the relay found no room, and became one of everything.",
     .series = ONE("relay_queue_full")},
    /* The present state. */
    {"etagd_uptime_seconds", GAUGE, "Since the daemon's start.", SECONDS,
     .series = ONE("uptime_ms")},
    {"etagd_lease_seconds", GAUGE, "Length of the lease.", SECONDS, .series = ONE("lease_ms")},
    {"etagd_lease_margin_seconds", GAUGE, "What is left of the lease; 0: front ends render.",
     SECONDS, .series = ONE("lease_margin_ms")},
    {"etagd_lease_margin_min_seconds", GAUGE,
     "The least that was left of the lease when it was renewed.", SECONDS,
     .series = ONE("lease_margin_min_ms")},
    {"etagd_relay_connected", GAUGE, "Whether a relay is connected.",
     .series = ONE("relay_connected")},
    {"etagd_relay_margin_seconds", GAUGE,
     "What is left of what the relay proved; 0: front ends render, where it is required.", SECONDS,
     .series = ONE("relay_margin_ms")},
    {"etagd_relay_fresh_age_seconds", GAUGE, "Age of the newest poll that counts.", SECONDS,
     .series = ONE("relay_fresh_age_ms")},
    {"etagd_relay_cursor_age_seconds", GAUGE, "Since the cursor was settled last.", SECONDS,
     .series = ONE("relay_cursor_age_ms")},
    {"etagd_relay_queue", GAUGE, "Events and writers that wait for the relay.",
     .series = ONE("relay_queue")},
    {"etagd_store_waiting", GAUGE, "Entries that the store does not have yet.",
     .series = ONE("store_waiting")},
    {"etagd_store_entries", GAUGE, "Entries in the store.", .series = ONE("stored_entries")},
    {"etagd_store_bytes", GAUGE, "Size of the store.", BYTES, .series = ONE("store_bytes")},
    {"etagd_entries", GAUGE, "Entries in the index.", .series = ONE("entries")},
    {"etagd_entries_max", GAUGE, "Entries that the index is made for.", .series = ONE("capacity")},
    {"etagd_index_bytes", GAUGE, "Size of the shared memory.", BYTES, .series = ONE("index_bytes")},
    {"etagd_index_taken_bytes", GAUGE, "What is allocated of it so far.", BYTES,
     .series = ONE("index_taken_bytes")},
    {"etagd_pool_units", GAUGE, "Units of 64 bytes for header fields and long entity tags.",
     "state", .series = SERIES({"used", "pool_units_used"}, {"all", "pool_units"})},
    {"etagd_guards_open", GAUGE, "Guards and holds that are open.", "kind",
     .series = SERIES({"guard", "guards_open"}, {"hold", "holds_open"})},
    {"etagd_guards_bytes", GAUGE, "Memory of guards and holds.", BYTES,
     .series = ONE("guards_bytes")},
    {"etagd_spool_waiting", GAUGE, "Files that wait in the spool.", .series = ONE("spool_waiting")},
    {"etagd_clients", GAUGE, "Open connections.", .series = ONE("peers")},
};
#define FAMILY_COUNT COUNT_OF(families)

/* Durations. */
static const struct {
    const char *stat, *name, *help;
} histograms[] = {
    {"mutation_times", "etagd_mutation_duration_seconds",
     "Mutations over the socket, from the arrival to the answer."},
    {"lease_margins", "etagd_lease_renewal_margin_seconds",
     "What was left of the lease at its renewals."},
};

const char *metrics_content_type(enum metrics_format format)
{
    return format == METRICS_OPENMETRICS
               ? "application/openmetrics-text; version=1.0.0; charset=utf-8"
               : "text/plain; version=0.0.4; charset=utf-8";
}

bool metrics_is_counter(const char *name)
{
    for (size_t i = 0; i < FAMILY_COUNT; i++)
        for (const struct series *s = families[i].series; s->stat; s++)
            if (strcmp(s->stat, name) == 0)
                return families[i].type == COUNTER;
    return strncmp(name, "clients.", strlen("clients.")) == 0;
}

/* ---- Writing ---- */

struct page {
    FILE *out;
    const struct sample *sample;
    enum metrics_format format;
};

/* suffix: what its series have after the name, which the older format takes as a part of it. */
static void write_head(const struct page *page, const char *name, const char *suffix,
                       const char *type, const char *unit, const char *help)
{
    const bool open = page->format == METRICS_OPENMETRICS;
    const char *const ending = open ? "" : suffix;

    fprintf(page->out, "# TYPE %s%s %s\n", name, ending, type);
    if (open && unit)
        fprintf(page->out, "# UNIT %s %s\n", name, unit);
    fprintf(page->out, "# HELP %s%s %s\n", name, ending, help);
}

static void write_family(const struct page *page, const struct family *family)
{
    const bool counter = family->type == COUNTER;
    const char *const suffix = counter ? "_total" : "";
    bool headed = false;

    for (const struct series *s = family->series; s->stat; s++) {
        if (!sample_has(page->sample, s->stat))
            continue;
        if (!headed)
            write_head(page, family->name, suffix, counter ? "counter" : "gauge", family->unit,
                       family->help);
        headed = true;
        fprintf(page->out, "%s%s", family->name, suffix);
        if (s->label)
            fprintf(page->out, "{%s=\"%s\"}", family->label, s->label);
        const uint64_t value = sample_number(page->sample, s->stat);
        if (family->divisor > 0)
            fprintf(page->out, " %.12g\n", (double)value / family->divisor);
        else
            fprintf(page->out, " %" PRIu64 "\n", value);
    }
}

static void write_gauge(const struct page *page, const char *name, const char *help, bool value)
{
    write_head(page, name, "", "gauge", NULL, help);
    fprintf(page->out, "%s %d\n", name, value);
}

/* Texts of the daemon: words and a version, but escaped all the same. */
static void write_label(const struct page *page, const char *name, const char *text)
{
    fprintf(page->out, "%s=\"", name);
    for (; *text; text++) {
        if (*text == '\n')
            fputs("\\n", page->out);
        else if (*text == '"' || *text == '\\')
            fprintf(page->out, "\\%c", *text);
        else if ((unsigned char)*text < 0x80)
            fputc(*text, page->out);
        else
            fputc('?', page->out);
    }
    fputc('"', page->out);
}

static void write_build(const struct page *page)
{
    static const char *const names[] = {"version", "loop", "durability", "start"};

    write_head(page, "etagd_build", "_info", page->format == METRICS_OPENMETRICS ? "info" : "gauge",
               NULL, "Which daemon it is, and how it started.");
    fputs("etagd_build_info{", page->out);
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        if (i > 0)
            fputc(',', page->out);
        write_label(page, names[i], sample_text(page->sample, names[i]));
    }
    fputs("} 1\n", page->out);
}

static void write_histogram(const struct page *page, const struct sample_histogram *histogram,
                            const char *name, const char *help)
{
    size_t next = 0;
    uint64_t count = 0;

    write_head(page, name, "", "histogram", "seconds", help);
    for (unsigned bits = BUCKET_BITS_FIRST; bits <= BUCKET_BITS_LAST; bits++) {
        const uint64_t upto_ns = UINT64_C(1) << bits;
        for (; next < histogram->bucket_count && histogram->buckets[next].upto_ns <= upto_ns;
             next++)
            count += histogram->buckets[next].count;
        fprintf(page->out, "%s_bucket{le=\"%.12g\"} %" PRIu64 "\n", name, (double)upto_ns / NS_IN_S,
                count);
    }
    fprintf(page->out, "%s_bucket{le=\"+Inf\"} %" PRIu64 "\n", name, histogram->count);
    fprintf(page->out, "%s_sum %.12g\n", name, (double)histogram->sum_ns / NS_IN_S);
    fprintf(page->out, "%s_count %" PRIu64 "\n", name, histogram->count);
}

static void write_sample(const struct page *page)
{
    const struct sample *const sample = page->sample;

    write_build(page);
    write_gauge(page, "etagd_lease_held", "1: front ends may trust the shared memory.",
                strcmp(sample_text(sample, "lease"), "held") == 0);
    write_gauge(page, "etagd_paused", "1: an operator paused the daemon.",
                strcmp(sample_text(sample, "lease"), "paused") == 0);
    write_gauge(page, "etagd_store_ok", "0: the store cannot be written.",
                strcmp(sample_text(sample, "store"), "ok") == 0);
    for (size_t i = 0; i < FAMILY_COUNT; i++)
        write_family(page, &families[i]);
    for (size_t i = 0; i < COUNT_OF(histograms); i++) {
        const struct sample_histogram *found = sample_histogram(sample, histograms[i].stat);
        if (found)
            write_histogram(page, found, histograms[i].name, histograms[i].help);
    }
}

void metrics_write(FILE *out, const struct sample *sample, enum metrics_format format)
{
    const struct page page = {out, sample, format};

    write_gauge(&page, "etagd_up", "1: the daemon answers.", sample != NULL);
    if (sample)
        write_sample(&page);
    if (format == METRICS_OPENMETRICS)
        fputs("# EOF\n", out);
}
