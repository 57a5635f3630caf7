/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The sweep lists the names again until a listing frees none. It removes a tree from its leaves up,
 * at most DEPTH_MAX levels at a time, and moves deeper parts up into the spool for the next
 * listing, so that no depth uses up the descriptors. It follows no link: it opens each directory
 * below one that is open, and never on another file system.
 *
 * A daemon that is not root can neither read nor empty other users' directories. It renames those
 * that have the name of an event.
 */
#include "spool_sweep.h"

#include "clocktime.h"
#include "numbers.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#define DEPTH_MAX 16u

struct sweep {
    int dir_fd;
    dev_t device;
    const struct spool_mark *counts;
    uint64_t until_ns;
    struct spool_swept *swept;
};

static bool is_dots(const char *name)
{
    return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

bool spool_sweep_aside(int spool_fd, int dir_fd, const char *name)
{
    char aside[32];
    uint64_t random;

    if (getrandom(&random, sizeof(random), 0) != sizeof(random))
        return false;
    (void)snprintf(aside, sizeof(aside), "x-%016llx", (unsigned long long)random);
    return renameat(dir_fd, name, spool_fd, aside) == 0;
}

static DIR *directory_open(const struct sweep *sweep, int dir_fd, const char *name)
{
    struct stat st;
    CLEANUP(cleanup_fd)
    int fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

    if (fd < 0 || fstat(fd, &st) < 0 || st.st_dev != sweep->device)
        return NULL;
    DIR *stream = fdopendir(fd);
    if (stream)
        (void)take_fd(&fd);
    return stream;
}

/* True: the name is gone. */
static bool tree_remove(struct sweep *sweep, int dir_fd, const char *name,
                        unsigned depth) // NOLINT(misc-no-recursion): bounded
{
    if (unlinkat(dir_fd, name, 0) == 0 || errno == ENOENT ||
        unlinkat(dir_fd, name, AT_REMOVEDIR) == 0)
        return true;
    if (depth == DEPTH_MAX)
        return spool_sweep_aside(sweep->dir_fd, dir_fd, name);
    CLEANUP(cleanup_dir) DIR *stream = directory_open(sweep, dir_fd, name);
    const struct dirent *entry;
    while (stream && time_coarse_ns() < sweep->until_ns && (entry = readdir(stream)) != NULL)
        if (!is_dots(entry->d_name))
            sweep->swept->removed += tree_remove(sweep, dirfd(stream), entry->d_name, depth + 1);
    return unlinkat(dir_fd, name, AT_REMOVEDIR) == 0;
}

/* A writer's file, or the daemon's own. Whoever else left it, or whatever else it is: no one misses
 * it. */
static bool is_kept(const struct sweep *sweep, const char *name)
{
    uint32_t number;
    struct stat st;

    if (fstatat(sweep->dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return true;
    if (!S_ISREG(st.st_mode))
        return false;
    switch (spool_name_parse(name, &number)) {
    case SPOOL_NAME_OWN:
        return st.st_uid == geteuid();
    case SPOOL_NAME_FOREIGN:
        return spool_name_is_set_aside(name) && spool_mark_counts(sweep->counts, st.st_uid);
    default:
        return spool_mark_counts(sweep->counts, st.st_uid);
    }
}

/* The daemon's own names, which nothing else may block: first of all. */
static void own_names_sweep(struct sweep *sweep)
{
    static const char *const names[] = {SPOOL_FORMER_NAME, SPOOL_RESERVE_PREFIX "0",
                                        SPOOL_RESERVE_PREFIX "1"};

    for (size_t i = 0; i < COUNT_OF(names); i++)
        if (!is_kept(sweep, names[i]) && !tree_remove(sweep, sweep->dir_fd, names[i], 0))
            (void)spool_sweep_aside(sweep->dir_fd, sweep->dir_fd, names[i]);
}

/* Returns how many names it freed. */
static uint64_t listing_sweep(struct sweep *sweep)
{
    CLEANUP(cleanup_dir) DIR *stream = directory_open(sweep, sweep->dir_fd, ".");
    const struct dirent *entry;
    uint64_t freed = 0;

    sweep->swept->left = 0;
    while (stream && time_coarse_ns() < sweep->until_ns && (entry = readdir(stream)) != NULL) {
        const char *name = entry->d_name;
        if (is_dots(name) || is_kept(sweep, name))
            continue;
        if (tree_remove(sweep, sweep->dir_fd, name, 0)) {
            freed++;
            continue;
        }
        sweep->swept->left++;
        uint32_t number;
        if (spool_name_parse(name, &number) != SPOOL_NAME_FOREIGN)
            (void)spool_sweep_aside(sweep->dir_fd, sweep->dir_fd, name);
    }
    sweep->swept->removed += freed;
    return freed;
}

bool spool_sweep_tree(int dir_fd, const char *name, uint64_t until_ns)
{
    struct stat st;
    struct spool_swept swept = {0};
    struct sweep sweep = {.dir_fd = dir_fd, .until_ns = until_ns, .swept = &swept};

    if (fstat(dir_fd, &st) < 0)
        return false;
    sweep.device = st.st_dev;
    return tree_remove(&sweep, dir_fd, name, 0);
}

void spool_sweep(int dir_fd, const struct spool_mark *counts, uint64_t until_ns,
                 struct spool_swept *out)
{
    struct stat st;
    struct sweep sweep = {.dir_fd = dir_fd, .counts = counts, .until_ns = until_ns, .swept = out};

    *out = (struct spool_swept){0};
    if (fstat(dir_fd, &st) < 0)
        return;
    sweep.device = st.st_dev;
    own_names_sweep(&sweep);
    while (listing_sweep(&sweep) > 0 && time_coarse_ns() < until_ns)
        ;
}
