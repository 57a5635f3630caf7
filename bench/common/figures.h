/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the benchmarks share: time, spreads, and how a comparison is written. Each comparison is one
 * line of JSON on standard output, which bench/report.py makes the table and the result file of.
 */
#ifndef ETAG_BENCH_FIGURES_H
#define ETAG_BENCH_FIGURES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

struct spread {
    double p10, median, p90;
};

/* The results of one round of both sides, in the same unit. */
struct pair {
    double ours, theirs;
};

/* Of which the ratio of ours to theirs must be at most 'goal' (0: none was set). */
struct comparison {
    /* "lookup" */
    const char *group;
    /* what is measured: "304, 10 k entries, uniform" */
    const char *figure;
    /* "ck_ht + memcmp" */
    const char *peer;
    /* of both sides: "ns" */
    const char *unit;
    double goal;
    const struct pair *rounds;
    size_t round_count;
};

_Noreturn void bench_die(const char *doing, const char *why);

/* Zeroed; or the end of the program. */
void *memory_new(size_t count, size_t bytes);

/* Sorts the values. */
struct spread spread_of(double *values, size_t count);

/* Ratios are taken within each round. */
void comparison_print(const struct comparison *c);

/* One value that has no peer, with a goal of its own: at most 'goal'; 0: none. */
void value_print(const char *group, const char *figure, double value, const char *unit,
                 double goal);

/* An option of a benchmark, and the one place where its value goes. A table ends with a zero. */
struct bench_option {
    const char *name;
    const char **text;
    /* positive */
    uint64_t *count;
    double *ratio;
    bool *flag;
};

/* Reads the command line, which has no other arguments; or the end of the program. */
void bench_options(int argc, char **argv, const struct bench_option *options, const char *usage);

static inline uint64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

#endif
