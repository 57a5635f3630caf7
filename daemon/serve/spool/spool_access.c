/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Group and mode are taken from the socket itself, because a service manager may have made it with
 * others than the configuration's. Files get the directory's group by its set-group-ID bit and have
 * mode 0640, so the daemon reads them as a member of that group; only a member may give a directory
 * to it.
 */
#include "spool_access.h"

#include "spool_format.h"

#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

#define GROUPS_MAX 1024

static bool is_member(gid_t gid)
{
    gid_t groups[GROUPS_MAX];

    if (geteuid() == 0 || gid == getegid())
        return true;
    const int count = getgroups(GROUPS_MAX, groups);
    for (int i = 0; i < count; i++)
        if (groups[i] == gid)
            return true;
    return false;
}

static bool group_give(int dir_fd, const struct stat *now, gid_t gid)
{
    return now->st_gid == gid || fchown(dir_fd, (uid_t)-1, gid) == 0;
}

int spool_access_set(int dir_fd, const struct config *config, const struct log *log)
{
    struct stat there = {.st_mode = config->socket_mode, .st_gid = getegid()}, dir;

    if (stat(config->socket_path, &there) < 0 && errno != ENOENT)
        return -errno;
    if (fstat(dir_fd, &dir) < 0)
        return -errno;
    uint32_t mode = spool_dir_mode(there.st_mode);
    const bool has_group = is_member(there.st_gid) && group_give(dir_fd, &dir, there.st_gid);
    if (!has_group && !group_give(dir_fd, &dir, getegid()))
        return -errno;
    if (!has_group && mode != SPOOL_DIR_MODE && (there.st_mode & S_IWGRP)) {
        mode = SPOOL_DIR_MODE;
        log_event(log, LOG_WARN, "spool_open_to_all", log_number("gid", there.st_gid),
                  log_text("reason", "the daemon's user is no member of the socket's group"),
                  log_text("advice", "make it one, or give the socket the daemon's group"));
    }
    return fchmod(dir_fd, mode) < 0 ? -errno : 0;
}
