/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which entries go where the pool is full: those whose records lie together in a place of the size
 * that is wanted, so that the place is one, whatever sizes the records around it have. Loop thread
 * only.
 */
#ifndef ETAGD_POOL_HAND_H
#define ETAGD_POOL_HAND_H

#include "owners.h"

/* Entries that go for one record; all of a run's, if each of its records is one unit and nobody
 * shares it. */
#define POOL_EVICTED_MAX POOL_RUN_UNITS_MAX

/* Borrowed, but for its own three words. */
struct pool_hand {
    const struct shm_view *view;
    const struct pool *pool;
    const struct owners *owners;
    /* unit: where it looks next */
    uint32_t position;
    /* it passed so many since it last found a place that is cheap enough */
    uint64_t barren_units;
};

/* Records that must stay: those that an entry has, and will have, which is being stored. 0:
 * none. */
#define POOL_PINS_MAX 3
struct pool_pins {
    uint32_t units[POOL_PINS_MAX];
};

/* Chooses a place for a record of so many bytes, and writes down the slots whose entries have to go
 * for it. Bounded work, whatever is in the pool. Returns their number; 0: it found no place this
 * time. Where field sets that many entries share take nearly all of the pool, those named may be a
 * part: then the record does not fit yet. */
size_t pool_hand_choose(struct pool_hand *hand, size_t bytes, const struct pool_pins *pins,
                        uint64_t now_ns, uint64_t out[POOL_EVICTED_MAX]);

#endif
