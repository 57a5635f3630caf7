/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The spool's directory without its events: its path, the lock that makes it ours, and the mark,
 * which says to writers how long to wait and whose files count. Loop thread only.
 *
 * The directory is beside the socket. With durability "power" there is a link instead, to a
 * directory in the state directory, which survives a crash of the machine; the state directory then
 * gets mode 0711, because writers have to pass through it.
 */
#ifndef ETAGD_SPOOL_DIR_H
#define ETAGD_SPOOL_DIR_H

#include "config.h"
#include "log_limit.h"
#include "message.h"
#include "spool_format.h"

#include <dirent.h>

struct spool_dir {
    /* path of the spool, beside the socket */
    char path[PATH_BYTES_MAX];
    int fd;
    int lock_fd;
    /* kept open, so that a daemon that has run out of descriptors can still read an event */
    int spare_fd;
    struct log_limit *log;
    struct spool_mark mark;
    /* the mark that was here before; id 0: none. A mark of another version has no writers here */
    struct spool_mark former;
    /* for how many more scans files of the former mark's writers count too */
    int former_scans;
    /* the file "former" says the same to the next daemon */
    bool former_kept;
};

/* Reads the mark that a former daemon left beside this socket, or with durability power in the
 * state directory (after a restart of the machine). Returns false if there is none, and zeroes
 * *out. The struct is large. */
MUST_USE bool spool_dir_former(const struct config *config, struct spool_mark *out);

/* Before the socket is made: removes from a former daemon's spool everything that cannot be an
 * event, to free names, inodes and space. Does nothing if another daemon runs or there is no mark.
 * Logs what it did. */
void spool_dir_sweep(const struct config *config, struct log_limit *log);

/* Makes the directory, takes its lock, reads the former mark, writes ours. lease_ns: the longest
 * lease that may still run or that this daemon will give. The new mark has the longer of it and the
 * former mark's. Returns 0, or -1 with the reason and what to do in why; call spool_dir_close()
 * after both. */
MUST_USE int spool_dir_open(struct spool_dir *dir, const struct config *config, uint64_t lease_ns,
                            struct log_limit *log, struct why *why);
void spool_dir_close(struct spool_dir *dir);

/* Returns whether the lock file at the path is still the one that we hold. */
MUST_USE bool spool_dir_still_owned(const struct spool_dir *dir);

/* Rule MARK_KEPT_IN_WAIT: writes our own lease length into the mark, once the start's wait is over
 * and no other lease can run. Before the first renewal. Returns 0 or a negative errno. */
MUST_USE int spool_dir_settle(struct spool_dir *dir, uint64_t lease_ns);

/* Adds a uid that connected with the role to mutate to the mark, so that its files count from now
 * on. Best effort; a failure is logged. */
void spool_dir_learn(struct spool_dir *dir, uint32_t uid);

/* The rules of roles changed: writes a new mark that names the writers of the new rules and
 * uids[count]. Files of writers that only the old mark named still count for the next scans, which
 * see the files from before the change. Returns 0, or a negative errno: the mark could not be
 * written and is as before. */
MUST_USE int spool_dir_set_writers(struct spool_dir *dir, const struct config *config,
                                   const uint32_t *uids, size_t count);

bool spool_dir_counts(const struct spool_dir *dir, uint32_t uid);
/* Returns whether files of writers that the mark does not name may still count, or may have been
 * applied. */
bool spool_dir_has_former(const struct spool_dir *dir);
/* A scan has read the whole spool. owed: the event of a file of such a writer is not safe yet, so
 * the next daemon has to count it too. */
void spool_dir_scanned(struct spool_dir *dir, bool owed);

/* openat(2) in the directory; uses the spare descriptor if no other is free, so the caller closes
 * the file before it opens the next. Returns a descriptor or a negative errno. */
MUST_USE int spool_dir_open_file(struct spool_dir *dir, const char *name, int flags);
/* Opens the directory itself in the same way, to list it. Returns 0 or a negative errno. */
MUST_USE int spool_dir_open_stream(struct spool_dir *dir, DIR **out);
/* Call after the last of these files: takes the spare descriptor again, so that the next scan has
 * it, whatever uses up descriptors in between. */
void spool_dir_spare_restore(struct spool_dir *dir);

#endif
