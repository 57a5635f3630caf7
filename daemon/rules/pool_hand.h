/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Chooses which entries to evict when the pool is full: those whose records lie together in one run
 * of the size that is needed. Evicting entries from all over the pool would free units that are no
 * neighbours. Loop thread only.
 */
#ifndef ETAGD_POOL_HAND_H
#define ETAGD_POOL_HAND_H

#include "owners.h"

/* Entries evicted for one record: at most one for each unit of its run. */
#define POOL_EVICTED_MAX POOL_RUN_UNITS_MAX

/* The first three members are borrowed. */
struct pool_hand {
    const struct shm_view *view;
    const struct pool *pool;
    const struct owners *owners;
    /* the unit at which the next search begins */
    uint32_t position;
    /* units passed since the last place that was cheap enough */
    uint64_t barren_units;
};

/* Records that must stay, by their first units: the former and the new ones of the entry that is
 * being stored. 0: none. */
#define POOL_PINS_MAX 3
struct pool_pins {
    uint32_t units[POOL_PINS_MAX];
};

/* Chooses a place for a record of this size, lists the slots whose entries have to be evicted for
 * it, and returns their number; 0: it found no place this time. The work is bounded, whatever is in
 * the pool. If field sets that many entries share take nearly all of the pool, the list may have
 * only a part of the slots, and then the record does not fit yet. */
size_t pool_hand_choose(struct pool_hand *hand, size_t bytes, const struct pool_pins *pins,
                        uint64_t now_ns, uint64_t out[POOL_EVICTED_MAX]);

#endif
