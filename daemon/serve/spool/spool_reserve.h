/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two files of the daemon's that hold an inode and the space of a mark, so that a mark can be
 * written where others have used up either: without one no daemon starts, and writers wait as the
 * former one says.
 */
#ifndef ETAGD_SPOOL_RESERVE_H
#define ETAGD_SPOOL_RESERVE_H

#include "cleanup.h"

#include <stdbool.h>

/* The whole content of a mark's file, which everybody may read; sync: written to the disk. 0 or a
 * negative errno. */
MUST_USE int spool_reserve_text_put(int fd, const char *text, size_t len, bool sync);

/* Makes those that are missing, as far as there is room. */
void spool_reserve_keep(int dir_fd);

/* Puts the text under this name, atomically, with a file of the reserve. sync: the file, before it
 * gets the name. 0, or a negative errno: -ENOSPC where none is left. */
MUST_USE int spool_reserve_use(int dir_fd, const char *name, const char *text, size_t len,
                               bool sync);

#endif
