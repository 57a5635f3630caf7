/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Removes from the spool what cannot be an event, before a daemon starts, to free the names, inodes
 * and space that other users took while no daemon ran.
 */
#ifndef ETAGD_SPOOL_SWEEP_H
#define ETAGD_SPOOL_SWEEP_H

#include "spool_format.h"

struct spool_swept {
    uint64_t removed;
    /* number of names that this daemon may not remove, such as another user's directory that is not
     * empty */
    uint64_t left;
};

/* Removes the file or the directory tree of this name, as far as the daemon may; until_ns as below.
 * Returns false if something is left. */
bool spool_sweep_tree(int dir_fd, const char *name, uint64_t until_ns);

/* Renames what cannot be removed, such as a full directory of another user, to a name in the spool
 * that means nothing. dir_fd: the directory that it is in; spool_fd: the spool. Returns false if it
 * could not be renamed. */
bool spool_sweep_aside(int spool_fd, int dir_fd, const char *name);

/* Sweeps the spool; the caller holds its lock. counts: the mark that says whose files may be
 * events. Ends at until_ns (CLOCK_MONOTONIC_COARSE) at the latest; the scans remove the rest. */
void spool_sweep(int dir_fd, const struct spool_mark *counts, uint64_t until_ns,
                 struct spool_swept *out);

#endif
