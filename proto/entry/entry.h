/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What crosses the wire and lands in the store: an entry as libetag reduced it, and the targets of
 * a mutation. Both ends check them with the same functions: the library to say what is wrong where
 * it can be mended, the daemon because it trusts nobody.
 */
#ifndef ETAG_PROTO_ENTRY_H
#define ETAG_PROTO_ENTRY_H

#include "fieldset.h"
#include "key.h"

/* An entry. Everything borrowed from the message or record it was decoded from. */
struct entry {
    etag_key key;
    etag_str etag;
    /* ETAG_NO_DATE: none */
    int64_t last_modified;
    struct kept_field *fields;
    size_t field_count;
    /* these, packed (fieldset.h): by entry_check(), or as a record has them */
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
 * entry may keep (fieldset.h); a value without CR, LF, NUL and other controls except the tab. */
MUST_USE const char *field_check(etag_field field);

/* NULL, or what is wrong with targets: none named, too many, malformed names, a prefix with a
 * query, a hold or guard that is too long. (A prefix that
 * does not end in '/' is right: resource_covered_prefix says what it means.) */
MUST_USE const char *targets_check(const etag_targets *targets);

/* How many names of all kinds; everything is none. */
static inline size_t targets_names(const etag_targets *targets)
{
    return targets->resource_count + targets->surrogate_count + targets->prefix_count +
           targets->family_count;
}

#endif
