/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An entry as libetag has reduced it, sent over the wire into the index and the store. Both ends
 * check it with the same functions: the library so that the application's author sees what is
 * wrong, the daemon because it trusts no peer.
 *
 * Field sets: the header fields that a 304 repeats (Cache-Control, Expires, Vary, configured
 * extras; the entity tag and Content-Location are members of the entry). Combinations are few, so
 * entries share them.
 *
 * One rule says which header fields an entry may keep, and so which a 304 from memory may have. It
 * is applied by libetag to its options, by the daemon to each fill and to each entry from its
 * store, and by libetag again when it makes an answer from the index.
 *
 * Packed: u16 length of the whole set, u8 fields, u8 zero; per field u8 kind, u8 name length, u16
 * value length, name, value. Kind 1 is Expires as an offset: its value is an i64, seconds from
 * Date, which the reader adds to its own Date. Names keep their case, so that equal sets are equal
 * bytes.
 */
#ifndef ETAG_PROTO_ENTRY_H
#define ETAG_PROTO_ENTRY_H

#include "key.h"

/* ---- Names of fields ---- */

/* Returns whether the name is Cache-Control, Expires or Vary, which a 304 has to repeat (RFC 9110
 * section 15.4.5) besides the members of the entry. A reader of an entry repeats these, and any
 * other field only if its own options name it. */
MUST_USE bool field_name_is_standard(etag_str name);

/* Returns false if no entry may keep the field, at any configuration. Does not check that the name
 * is a token. */
MUST_USE bool field_name_may_be_kept(etag_str name);

/* ---- Field sets ---- */

enum fieldset_kind {
    FIELDSET_LITERAL = 0,
    FIELDSET_EXPIRES = 1,
};

/* A field in a set. FIELDSET_EXPIRES uses only offset_s. */
struct kept_field {
    enum fieldset_kind kind;
    etag_field field;
    int64_t offset_s;
};

/* Packs a set. Returns the packed length, 0 if the set is empty, or -1 if it is over
 * FIELDSET_BYTES_MAX or FIELDS_PER_ENTRY_MAX. out: FIELDSET_BYTES_MAX bytes. */
MUST_USE int fieldset_pack(uint8_t *out, const struct kept_field *fields, size_t count);

/* Parses a set. Returns the number of fields, which point into bytes, or -1 if the bytes are no
 * field set. fields: room for FIELDS_PER_ENTRY_MAX. */
MUST_USE int fieldset_parse(const void *bytes, size_t len, struct kept_field *fields);

/* ---- Entries ---- */

/* An entry. Its members borrow from the message or record from which it was decoded. */
struct entry {
    etag_key key;
    etag_str etag;
    /* ETAG_NO_DATE: none */
    int64_t last_modified;
    struct kept_field *fields;
    size_t field_count;
    /* the same fields, packed by entry_check() or as a record has them */
    etag_str fieldset;
    /* absent or empty: none */
    etag_str content_location;
    etag_str *surrogates;
    size_t surrogate_count;
    /* 0: no expiry */
    uint64_t max_age_ms;
    /* the filler says that no two versions are of that second */
    bool last_modified_is_strong;
};

/* Checks everything but the key, which key_canonicalize() checks. Returns NULL, or what is wrong as
 * a sentence (static text). packed: receives the packed fields, which entry->fieldset then borrows;
 * NULL: entry->fieldset is set already. */
MUST_USE const char *entry_check(struct entry *entry, uint8_t packed[FIELDSET_BYTES_MAX]);

/* The same, but returns a reason, NONE if nothing is wrong. *why: the sentence. */
MUST_USE etag_reason entry_judge(struct entry *entry, uint8_t packed[FIELDSET_BYTES_MAX],
                                 const char **why);

/* Checks an entity tag by the grammar of RFC 9110 section 8.8.3 and ENTITY_TAG_BYTES_MAX. Returns
 * NULL, or what is wrong. */
MUST_USE const char *entity_tag_check(etag_str etag);

/* Checks a header field: its name must be a token of at most 255 bytes that an entry may keep, its
 * value must have no controls (CR, LF, NUL, ...) except the tab. Returns NULL, or what is wrong. */
MUST_USE const char *field_check(etag_field field);

#endif
