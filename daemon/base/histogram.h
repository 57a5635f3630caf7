/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Counts durations in buckets that grow with the duration: HISTOGRAM_STEPS of equal width between a
 * power of two and the next, so a percentile that is read off is at most an eighth too long. Powers
 * of two are bounds, so that a reader can merge buckets up to them. A struct by value: no
 * allocation, one thread.
 */
#ifndef ETAGD_HISTOGRAM_H
#define ETAGD_HISTOGRAM_H

#include <stddef.h>
#include <stdint.h>

#define HISTOGRAM_STEP_BITS 3
#define HISTOGRAM_STEPS (1u << HISTOGRAM_STEP_BITS)
#define HISTOGRAM_BITS 40 /* 2^40 ns are 18 minutes: whatever takes longer counts as that */
#define HISTOGRAM_BUCKETS ((HISTOGRAM_BITS - HISTOGRAM_STEP_BITS + 1) * HISTOGRAM_STEPS)

struct histogram {
    uint64_t sum_ns;
    uint64_t counts[HISTOGRAM_BUCKETS];
};

void histogram_add(struct histogram *histogram, uint64_t ns);

/* The longest duration of the bucket; the next one begins right above it. */
uint64_t histogram_upto_ns(size_t bucket);

#endif
