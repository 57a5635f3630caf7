/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shadow mode: an answer from memory is counted but not given to the caller, and the page that is
 * rendered instead is compared with it (shadow_compare.h). See shadow.c.
 */
#ifndef LIBETAG_SHADOW_H
#define LIBETAG_SHADOW_H

#include "client.h"

/* A lookup whose answer was not given. */
struct shadow_record {
    /* {0, 0}: none */
    struct hash128 fingerprint;
    struct hash128 etag;
    etag_token token;
    uint64_t fill_lsn;
};

/* Called when a lookup has found scratch.entry current, at scratch.place, and has this answer:
 * changes the answer to "unknown" and remembers what it was. Returns the counter to increment. The
 * first call of a client allocates. */
uint64_t *shadow_veil(struct etag_client *client, etag_answer *answer);

/* Returns what is remembered of the lookup of the key in scratch.key with this token; NULL:
 * nothing. Valid until the next lookup. */
const struct shadow_record *shadow_recall(const struct etag_client *client, etag_token token);

/* Returns whether the memory had this ETag. */
bool shadow_has_etag(const struct etag_client *client, const struct shadow_record *record,
                     etag_str etag);

#endif
