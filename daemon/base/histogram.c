/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The bucket of a duration is read off its leading bits: which power of two, and the
 * HISTOGRAM_STEP_BITS after it. Durations below HISTOGRAM_STEPS have a bucket each. A bound belongs
 * to the bucket below it (as Prometheus' "le" wants it), so all is counted for the duration less
 * one.
 */
#include "histogram.h"

#define LONGEST ((UINT64_C(1) << HISTOGRAM_BITS) - 1)

static size_t bucket_of(uint64_t value)
{
    if (value < HISTOGRAM_STEPS)
        return value;
    if (value > LONGEST)
        value = LONGEST;
    const unsigned shift = 63u - (unsigned)__builtin_clzll(value) - HISTOGRAM_STEP_BITS;
    return ((size_t)shift << HISTOGRAM_STEP_BITS) + (value >> shift);
}

void histogram_add(struct histogram *histogram, uint64_t ns)
{
    histogram->sum_ns += ns;
    histogram->counts[bucket_of(ns > 0 ? ns - 1 : 0)]++;
}

uint64_t histogram_upto_ns(size_t bucket)
{
    if (bucket < HISTOGRAM_STEPS)
        return bucket + 1;
    const size_t shift = (bucket >> HISTOGRAM_STEP_BITS) - 1;
    return ((bucket & (HISTOGRAM_STEPS - 1)) + HISTOGRAM_STEPS + 1) << shift;
}
