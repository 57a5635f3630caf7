/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writes events into the store, and retains those that it could not write. Retained events are
 * written first, in their order, until the store has them or they are too many. The persister's
 * thread only, but for members marked as atomic.
 */
#ifndef ETAGD_RETAINED_H
#define ETAGD_RETAINED_H

#include "clocktime.h"
#include "disk.h"
#include "event_queue.h"

#define RETRY_NS NS_PER_S /* pause after a failure */

struct retained {
    struct disk disk;
    struct event_queue queue;
    /* 0: no write has failed; else when to try again: nothing is written before, except at the
     * end */
    uint64_t retry_ns;
    /* too many events waited, or the disk lost some, so the store will lack events until the daemon
     * ends */
    bool gave_up;

    /* Atomic. */
    bool failed;
    /* LSN up to which the store has every event; 0: none of this run */
    uint64_t stored_lsn;
};

void retained_init(struct retained *retained, struct store *store, const struct log *log);
void retained_deinit(struct retained *retained);

/* Writes the events of the queue (consumed), after the retained ones. closing: tries even if a
 * retry is not due, since there is no later chance. Returns 0: the events are safe, or the state is
 * marked cold; else the error of that mark: they may be lost. */
MUST_USE int retained_write(struct retained *retained, struct event_queue *queue, bool closing);

/* Returns whether the disk lost something that the store had; then the store is given up. at_end:
 * waits until the disk has everything before it asks. */
MUST_USE bool retained_lost(struct retained *retained, bool at_end);

/* Returns whether nothing is retained or given up. Only then may a checkpoint be written, which
 * says that the store has everything up to its LSN. */
MUST_USE bool retained_nothing(const struct retained *retained);

#endif
