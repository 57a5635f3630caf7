/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The targets of a row of etagd.outbox, as bytes. relay/sql/schema.sql writes the same form
 * (etagd.record, etagd.invalidate): the byte 1, then records of
 *
 *     kind     1 byte: s surrogate key, f family of them, r resource, p prefix, e everything,
 *              h hold, w who wrote it (the first record, or not there)
 *     length   2 bytes, most significant first
 *     bytes    of a resource or prefix its text form; of a hold its milliseconds, 4 bytes; of a
 *              writer 1 to 255 bytes for people
 *
 * A row of the byte 1 alone names nothing: it only asks for acknowledgements.
 *
 * Triggers of watched tables (relay/sql/watch.sql) write names as text, since PostgreSQL makes that
 * in half the time: the byte 2, then words with a blank between, each a kind (s or f) and the name;
 * after a line end, if there is one, who wrote it. It is read here, and never written.
 */
#ifndef ETAG_RELAY_OUTBOX_ROW_H
#define ETAG_RELAY_OUTBOX_ROW_H

#include "engine.h"

#define OUTBOX_ROW_BYTES_MAX 8192
#define OUTBOX_ROW_MARK 1
#define OUTBOX_ROW_MARK_WORDS 2

/* NULL, or why no release of ours can have written these bytes (static text; *out is empty then).
 * *out borrows from bytes and arena, *writer from bytes. What *out names passes targets_check(),
 * unless it names nothing. -ENOMEM goes to *error, 0 else. */
MUST_USE const char *outbox_row_decode(etag_targets *out, etag_str *writer, struct arena *arena,
                                       etag_str bytes, int *error);

/* Does it name nothing? */
MUST_USE bool outbox_row_is_empty(const etag_targets *targets);

/* Appends to *out the rows of one mutation, each after its length (4 bytes, as PostgreSQL sends an
 * array's elements), and counts them. Each says who wrote it: at most ENGINE_WRITER_BYTES_MAX of
 * writer, nothing where it is empty. Targets that name nothing become one row that asks, and does
 * not say. 0, -ENOMEM, or -EINVAL: targets_check() would refuse them. */
struct outbox_rows {
    /* the caller's, freed with free() */
    uint8_t *bytes;
    size_t len, capacity;
    uint32_t count;
    /* where the length of the last row is */
    size_t row_at;
};

MUST_USE int outbox_rows_encode(struct outbox_rows *out, const etag_targets *targets,
                                etag_str writer);

#endif
