/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The daemon's side of the spool (design, section 6.5; the names and the mark: spool_format.h). Whoever renews the lease has
 * just read it (spool_scan), so a writer that left its event there and waited one lease needs nobody's answer.
 *
 * A file counts if its owner may mutate. Of anybody else it is removed unread, whatever it is: nothing that a local user puts
 * there is waited for, followed, or read beyond its bound, and the time of a scan has a bound of its own. Loop thread only.
 */
#ifndef ETAGD_SPOOL_H
#define ETAGD_SPOOL_H

#include "spool_dir.h"

#define SPOOL_FILES (SPOOL_SLOTS + SPOOL_ALL_SLOTS)

/* A file whose event was applied and that is still there. inode 0: none. */
struct spool_file {
    uint64_t inode;
    bool safe;    /* its event is persisted: it may go */
    bool garbage; /* set aside instead of removed */
};

struct spool {
    struct spool_dir dir;
    const struct log *log; /* borrowed */
    struct arena *arena;   /* borrowed: of the event being read */
    struct spool_file files[SPOOL_FILES];
    uint64_t applied, garbage, ignored; /* files, ever */
    uint64_t last_complaint_ns;
};

/* Opens the directory (spool_dir_open). The struct is large. */
MUST_USE int spool_open(struct spool *spool, const struct config *config, uint64_t lease_ns,
                        const struct log *log, struct arena *arena, char why[512]);
void spool_close(struct spool *spool);

/* What a scan does with an event. 0; SPOOL_E_GARBAGE: nobody could want that; negative errno: not applied, the scan fails. May
 * call spool_file_done() at once. */
#define SPOOL_E_GARBAGE 1
struct spool_reader {
    int (*apply)(void *ctx, const struct request *request, uint32_t uid, uint32_t file);
    void *ctx;
};

/* Rule 1: every event that stood in the spool when this began has been applied when it returns 0. Begins of guards before their
 * ends, whatever the order of names. Negative errno: not every one, so the lease must not be renewed. */
MUST_USE int spool_scan(struct spool *spool, const struct spool_reader *reader);

/* The event of a file is persisted, so the file goes; failed: it is not, and the file stays for the next daemon. */
void spool_file_done(struct spool *spool, uint32_t file, bool failed);

/* Files applied and not yet persisted. */
size_t spool_waiting(const struct spool *spool);

#endif
