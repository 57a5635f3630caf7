/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The targets of a row of etagd.outbox, as bytes. relay/sql/schema.sql writes the same form
 * (etagd.record, etagd.invalidate): the byte 1, then records of
 *
 *     kind     1 byte: s surrogate key, f family of them, r resource, p prefix, e everything,
 *              h hold
 *     length   2 bytes, most significant first
 *     bytes    of a resource or prefix its text form; of a hold its milliseconds, 4 bytes
 *
 * A row of the byte 1 alone names nothing: it only asks for acknowledgements.
 */
#ifndef ETAG_RELAY_OUTBOX_ROW_H
#define ETAG_RELAY_OUTBOX_ROW_H

#include "engine.h"

#define OUTBOX_ROW_BYTES_MAX 8192
#define OUTBOX_ROW_MARK 1

/* NULL, or why no release of ours can have written these bytes (static text; *out is empty then).
 * *out borrows from bytes and arena. What it names passes targets_check(), unless it names nothing.
 * -ENOMEM goes to *error, 0 else. */
MUST_USE const char *outbox_row_decode(etag_targets *out, struct arena *arena, etag_str bytes,
                                       int *error);

/* Does it name nothing? */
MUST_USE bool outbox_row_is_empty(const etag_targets *targets);

/* Appends to *out the rows of one mutation, each behind its length (4 bytes, as PostgreSQL sends an
 * array's elements), and counts them. Targets that name nothing become one row that asks. 0,
 * -ENOMEM, or -EINVAL: targets_check() would refuse them. */
struct outbox_rows {
    /* the caller's, freed with free() */
    uint8_t *bytes;
    size_t len, capacity;
    uint32_t count;
    /* where the length of the last row is */
    size_t row_at;
};

MUST_USE int outbox_rows_encode(struct outbox_rows *out, const etag_targets *targets);

#endif
