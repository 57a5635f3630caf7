/* SPDX-License-Identifier: Apache-2.0 */
/* What each condition of a request says about an entry, and which of them decides. */
#ifndef ETAGCTL_CONDITIONS_H
#define ETAGCTL_CONDITIONS_H

#include "cleanup.h"

#include <etag/etag.h>

#define CONDITIONS_MAX 64

/* One condition, or one entity tag of it. */
struct condition {
    /* "If-None-Match" */
    const char *name;
    etag_str value;
    /* "matches, by weak comparison" */
    const char *says;
    bool decides;
};

struct conditions {
    struct condition list[CONDITIONS_MAX];
    size_t count;
    /* there was no room for so many */
    size_t left_out;
    etag_verdict verdict;
    etag_range range;
};

/* Judges the request as libetag does. Everything borrowed. */
void conditions_judge(struct conditions *out, const etag_request *request,
                      const etag_validators *validators);

#endif
