/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The spool's directory without its events: where it stands, the lock that makes it ours, the mark
 * that tells writers how long to wait and whose files count.
 *
 * It stands beside the socket. With durability "power" what stands there is a link to a directory
 * in the state directory, which outlives the machine's crash; a state directory that writers have
 * to pass through is made 0711.
 */
#ifndef ETAGD_SPOOL_DIR_H
#define ETAGD_SPOOL_DIR_H

#include "config.h"
#include "log_limit.h"
#include "message.h"
#include "spool_format.h"

#include <dirent.h>

struct spool_dir {
    /* beside the socket */
    char path[PATH_BYTES_MAX];
    int fd;
    int lock_fd;
    /* so that a daemon without descriptors can still read an event */
    int spare_fd;
    struct log_limit *log;
    struct spool_mark mark;
    /* the mark that stood here before; id 0: none. Of another version it names no writers */
    struct spool_mark former;
    /* so many scans to come in which files of the former mark's writers count too */
    int former_scans;
    /* and the file "former" says so to the next daemon */
    bool former_kept;
};

/* The mark that a former daemon left beside this socket, or with durability power in the state
 * directory (the machine was started anew). False: there is none; *out is zeroed then. The struct
 * is large. */
MUST_USE bool spool_dir_former(const struct config *config, struct spool_mark *out);

/* Before the socket is made: frees names, inodes and space of a spool that a former daemon left
 * here, of what can be no event. Where another daemon runs, or nobody's mark is, it does nothing.
 * What it did is logged. */
void spool_dir_sweep(const struct config *config, struct log_limit *log);

/* Makes the directory, takes its lock, reads the former mark, writes ours. lease_ns: the longest
 * lease that may still run, apart from what the former mark says, or that will: the mark says the
 * longest from now on. 0, or -1 with the reason and what to do in why; spool_dir_close() is right
 * after both. */
MUST_USE int spool_dir_open(struct spool_dir *dir, const struct config *config, uint64_t lease_ns,
                            struct log_limit *log, struct why *why);
void spool_dir_close(struct spool_dir *dir);

/* The lock at the path is still the one that we hold. */
MUST_USE bool spool_dir_still_owned(const struct spool_dir *dir);

/* Rule MARK_KEPT_IN_WAIT: the start's wait is over, no lease but ours can run. Before the first
 * renewal. 0 or negative errno. */
MUST_USE int spool_dir_settle(struct spool_dir *dir, uint64_t lease_ns);

/* This uid was seen with the role to mutate: its files count from now on, and the mark says so.
 * Best effort, logged. */
void spool_dir_learn(struct spool_dir *dir, uint32_t uid);

/* The rules of roles were changed. Whom the mark named until now counts in the scans that see what
 * stood there before; besides those whom the rules name, uids[count] stay noted. 0, or a negative
 * errno: the mark could not be written, and all is as before. */
MUST_USE int spool_dir_judge(struct spool_dir *dir, const struct config *config,
                             const uint32_t *uids, size_t count);

bool spool_dir_counts(const struct spool_dir *dir, uint32_t uid);
/* Files of writers that the mark does not name may still count, or may have been applied. */
bool spool_dir_has_former(const struct spool_dir *dir);
/* A scan has seen everything. owed: the event of such a file is not safe yet, so the next daemon
 * has to count it too. */
void spool_dir_scanned(struct spool_dir *dir, bool owed);

/* openat(2) in it, with the spare descriptor if need be; the file has to be closed before the next
 * one. Negative errno. */
MUST_USE int spool_dir_open_file(struct spool_dir *dir, const char *name, int flags);
/* The same for the directory itself, to list it. 0 or negative errno. */
MUST_USE int spool_dir_open_stream(struct spool_dir *dir, DIR **out);
/* After the last of them: the spare one is to be there for the next scan, whoever takes descriptors
 * meanwhile. */
void spool_dir_spare_restore(struct spool_dir *dir);

#endif
