/* SPDX-License-Identifier: Apache-2.0 */
/* What shadow mode and the second look after rendering need of the lookup. */
#ifndef LIBETAG_LOOKUP_H
#define LIBETAG_LOOKUP_H

#include "client.h"

/* What the memory says of the key now. VALID: scratch.entry is current. Counts nothing. */
etag_reason lookup_state(struct etag_client *client, const etag_key *key);

/* The same of this fingerprint, which is of the present mapping. STALE, IN_FLUX and EXPIRED:
 * scratch.entry is that entry. */
etag_reason lookup_again(struct etag_client *client, struct hash128 fingerprint);

/* Nothing is there now, whoever vouches for it. */
bool lookup_finds_nothing(struct etag_client *client, struct hash128 fingerprint);

#endif
