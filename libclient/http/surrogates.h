/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The surrogate keys of a response: names that the application gave, and lists of names in the
 * header fields that sites send for their caches. Decided here, once, for every integration.
 */
#ifndef LIBETAG_SURROGATES_H
#define LIBETAG_SURROGATES_H

#include "bounds.h"
#include "surrogate.h"

#include <stdbool.h>

/* Distinct names. Large; lives where what it is made for does, and is not copied: the names point
 * into it. */
struct surrogate_set {
    etag_str names[SURROGATES_PER_ENTRY_MAX];
    size_t count;
    /* there were more: their groups count instead */
    bool grouped;
    uint64_t groups[SURROGATE_GROUPS / 64];
    size_t made_count;
    char made[SURROGATES_PER_ENTRY_MAX][SURROGATE_MADE_BYTES];
};

void surrogate_set_init(struct surrogate_set *set);

/* name: borrowed. NULL, or what is wrong with it as a sentence (static text). */
MUST_USE const char *surrogate_set_add(struct surrogate_set *set, etag_str name);

/* A list as sites send them. Some put blanks between names, some commas, some both, and a name
 * between blanks may hold a comma; the one who invalidates knows which. So the names of both
 * readings count. Errors as surrogate_set_add(). */
MUST_USE const char *surrogate_set_add_list(struct surrogate_set *set, etag_str list);

/* To be called when all are in: afterwards names and count are what the entry depends on. */
void surrogate_set_close(struct surrogate_set *set);

/* Does a header field of this name hold a list of surrogate keys? */
bool surrogate_field(etag_str name);

#endif
