/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A lock file: whoever holds its lock owns what it stands for (a socket, a state, a spool). The
 * file stays when its owner ends, so that two daemons can't hold locks on two files of one name;
 * and since a lock is one of a file, not of a name, its holder asks again, from time to time,
 * whether the name still means that file.
 *
 * The lock is one of an open file (OFD): unlike a lock of a process it is not lost when some
 * library closes another descriptor of the file, and it excludes the same process too.
 */
#ifndef ETAGD_LOCK_FILE_H
#define ETAGD_LOCK_FILE_H

#include "cleanup.h"

#include <stdbool.h>

/* Makes the file if it is missing. *fd: open, and locked where 0 is returned; the caller's to
 * close, -1 if it could not be opened. 0; -EAGAIN: somebody else holds the lock; -EPERM: it is not
 * a file that a daemon of this user made (lock_file_fault says what is wrong); or another negative
 * errno. */
MUST_USE int lock_file_take(int dir_fd, const char *name, int *fd);

/* What is wrong with a file that could not be taken, as owned_file_fault(). */
MUST_USE const char *lock_file_fault(int dir_fd, const char *name);

/* The file at the path is the one that is open. */
MUST_USE bool lock_file_is_at(const char *path, int fd);

#endif
