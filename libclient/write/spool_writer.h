/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The writer's side of the spool (spool_format.h): puts one mutation where every daemon reads it before it vouches for
 * its memory. Stateless: what it knows of the spool it reads anew each time, since daemons come and go.
 */
#ifndef LIBETAG_SPOOL_WRITER_H
#define LIBETAG_SPOOL_WRITER_H

#include "fault.h"
#include "spool_format.h"

/* Which spool. Borrowed. */
struct spool_place {
    const char *path;        /* of the directory; "" where there can be none */
    const char *socket_path; /* whose owner may own the spool */
    uint64_t id;             /* that its mark must have; 0: not known, no daemon has told */
};

struct spool_item {
    etag_str frame;   /* a whole frame, of any length */
    bool all_will_do; /* where there is no room, "purge everything" says all that it says */
};

/* What the writer knows once its file is in place. */
struct spool_record {
    uint64_t time_ns;   /* T: CLOCK_MONOTONIC_COARSE, read after the rename */
    uint64_t lease_ns;  /* L: of the mark as it was after the rename */
    uint64_t linger_ns; /* of the same mark; 0: not known */
    bool log_reach;     /* of the same mark */
    bool in_place; /* also on error: the daemon may find it, though it is not proven that it will */
};

/* Records the mutation. Never blocks but for the file system; with durability "power" it syncs its file and its name, which
 * no time bounds: a call of a disk that hangs can't be given up.
 * OK: recorded, and effective at T + L. Errors: DENIED (files of this user do not count), UNAVAILABLE (no usable spool, or no room
 * in it; or it is not proven that a file that is in place counts, as roles or the mark changed meanwhile), SYSTEM. */
MUST_USE etag_status spool_write(const struct spool_place *place, const struct spool_item *item,
                                 struct spool_record *record, struct fault *fault);

#endif
