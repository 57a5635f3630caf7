/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Takes out of the spool what can be no event, before a daemon starts: the names, inodes and space
 * that others used up while there was none.
 */
#ifndef ETAGD_SPOOL_SWEEP_H
#define ETAGD_SPOOL_SWEEP_H

#include "spool_format.h"

struct spool_swept {
    uint64_t removed;
    /* What this daemon may not remove: a directory with something in it, of a user that it cannot
     * act for. */
    uint64_t left;
};

/* Removes what stands under this name, with all that is in it, as far as the daemon may; until_ns
 * as below. False: something is left. */
bool spool_sweep_tree(int dir_fd, const char *name, uint64_t until_ns);

/* What cannot be removed, such as a directory that somebody filled, gets a name that means nothing,
 * beside the others. dir_fd: where it stands; spool_fd: of the spool. False: it stays. */
bool spool_sweep_aside(int spool_fd, int dir_fd, const char *name);

/* The caller holds the spool's lock. counts: whose files may be events. Ends at until_ns
 * (CLOCK_MONOTONIC_COARSE) at the latest; the rest is for the scans. */
void spool_sweep(int dir_fd, const struct spool_mark *counts, uint64_t until_ns,
                 struct spool_swept *out);

#endif
