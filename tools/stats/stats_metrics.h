/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The figures as metrics, for Prometheus and what understands the same. One table says which there
 * are; the two formats differ in names and ends only.
 */
#ifndef STATS_METRICS_H
#define STATS_METRICS_H

#include "stats_sample.h"

#include <stdio.h>

enum metrics_format {
    /* OpenMetrics 1.0 */
    METRICS_OPENMETRICS,
    /* the older text format, 0.0.4: what node_exporter's textfile collector reads */
    METRICS_PROMETHEUS,
};

/* As HTTP calls it. */
const char *metrics_content_type(enum metrics_format format);

/* Writes them all. sample NULL: the daemon does not answer; etagd_up is 0 then, and alone. */
void metrics_write(FILE *out, const struct sample *sample, enum metrics_format format);

/* That the figure of this name only grows, while a daemon runs. */
bool metrics_is_counter(const char *name);

#endif
