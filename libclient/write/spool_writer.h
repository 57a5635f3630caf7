/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The writer's side of the spool (spool_format.h): writes one mutation where every daemon reads it
 * before it renews its lease. Stateless: it reads the spool's mark again each time, since the
 * daemon may have changed.
 */
#ifndef LIBETAG_SPOOL_WRITER_H
#define LIBETAG_SPOOL_WRITER_H

#include "fault.h"
#include "spool_format.h"

/* Which spool. Borrowed. */
struct spool_place {
    /* path of the directory; "": no spool is possible */
    const char *path;
    /* path of the socket, whose owner may own the spool */
    const char *socket_path;
    /* the id that its mark must have; 0: not known, no daemon has said hello */
    uint64_t id;
};

struct spool_item {
    /* a whole frame, of any length */
    etag_str frame;
    /* if there is no room, "purge everything" may replace it */
    bool all_will_do;
};

/* What the writer knows once its file is in place. */
struct spool_record {
    /* T: CLOCK_MONOTONIC_COARSE, read after the rename */
    uint64_t time_ns;
    /* L, in the mark as read after the rename */
    uint64_t lease_ns;
    /* guard_linger in the same mark; 0: not known */
    uint64_t linger_ns;
    /* of the same mark */
    bool log_reach;
    /* also on error: the file is in place, so the daemon may find it, but that is not proven */
    bool in_place;
};

/* Records the mutation. Blocks only for the file system; with durability "power" it syncs its file
 * and its name, which has no bound in time, since a call to a disk that hangs can't be cancelled.
 * OK: recorded, and effective at T + L. Errors: DENIED (files of this user do not count),
 * UNAVAILABLE (no usable spool, or no room in it; or it is not proven that the file in place
 * counts, because roles or the mark changed at the same time), SYSTEM. */
MUST_USE etag_status spool_write(const struct spool_place *place, const struct spool_item *item,
                                 struct spool_record *record, struct fault *fault);

#endif
