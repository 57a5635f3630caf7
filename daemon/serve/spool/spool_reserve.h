/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two files of the daemon that reserve inodes and space for a mark, so that the daemon can write a
 * mark when other users have used up the file system. Without a new mark no daemon starts, and
 * writers wait as long as the former mark says.
 */
#ifndef ETAGD_SPOOL_RESERVE_H
#define ETAGD_SPOOL_RESERVE_H

#include "cleanup.h"

#include <stdbool.h>

/* Writes the whole content of a mark's file and makes it readable for all. sync: waits until the
 * disk has it. Returns 0 or a negative errno. */
MUST_USE int spool_reserve_text_put(int fd, const char *text, size_t len, bool sync);

/* Makes the reserve files that are missing, as far as there is room. */
void spool_reserve_keep(int dir_fd);

/* Writes the text into a file of the reserve and renames that to the name, atomically. sync: syncs
 * the file before the rename. Returns 0 or a negative errno; -ENOSPC: no reserve is left. */
MUST_USE int spool_reserve_use(int dir_fd, const char *name, const char *text, size_t len,
                               bool sync);

#endif
