/* SPDX-License-Identifier: Apache-2.0 */
/* A prepared key is the fingerprint, and the run of the daemon whose secret it was hashed with. */
#include "lookup.h"

static const char *prepare(struct etag_client *client, const etag_key *given,
                           etag_prepared_key *out)
{
    const struct layout_header *const header = client->mapping.view.header;
    struct key *const canonical = &client->scratch.key;
    etag_key copy;
    const etag_key *key = abi_in(given, &copy, sizeof(copy), ABI_FIRST_KEY);
    const char *const wrong = key ? key_canonicalize(canonical, key)
                                  : ABI_WHY(given, sizeof(copy), "key");

    if (wrong)
        return wrong;
    const struct hash128 fingerprint = key_fingerprint(header->hash_key, canonical);
    out->incarnation = header->incarnation_id;
    out->place[0] = fingerprint.low;
    out->place[1] = fingerprint.high;
    return NULL;
}

etag_status etag_key_prepare(etag_client *client, const etag_key *key, etag_prepared_key *out)
{
    etag_prepared_key prepared = {.size = sizeof(prepared)};
    etag_status status = ETAG_OK;

    if (!client->mapping.base) {
        status = fault_set(&client->fault, ETAG_UNAVAILABLE,
                           "this process has no shared memory from a daemon yet");
    } else {
        const char *const wrong = prepare(client, key, &prepared);
        if (wrong)
            status = fault_set(&client->fault, ETAG_INVALID, "bad key: %s", wrong);
    }
    if (!abi_out(out, &prepared, sizeof(prepared), ABI_FIRST_PREPARED))
        return fault_set(&client->fault, ETAG_INVALID, "the prepared key's size is not set");
    return status;
}
