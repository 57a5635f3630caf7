/* SPDX-License-Identifier: Apache-2.0 */
/* What the benchmarks of the public interface share: time, spreads, and how they are told. */
#ifndef ETAG_BENCH_FIGURES_H
#define ETAG_BENCH_FIGURES_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

struct spread {
    double p10, median, p90;
};

static inline uint64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static inline int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/* Sorts the values. */
static inline struct spread spread_of(double *values, size_t count)
{
    qsort(values, count, sizeof(values[0]), by_value);
    return (struct spread){values[count / 10], values[count / 2], values[count - 1 - count / 10]};
}

/* As a member of a JSON object. */
static inline void spread_write(FILE *f, const char *name, struct spread s, const char *after)
{
    fprintf(f, "\"%s\": {\"p10\": %.4g, \"median\": %.4g, \"p90\": %.4g}%s", name, s.p10, s.median,
            s.p90, after);
}

/* One row for scripts/bench: figure, ours, peer, theirs, ratio. unit: so many nanoseconds. */
static inline void row_print(const char *figure, struct spread ours, const char *peer,
                             struct spread theirs, struct spread ratio, double unit,
                             const char *unit_word)
{
    printf("%s\t%.1f %s (%.1f-%.1f)\t%s\t%.1f %s (%.1f-%.1f)\t%.2f (%.2f-%.2f)\n", figure,
           ours.median / unit, unit_word, ours.p10 / unit, ours.p90 / unit, peer,
           theirs.median / unit, unit_word, theirs.p10 / unit, theirs.p90 / unit, ratio.median,
           ratio.p10, ratio.p90);
    fflush(stdout);
}

#endif
