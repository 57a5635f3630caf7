/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Collects the surrogate keys of a response for every integration: names from the application, and
 * lists of names in the header fields that sites send for their caches.
 */
#ifndef LIBETAG_SURROGATES_H
#define LIBETAG_SURROGATES_H

#include "bounds.h"
#include "surrogate.h"

#include <stdbool.h>

/* A set of distinct names. Large. It must live as long as the entry that uses it, and not be
 * copied, because the names point into it. */
struct surrogate_set {
    etag_str names[SURROGATES_PER_ENTRY_MAX];
    size_t count;
    /* there were too many names, so the set has their groups instead */
    bool grouped;
    uint64_t groups[SURROGATE_GROUPS / 64];
    size_t made_count;
    char made[SURROGATES_PER_ENTRY_MAX][SURROGATE_MADE_BYTES];
};

void surrogate_set_init(struct surrogate_set *set);

/* Adds a name (borrowed). Returns NULL, or what is wrong with it as a sentence (static text). */
MUST_USE const char *surrogate_set_add(struct surrogate_set *set, etag_str name);

/* Adds a list of names as sites send it. Some separate names by blanks, some by commas, some by
 * both, and a name between blanks may contain a comma; only the site knows which. So the names of
 * both readings are added. Errors as surrogate_set_add(). */
MUST_USE const char *surrogate_set_add_list(struct surrogate_set *set, etag_str list);

/* Call after the last name: then names and count are what the entry depends on. */
void surrogate_set_close(struct surrogate_set *set);

/* Returns whether a header field of this name has a list of surrogate keys. */
bool surrogate_field(etag_str name);

#endif
