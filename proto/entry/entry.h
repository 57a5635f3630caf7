/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An entry as libetag reduced it, on its way over the wire into the index and the store. Both ends
 * check it with the same functions: the library to say what is wrong where it can be mended, the
 * daemon because it trusts nobody.
 *
 * Field sets: the header fields that a 304 repeats (Cache-Control, Expires, Vary, configured
 * extras; the entity tag and Content-Location are members of the entry). Combinations are few, so
 * entries share them.
 *
 * Which header fields an entry may keep, and so a 304 from memory may carry, is one rule for all:
 * libetag's options, the daemon when a fill comes and when it loads its store, libetag when it
 * makes an answer of what the index says.
 *
 * Packed: u16 length of the whole set, u8 fields, u8 zero; per field u8 kind, u8 name length, u16
 * value length, name, value. Kind 1 is Expires as an offset: its value is an i64 of seconds from
 * Date, which the reader turns into a date of its own. Names keep the case they came in, so equal
 * sets are equal bytes.
 */
#ifndef ETAG_PROTO_ENTRY_H
#define ETAG_PROTO_ENTRY_H

#include "key.h"

/* ---- Names of fields ---- */

/* Cache-Control, Expires, Vary: what a 304 has to repeat (RFC 9110 section 15.4.5) besides what the
 * entry itself has. Whoever reads an entry repeats these; any other only where its own options name
 * it. */
MUST_USE bool field_name_is_standard(etag_str name);

/* False: no entry keeps it, whatever anybody configures. Does not check that it is a token. */
MUST_USE bool field_name_may_be_kept(etag_str name);

/* ---- Field sets ---- */

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

/* ---- Entries ---- */

/* An entry. Everything borrowed from the message or record it was decoded from. */
struct entry {
    etag_key key;
    etag_str etag;
    /* ETAG_NO_DATE: none */
    int64_t last_modified;
    struct kept_field *fields;
    size_t field_count;
    /* these, packed: by entry_check(), or as a record has them */
    etag_str fieldset;
    /* absent or empty: none */
    etag_str content_location;
    etag_str *surrogates;
    size_t surrogate_count;
    /* 0: no expiry */
    uint64_t max_age_ms;
    /* the filler's word: no two versions in that second */
    bool last_modified_is_strong;
};

/* NULL, or what is wrong as a sentence (static text). Does not look at the key: key_canonicalize
 * does. packed: the fields are packed into it, and entry->fieldset borrows it; NULL:
 * entry->fieldset is there. */
MUST_USE const char *entry_check(struct entry *entry, uint8_t packed[FIELDSET_BYTES_MAX]);

/* The same as a reason, NONE where nothing is wrong. *why: the sentence. */
MUST_USE etag_reason entry_judge(struct entry *entry, uint8_t packed[FIELDSET_BYTES_MAX],
                                 const char **why);

/* NULL, or what is wrong with an entity tag: the grammar of RFC 9110 section 8.8.3,
 * ENTITY_TAG_BYTES_MAX. */
MUST_USE const char *entity_tag_check(etag_str etag);

/* NULL, or what is wrong with a header field: a token of at most 255 bytes as name, and one that an
 * entry may keep; a value without CR, LF, NUL and other controls except the tab. */
MUST_USE const char *field_check(etag_field field);

#endif
