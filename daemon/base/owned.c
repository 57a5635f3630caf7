/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where there is a descriptor, the checks use the open file, never its name. A directory or link is
 * checked by its name before it is used. This is no race: only a user that the check refuses could
 * change it in between (in a sticky directory other users cannot rename or remove a link that is
 * ours or root's), except where others can write a directory further up.
 */
#include "owned.h"

#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/statfs.h>
#include <unistd.h>

static bool is_trusted(uid_t uid)
{
    return uid == 0 || uid == geteuid();
}

const char *owned_file_fault(const struct stat *status)
{
    if (!S_ISREG(status->st_mode))
        return "is no regular file, so this daemon did not make it; remove it";
    if (status->st_uid != geteuid())
        return "belongs to another user; remove it if that user runs no daemon here";
    if (status->st_nlink != 1)
        return "has a second name (a hard link); remove it";
    if (status->st_mode & (S_IWGRP | S_IWOTH))
        return "can be written by others; remove it, since they may have";
    return NULL;
}

int owned_file_open(const char *path, int flags)
{
    struct stat status;
    CLEANUP(cleanup_fd) int fd = open(path, flags | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);

    if (fd < 0)
        return errno == ELOOP || errno == ENXIO || errno == EISDIR ? -EPERM : -errno;
    if (fstat(fd, &status) < 0)
        return -errno;
    return owned_file_fault(&status) ? -EPERM : take_fd(&fd);
}

bool owned_fs_is_none_of(int fd, const uint32_t *types, size_t count)
{
    struct statfs fs;

    if (fstatfs(fd, &fs) < 0)
        return false;
    for (size_t i = 0; i < count; i++)
        if ((uint32_t)fs.f_type == types[i])
            return false;
    return true;
}

const char *owned_link_fault(const char *path)
{
    char name[PATH_BYTES_MAX];
    struct stat status;
    size_t len = strlen(path);

    /* "dir/" is what the link leads to. */
    while (len > 1 && path[len - 1] == '/')
        len--;
    if (len >= sizeof(name))
        return "is too long a path";
    memcpy(name, path, len);
    name[len] = '\0';
    if (lstat(name, &status) < 0)
        return errno == ENOENT ? NULL : "cannot be looked at";
    if (S_ISLNK(status.st_mode) && !is_trusted(status.st_uid))
        return "is a link that belongs to another user; name a directory that no other user can "
               "replace";
    return NULL;
}

const char *owned_dir_fault(const char *path, bool *shared)
{
    struct stat status;
    const char *fault = owned_link_fault(path);

    *shared = false;
    if (fault)
        return fault;
    if (stat(path, &status) < 0 || !S_ISDIR(status.st_mode))
        return "is no directory that this daemon can look at";
    if (!is_trusted(status.st_uid))
        return "belongs to another user, who can replace what is in it; use a directory of the "
               "daemon's user or of root";
    if (!(status.st_mode & (S_IWGRP | S_IWOTH)))
        return NULL;
    if (!(status.st_mode & S_ISVTX))
        return "can be written by others, who can replace what is in it; chmod go-w it, or use "
               "a directory below it that is the daemon's";
    *shared = true;
    return NULL;
}
