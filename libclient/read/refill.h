/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Decides for every integration what an answer does to the entry of its key: reads the index again
 * after rendering, and compares the answer with the entry as it is now.
 */
#ifndef LIBETAG_REFILL_H
#define LIBETAG_REFILL_H

#include "fill.h"

/* The fingerprint of the lookup: etag_answer.place, if that was of the same key; zeros: not known,
 * so it is computed. */
struct refill_place {
    struct hash128 fingerprint;
};

/* Returns whether the place suffices, so that the key need not be canonicalized. */
bool refill_knows(const struct etag_client *client, struct refill_place place);

/* Handles a 2xx to a GET after fill_read(), and after fill_name() unless refill_knows(): fills, or
 * retires the entry that the answer contradicts, or does nothing. is_of_the_entry: the request was
 * looked up under this key and did not ask for a part. If not, it may only fill. */
void refill_answered(struct etag_client *client, struct rendering *rendering, bool is_of_the_entry,
                     struct refill_place place);

/* Handles an answer to a GET that says that the representation no longer exists: retires its entry.
 * Ignores an invalid key, which has no entry. */
void refill_gone(struct etag_client *client, etag_token token, const etag_key *key);

/* Returns whether there is no entry to retire; cheap, since most missing pages never had one. A
 * place from an earlier mapping finds no entry either, and its token could retire none. */
bool refill_finds_nothing(struct etag_client *client, struct refill_place place);

/* Returns whether the status says that the representation no longer exists: 404, 410; 301, 308. */
bool refill_is_gone(int http_status);

#endif
