/* SPDX-License-Identifier: Apache-2.0 */
/* Judges preconditions by RFC 9110 section 13.2.2, and gives the reason. The public calls, the
 * lookup and the answer after rendering all use it. */
#ifndef LIBETAG_PRECONDITION_H
#define LIBETAG_PRECONDITION_H

#include "cleanup.h"
#include "entity_tag.h"

#include <etag/etag.h>

struct judgement {
    etag_verdict verdict;
    etag_reason reason;
};

/* When "not modified since" is a 304. RFC 9110 lets the origin server decide (section 13.1.3, a
 * SHOULD), also with a weak date. But a weak date does not distinguish two versions of the same
 * second, so an answer from the cache needs a strong date (section 8.8.2.2). */
enum dates { DATES_AS_RFC, DATES_STRONG };

/* All functions are pure: they borrow their arguments and change nothing. Any thread. */
MUST_USE struct judgement precondition_judge(const etag_request *request,
                                             const etag_validators *validators, enum dates dates);

/* Returns true if all that the request asks is whether the representation still has this one tag:
 * GET or HEAD, an If-None-Match with one tag, no other condition, no compression suffixes. Where
 * the current tag equals it (weakly), precondition_judge() says ETAG_NOT_MODIFIED,
 * ETAG_REASON_MATCH.
 * *out: borrows from the request. */
MUST_USE bool precondition_only_tag(const etag_request *request, struct entity_tag *out);

/* Judges Range and If-Range, after a judgement of ETAG_PROCEED. */
MUST_USE etag_range precondition_range(const etag_request *request,
                                       const etag_validators *validators);

/* Returns true if the request must have a condition and has none. Needs no validators. */
MUST_USE bool precondition_missing(const etag_request *request);

#endif
