/* SPDX-License-Identifier: Apache-2.0 */
/* The second half of shadow mode (shadow.c says what for). It looks the key up again, so it is a
 * layer above lookup.c, which calls shadow_veil(). */
#include "shadow_compare.h"

#include "lookup.h"
#include "shadow.h"

/* The memory still says what it said, and vouches for it: nothing was announced in between. */
static bool still_stands(struct etag_client *client, const etag_key *key,
                         const struct shadow_record *record)
{
    const struct shm_entry *entry = &client->scratch.entry;

    return lookup_state(client, key) == ETAG_REASON_VALID && entry->fill_lsn == record->fill_lsn &&
           shadow_has_etag(client, record, entry->etag);
}

bool shadow_compare(struct etag_client *client, const etag_key *key, etag_token token,
                    etag_str etag)
{
    struct counters *const counters = client->counters;
    const struct shadow_record *record = shadow_recall(client, token);

    if (!record)
        return false;
    if (etag.data && shadow_has_etag(client, record, etag)) {
        counter_add(&counters->shadow_matches, 1);
        return true;
    }
    counter_add(still_stands(client, key, record) ? &counters->shadow_mismatches
                                                  : &counters->shadow_undecided,
                1);
    return false;
}
