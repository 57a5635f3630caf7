/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whether a name in the file system is this daemon's own. What it keeps beside its socket and in
 * its state decides what it believes at the next start (the lease to wait for, whether the state is
 * the last run's), so somebody who can put a file there could have stale answers given. All
 * functions return NULL, or what is wrong and what to do (static text).
 */
#ifndef ETAGD_OWNED_H
#define ETAGD_OWNED_H

#include "cleanup.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

/* A file that a daemon of this user made: regular, one name, ours, not to be written by others. */
MUST_USE const char *owned_file_fault(const struct stat *status);

/* Opens such a file, whose mode is 0600 where it is made. A descriptor, -EPERM: it is none of ours,
 * or another negative errno. */
MUST_USE int owned_file_open(const char *path, int flags);

/* A directory in which names stay ours: of this user or root, reached by no link of anybody else's,
 * and either not to be written by others or sticky, as /tmp is: *shared says that. There others can
 * take names that are free, and no more. */
MUST_USE const char *owned_dir_fault(const char *path, bool *shared);

/* Whether the descriptor is on a file system that is known, and of none of these types of
 * statfs(2). */
MUST_USE bool owned_fs_is_none_of(int fd, const uint32_t *types, size_t count);

/* A path that may be a link, but then one of this user's or of root's. The path may be missing. */
MUST_USE const char *owned_link_fault(const char *path);

#endif
