/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Entries of which the store may still have a record that must not come back: the entry that
 * replaced it depends on more (a surrogate key that the former one lacked), or its removal found no
 * room with the persister. An invalidation of what the record lacks would not make it stale after a
 * restart. So the next event takes them along, and the store erases them with it
 * (event_line_store): journal or transaction, whatever makes that event safe makes this safe,
 * before its answer. Without an event nothing has become stale, and what is stored in the meantime
 * is struck off; where there are too many they get an event of their own.
 */
#ifndef ETAGD_UNSTORED_H
#define ETAGD_UNSTORED_H

#include "bounds.h"
#include "persist.h"

struct unstored {
    struct hash128 fingerprints[UNSTORED_MAX];
    /* the persister knows nothing of it */
    bool stuck[UNSTORED_MAX];
    size_t count;
};

/* Strikes off what the store has by now. */
void unstored_settle(struct unstored *unstored, struct persist *persist);

/* For what a fill or a retire may add. False: they need an event first. */
MUST_USE bool unstored_has_room(struct unstored *unstored, struct persist *persist);

/* Whether the persister has something of the entry that the store lacks: it may have, or get, an
 * older record. Cheap where nothing waits. */
bool unstored_waits(struct persist *persist, struct hash128 fingerprint);

/* One may be there twice. stuck: nothing waits for the store that will take the record's place. */
void unstored_add(struct unstored *unstored, struct hash128 fingerprint, bool stuck);

#endif
