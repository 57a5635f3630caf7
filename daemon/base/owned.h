/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whether a name in the file system is this daemon's own. Files beside its socket and in its state
 * directory decide what the daemon believes at the next start (which lease to wait for, whether the
 * state is the last run's). Another user who could put a file there could make it give stale
 * answers. Functions that return text return NULL, or what is wrong and what to do (static text).
 */
#ifndef ETAGD_OWNED_H
#define ETAGD_OWNED_H

#include "cleanup.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

/* Checks that a daemon of this user made the file: regular, one link, owned by this user, not
 * writable by others. */
MUST_USE const char *owned_file_fault(const struct stat *status);

/* Opens such a file; creates it with mode 0600 if flags say so. Returns a descriptor, -EPERM if the
 * file is not ours, or another negative errno. */
MUST_USE int owned_file_open(const char *path, int flags);

/* Checks that names in this directory stay ours: it belongs to this user or root, no other user's
 * link leads to it, and it is either not writable by others or sticky, as /tmp is. *shared: it is
 * sticky; others can take free names there, and no more. */
MUST_USE const char *owned_dir_fault(const char *path, bool *shared);

/* Returns whether the file system of the descriptor is known and has none of these statfs(2)
 * types. */
MUST_USE bool owned_fs_is_none_of(int fd, const uint32_t *types, size_t count);

/* Checks that a path is not another user's link: a link must belong to this user or root. The path
 * may be missing. */
MUST_USE const char *owned_link_fault(const char *path);

#endif
