/* SPDX-License-Identifier: Apache-2.0 */
/* The targets of a mutation, checked in the same way by both ends. */
#ifndef ETAG_PROTO_TARGETS_H
#define ETAG_PROTO_TARGETS_H

#include "cleanup.h"

#include <etag/etag.h>

/* Checks targets. Returns NULL, or what is wrong: no target, too many, malformed names, a prefix
 * with a query, a hold or guard that is too long. (A prefix may lack its last '/';
 * resource_covered_prefix() says what it means.) */
MUST_USE const char *targets_check(const etag_targets *targets);

/* Returns how many names of all kinds there are; "everything" is not a name. */
static inline size_t targets_names(const etag_targets *targets)
{
    return targets->resource_count + targets->surrogate_count + targets->prefix_count +
           targets->family_count;
}

#endif
