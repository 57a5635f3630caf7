/* SPDX-License-Identifier: Apache-2.0 */
#include "figures.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void bench_die(const char *doing, const char *why)
{
    fprintf(stderr, "bench: %s: %s\n", doing, why);
    exit(1);
}

void *memory_new(size_t count, size_t bytes)
{
    void *p = calloc(count, bytes);

    if (!p)
        bench_die("memory", strerror(errno));
    return p;
}

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

struct spread spread_of(double *values, size_t count)
{
    qsort(values, count, sizeof(values[0]), by_value);
    return (struct spread){values[count / 10], values[count / 2], values[count - 1 - count / 10]};
}

static void spread_print(const char *name, double *values, size_t count)
{
    const struct spread s = spread_of(values, count);

    printf(", \"%s\": [%.6g, %.6g, %.6g]", name, s.p10, s.median, s.p90);
}

void comparison_print(const struct comparison *c)
{
    double *values = memory_new(c->round_count, sizeof(*values));

    printf("{\"group\": \"%s\", \"figure\": \"%s\", \"peer\": \"%s\", \"unit\": \"%s\", \"goal\": "
           "%.6g, \"rounds\": %zu",
           c->group, c->figure, c->peer, c->unit, c->goal, c->round_count);
    for (size_t i = 0; i < c->round_count; i++)
        values[i] = c->rounds[i].ours;
    spread_print("ours", values, c->round_count);
    for (size_t i = 0; i < c->round_count; i++)
        values[i] = c->rounds[i].theirs;
    spread_print("theirs", values, c->round_count);
    for (size_t i = 0; i < c->round_count; i++)
        values[i] = c->rounds[i].ours / c->rounds[i].theirs;
    spread_print("ratio", values, c->round_count);
    printf("}\n");
    fflush(stdout);
    free(values);
}

void value_print(const char *group, const char *figure, double value, const char *unit, double goal)
{
    printf("{\"group\": \"%s\", \"figure\": \"%s\", \"unit\": \"%s\", \"value\": %.6g, \"goal\": "
           "%.6g}\n",
           group, figure, unit, value, goal);
    fflush(stdout);
}

static uint64_t count_of(const char *text)
{
    char *end;

    errno = 0;
    const unsigned long long n = strtoull(text, &end, 10);
    if (*text < '0' || *text > '9' || *end != '\0' || n < 1 || errno != 0)
        bench_die(text, "not a positive number");
    return n;
}

void bench_options(int argc, char **argv, const struct bench_option *options, const char *usage)
{
    for (int i = 1; i < argc; i++) {
        const struct bench_option *option = options;
        while (option->name &&
               (strncmp(argv[i], "--", 2) != 0 || strcmp(argv[i] + 2, option->name) != 0))
            option++;
        if (!option->name || (!option->flag && i + 1 == argc))
            bench_die("usage", usage);
        if (option->flag)
            *option->flag = true;
        else if (option->text)
            *option->text = argv[++i];
        else if (option->count)
            *option->count = count_of(argv[++i]);
        else
            *option->ratio = strtod(argv[++i], NULL);
    }
}
