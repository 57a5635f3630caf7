/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The header fields of an answer that is not the representation: what a 304 carries (RFC 9110
 * section 15.4.5), and the current entity tag of a 412. From an entry of the index, or from a
 * response that was rendered.
 */
#ifndef LIBETAG_ANSWER_H
#define LIBETAG_ANSWER_H

#include "entry.h"
#include "http_date.h"
#include "key.h"
#include "repeated.h"
#include "shm.h"

/* ETag and Content-Location stand before the others. */
#define ANSWER_FIELDS_MAX (2 + FIELDS_PER_ENTRY_MAX)

/* Where a lookup works, and what an answer points into. */
struct lookup_scratch {
    struct key key;
    /* the last lookup's fingerprint; zeros: it got no so far */
    struct hash128 place;
    struct shm_entry entry;
    struct kept_field kept[FIELDS_PER_ENTRY_MAX];
    etag_field fields[ANSWER_FIELDS_MAX];
    char dates[FIELDS_PER_ENTRY_MAX][HTTP_DATE_BYTES];
};

/* Sets verdict, reason, tag, date and fields from scratch->entry: of its field set what a 304 has
 * to repeat, and what 'repeated' names. False, and nothing is set: the set is none, or a value
 * holds control characters, which no daemon stored; the entry was torn. */
MUST_USE bool answer_from_entry(etag_answer *answer, struct lookup_scratch *scratch,
                                const struct repeated_fields *repeated, etag_verdict verdict,
                                etag_reason reason);

/* The same from a response as storable_reduce() left it; borrows from it and from scratch. */
void answer_from_response(etag_answer *answer, struct lookup_scratch *scratch,
                          const struct entry *response, etag_verdict verdict, etag_reason reason);

#endif
