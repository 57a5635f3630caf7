/* SPDX-License-Identifier: Apache-2.0 */
/* What a mutation names, checked by both ends alike. */
#ifndef ETAG_PROTO_TARGETS_H
#define ETAG_PROTO_TARGETS_H

#include "cleanup.h"

#include <etag/etag.h>

/* NULL, or what is wrong with targets: none named, too many, malformed names, a prefix with a
 * query, a hold or guard that is too long. (A prefix that does not end in '/' is right:
 * resource_covered_prefix says what it means.) */
MUST_USE const char *targets_check(const etag_targets *targets);

/* How many names of all kinds; everything is none. */
static inline size_t targets_names(const etag_targets *targets)
{
    return targets->resource_count + targets->surrogate_count + targets->prefix_count +
           targets->family_count;
}

#endif
