/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of the lookup that shadow mode and refill (after rendering) use. */
#ifndef LIBETAG_LOOKUP_H
#define LIBETAG_LOOKUP_H

#include "client.h"

/* Returns the state of the key in the memory now. VALID: scratch.entry is current. Counts
 * nothing. */
etag_reason lookup_state(struct etag_client *client, const etag_key *key);

/* The same for a fingerprint, which must be from the present mapping. scratch.entry is that entry
 * also for STALE, IN_FLUX and EXPIRED. */
etag_reason lookup_again(struct etag_client *client, struct hash128 fingerprint);

/* Returns whether the memory has no entry of this fingerprint now. Does not check the lease. */
bool lookup_finds_nothing(struct etag_client *client, struct hash128 fingerprint);

#endif
