/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Filling in steps, for callers that decide in between: read a response, check whether it may be
 * stored, send it. etag_fill() does all steps; etag_finish() decides between the first and the last
 * (refill.h).
 */
#ifndef LIBETAG_FILL_H
#define LIBETAG_FILL_H

#include "client.h"
#include "storable.h"

/* A response as the cache sees it. The request borrows from the response and from scratch, so the
 * struct must not be copied. */
struct rendering {
    /* REQUEST_FILL */
    struct request request;
    struct storable_scratch scratch;
    /* why it must not be stored; NONE: it may be */
    etag_reason reason;
    /* details of that; NULL: none */
    const char *why;
    /* fill_name() sets it; NULL: nothing is wrong with the key */
    const char *bad_key;
};

/* Reduces the response. Errors: INVALID (a size is not set, or there is no key). */
MUST_USE etag_status fill_read(struct etag_client *client, etag_token token,
                               const etag_entry *response, struct rendering *out);

/* Writes its canonical key into client->scratch.key. Not needed if a lookup of the same key has
 * found the key valid, because the message has the key as the caller gave it. */
void fill_name(struct etag_client *client, struct rendering *rendering);

/* Sends it without waiting, and counts it. Returns REFUSED, and sets the client's reason, if it
 * must not be stored, its key is invalid or it has no token. Other errors: those of etag_fill(). */
MUST_USE etag_status fill_send(struct etag_client *client, struct rendering *rendering);

/* Sends a tombstone: the daemon removes the key's entry unless that was filled with a newer token.
 * key: borrowed. */
MUST_USE etag_status fill_send_retire(struct etag_client *client, etag_token token,
                                      const etag_key *key);

#endif
