/* SPDX-License-Identifier: Apache-2.0 */
/* Checkpoints: write the version clocks into the store, and trim the event log, since recovery
 * needs no event that a checkpoint covers. Part of the persister; its thread only. */
#ifndef ETAGD_CHECKPOINT_H
#define ETAGD_CHECKPOINT_H

#include "store.h"

#include "shm.h"

/* How many covered events stay in the log, for people (etagctl explain, log). Recovery needs none
 * of them. */
struct retention {
    size_t count;
    /* bytes of the store's pages that the log may take; 0: no bound */
    uint64_t bytes;
    /* 0: no bound */
    uint64_t age_ms;
    /* keep events that the relay's log may not have yet, beyond all bounds */
    bool keep_outgoing;
};

struct checkpoint {
    /* borrowed */
    const struct shm_view *view;
    struct retention retention;
    /* when the oldest covered event gets too old, CLOCK_MONOTONIC; UINT64_MAX: never */
    uint64_t due_ns;
    bool saved_valid;
    /* the clocks as the store has them, so that only changed chunks are written */
    uint64_t *saved_clocks;
};

MUST_USE int checkpoint_init(struct checkpoint *checkpoint, const struct shm_view *view,
                             const struct retention *retention);
void checkpoint_deinit(struct checkpoint *checkpoint);

/* Writes a checkpoint. lsn: the last event that the store has. little_room: trims the log to
 * EVENTS_KEPT_MIN. Returns 0 or the store's error. */
MUST_USE int checkpoint_write(struct checkpoint *checkpoint, struct store *store, uint64_t lsn,
                              bool little_room);

#endif
