/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The writer's side of the spool (spool_format.h): puts one mutation where every daemon reads it
 * before it vouches for its memory. Stateless: what it knows of the spool it reads anew each time,
 * since daemons come and go.
 */
#ifndef LIBETAG_SPOOL_WRITER_H
#define LIBETAG_SPOOL_WRITER_H

#include "fault.h"
#include "spool_format.h"

/* Which spool. Borrowed. */
struct spool_place {
    /* of the directory; "" where there can be none */
    const char *path;
    /* whose owner may own the spool */
    const char *socket_path;
    /* that its mark must have; 0: not known, no daemon has told */
    uint64_t id;
};

struct spool_item {
    /* a whole frame, of any length */
    etag_str frame;
    /* where there is no room, "purge everything" says all that it says */
    bool all_will_do;
};

/* What the writer knows once its file is in place. */
struct spool_record {
    /* T: CLOCK_MONOTONIC_COARSE, read after the rename */
    uint64_t time_ns;
    /* L: of the mark as it was after the rename */
    uint64_t lease_ns;
    /* of the same mark; 0: not known */
    uint64_t linger_ns;
    /* of the same mark */
    bool log_reach;
    /* also on error: the daemon may find it, though it is not proven that it will */
    bool in_place;
};

/* Records the mutation. Never blocks but for the file system; with durability "power" it syncs its
 * file and its name, which no time bounds: a call of a disk that hangs can't be given up.
 * OK: recorded, and effective at T + L. Errors: DENIED (files of this user do not count),
 * UNAVAILABLE (no usable spool, or no room in it; or it is not proven that a file that is in place
 * counts, as roles or the mark changed meanwhile), SYSTEM. */
MUST_USE etag_status spool_write(const struct spool_place *place, const struct spool_item *item,
                                 struct spool_record *record, struct fault *fault);

#endif
