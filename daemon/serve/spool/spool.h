/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The daemon's side of the spool (the names and the mark: spool_format.h). Each renewal of the
 * lease reads it first (spool_scan), so a writer that left its event there and waited one lease
 * needs no answer.
 *
 * A file counts if its owner may mutate, or could when the file was applied. Until its event is
 * safe, the file is the only copy that a next daemon would find, so the daemon never replaces,
 * ignores or removes it. (Its owner can, against the protocol, and then loses the event.) A file of
 * any other user is removed unread: the daemon never waits for what a local user puts there,
 * follows no link, and reads no more than a bound; the time of a scan is bounded too. Loop thread
 * only.
 */
#ifndef ETAGD_SPOOL_H
#define ETAGD_SPOOL_H

#include "spool_dir.h"

#define SPOOL_FILES (SPOOL_SLOTS + 2 * SPOOL_ALL_SLOTS) /* e-names, taken-names, all-names */

/* Names one application of a file, until its event is safe. The file name alone does not, because
 * it may be another file's by then, and the same inode may have another event. */
struct spool_slot {
    /* number of the name: below SPOOL_FILES; or SPOOL_ALL_GARBAGE */
    uint32_t file;
    /* number of the application; never 0 */
    uint64_t generation;
};

/* All garbage that one scan found. One "purge everything" is applied for all of it, and its files
 * share a generation. */
#define SPOOL_ALL_GARBAGE SPOOL_FILES

/* Distinguishes a file from another one of the same name. born_ns: its birth time. A file system
 * without birth times gives the time of the last change instead, which a rename or a link moves;
 * such a file is applied once more, which is harmless. */
struct spool_identity {
    uint64_t inode, born_ns;
};

/* A file whose event was applied and that is still there. generation 0: none. */
struct spool_file {
    struct spool_identity identity;
    uint64_t generation;
    /* LSN of its event, if that could not be stored; 0: none */
    uint64_t failed_lsn;
    /* its owner */
    uint32_t uid;
    /* its event is persisted, so the file may be removed, now or at one of the next scans */
    bool safe;
    /* to be set aside, not removed */
    bool garbage;
};

struct spool {
    struct spool_dir dir;
    /* borrowed; limited, because peers can cause every line about files */
    struct log_limit *log;
    /* borrowed; for the event being read */
    struct arena *arena;
    struct spool_file files[SPOOL_FILES];
    /* generations given out since the start */
    uint64_t generations;
    /* files since the start */
    uint64_t applied, garbage, ignored;
    /* some file's failed_lsn may be set */
    bool some_failed;
    /* how many files with safe events may be removed before the next scan: the renewal waits for
     * each removal */
    uint32_t removals_left;
};

/* Opens the directory (spool_dir_open). The struct is large. */
MUST_USE int spool_open(struct spool *spool, const struct config *config, uint64_t lease_ns,
                        struct log_limit *log, struct arena *arena, struct why *why);
void spool_close(struct spool *spool);

/* What a scan does with an event. Returns 0; SPOOL_E_GARBAGE: it is not a valid mutation; negative
 * errno: not applied, so the scan fails. May call spool_file_done() at once. */
#define SPOOL_E_GARBAGE 1
struct spool_reader {
    int (*apply)(void *ctx, const struct request *request, uint32_t uid, struct spool_slot slot);
    void *ctx;
};

/* Rule SCAN_AT_RENEWAL: applies every event that was in the spool when the scan began. Applies
 * begins of guards before their ends, whatever the order of names, and garbage last, all of it as
 * one event (uid: one of its owners). Returns 0, or a negative errno: some event was not applied,
 * so the lease must not be renewed. */
MUST_USE int spool_scan(struct spool *spool, const struct spool_reader *reader);

/* The event of a file is persisted, so removes the file, but not another one that has its name by
 * now. (SPOOL_ALL_GARBAGE: all files of that generation.) */
void spool_file_done(struct spool *spool, struct spool_slot slot);
/* The event of a file could not be persisted: the file stays for the next daemon, or until
 * spool_stored() covers its LSN. */
void spool_file_failed(struct spool *spool, struct spool_slot slot, uint64_t lsn);
/* The store has every event up to this LSN, also those that failed before. Cheap if none failed. */
void spool_stored(struct spool *spool, uint64_t lsn);

/* Returns how many files are applied and not yet persisted. */
size_t spool_waiting(const struct spool *spool);

#endif
