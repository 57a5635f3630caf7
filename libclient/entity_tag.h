/* SPDX-License-Identifier: Apache-2.0 */
/* Entity tags and lists of them: RFC 9110 sections 8.8.3, 13.1.1, 13.1.2, 5.6.1.2. */
#ifndef LIBETAG_ENTITY_TAG_H
#define LIBETAG_ENTITY_TAG_H

#include "cleanup.h"

#include <etag/etag.h>

struct entity_tag {
    bool weak;
    etag_str opaque; /* with its quotes, without W/ */
};

/* The whole text is one entity tag. */
MUST_USE bool entity_tag_parse(etag_str text, struct entity_tag *out);

MUST_USE bool entity_tag_equal_weak(struct entity_tag a, struct entity_tag b);
MUST_USE bool entity_tag_equal_strong(struct entity_tag a, struct entity_tag b);

/* The weak comparison, where 'listed', from a request, may carry what a compressing proxy or server in front of us added
 * to 'current' before its closing quote: one or two hyphens and a content coding, once. Never the other way round. */
MUST_USE bool entity_tag_equal_suffixed(struct entity_tag listed, struct entity_tag current);

/* Walks the elements of one field line: 1 and the next tag; 0 at the end; -1 where the line is malformed from here on.
 * Empty elements are skipped. rest: begins as the whole line, moves. */
MUST_USE int entity_tag_next(etag_str *rest, struct entity_tag *out);

#endif
