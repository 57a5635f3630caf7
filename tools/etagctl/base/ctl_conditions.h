/* SPDX-License-Identifier: Apache-2.0 */
/* What each condition of a request says about an entry, and which of them decides. */
#ifndef ETAGCTL_CONDITIONS_H
#define ETAGCTL_CONDITIONS_H

#include "cleanup.h"

#include <etag/etag.h>

#define CONDITIONS_MAX 64

/* One condition, or one entity tag of it. */
struct condition {
    const char *name; /* "If-None-Match" */
    etag_str value;
    const char *says; /* "matches, by weak comparison" */
    bool decides;
};

struct conditions {
    struct condition list[CONDITIONS_MAX];
    size_t count;
    size_t left_out; /* there was no room for so many */
    etag_verdict verdict;
    etag_range range;
};

/* Judges the request as libetag does. Everything borrowed. */
void conditions_judge(struct conditions *out, const etag_request *request,
                      const etag_validators *validators);

#endif
