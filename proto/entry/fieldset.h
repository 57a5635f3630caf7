/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Field sets: the header fields that a 304 repeats (Cache-Control, Expires, Vary, configured
 * extras; the entity tag and Content-Location belong to the entry). Combinations are few, so
 * entries share them.
 *
 * Which header fields an entry may keep, and so a 304 from memory may carry. One rule for all:
 * libetag's options, the daemon when a fill comes and when it loads its store, libetag when it
 * makes an answer of what the index says.
 *
 * Packed: u16 length of the whole set, u8 fields, u8 zero; per field u8 kind, u8 name length, u16
 * value length, name, value. Kind 1 is Expires as an offset: its value is an i64 of seconds from
 * Date, which the reader turns into a date of its own. Names keep the case they came in, so equal
 * sets are equal bytes.
 */
#ifndef ETAG_PROTO_FIELDSET_H
#define ETAG_PROTO_FIELDSET_H

#include "bounds.h"
#include "cleanup.h"

#include <etag/etag.h>
#include <stdbool.h>

/* ---- Names ---- */

/* Cache-Control, Expires, Vary: what a 304 has to repeat (RFC 9110 section 15.4.5) besides what the
 * entry itself has. Whoever reads an entry repeats these; any other only where its own options name
 * it. */
MUST_USE bool field_name_is_standard(etag_str name);

/* False: no entry keeps it, whatever anybody configures. Does not check that it is a token. */
MUST_USE bool field_name_may_be_kept(etag_str name);

/* ---- Sets ---- */

enum fieldset_kind {
    FIELDSET_LITERAL = 0,
    FIELDSET_EXPIRES = 1,
};

/* A field as it is kept; of FIELDSET_EXPIRES only offset_s counts. */
struct kept_field {
    enum fieldset_kind kind;
    etag_field field;
    int64_t offset_s;
};

/* Returns the packed length, 0 if the set is empty, or -1 if it is over FIELDSET_BYTES_MAX or
 * FIELDS_PER_ENTRY_MAX. out: FIELDSET_BYTES_MAX bytes. */
MUST_USE int fieldset_pack(uint8_t *out, const struct kept_field *fields, size_t count);

/* Returns the number of fields (pointing into bytes), or -1 if the bytes are no field set. fields:
 * room for FIELDS_PER_ENTRY_MAX. */
MUST_USE int fieldset_parse(const void *bytes, size_t len, struct kept_field *fields);

#endif
