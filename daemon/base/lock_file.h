/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A lock file: the daemon that holds its lock owns the thing beside it (a socket, a state
 * directory, a spool). The file is not removed when its owner ends, so that two daemons can't hold
 * locks on two files of one name. A lock belongs to a file, not to a name, so its holder checks
 * again, at each renewal of the lease, that the name still leads to that file.
 *
 * It is an open file description lock (OFD): unlike a lock of a process it is not lost when some
 * library closes another descriptor of the file, and it excludes a second holder in the same
 * process too.
 */
#ifndef ETAGD_LOCK_FILE_H
#define ETAGD_LOCK_FILE_H

#include "cleanup.h"

#include <stdbool.h>

/* Opens the file, makes it if it is missing, and locks it without waiting. Returns 0; -EAGAIN:
 * another holds the lock; -EPERM: no daemon of this user made the file (lock_file_fault() says what
 * is wrong); or another negative errno. *fd: the open file, also on an error after it was opened,
 * else -1; the caller closes it. */
MUST_USE int lock_file_take(int dir_fd, const char *name, int *fd);

/* Says what is wrong with a file that could not be locked, as owned_file_fault() does. */
MUST_USE const char *lock_file_fault(int dir_fd, const char *name);

/* Returns whether the path still leads to the open file. */
MUST_USE bool lock_file_is_at(const char *path, int fd);

#endif
