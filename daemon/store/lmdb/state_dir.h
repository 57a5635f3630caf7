/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The state directory without its database: the check of its owner, the lock that keeps a second
 * daemon out, the warm mark. Part of the store (store.h), whose errors it returns.
 */
#ifndef ETAGD_STATE_DIR_H
#define ETAGD_STATE_DIR_H

#include "store.h"

#include <sys/stat.h>

#define STATE_LOCK_NAME "lock"

struct state_dir {
    /* descriptor of the directory */
    int fd;
    /* OFD lock: ends with the last descriptor of this open file */
    int lock_fd;
    /* fsync the directory after each change (durability power) */
    bool sync;
    char path[PATH_BYTES_MAX];
};

/* Makes the directory if it is missing, checks that it is ours alone, takes the lock. Returns 0, a
 * negative errno, STORE_E_OWNER or STORE_E_IN_USE; each error sets *why. */
MUST_USE int state_dir_open(struct state_dir *dir, const struct store_options *options,
                            struct why *why);
void state_dir_deinit(struct state_dir *dir);

/* "state-dir/name". out: PATH_BYTES_MAX bytes; state_dir_open refuses paths that leave no room for
 * the names used. */
void state_dir_path(const struct state_dir *dir, const char *name, char out[PATH_BYTES_MAX]);

/* Returns whether the file at state-dir/name is still the one that fd is open on. */
MUST_USE bool state_dir_is_same(const struct state_dir *dir, const char *name, int fd);

/* Gets what distinguishes the file at state-dir/name from a copy of it. */
MUST_USE int state_dir_identify(const struct state_dir *dir, const char *name,
                                struct store_identity *out);

/* Makes what was created, renamed or removed in the directory durable. */
MUST_USE int state_dir_sync(const struct state_dir *dir);

MUST_USE int state_dir_warm_set(const struct state_dir *dir);
MUST_USE int state_dir_warm_clear(const struct state_dir *dir);
MUST_USE bool state_dir_warm(const struct state_dir *dir);
/* Turns the warm mark into one that says that the data file must not be used any more. Call
 * state_dir_lost_clear() after the file was moved away. */
MUST_USE int state_dir_lost_set(const struct state_dir *dir);
MUST_USE int state_dir_lost_clear(const struct state_dir *dir);
MUST_USE bool state_dir_lost(const struct state_dir *dir);

#endif
