/* SPDX-License-Identifier: Apache-2.0 */
/* Entity tags and lists of them: RFC 9110 sections 8.8.3, 13.1.1, 13.1.2, 5.6.1.2. */
#ifndef LIBETAG_ENTITY_TAG_H
#define LIBETAG_ENTITY_TAG_H

#include "bytes.h"
#include "cleanup.h"

#include <etag/etag.h>

struct entity_tag {
    bool weak;
    /* with its quotes, without W/ */
    etag_str opaque;
};

/* Splits a text that should be an entity tag, without checking the bytes between its quotes. */
static inline struct entity_tag entity_tag_divide(etag_str text)
{
    const bool weak = text.len >= 2 && text.data[0] == 'W' && text.data[1] == '/';

    if (!weak)
        return (struct entity_tag){false, text}; /* also an absent one */
    return (struct entity_tag){true, {text.data + 2, text.len - 2}};
}

/* Returns whether all bytes are allowed between the quotes of a tag. */
MUST_USE bool entity_tag_may_hold(const char *bytes, size_t len);

/* Parses a text that is one whole entity tag. Returns false if it is not. */
MUST_USE static inline bool entity_tag_parse(etag_str text, struct entity_tag *out)
{
    *out = entity_tag_divide(text);
    const etag_str opaque = out->opaque;
    return opaque.len >= 2 && opaque.data[0] == '"' && opaque.data[opaque.len - 1] == '"' &&
           entity_tag_may_hold(opaque.data + 1, opaque.len - 2);
}

/* The weak comparison. One of the two may come from entity_tag_divide(), since only an entity tag
 * equals an entity tag. */
MUST_USE static inline bool entity_tag_equal_weak(struct entity_tag a, struct entity_tag b)
{
    return a.opaque.len == b.opaque.len && bytes_equal(a.opaque.data, b.opaque.data, a.opaque.len);
}

MUST_USE static inline bool entity_tag_equal_strong(struct entity_tag a, struct entity_tag b)
{
    return !a.weak && !b.weak && entity_tag_equal_weak(a, b);
}

/* The weak comparison, in which 'listed', from a request, may have the suffix that a compressing
 * proxy or server in front of us added to 'current' before its closing quote: one or two hyphens
 * and a content coding, once. A suffix in 'current' only is no match. */
MUST_USE bool entity_tag_equal_suffixed(struct entity_tag listed, struct entity_tag current);

/* The weak comparison, in which 'listed', from a request, may have the suffix that a compressing
 * proxy or server in front of us added to 'current' before its closing quote: one or two hyphens
 * and a content coding, once. A suffix in 'current' only is no match. */
MUST_USE bool entity_tag_equal_suffixed(struct entity_tag listed, struct entity_tag current);

/* Gets the next element of a field line. Returns 1 and the tag; 0 at the end; -1 if the line is
 * malformed from here on. Skips empty elements. rest: the whole line at first; each call moves it
 * on. */
MUST_USE int entity_tag_next(etag_str *rest, struct entity_tag *out);

#endif
