/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The public calls that need no client: the words for enum values, and thin wrappers of internal
 * modules. The words come from the tables in etag.h, so no value can lack one.
 */
#include "abi.h"
#include "clocktime.h"
#include "http_date.h"
#include "precondition.h"
#include "resource.h"
#include "surrogates.h"
#include "text.h"

#include <etag/etag.h>

etag_str etag_str_of(const char *text)
{
    return str_of(text);
}

const char *etag_status_text(etag_status status)
{
    switch (status) {
#define STATUS_CASE(name, value, text)                                                             \
    case ETAG_##name:                                                                              \
        return text;
        ETAG_STATUSES(STATUS_CASE)
#undef STATUS_CASE
    default:
        return "unknown status";
    }
}

const char *etag_verdict_word(etag_verdict verdict)
{
    switch (verdict) {
    case ETAG_NOT_MODIFIED:
        return "not_modified";
    case ETAG_PRECONDITION_FAILED:
        return "precondition_failed";
    case ETAG_PROCEED:
        return "proceed";
    case ETAG_PRECONDITION_REQUIRED:
        return "precondition_required";
    case ETAG_UNKNOWN:
    default:
        return "unknown";
    }
}

int etag_verdict_http_status(etag_verdict verdict)
{
    switch (verdict) {
    case ETAG_NOT_MODIFIED:
        return 304;
    case ETAG_PRECONDITION_FAILED:
        return 412;
    case ETAG_PRECONDITION_REQUIRED:
        return 428;
    case ETAG_PROCEED:
    case ETAG_UNKNOWN:
    default:
        return 0;
    }
}

const char *etag_reason_word(etag_reason reason)
{
    switch (reason) {
#define REASON_CASE(name, value, word, text)                                                       \
    case ETAG_REASON_##name:                                                                       \
        return word;
        ETAG_REASONS(REASON_CASE)
#undef REASON_CASE
    default:
        return "unknown_reason";
    }
}

const char *etag_reason_text(etag_reason reason)
{
    switch (reason) {
#define REASON_CASE(name, value, word, text)                                                       \
    case ETAG_REASON_##name:                                                                       \
        return text;
        ETAG_REASONS(REASON_CASE)
#undef REASON_CASE
    default:
        return "a reason that this library does not know";
    }
}

/* Both structs as this library knows them. */
struct question {
    etag_request request_copy;
    etag_validators validators_copy;
    const etag_request *request;
    const etag_validators *validators;
};

static inline bool question_read(struct question *q, const etag_request *request,
                                 const etag_validators *validators)
{
    q->request = abi_in(request, &q->request_copy, sizeof(q->request_copy), ABI_FIRST_REQUEST);
    q->validators = abi_in(validators, &q->validators_copy, sizeof(q->validators_copy),
                           ABI_FIRST_VALIDATORS);
    return q->request && q->validators;
}

etag_verdict etag_evaluate(const etag_request *request, const etag_validators *validators)
{
    struct question q;

    return question_read(&q, request, validators)
               ? precondition_judge(q.request, q.validators, DATES_AS_RFC).verdict
               : ETAG_UNKNOWN;
}

etag_range etag_evaluate_range(const etag_request *request, const etag_validators *validators)
{
    struct question q;

    return question_read(&q, request, validators) ? precondition_range(q.request, q.validators)
                                                  : ETAG_RANGE_IGNORE;
}

etag_status etag_resource_check(const etag_resource *resource)
{
    struct resource canonical;

    if (resource_canonicalize(&canonical, resource))
        return ETAG_INVALID;
    return canonical.dotted ? ETAG_REFUSED : ETAG_OK;
}

bool etag_surrogate_field(etag_str name)
{
    return surrogate_field(name);
}

int64_t etag_date_parse(etag_str text)
{
    return http_date_parse(text, (int64_t)(time_ns_of(CLOCK_REALTIME_COARSE) / NS_PER_S));
}

void etag_validators_init(etag_validators *validators)
{
    ETAG_INIT(validators);
    validators->last_modified = ETAG_NO_DATE;
}

void etag_entry_init(etag_entry *entry)
{
    ETAG_INIT(entry);
    entry->http_status = 200;
    entry->last_modified = ETAG_NO_DATE;
}
