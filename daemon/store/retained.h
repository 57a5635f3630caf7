/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The way of events into the store, and those that are kept since it did not take them: they go
 * first, in their order, until it takes them or they are too many. Of the persister's thread, but
 * for what is marked as atomic.
 */
#ifndef ETAGD_RETAINED_H
#define ETAGD_RETAINED_H

#include "clocktime.h"
#include "disk.h"
#include "event_line.h"

#define RETRY_NS NS_PER_S /* pause after a failure */

struct retained {
    struct disk disk;
    struct event_line line;
    /* 0: nothing has failed; else nothing is written before, but at the end */
    uint64_t retry_ns;
    /* too many, or the disk lost some: the store lacks events for good */
    bool gave_up;

    /* Atomic. */
    bool failed;
    /* the store has every event up to it; 0: none of this run */
    uint64_t stored_lsn;
};

void retained_init(struct retained *retained, struct store *store, const struct log *log);
void retained_deinit(struct retained *retained);

/* Writes the line (consumed), behind what failed before it; closing: there is no later time for it.
 * 0: they are safe, or the state is marked cold. Else the error of that mark: they may be lost. */
MUST_USE int retained_write(struct retained *retained, struct event_line *line, bool closing);

/* Did the disk lose something that the store had? Then nobody can say what it lacks. at_end:
 * everything is written first. */
MUST_USE bool retained_lost(struct retained *retained, bool at_end);

/* A checkpoint says that the store has everything up to its LSN. */
MUST_USE bool retained_nothing(const struct retained *retained);

#endif
