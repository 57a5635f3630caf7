/* SPDX-License-Identifier: Apache-2.0 */
/* Checkpoints: the version clocks in the store, and the log of events cut to what they do not
 * cover. Part of the persister. */
#ifndef ETAGD_CHECKPOINT_H
#define ETAGD_CHECKPOINT_H

#include "store.h"

#include "shm.h"

/* How much of the log stays after a checkpoint covers it, for people (etagctl explain, log).
 * Recovery needs none of it. */
struct retention {
    size_t count;
    /* of pages of the store; 0: no bound */
    uint64_t bytes;
    /* 0: no bound */
    uint64_t age_ms;
    /* whatever the bounds say: events that the relay's log may not have yet */
    bool keep_outgoing;
};

struct checkpoint {
    /* borrowed */
    const struct shm_view *view;
    struct retention retention;
    /* CLOCK_MONOTONIC: an event that is covered gets too old then; UINT64_MAX: never */
    uint64_t due_ns;
    bool saved_valid;
    /* as in the store */
    uint64_t *saved_clocks;
};

MUST_USE int checkpoint_init(struct checkpoint *checkpoint, const struct shm_view *view,
                             const struct retention *retention);
void checkpoint_deinit(struct checkpoint *checkpoint);

/* lsn: of the last event that the store has. little_room: the log is cut to EVENTS_KEPT_MIN. */
MUST_USE int checkpoint_write(struct checkpoint *checkpoint, struct store *store, uint64_t lsn,
                              bool little_room);

#endif
