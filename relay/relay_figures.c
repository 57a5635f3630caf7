/* SPDX-License-Identifier: Apache-2.0 */
/* A file instead of a socket: node_exporter's textfile collector reads it, and so does cat(1). */
#include "relay_figures.h"

#include "clocktime.h"

#include <errno.h>
#include <inttypes.h>

#define PATH_WITH_SUFFIX_BYTES 4128

void figures_init(struct figures *figures)
{
    *figures = (struct figures){.margin_min_ns = UINT64_MAX};
}

void figures_fresh(struct figures *figures, uint64_t t0_ns, uint64_t now_ns)
{
    const uint64_t until_ns = figures->fresh_ns + figures->lease_ms * NS_PER_MS;
    const uint64_t margin_ns = now_ns < until_ns ? until_ns - now_ns : 0;

    if (figures->fresh_ns != 0 && margin_ns < figures->margin_min_ns)
        figures->margin_min_ns = margin_ns;
    figures->fresh_ns = t0_ns;
}

static void head(FILE *out, const char *name, const char *type, const char *help)
{
    fprintf(out, "# HELP etag_relay_%s %s\n# TYPE etag_relay_%s %s\n", name, help, name, type);
}

static void gauge(FILE *out, const char *name, const char *help, double value)
{
    head(out, name, "gauge", help);
    fprintf(out, "etag_relay_%s %.9g\n", name, value);
}

/* Powers of two from 64 us to 17 s: what a relay waits for takes no less. */
static void histogram_print(FILE *out, const char *name, const char *help,
                            const struct histogram *histogram)
{
    uint64_t count = 0;
    size_t bucket = 0;

    head(out, name, "histogram", help);
    for (unsigned bits = 16; bits <= 34; bits += 2) {
        const uint64_t upto_ns = UINT64_C(1) << bits;
        for (; bucket < HISTOGRAM_BUCKETS && histogram_upto_ns(bucket) < upto_ns; bucket++)
            count += histogram->counts[bucket];
        fprintf(out, "etag_relay_%s_bucket{le=\"%.9g\"} %" PRIu64 "\n", name,
                (double)upto_ns / NS_PER_S, count);
    }
    for (; bucket < HISTOGRAM_BUCKETS; bucket++)
        count += histogram->counts[bucket];
    fprintf(out, "etag_relay_%s_bucket{le=\"+Inf\"} %" PRIu64 "\n", name, count);
    fprintf(out, "etag_relay_%s_sum %.9g\netag_relay_%s_count %" PRIu64 "\n", name,
            (double)histogram->sum_ns / NS_PER_S, name, count);
}

void figures_batch(struct figures *figures, size_t rows)
{
    size_t i = 0;

    while (i + 1 < BATCH_SIZES && rows > (size_t)1 << (2 * i))
        i++;
    figures->batch_sizes[i]++;
    figures->batch_rows += rows;
}

static void batches_print(const struct figures *figures, FILE *out)
{
    uint64_t count = 0;

    head(out, "batch_rows", "histogram", "Mutations in a batch");
    for (size_t i = 0; i + 1 < BATCH_SIZES; i++) {
        count += figures->batch_sizes[i];
        fprintf(out, "etag_relay_batch_rows_bucket{le=\"%u\"} %" PRIu64 "\n", 1u << (2 * i), count);
    }
    count += figures->batch_sizes[BATCH_SIZES - 1];
    fprintf(out,
            "etag_relay_batch_rows_bucket{le=\"+Inf\"} %" PRIu64
            "\netag_relay_batch_rows_sum %" PRIu64 "\netag_relay_batch_rows_count %" PRIu64 "\n",
            count, figures->batch_rows, count);
}

static void everything_print(const struct figures *figures, FILE *out)
{
    head(out, "everything_total", "counter", "Batches that raised everything, by reason");
    for (unsigned i = RELAY_REASON_NONE + 1; i < RELAY_REASON_COUNT; i++)
        fprintf(out, "etag_relay_everything_total{reason=\"%s\"} %" PRIu64 "\n",
                relay_reason_word(i), figures->everything[i]);
}

void figures_print(const struct figures *figures, uint64_t now_ns, FILE *out)
{
    const double age_s = figures->fresh_ns == 0 ? -1
                                                : (double)(now_ns - figures->fresh_ns) / NS_PER_S;
    const double margin_s = figures->margin_min_ns == UINT64_MAX
                                ? -1
                                : (double)figures->margin_min_ns / NS_PER_S;

    gauge(out, "database_connected", "1: connected", figures->engine_ready);
    gauge(out, "daemon_connected", "1: connected", figures->daemon_ready);
    gauge(out, "member", "1: the last poll showed this host as a member", figures->member);
    gauge(out, "watch_broken", "1: writes to a watched table may go unseen", figures->watch_broken);
    gauge(out, "lease_seconds", "L_net, as the last poll showed it", figures->lease_ms / 1e3);
    gauge(out, "poll_age_seconds", "Since the last settled poll that counts; -1: none yet", age_s);
    gauge(out, "freshness_margin_min_seconds",
          "Least that was left of L_net when the next poll was settled; -1: none yet", margin_s);
    gauge(out, "publications", "Mutations of this host under way", (double)figures->publications);
#define FIGURES_PRINT(name, help)                                                                  \
    head(out, #name "_total", "counter", help);                                                    \
    fprintf(out, "etag_relay_" #name "_total %" PRIu64 "\n", figures->name);
    FIGURES_COUNTERS(FIGURES_PRINT)
#undef FIGURES_PRINT
    everything_print(figures, out);
    batches_print(figures, out);
    histogram_print(out, "poll_seconds", "Start of a poll to its answer", &figures->poll_ns);
    histogram_print(out, "settle_seconds", "Batch sent to the daemon's receipt",
                    &figures->settle_ns);
    histogram_print(out, "everywhere_seconds",
                    "Mutation handed over until all members had acknowledged it",
                    &figures->everywhere_ns);
    histogram_print(out, "acknowledge_seconds", "Start of a poll to its acknowledgement",
                    &figures->acknowledge_ns);
}

int figures_write(const struct figures *figures, uint64_t now_ns, const char *path)
{
    char made[PATH_WITH_SUFFIX_BYTES];

    (void)snprintf(made, sizeof(made), "%s.new", path);
    CLEANUP(cleanup_file) FILE *out = fopen(made, "we");

    if (!out)
        return -errno;
    figures_print(figures, now_ns, out);
    if (fflush(out) != 0 || ferror(out))
        return -EIO;
    return rename(made, path) < 0 ? -errno : 0;
}
