/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Filling in steps, for those who look before they send: read a response, ask whether it may be
 * stored, send it. etag_fill() is all of them; etag_finish() decides between the first and the last
 * (refill.h).
 */
#ifndef LIBETAG_FILL_H
#define LIBETAG_FILL_H

#include "client.h"
#include "storable.h"

/* A response as the cache sees it. The request borrows from the response and from scratch, so it is
 * never copied. */
struct rendering {
    /* REQUEST_FILL */
    struct request request;
    struct storable_scratch scratch;
    /* why it must not be stored; NONE: it may be */
    etag_reason reason;
    /* more of that; NULL: there is no more to say */
    const char *why;
    /* fill_name() sets it; NULL: nothing is wrong with the key */
    const char *bad_key;
};

/* Reduces the response. Errors: INVALID (a size is not set, or there is no key). */
MUST_USE etag_status fill_read(struct etag_client *client, etag_token token,
                               const etag_entry *response, struct rendering *out);

/* Puts its key into client->scratch.key, canonical. Not needed where a lookup of the same key has
 * found nothing wrong with it: the message carries the key as it was given. */
void fill_name(struct etag_client *client, struct rendering *rendering);

/* Sends it without waiting, and counts it; REFUSED, with the client's reason, where it must not be
 * stored, its key is none or it has no token. Other errors: those of etag_fill(). */
MUST_USE etag_status fill_send(struct etag_client *client, struct rendering *rendering);

/* Sends the tombstone of the key: the daemon removes its entry unless that was filled with a newer
 * token. key: borrowed. */
MUST_USE etag_status fill_send_retire(struct etag_client *client, etag_token token,
                                      const etag_key *key);

#endif
