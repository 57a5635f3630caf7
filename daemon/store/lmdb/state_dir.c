/* SPDX-License-Identifier: Apache-2.0 */
/* The check of the directory's owner, its lock (lock_file.h), the warm mark, and what distinguishes
 * its data file from a copy. */
#include "state_dir.h"

#include "clocktime.h"
#include "lock_file.h"
#include "numbers.h"
#include "owned.h"

#include <errno.h>
#include <fcntl.h>

#define WARM_NAME "warm"
#define LOST_NAME "lost"
#define NAME_ROOM 64 /* for the longest name in the directory */

static int fail(struct why *why, int error, const char *path, const char *what)
{
    why_set(why, "%s: %s: %s", path, what, strerrordesc_np(error));
    return -error;
}

/* Anybody who can write here can give us a state of his own making. */
static int check_owner(const struct state_dir *dir, struct why *why)
{
    struct stat status;

    if (fstat(dir->fd, &status) < 0)
        return fail(why, errno, dir->path, "cannot be examined");
    if (status.st_uid != geteuid()) {
        why_set(why,
                "%s belongs to uid %u, and this daemon runs as uid %u: run it as the "
                "owner, chown the directory, or name another one with --state-dir",
                dir->path, (unsigned)status.st_uid, (unsigned)geteuid());
        return STORE_E_OWNER;
    }
    if (status.st_mode & (S_IWGRP | S_IWOTH)) {
        why_set(why,
                "%s can be written by others (mode %04o): chmod go-w it, or name "
                "another one with --state-dir",
                dir->path, (unsigned)(status.st_mode & 07777));
        return STORE_E_OWNER;
    }
    return 0;
}

static int take_lock(struct state_dir *dir, struct why *why)
{
    const int r = lock_file_take(dir->fd, STATE_LOCK_NAME, &dir->lock_fd);
    const char *fault = r == -EPERM ? lock_file_fault(dir->fd, STATE_LOCK_NAME) : NULL;

    if (fault) {
        why_set(why, "%s/" STATE_LOCK_NAME " %s", dir->path, fault);
        return STORE_E_OWNER;
    }
    if (r && r != -EAGAIN)
        return fail(why, -r, dir->path, "the file \"lock\" in it cannot be locked");
    if (!r && state_dir_is_same(dir, STATE_LOCK_NAME, dir->lock_fd))
        return 0;
    why_set(why,
            "%s is in use by another daemon: stop it, or give this one a state "
            "directory of its own with --state-dir",
            dir->path);
    return STORE_E_IN_USE;
}

int state_dir_open(struct state_dir *dir, const struct store_options *options, struct why *why)
{
    *dir = (struct state_dir){.fd = -1, .lock_fd = -1, .sync = options->sync};
    if (strlen(options->state_dir) + NAME_ROOM > sizeof(dir->path))
        return fail(why, ENAMETOOLONG, options->state_dir, "the path is too long");
    memcpy(dir->path, options->state_dir, strlen(options->state_dir) + 1);
    const char *fault = owned_link_fault(dir->path);
    if (fault) {
        why_set(why, "%s %s", dir->path, fault);
        return STORE_E_OWNER;
    }
    if (mkdir(dir->path, 0700) < 0 && errno != EEXIST)
        return fail(why, errno, dir->path, "cannot be made");
    dir->fd = open(dir->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir->fd < 0)
        return fail(why, errno, dir->path, "cannot be opened");
    const int r = check_owner(dir, why);
    return r ? r : take_lock(dir, why);
}

void state_dir_deinit(struct state_dir *dir)
{
    cleanup_fd(&dir->lock_fd);
    cleanup_fd(&dir->fd);
    dir->fd = dir->lock_fd = -1;
}

void state_dir_path(const struct state_dir *dir, const char *name, char out[PATH_BYTES_MAX])
{
    (void)snprintf(out, PATH_BYTES_MAX, "%.*s/%s", PATH_BYTES_MAX - NAME_ROOM, dir->path, name);
}

bool state_dir_is_same(const struct state_dir *dir, const char *name, int fd)
{
    char path[PATH_BYTES_MAX];

    state_dir_path(dir, name, path); /* not by dir->fd: the directory may have been replaced */
    return lock_file_is_at(path, fd);
}

/* Where another host may write, or a user's process answers, nothing can be proven. */
static bool is_local(int fd)
{
    static const uint32_t remote[] = {
        0x6969 /* NFS */,       0x517b /* SMB */,      0xff534d42 /* CIFS */,
        0xfe534d42 /* SMB2 */,  0x01021997 /* 9P */,   0x65735546 /* FUSE */,
        0x00c36400 /* Ceph */,  0x5346414f /* AFS */,  0x73757245 /* Coda */,
        0x7461636f /* OCFS2 */, 0x01161970 /* GFS2 */, 0x0bd00bd0 /* Lustre */,
    };

    return owned_fs_is_none_of(fd, remote, COUNT_OF(remote));
}

int state_dir_identify(const struct state_dir *dir, const char *name, struct store_identity *out)
{
    struct statx file;

    if (statx(dir->fd, name, AT_SYMLINK_NOFOLLOW, STATX_INO | STATX_BTIME, &file) < 0)
        return -errno;
    *out = (struct store_identity){.inode = file.stx_ino, .local = is_local(dir->fd)};
    if (file.stx_mask & STATX_BTIME)
        out->birth_ns = (uint64_t)file.stx_btime.tv_sec * NS_PER_S + file.stx_btime.tv_nsec;
    return 0;
}

int state_dir_sync(const struct state_dir *dir)
{
    return fsync(dir->fd) < 0 ? -errno : 0;
}

int state_dir_warm_set(const struct state_dir *dir)
{
    CLEANUP(cleanup_fd)
    int fd = openat(dir->fd, WARM_NAME, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);

    if (fd < 0 && errno != EEXIST)
        return -errno;
    return dir->sync ? state_dir_sync(dir) : 0;
}

static int name_clear(const struct state_dir *dir, const char *name)
{
    if (unlinkat(dir->fd, name, 0) < 0 && errno != ENOENT)
        return -errno;
    return dir->sync ? state_dir_sync(dir) : 0;
}

static bool name_is_there(const struct state_dir *dir, const char *name)
{
    struct stat status;

    return fstatat(dir->fd, name, &status, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(status.st_mode);
}

int state_dir_warm_clear(const struct state_dir *dir)
{
    return name_clear(dir, WARM_NAME);
}

bool state_dir_warm(const struct state_dir *dir)
{
    return name_is_there(dir, WARM_NAME);
}

/* Needs no space, as its removal needs none. */
int state_dir_lost_set(const struct state_dir *dir)
{
    return renameat(dir->fd, WARM_NAME, dir->fd, LOST_NAME) == 0 ? 0 : name_clear(dir, WARM_NAME);
}

int state_dir_lost_clear(const struct state_dir *dir)
{
    return name_clear(dir, LOST_NAME);
}

bool state_dir_lost(const struct state_dir *dir)
{
    return name_is_there(dir, LOST_NAME);
}
