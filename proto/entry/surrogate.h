/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Makes the surrogate keys of wire, log and store from the names that sites use. Fills and
 * invalidations both use surrogate_name(), so that the same name selects the same clock.
 */
#ifndef ETAG_PROTO_SURROGATE_H
#define ETAG_PROTO_SURROGATE_H

#include "bounds.h"
#include "cleanup.h"

#include <etag/etag.h>
#include <stdbool.h>
#include <stdint.h>

#define SURROGATE_MADE_BYTES 40 /* of a name that is made here, its NUL included */

/* Returns whether c separates the names of a list without blanks: a comma on most sites, a
 * semicolon on some TYPO3 sites. */
static inline bool surrogate_divides(char c)
{
    return c == ',' || c == ';';
}

/* Returns the name to send, which points into name or made. Removes commas at both ends, which a
 * list may have left. A name of up to SURROGATE_BYTES_MAX visible ASCII characters stays unchanged.
 * Of a longer one with commas, which is a list, the first name is taken. Any other name that is
 * longer, or not ASCII, becomes "~hash-" and 32 hexadecimal digits, the same for its UTF-8 and its
 * ISO 8859-1 form. A name with blanks or controls stays unchanged, and surrogate_check() refuses
 * it. */
etag_str surrogate_name(etag_str name, char made[SURROGATE_MADE_BYTES]);

/* Rule GROUPS: each name is in one of SURROGATE_GROUPS groups. An entry with more names than
 * SURROGATES_PER_ENTRY_MAX depends on their groups instead, and a mutation of a surrogate key also
 * mutates its group. There are as many groups as an entry may have names, so the groups of any
 * number of names fit. */
uint32_t surrogate_group(etag_str name);

/* Makes the surrogate key of a group: "~group-17". */
etag_str surrogate_group_name(uint32_t group, char made[SURROGATE_MADE_BYTES]);

/* Returns whether the name is such a key; *group: of which group. */
MUST_USE bool surrogate_is_group(etag_str name, uint32_t *group);

/* Returns whether a mutation of the first name reaches an entry that depends on the second,
 * directly or as the first one's group. */
MUST_USE bool surrogate_reaches(etag_str mutated, etag_str depended);

/* ---- Families: what a name says before its first colon ---- */

/* Returns the family of a name, or of a spelling of the family: "uploads" for "uploads:42",
 * "uploads:*" and "uploads". Removes commas at both ends, as for names. Empty for ":42". */
etag_str surrogate_family(etag_str name);

/* Returns the family to send: surrogate_name() of surrogate_family(). */
etag_str surrogate_family_name(etag_str name, char made[SURROGATE_MADE_BYTES]);

/* Rule FAMILY_OF_EACH_NAME: an entry depends on its names and on their families. A name without a
 * colon is its own family and needs no more, since a mutation of a family also mutates the name
 * that is equal to it. An entry depends on all families instead if a name does not show its family
 * (a hash, a group, one that begins with a colon), or if there are too many. */
struct surrogate_families {
    /* borrowed from the names; without duplicates */
    etag_str names[FAMILIES_PER_ENTRY_MAX];
    size_t count;
    /* all families; then names is empty */
    bool all;
};

/* Collects the families of an entry's names. names: as they are sent. */
void surrogate_families_of(struct surrogate_families *out, const etag_str *names, size_t count);

/* Returns whether a mutation of the family reaches an entry that depends on the name. */
MUST_USE bool surrogate_family_reaches(etag_str family, etag_str depended);

#endif
