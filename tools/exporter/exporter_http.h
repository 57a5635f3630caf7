/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The exporter's HTTP: which requests get the page. libmicrohttpd's thread serves one request after
 * the other, so that whoever makes the page needs no lock.
 */
#ifndef EXPORTER_HTTP_H
#define EXPORTER_HTTP_H

#include "exporter_crowd.h"
#include "exporter_host.h"
#include "stats_metrics.h"

struct MHD_Daemon;

struct exporter_http {
    /* Set by the caller before it opens. */
    /* malloc()ed; NULL: no memory */
    char *(*page)(void *context, enum metrics_format format, size_t *bytes);
    void *context;
    struct host_names hosts;
    /* on a Unix socket no name is resolved */
    bool any_host;
    /* there are figures on it that OpenMetrics would say otherwise */
    bool prometheus_only;
    struct MHD_Daemon *daemon;
    struct crowd crowd;
};

/* Serves what listens on the descriptor (consumed) in a thread of its own; -1: exporter_http_take()
 * brings connections, and exporter_http_turn() serves them. False: errno says why. */
MUST_USE bool exporter_http_open(struct exporter_http *http, int listen_fd);
void exporter_http_close(struct exporter_http *http);

/* For tests: a connection (consumed), and what can be done without waiting. */
MUST_USE bool exporter_http_take(struct exporter_http *http, int fd);
void exporter_http_turn(struct exporter_http *http);

#endif
