/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The daemon's side of the spool (the names and the mark: spool_format.h). Whoever renews the lease
 * has
 * just read it (spool_scan), so a writer that left its event there and waited one lease needs
 * nobody's answer.
 *
 * A file counts if its owner may mutate, or could when it was applied: a file whose event is not
 * yet safe is the only copy that a next daemon would find, and is never replaced, ignored or
 * removed. (Its owner can: rewritten in place, removed or replaced by its owner, against the
 * protocol, an event is its owner's loss.) Of anybody else it is removed unread, whatever it is:
 * nothing that a local user puts there is waited for, followed, or read beyond its bound, and the
 * time of a scan has a bound of its own. Loop thread only.
 */
#ifndef ETAGD_SPOOL_H
#define ETAGD_SPOOL_H

#include "spool_dir.h"

#define SPOOL_FILES (SPOOL_SLOTS + 2 * SPOOL_ALL_SLOTS) /* e-names, taken-names, all-names */

/* Which of the files that were ever applied: what waits for its event to be safe names the file by
 * it. A name may have had another file, and the same inode another event, since. */
struct spool_slot {
    /* its name: below SPOOL_FILES; or SPOOL_ALL_GARBAGE */
    uint32_t file;
    /* of its application; never 0 */
    uint64_t generation;
};

/* All garbage that one scan found: one "purge everything" stands for it. Its files have one
 * generation. */
#define SPOOL_ALL_GARBAGE SPOOL_FILES

/* Tells a file from another one of the same name. born_ns: its birth; where the file system does
 * not say, its last change, which a rename or a link moves: such a file is applied once more. */
struct spool_identity {
    uint64_t inode, born_ns;
};

/* A file whose event was applied and that is still there. generation 0: none. */
struct spool_file {
    struct spool_identity identity;
    uint64_t generation;
    /* its event's, where it could not be stored; 0: none */
    uint64_t failed_lsn;
    /* its owner */
    uint32_t uid;
    /* its event is persisted: it may go, now or at one of the next scans */
    bool safe;
    /* set aside instead of removed */
    bool garbage;
};

struct spool {
    struct spool_dir dir;
    /* borrowed: all that is said of files a peer can cause */
    struct log_limit *log;
    /* borrowed: of the event being read */
    struct arena *arena;
    struct spool_file files[SPOOL_FILES];
    /* given, ever */
    uint64_t generations;
    /* files, ever */
    uint64_t applied, garbage, ignored;
    /* some file's failed_lsn may be set */
    bool some_failed;
    /* of files whose event is safe, until the next scan: the renewal waits for each */
    uint32_t removals_left;
};

/* Opens the directory (spool_dir_open). The struct is large. */
MUST_USE int spool_open(struct spool *spool, const struct config *config, uint64_t lease_ns,
                        struct log_limit *log, struct arena *arena, struct why *why);
void spool_close(struct spool *spool);

/* What a scan does with an event. 0; SPOOL_E_GARBAGE: nobody could want that; negative errno: not
 * applied, the scan fails. May call spool_file_done() at once. */
#define SPOOL_E_GARBAGE 1
struct spool_reader {
    int (*apply)(void *ctx, const struct request *request, uint32_t uid, struct spool_slot slot);
    void *ctx;
};

/* Rule SCAN_AT_RENEWAL: every event that stood in the spool when this began has been applied when
 * it returns 0. Begins of guards before their
 * ends, whatever the order of names; garbage last, all of it as one event (uid: one of its
 * owners'). Negative errno: not every one, so the lease must not be renewed. */
MUST_USE int spool_scan(struct spool *spool, const struct spool_reader *reader);

/* The event of a file is persisted, so the file goes: this one, and no other that has its name by
 * now. (Of all garbage of a scan: these files.) */
void spool_file_done(struct spool *spool, struct spool_slot slot);
/* It could not be persisted: the file stays for the next daemon, or until spool_stored() says
 * otherwise. */
void spool_file_failed(struct spool *spool, struct spool_slot slot, uint64_t lsn);
/* The store has every event up to this LSN, those too that failed before. Cheap where none has. */
void spool_stored(struct spool *spool, uint64_t lsn);

/* Files applied and not yet persisted. */
size_t spool_waiting(const struct spool *spool);

#endif
