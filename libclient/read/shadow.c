/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Before a site trusts the cache, shadow mode shows whether its answers would have been right.
 * Every page is rendered and compared with the entry that was current when its request began. A
 * different ETag, while nothing that the entry depends on was invalidated until now, is a change
 * that no writer announced; without shadow mode it would have been a stale 304. If the entry is no
 * longer current, a change was announced, or is being announced, so the comparison proves nothing.
 *
 * There is one false alarm: a page that was rendered between a COMMIT and the invalidation that
 * follows it. Writers with guards have no such gap.
 *
 * A request is recognized by its key and its token, so any number may be in progress. A table of
 * fixed size remembers the last lookups; a request that was displaced from it is not compared. The
 * ETag is remembered as a hash.
 */
#include "shadow.h"

#define SHADOW_RECORDS 1024 /* a power of two */

struct shadow {
    struct shadow_record records[SHADOW_RECORDS];
};

static const uint8_t *hash_key(const struct etag_client *client)
{
    return client->mapping.view.header->hash_key;
}

static struct hash128 etag_hash_of(const struct etag_client *client, etag_str etag)
{
    return siphash13_128(hash_key(client), etag.data ? etag.data : "", etag.len);
}

static struct shadow_record *place_of(const struct etag_client *client, struct hash128 fingerprint)
{
    return &client->shadow->records[fingerprint.low & (SHADOW_RECORDS - 1)];
}

uint64_t *shadow_veil(struct etag_client *client, etag_answer *answer)
{
    const etag_verdict verdict = answer->verdict;

    if (!client->shadow)
        client->shadow = calloc(1, sizeof(*client->shadow));
    if (client->shadow) {
        const struct hash128 fingerprint = client->scratch.place;
        *place_of(client, fingerprint) = (struct shadow_record){
            fingerprint, etag_hash_of(client, answer->etag), answer->token, answer->fill_lsn};
    }
    *answer = (etag_answer){.size = answer->size,
                            .verdict = ETAG_UNKNOWN,
                            .reason = ETAG_REASON_SHADOW,
                            .last_modified = ETAG_NO_DATE,
                            .fill_lsn = answer->fill_lsn,
                            .token = answer->token};
    return verdict == ETAG_NOT_MODIFIED          ? &client->counters->shadow_not_modified
           : verdict == ETAG_PRECONDITION_FAILED ? &client->counters->shadow_precondition_failed
                                                 : &client->counters->shadow_proceed;
}

const struct shadow_record *shadow_recall(const struct etag_client *client, etag_token token)
{
    if (!client->shadow || !client->mapping.base)
        return NULL;
    const struct hash128 fingerprint = key_fingerprint(hash_key(client), &client->scratch.key);
    const struct shadow_record *record = place_of(client, fingerprint);
    return hash128_equal(record->fingerprint, fingerprint) &&
                   record->token.incarnation == token.incarnation && record->token.lsn == token.lsn
               ? record
               : NULL;
}

bool shadow_has_etag(const struct etag_client *client, const struct shadow_record *record,
                     etag_str etag)
{
    return hash128_equal(etag_hash_of(client, etag), record->etag);
}
