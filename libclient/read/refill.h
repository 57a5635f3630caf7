/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an answer does to the entry of its key, decided once for every integration: the index is
 * read again after rendering, and what was answered is compared with what the entry says now.
 */
#ifndef LIBETAG_REFILL_H
#define LIBETAG_REFILL_H

#include "fill.h"

/* Where the lookup under the key looked: etag_answer.place, if it was the same key; zeros: not
 * known, it is computed. */
struct refill_place {
    struct hash128 fingerprint;
};

/* Nothing has to be made of the key itself. */
bool refill_knows(const struct etag_client *client, struct refill_place place);

/* A 2xx to a GET, as fill_read() left it, and fill_name() unless refill_knows(): fills, or retires
 * the entry that it refutes, or does nothing. is_of_the_entry: its request was looked up under this
 * key, and did not ask for a part; without that only a fill may come of it. */
void refill_answered(struct etag_client *client, struct rendering *rendering, bool is_of_the_entry,
                     struct refill_place place);

/* An answer to a GET that says that the representation is not there any more. Retires its entry. A
 * key that is none is nobody's. */
void refill_gone(struct etag_client *client, etag_token token, const etag_key *key);

/* Nothing can be retired there, which is seen at a glance: most that is missing was never there. A
 * place that is not of the present mapping finds nothing either, and its token could retire
 * nothing. */
bool refill_finds_nothing(struct etag_client *client, struct refill_place place);

/* The answers that say so: 404, 410; 301, 308. */
bool refill_is_gone(int http_status);

#endif
