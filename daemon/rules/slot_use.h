/* SPDX-License-Identifier: Apache-2.0 */
/* Whether an entry of the index is still useful. Eviction takes stale entries first, then expired
 * ones. */
#ifndef ETAGD_SLOT_USE_H
#define ETAGD_SLOT_USE_H

#include "shm.h"

enum slot_use {
    /* stale or in flux: no front end may answer from it */
    SLOT_STALE,
    SLOT_EXPIRED,
    SLOT_CURRENT,
};

/* Judges the entry of a slot, which must hold one. now_ns: CLOCK_MONOTONIC_COARSE, for its
 * expiry. */
static inline enum slot_use slot_use(const struct shm_view *view, uint64_t slot, uint64_t now_ns)
{
    struct shm_entry entry;
    uint32_t clock;
    uint64_t value;

    shm_clocks_at(view, slot, &entry);
    if (shm_newer_clock(view, &entry, &clock, &value))
        return SLOT_STALE;
    return entry.expires_ns <= now_ns ? SLOT_EXPIRED : SLOT_CURRENT;
}

#endif
