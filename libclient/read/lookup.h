/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of the lookup that shadow mode and refill (after rendering) use. */
#ifndef LIBETAG_LOOKUP_H
#define LIBETAG_LOOKUP_H

#include "client.h"
#include "clocktime.h"

/* Rules DEADLINE_FIRST and TIME_LAST: the deadline was loaded before everything else, the clock
 * read after it. */
static inline bool lease_is_over(uint64_t deadline_ns, uint64_t now_ns)
{
    return now_ns >= deadline_ns;
}

/* The general way of etag_check(): answers and counts. request: what abi_in() made of 'given'. If
 * scratch.place is not {0, 0} it is the fingerprint of the request's key. */
etag_verdict lookup_check(struct etag_client *client, const etag_request *request,
                          const etag_request *given, etag_token token, etag_answer *out);

/* Returns whether the request has a prepared key of the daemon's present run, which must have given
 * an index. */
static inline bool is_prepared(const struct etag_client *client, const etag_request *request)
{
    const etag_prepared_key *const prepared = request->prepared;

    return prepared && prepared->size >= sizeof(*prepared) &&
           prepared->incarnation == client->mapping.view.header->incarnation_id;
}

static inline struct hash128 prepared_fingerprint(const etag_request *request)
{
    return (struct hash128){request->prepared->place[0], request->prepared->place[1]};
}

/* Returns the state of the key in the memory now. VALID: scratch.entry is current. Counts
 * nothing. */
etag_reason lookup_state(struct etag_client *client, const etag_key *key);

/* The same for a fingerprint, which must be from the present mapping. scratch.entry is that entry
 * also for STALE, IN_FLUX and EXPIRED. */
etag_reason lookup_again(struct etag_client *client, struct hash128 fingerprint);

/* Returns whether the memory has no entry of this fingerprint now. Does not check the lease. */
bool lookup_finds_nothing(struct etag_client *client, struct hash128 fingerprint);

#endif
