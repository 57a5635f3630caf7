/* SPDX-License-Identifier: Apache-2.0 */
/* The figures of etag-relay, which it writes into a file, on the page of the daemon's. */
#ifndef ETAG_TOOLS_EXPORTER_RELAY_H
#define ETAG_TOOLS_EXPORTER_RELAY_H

#include <stdbool.h>
#include <stdio.h>

/* Appends etag_relay_up, and the file where it is 1: a relay writes its figures each two seconds,
 * and older ones would look as if all were well. Prometheus text alone: in OpenMetrics counters are
 * declared under other names. */
void exporter_relay_write(FILE *out, const char *path);

#endif
