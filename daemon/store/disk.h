/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writeback errors: the kernel accepted a write of the store and failed to write it to the disk
 * later. Then it is not known what the state on the disk lacks, so the next start has to be cold.
 * With durability power each commit reports such errors; with durability process this module asks
 * for them. The persister's thread only, but for disk_witness_set().
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
    /* atomic; the witness is beside this socket; NULL: there is none */
    const char *socket_path;
    /* when to ask next, CLOCK_MONOTONIC */
    uint64_t ask_ns;
    /* errno with which the state could not be marked cold; 0: none */
    int mark_error;
    /* the disk lost something; stays true until the daemon ends */
    bool failed;
};

void disk_init(struct disk *disk, struct store *store, const struct log *log);
/* Sets the socket whose witness is removed if the warm mark on a failed disk cannot be. Borrowed.
 * Any thread. */
void disk_witness_set(struct disk *disk, const char *socket_path);

/* Marks the state as cold, because it lacks an event from now on. Returns 0: it is marked, so the
 * events are in force until this daemon ends, and the next start loads no older state; else an
 * error of the mark. */
MUST_USE int disk_mark_cold(struct disk *disk);

/* Marks the state as warm again: it lacks nothing any more. Returns 0, or the error of the mark. */
MUST_USE int disk_mark_warm(struct disk *disk);

/* Asks the kernel for writeback errors, without waiting. Returns true if there is a new one; the
 * state is then marked cold. */
MUST_USE bool disk_ask(struct disk *disk, uint64_t now_ns);
/* Waits until the disk has everything, then asks in the same way. */
MUST_USE bool disk_flush(struct disk *disk);

#endif
