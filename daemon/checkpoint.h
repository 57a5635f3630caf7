/* SPDX-License-Identifier: Apache-2.0 */
/* Checkpoints: the version clocks in the store, and the log of events cut to what they do not cover. Part of the persister. */
#ifndef ETAGD_CHECKPOINT_H
#define ETAGD_CHECKPOINT_H

#include "store.h"

#include "shm.h"

struct checkpoint {
    const struct shm_view *view; /* borrowed */
    bool saved_valid;
    uint64_t *saved_clocks; /* as in the store */
};

MUST_USE int checkpoint_init(struct checkpoint *checkpoint, const struct shm_view *view);
void checkpoint_deinit(struct checkpoint *checkpoint);

/* lsn: of the last event that the store has. kept: events that stay in the log although they are covered. */
MUST_USE int checkpoint_write(struct checkpoint *checkpoint, struct store *store, uint64_t lsn,
                              size_t kept);

#endif
