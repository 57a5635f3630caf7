/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The daemon's figures at one moment, and what follows from two of them: for "etagctl stats" and
 * for the exporter. By value, no allocation; large, so not on a stack.
 */
#ifndef STATS_SAMPLE_H
#define STATS_SAMPLE_H

#include "channel.h"

#define SAMPLE_NAME_BYTES 48
#define SAMPLE_TEXT_BYTES 128
#define SAMPLE_TEXTS_MAX 32

struct sample_histogram {
    char name[SAMPLE_NAME_BYTES];
    uint64_t sum_ns, count;
    /* shortest first */
    struct bucket_view buckets[HISTOGRAM_BUCKETS_MAX];
    size_t bucket_count;
};

struct sample {
    /* channel_now_ns() */
    uint64_t taken_ns;
    uint64_t wall_ms;
    struct sample_number {
        char name[SAMPLE_NAME_BYTES];
        uint64_t value;
    } numbers[STATS_MAX];
    size_t number_count;
    struct sample_text {
        char name[SAMPLE_NAME_BYTES];
        char text[SAMPLE_TEXT_BYTES];
    } texts[SAMPLE_TEXTS_MAX];
    size_t text_count;
    struct sample_histogram histograms[HISTOGRAMS_MAX];
    size_t histogram_count;
};

/* Asks the daemon; connects if there is no connection, and once more where the one that was there
 * has died. Errors: those of channel_connect() and channel_call(), DENIED. The time is for all of
 * it. */
MUST_USE etag_status sample_ask(struct sample *sample, struct channel *channel, uint32_t timeout_ms,
                                struct fault *fault);

/* False: this daemon does not say it. */
bool sample_has(const struct sample *sample, const char *name);
uint64_t sample_number(const struct sample *sample, const char *name); /* 0 where it is not said */
const char *sample_text(const struct sample *sample,
                        const char *name); /* "" where it is not said */
const struct sample_histogram *sample_histogram(const struct sample *sample,
                                                const char *name); /* NULL: none */

/* How much the number grew a second between two samples; from 0 on where the daemon is another one
 * than before. */
double sample_rate(const struct sample *now, const struct sample *before, const char *name);
/* What came into the histogram between two samples. */
void sample_histogram_between(struct sample_histogram *out, const struct sample *now,
                              const struct sample *before, const char *name);

/* Another run of the daemon than the one before: it counts from 0. */
bool sample_is_new_run(const struct sample *now, const struct sample *before);

/* The duration that so many of a thousand did not exceed, at most an eighth too long; 0: nothing
 * was counted. */
uint64_t sample_quantile_ns(const struct sample_histogram *histogram, unsigned per_mille);

#endif
