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

/* Divides a text that is meant to be an entity tag, without a look at what stands between its
 * quotes. */
static inline struct entity_tag entity_tag_divide(etag_str text)
{
    const bool weak = text.len >= 2 && text.data[0] == 'W' && text.data[1] == '/';

    if (!weak)
        return (struct entity_tag){false, text}; /* also an absent one */
    return (struct entity_tag){true, {text.data + 2, text.len - 2}};
}

/* All bytes may stand between the quotes of a tag. */
MUST_USE bool entity_tag_may_hold(const char *bytes, size_t len);

/* The whole text is one entity tag. */
MUST_USE static inline bool entity_tag_parse(etag_str text, struct entity_tag *out)
{
    *out = entity_tag_divide(text);
    const etag_str opaque = out->opaque;
    return opaque.len >= 2 && opaque.data[0] == '"' && opaque.data[opaque.len - 1] == '"' &&
           entity_tag_may_hold(opaque.data + 1, opaque.len - 2);
}

/* One of the two may be only divided: no text but an entity tag is equal to one. */
MUST_USE static inline bool entity_tag_equal_weak(struct entity_tag a, struct entity_tag b)
{
    return a.opaque.len == b.opaque.len && bytes_equal(a.opaque.data, b.opaque.data, a.opaque.len);
}

MUST_USE static inline bool entity_tag_equal_strong(struct entity_tag a, struct entity_tag b)
{
    return !a.weak && !b.weak && entity_tag_equal_weak(a, b);
}

/* The weak comparison, where 'listed', from a request, may carry what a compressing proxy or server
 * in front of us added to 'current' before its closing quote: one or two hyphens and a content
 * coding, once. Never the other way round. */
MUST_USE bool entity_tag_equal_suffixed(struct entity_tag listed, struct entity_tag current);

/* The weak comparison, where 'listed', from a request, may carry what a compressing proxy or server
 * in front of us added to 'current' before its closing quote: one or two hyphens and a content
 * coding, once. Never the other way round. */
MUST_USE bool entity_tag_equal_suffixed(struct entity_tag listed, struct entity_tag current);

/* Walks the elements of one field line: 1 and the next tag; 0 at the end; -1 where the line is
 * malformed from here on. Empty elements are skipped. rest: begins as the whole line, moves. */
MUST_USE int entity_tag_next(etag_str *rest, struct entity_tag *out);

#endif
