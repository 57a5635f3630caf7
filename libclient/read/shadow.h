/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shadow mode: what the memory says is counted and not given, and what is rendered instead is compared with it. See shadow.c.
 */
#ifndef LIBETAG_SHADOW_H
#define LIBETAG_SHADOW_H

#include "client.h"

/* A lookup found the entry in scratch.entry current, under scratch.key, and came to this answer: makes it unknown and
 * remembers what it was. Returns the counter of it. The first one allocates. */
uint64_t *shadow_veil(struct etag_client *client, etag_answer *answer);

/* The page of this key, which stands in scratch.key, was rendered for the lookup with this token, with this ETag; absent: it is
 * not there any more. Counts. True: it has the ETag that the memory had. Changes scratch.entry. */
bool shadow_compare(struct etag_client *client, const etag_key *key, etag_token token,
                    etag_str etag);

#endif
