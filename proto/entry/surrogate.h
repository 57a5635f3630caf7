/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Surrogate keys as the wire, the log and the store have them, made of the names that sites use.
 * Whatever names one, at fill or at invalidation, goes through surrogate_name(), so that both mean
 * the same clock.
 */
#ifndef ETAG_PROTO_SURROGATE_H
#define ETAG_PROTO_SURROGATE_H

#include "bounds.h"
#include "cleanup.h"

#include <etag/etag.h>
#include <stdbool.h>
#include <stdint.h>

#define SURROGATE_MADE_BYTES 40 /* of a name that is made here, its NUL included */

/* What stands between the names of a list that is not divided by blanks: most sites have commas,
 * some of TYPO3 semicolons. */
static inline bool surrogate_divides(char c)
{
    return c == ',' || c == ';';
}

/* The name to send. Commas at its ends go, since a list may have left them. One of up to
 * SURROGATE_BYTES_MAX visible ASCII characters stays as it is; of a longer one with commas, which
 * is a list, the first name counts; any other that is longer, or not ASCII, becomes "~hash-" and 32
 * hexadecimal digits in made: the same ones whether it came in UTF-8 or, which is no UTF-8, in ISO
 * 8859-1. A name with blanks or controls stays, for surrogate_check() to refuse. The result points
 * into name or made. */
etag_str surrogate_name(etag_str name, char made[SURROGATE_MADE_BYTES]);

/* Rule GROUPS: each name is in one of SURROGATE_GROUPS groups. An entry of more names than
 * SURROGATES_PER_ENTRY_MAX depends on their groups instead, and a mutation of a surrogate key is
 * one of its group too. As many groups as an entry may have names: the groups of any number of
 * names fit. */
uint32_t surrogate_group(etag_str name);

/* The surrogate key that stands for a group: "~group-17". */
etag_str surrogate_group_name(uint32_t group, char made[SURROGATE_MADE_BYTES]);

/* Is it such a name, and of which group? */
MUST_USE bool surrogate_is_group(etag_str name, uint32_t *group);

/* Does a mutation of the first reach an entry that depends on the second, itself or as its
 * group? */
MUST_USE bool surrogate_reaches(etag_str mutated, etag_str depended);

/* ---- Families: what a name says before its first colon ---- */

/* Of a name, or of what names a family: "uploads" of "uploads:42", "uploads:*" and "uploads".
 * Without the commas at its ends, as names are. Empty for ":42". */
etag_str surrogate_family(etag_str name);

/* The family to send, of what names one: surrogate_name() of the above. */
etag_str surrogate_family_name(etag_str name, char made[SURROGATE_MADE_BYTES]);

/* Rule FAMILY_OF_EACH_NAME: an entry depends on the families of its names, besides the names. A
 * name without a colon is its own family and needs no more, since a mutation of a family is one of
 * the name that is the same. Where that can't be had, an entry depends on all families: if a name
 * does not show its family (a hash, a group, one that begins with a colon), or there are too
 * many. */
struct surrogate_families {
    /* borrowed from the names; without repetition */
    etag_str names[FAMILIES_PER_ENTRY_MAX];
    size_t count;
    /* all of them, whatever they are called; then none is named */
    bool all;
};

/* names: as they are sent. */
void surrogate_families_of(struct surrogate_families *out, const etag_str *names, size_t count);

/* Does a mutation of the family reach an entry that depends on the name? */
MUST_USE bool surrogate_family_reaches(etag_str family, etag_str depended);

#endif
