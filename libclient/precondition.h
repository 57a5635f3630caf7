/* SPDX-License-Identifier: Apache-2.0 */
/* RFC 9110 section 13.2.2, with the reason. etag_evaluate() and the lookup both call this. */
#ifndef LIBETAG_PRECONDITION_H
#define LIBETAG_PRECONDITION_H

#include "cleanup.h"

#include <etag/etag.h>

struct judgement {
    etag_verdict verdict;
    etag_reason reason;
};

/* Pure. Everything borrowed. */
MUST_USE struct judgement precondition_judge(const etag_request *request,
                                             const etag_validators *validators);

#endif
