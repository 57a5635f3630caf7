/* SPDX-License-Identifier: Apache-2.0 */
#include "lock_file.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

static int take(int dir_fd, const char *name, int flags, short type, int *fd)
{
    struct flock whole = {.l_type = type, .l_whence = SEEK_SET};

    *fd = openat(dir_fd, name, flags | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (*fd < 0)
        return -errno;
    if (fcntl(*fd, F_OFD_SETLK, &whole) == 0)
        return 0;
    return errno == EACCES ? -EAGAIN : -errno;
}

int lock_file_take(int dir_fd, const char *name, int *fd)
{
    return take(dir_fd, name, O_RDWR | O_CREAT, F_WRLCK, fd);
}

int lock_file_share(int dir_fd, const char *name, int *fd)
{
    return take(dir_fd, name, O_RDONLY, F_RDLCK, fd);
}

bool lock_file_is_at(const char *path, int fd)
{
    struct stat held, there;

    return fstat(fd, &held) == 0 && stat(path, &there) == 0 && held.st_ino == there.st_ino &&
           held.st_dev == there.st_dev;
}
