/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Makes the header fields of an answer without a body: those of a 304 (RFC 9110 section 15.4.5),
 * and the current entity tag of a 412. From an entry of the index, or from a rendered response.
 */
#ifndef LIBETAG_ANSWER_H
#define LIBETAG_ANSWER_H

#include "entry.h"
#include "http_date.h"
#include "key_site.h"
#include "repeated.h"
#include "shm.h"

/* ETag and Content-Location come before the others. */
#define ANSWER_FIELDS_MAX (2 + FIELDS_PER_ENTRY_MAX)

/* The fields of a 304 with a field set that is known (scratch->known): the first place is the
 * entity tag's, set by each answer. A set with more of them, or with an Expires, which depends on
 * the time, is not known. */
#define KNOWN_FIELDS_MAX 8
struct known_fields {
    /* of the set */
    size_t count;
    etag_field fields[1 + KNOWN_FIELDS_MAX];
};

/* The memory in which a lookup works and into which its answer points; overwritten by the next
 * lookup. */
struct lookup_scratch {
    struct key key;
    /* the fingerprint of the last lookup; zeros: it ended before it had one */
    struct hash128 place;
    struct shm_entry entry;
    struct kept_field kept[FIELDS_PER_ENTRY_MAX];
    etag_field fields[ANSWER_FIELDS_MAX];
    char dates[FIELDS_PER_ENTRY_MAX][HTTP_DATE_BYTES];

    /* What the general way leaves to the short one (short_way.h): sites, and field sets. */
    struct key_sites sites;
    struct shm_known known[SHM_KNOWN_PLACES];
    struct known_fields known_fields[SHM_KNOWN_PLACES];
    /* a bit for each place that an answer of this call points to: no other set gets it */
    uint32_t known_in_use;
    struct shm_plain plain;
};

/* Sets verdict, reason, tag, date and fields from scratch->entry, and keeps its field set for the
 * short way. Of its field set it takes what a
 * 304 has to repeat and what 'repeated' names. Returns false, and sets nothing, if the bytes are no
 * field set or a value has control characters: no daemon stored that, so the entry was torn. */
MUST_USE bool answer_from_entry(etag_answer *answer, struct lookup_scratch *scratch,
                                const struct repeated_fields *repeated, etag_verdict verdict,
                                etag_reason reason);

/* The same from a response that storable_reduce() has reduced. Borrows from the response and from
 * scratch. */
void answer_from_response(etag_answer *answer, struct lookup_scratch *scratch,
                          const struct entry *response, etag_verdict verdict, etag_reason reason);

#endif
