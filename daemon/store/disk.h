/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the kernel took for the store and could not write, some time later (a writeback error), and
 * what follows from it: the state on the disk lacks nobody knows what, so the next start is cold.
 * With durability power each commit hears of it; here is what asks with durability process. Of the
 * persister's thread, but for disk_witness_set().
 */
#ifndef ETAGD_DISK_H
#define ETAGD_DISK_H

#include "log.h"
#include "store.h"

struct disk {
    /* borrowed */
    struct store *store;
    /* borrowed */
    const struct log *log;
    /* atomic; NULL: there is no witness */
    const char *socket_path;
    /* when to ask next, CLOCK_MONOTONIC */
    uint64_t ask_ns;
    /* the state could not be marked cold */
    int mark_error;
    /* for good, until the daemon ends */
    bool failed;
};

void disk_init(struct disk *disk, struct store *store, const struct log *log);
/* The witness that goes where the warm mark of a failed disk cannot be removed. Borrowed. Any
 * thread. */
void disk_witness_set(struct disk *disk, const char *socket_path);

/* From here on the state on disk lacks an event: nobody may trust it at the next start. 0 where
 * that is marked: the events hold until this daemon ends, and nothing older is loaded after it. */
MUST_USE int disk_mark_cold(struct disk *disk);

/* Nothing is missing any more. 0, or why that cannot be marked. */
MUST_USE int disk_mark_warm(struct disk *disk);

/* Did the kernel fail to write something? Waits for nothing. True: it did, now, and the state is
 * marked cold. */
MUST_USE bool disk_ask(struct disk *disk, uint64_t now_ns);
/* The same after everything is written: waits for the disk. */
MUST_USE bool disk_flush(struct disk *disk);

#endif
