/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The reserve file and the former mark exchange their names, so the former mark's file is the next
 * reserve: to remove it and make another would leave a moment in which a local user could take the
 * inode. A reserve is later written in place, which must not happen while a writer still reads it
 * as the mark that it was. A file lease shows that: the kernel grants one only if no other process
 * has the file open. The reserve has mode 0600, so no other user can open it afterwards.
 */
#include "spool_reserve.h"

#include "owned.h"
#include "spool_format.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#define OPEN_FLAGS (O_WRONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC)

static void reserve_name(unsigned number, char out[SPOOL_NAME_BYTES])
{
    (void)snprintf(out, SPOOL_NAME_BYTES, SPOOL_RESERVE_PREFIX "%u", number);
}

void spool_reserve_keep(int dir_fd)
{
    char name[SPOOL_NAME_BYTES];

    for (unsigned i = 0; i < SPOOL_RESERVES; i++) {
        reserve_name(i, name);
        CLEANUP(cleanup_fd) int fd = openat(dir_fd, name, OPEN_FLAGS | O_CREAT | O_EXCL, 0600);
        if (fd < 0)
            continue; /* it is there, or there is no room */
        if (fallocate(fd, 0, 0, SPOOL_MARK_BYTES_MAX) < 0 && errno != EOPNOTSUPP)
            (void)unlinkat(dir_fd, name, 0);
    }
}

static bool nobody_has_it_open(int fd)
{
    if (fcntl(fd, F_SETLEASE, F_WRLCK) < 0)
        return errno != EAGAIN; /* no leases here: the file system's own atomicity has to do */
    (void)fcntl(fd, F_SETLEASE, F_UNLCK);
    return true;
}

/* An open file of the reserve; negative: it cannot be used. */
static int reserve_open(int dir_fd, const char *name, int more_flags)
{
    struct stat st;
    CLEANUP(cleanup_fd) int fd = openat(dir_fd, name, OPEN_FLAGS | more_flags, 0600);

    if (fd < 0 || fstat(fd, &st) < 0)
        return -errno;
    if (owned_file_fault(&st) != NULL || fchmod(fd, 0600) < 0 || !nobody_has_it_open(fd))
        return -EBUSY;
    return take_fd(&fd);
}

int spool_reserve_text_put(int fd, const char *text, size_t len, bool sync)
{
    for (size_t at = 0; at < len;) {
        const ssize_t n = pwrite(fd, text + at, len - at, (off_t)at);
        if (n < 0 && errno != EINTR)
            return -errno;
        at += n > 0 ? (size_t)n : 0;
    }
    if (ftruncate(fd, (off_t)len) < 0 || fchmod(fd, 0644) < 0 || (sync && fsync(fd) < 0))
        return -errno;
    return 0;
}

/* The former file of that name becomes the reserve, where there is one. */
static int change_places(int dir_fd, const char *reserve, const char *name)
{
    if (renameat2(dir_fd, reserve, dir_fd, name, RENAME_EXCHANGE) == 0)
        return 0;
    return renameat(dir_fd, reserve, dir_fd, name) < 0 ? -errno : 0;
}

int spool_reserve_use(int dir_fd, const char *name, const char *text, size_t len, bool sync)
{
    char reserve[SPOOL_NAME_BYTES];
    int r = -ENOSPC;

    for (unsigned i = 0; i < 2 * SPOOL_RESERVES; i++) {
        reserve_name(i % SPOOL_RESERVES, reserve);
        /* All of them are open somewhere: a new one is made, though somebody may be quicker and
         * take its room. */
        const bool renew = i >= SPOOL_RESERVES;
        if (renew)
            (void)unlinkat(dir_fd, reserve, 0);
        CLEANUP(cleanup_fd) int fd = reserve_open(dir_fd, reserve, renew ? O_CREAT | O_EXCL : 0);
        if (fd < 0)
            continue;
        r = spool_reserve_text_put(fd, text, len, sync);
        if (r == 0)
            r = change_places(dir_fd, reserve, name);
        if (r == 0)
            return 0;
    }
    return r;
}
