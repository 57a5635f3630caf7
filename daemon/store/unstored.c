/* SPDX-License-Identifier: Apache-2.0 */
#include "unstored.h"

#include "index.h"

#include <assert.h>

/* Itself, what came into the index for it, and what either of them evicts. */
#define PER_FILL_MAX (2 * (INDEX_EVICTED_MAX + 1))

bool unstored_waits(struct persist *persist, struct hash128 fingerprint)
{
    return persist_waiting(persist) > 0 &&
           persist_find(persist, fingerprint, NULL, NULL) != STORE_E_NOT_FOUND;
}

void unstored_settle(struct unstored *unstored, struct persist *persist)
{
    size_t kept = 0;

    for (size_t i = 0; i < unstored->count; i++) {
        if (!unstored->stuck[i] && !unstored_waits(persist, unstored->fingerprints[i]))
            continue;
        unstored->fingerprints[kept] = unstored->fingerprints[i];
        unstored->stuck[kept++] = unstored->stuck[i];
    }
    unstored->count = kept;
}

bool unstored_has_room(struct unstored *unstored, struct persist *persist)
{
    if (unstored->count + PER_FILL_MAX > UNSTORED_MAX)
        unstored_settle(unstored, persist);
    return unstored->count + PER_FILL_MAX <= UNSTORED_MAX;
}

void unstored_add(struct unstored *unstored, struct hash128 fingerprint, bool stuck)
{
    assert(unstored->count < UNSTORED_MAX);
    unstored->fingerprints[unstored->count] = fingerprint;
    unstored->stuck[unstored->count++] = stuck;
}
