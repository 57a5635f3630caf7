/* SPDX-License-Identifier: Apache-2.0 */
/* RFC 9110 section 13.2.2, with the reason. The public calls, the lookup and the answer after
 * rendering all end here. */
#ifndef LIBETAG_PRECONDITION_H
#define LIBETAG_PRECONDITION_H

#include "cleanup.h"

#include <etag/etag.h>

struct judgement {
    etag_verdict verdict;
    etag_reason reason;
};

/* When "not modified since" is a 304. RFC 9110 leaves it to the origin server (section 13.1.3, a
 * SHOULD), also with a weak date. But of two versions of one second a weak date tells the later one
 * nothing of the earlier: who vouches for the answer wants it strong (section 8.8.2.2). */
enum dates { DATES_AS_RFC, DATES_STRONG };

/* All three are pure, and borrow everything. */
MUST_USE struct judgement precondition_judge(const etag_request *request,
                                             const etag_validators *validators, enum dates dates);

/* Range and If-Range, after a judgement of ETAG_PROCEED. */
MUST_USE etag_range precondition_range(const etag_request *request,
                                       const etag_validators *validators);

/* True: the request must carry a condition that it does not carry. Needs no validators. */
MUST_USE bool precondition_missing(const etag_request *request);

#endif
