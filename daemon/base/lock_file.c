/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The file is opened without following a link or waiting for a FIFO, since another user may have
 * put either at the name. It is checked after it is open, so that the check and the lock are of the
 * same file.
 */
#include "lock_file.h"

#include "owned.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

/* Without O_NONBLOCK a FIFO would hold the daemon here for ever. */
#define OPEN_FLAGS (O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK)

const char *lock_file_fault(int dir_fd, const char *name)
{
    struct stat status;

    return fstatat(dir_fd, name, &status, AT_SYMLINK_NOFOLLOW) == 0 ? owned_file_fault(&status)
                                                                    : NULL;
}

/* The kernel may have said it already: fs.protected_regular, somebody else's mode, a link. */
static int open_error(int dir_fd, const char *name, int error)
{
    return error != ENOENT && lock_file_fault(dir_fd, name) ? -EPERM : -error;
}

int lock_file_take(int dir_fd, const char *name, int *fd)
{
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    struct stat status;

    *fd = openat(dir_fd, name, OPEN_FLAGS, 0600);
    if (*fd < 0)
        return open_error(dir_fd, name, errno);
    if (fstat(*fd, &status) < 0)
        return -errno;
    if (owned_file_fault(&status))
        return -EPERM;
    if (fcntl(*fd, F_OFD_SETLK, &whole) == 0)
        return 0;
    return errno == EACCES ? -EAGAIN : -errno;
}

bool lock_file_is_at(const char *path, int fd)
{
    struct stat held, there;

    return fstat(fd, &held) == 0 && stat(path, &there) == 0 && held.st_ino == there.st_ino &&
           held.st_dev == there.st_dev;
}
