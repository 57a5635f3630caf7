/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A second precondition evaluator, against which the engine is tested: written from the grammar of
 * RFC 9110 and from nothing of libetag's, slow and simple on purpose. It joins the lines of a field
 * as section 5.3 says, matches the grammar rule by rule, and lets the C library know the calendar
 * (dates are parsed by writing them back).
 */
#ifndef ETAG_TESTS_REFERENCE_EVALUATOR_H
#define ETAG_TESTS_REFERENCE_EVALUATOR_H

#include "numbers.h"

#include <etag/etag.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

/* ---- Fields ---- */

struct ref_value {
    bool present;
    size_t line_count;
    /* owned, NUL-terminated for convenience; may hold NULs itself */
    char *text;
    size_t len;
};

bool ref_blank(char c);

/* ---- Entity tags ---- */

#define REF_NO_MATCH SIZE_MAX

/* entity-tag = [ weak ] DQUOTE *etagc DQUOTE: where it ends, or REF_NO_MATCH. */
size_t ref_entity_tag(const char *s, size_t len, size_t at, bool *weak);

struct ref_list {
    bool well_formed;
    size_t count;
    /* some element is the current tag */
    bool strong_match, weak_match;
};

/* #element = [ element ] *( OWS "," OWS [ element ] ) */
struct ref_list ref_list(const char *s, size_t len, etag_str current, bool suffixes);

/* ---- Dates ---- */

/* Each form is tried with each day's and month's name: what the C library reads must print as the
 * same text. */
int64_t ref_date(const char *s, size_t len, int64_t now_s);

/* ---- Section 13.2.2 ---- */

/* A condition is true, false, not there (or to be ignored), or can't be told. */
enum ref_truth { REF_FALSE, REF_TRUE, REF_IGNORED, REF_UNKNOWN };

etag_verdict ref_evaluate(const etag_request *request, const etag_validators *now);

/* ---- Section 13.2.2, step 5, with 13.1.5 and 14.2 ---- */

etag_range ref_evaluate_range(const etag_request *request, const etag_validators *now);

#endif
