/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The Host of a request. A page in somebody's browser can have its own name resolved to this host's
 * address (DNS rebinding) and read what is meant for local collectors alone; its requests then bear
 * that name. So names count only if they were named. An address in digits is not resolved,
 * so it counts always.
 */
#ifndef EXPORTER_HOST_H
#define EXPORTER_HOST_H

#include "cleanup.h"

#include <etag/etag.h>
#include <stdbool.h>

#define HOST_NAMES_MAX 16

struct host_names {
    /* borrowed; besides localhost */
    const char *names[HOST_NAMES_MAX];
    size_t count;
};

/* host: the field's value, with or without a port. Pure. */
MUST_USE bool host_is_allowed(const struct host_names *names, etag_str host);

#endif
