/* SPDX-License-Identifier: Apache-2.0 */
/*
 * RFC 9110 section 13.2.2 in its order: If-Match, else If-Unmodified-Since; then If-None-Match, else
 * If-Modified-Since. One pass over the fields finds the conditions; only those that count are then parsed, in
 * place. Nothing is copied, so several lines of a field are walked as the one list that they are.
 *
 * Where the RFC leaves a choice, the answer is the one that can do no harm:
 *
 *   malformed list     The whole field counts as malformed, valid elements before the bad place included: what the
 *                      client meant is not known. If-Match is then false (412: no update is lost). If-None-Match
 *                      never gives a 304; on a method that may change something it is false too (412), as the
 *                      client asked to be protected from overwriting. If-Modified-Since stays ignored beside it.
 *   "*"                Means "any" only if it is the whole field. A second line or an element beside it is malformed.
 *   empty list         Well formed by the grammar for recipients; no element, so nothing matches.
 *   dates              Several lines, or anything but an HTTP-date: ignored, as the RFC demands. A date beside which
 *                      the resource has none: ignored.
 *   stored tag         If it is no entity tag, it matches nothing.
 *   unknown methods    Are like PUT: never a 304.
 *   absent resource    GET and HEAD answer 404 without their conditions, so these are ignored (section 13.2.1).
 */
#include "precondition.h"

#include "bytes.h"
#include "clocktime.h"
#include "entity_tag.h"
#include "http_date.h"
#include "text.h"

/* ---- Finding the conditions ---- */

/* Where the lines of one field stand; count 0: the request has no such field. A line whose value is absent (not
 * empty) is none. */
struct lines {
    size_t first, count;
};

struct conditions {
    struct lines match, none_match, modified_since, unmodified_since;
};

/* Eight letters and hyphens of a name, compared without case: the bit that makes a letter lower case is set where
 * the constant has a letter, and nowhere else. */
static inline bool eight_equal(const char *name, const char *lower)
{
    const uint64_t constant = load_u64(lower);
    const uint64_t case_bits = (constant & UINT64_C(0x4040404040404040)) >> 1;
    return (load_u64(name) | case_bits) == constant;
}

static const char if_match[] = "if-match";
static const char if_none_match[] = "if-none-match";
static const char if_modified_since[] = "if-modified-since";
static const char if_unmodified_since[] = "if-unmodified-since";

/* Most fields of a request are other ones: their length and first letter say so. */
static inline struct lines *condition_of(struct conditions *c, etag_str name)
{
    if (name.len < 8 || char_lower(name.data[0]) != 'i')
        return NULL;
    const char *tail = name.data + name.len - 8;
    switch (name.len) {
    case sizeof(if_match) - 1:
        return eight_equal(name.data, if_match) ? &c->match : NULL;
    case sizeof(if_none_match) - 1:
        return eight_equal(name.data, if_none_match) && eight_equal(tail, if_none_match + 5)
                   ? &c->none_match
                   : NULL;
    case sizeof(if_modified_since) - 1:
        return eight_equal(name.data, if_modified_since) &&
                       eight_equal(name.data + 8, if_modified_since + 8) &&
                       eight_equal(tail, if_modified_since + 9)
                   ? &c->modified_since
                   : NULL;
    case sizeof(if_unmodified_since) - 1:
        return eight_equal(name.data, if_unmodified_since) &&
                       eight_equal(name.data + 8, if_unmodified_since + 8) &&
                       eight_equal(tail, if_unmodified_since + 11)
                   ? &c->unmodified_since
                   : NULL;
    default:
        return NULL;
    }
}

static inline void conditions_find(struct conditions *c, const etag_request *request)
{
    for (size_t i = 0; i < request->field_count; i++) {
        struct lines *lines = condition_of(c, request->fields[i].name);
        if (lines && request->fields[i].value.data && lines->count++ == 0)
            lines->first = i;
    }
}

/* ---- Judging them ---- */

enum method_kind {
    METHOD_READS,   /* GET, HEAD: false conditions can mean 304 */
    METHOD_OTHER,   /* may change something, or nobody knows */
    METHOD_OUTSIDE, /* selects no representation: conditions mean nothing (section 13.2.1) */
};

/* What is judged: a request, and what the validators say in terms of it. */
struct judging {
    const etag_request *request;
    enum method_kind method;
    etag_existence existence;
    bool has_tag; /* tag is the representation's, and well formed */
    struct entity_tag tag;
    int64_t last_modified;
};

static inline enum method_kind method_kind_of(etag_str method)
{
    switch (method.len) {
    case 3:
        return memcmp(method.data, "GET", 3) == 0 ? METHOD_READS : METHOD_OTHER;
    case 4:
        return memcmp(method.data, "HEAD", 4) == 0 ? METHOD_READS : METHOD_OTHER;
    case 5:
        return memcmp(method.data, "TRACE", 5) == 0 ? METHOD_OUTSIDE : METHOD_OTHER;
    case 7:
        return memcmp(method.data, "OPTIONS", 7) == 0 || memcmp(method.data, "CONNECT", 7) == 0
                   ? METHOD_OUTSIDE
                   : METHOD_OTHER;
    default:
        return METHOD_OTHER;
    }
}

static inline struct judging judging_of(const etag_request *request,
                                        const etag_validators *validators)
{
    struct judging j = {
        .request = request,
        .method = method_kind_of(request->method),
        .existence = validators->existence,
        .last_modified = validators->last_modified,
    };
    if (j.existence == ETAG_ABSENT) {
        j.last_modified = ETAG_NO_DATE;
    } else if (validators->etag.len > 0) {
        j.existence = ETAG_EXISTS; /* who has a tag exists */
        j.has_tag = entity_tag_parse(validators->etag, &j.tag);
    }
    return j;
}

enum outcome {
    OUTCOME_FALSE, /* nothing listed is the current tag */
    OUTCOME_TRUE,
    OUTCOME_MALFORMED,
    OUTCOME_UNKNOWN, /* it depends on the existence, which is not known */
};

/* "*" */
static inline enum outcome any_outcome(const struct judging *j)
{
    if (j->existence == ETAG_EXISTENCE_UNKNOWN)
        return OUTCOME_UNKNOWN;
    return j->existence == ETAG_EXISTS ? OUTCOME_TRUE : OUTCOME_FALSE;
}

/* Walks one line of a list to its end, as a malformed end makes all of it malformed. */
static inline enum outcome line_outcome(const struct judging *j, etag_str line, bool strong,
                                        enum outcome so_far)
{
    struct entity_tag listed;
    int next;
    while ((next = entity_tag_next(&line, &listed)) > 0) {
        if (j->existence == ETAG_EXISTENCE_UNKNOWN)
            so_far = OUTCOME_UNKNOWN;
        else if (j->has_tag && (strong ? entity_tag_equal_strong(listed, j->tag)
                                       : entity_tag_equal_weak(listed, j->tag)))
            so_far = OUTCOME_TRUE;
    }
    return next == 0 ? so_far : OUTCOME_MALFORMED;
}

/* Does the field, all its lines together, list the current tag? */
static inline enum outcome list_outcome(const struct judging *j, struct lines lines, etag_str name,
                                        bool strong)
{
    const etag_field *field = j->request->fields + lines.first;
    if (lines.count == 1) {
        const etag_str whole = str_trim(field->value);
        if (whole.len == 1 && whole.data[0] == '*')
            return any_outcome(j);
    }
    enum outcome outcome = line_outcome(j, field->value, strong, OUTCOME_FALSE);
    for (size_t left = lines.count - 1; left > 0 && outcome != OUTCOME_MALFORMED;) {
        field++;
        if (!field->value.data || !str_equal_nocase(field->name, name))
            continue;
        left--;
        outcome = line_outcome(j, field->value, strong, outcome);
    }
    return outcome;
}

/* The field's date, or ETAG_NO_DATE if it counts as absent. */
static int64_t lines_date(const struct judging *j, struct lines lines)
{
    if (lines.count != 1)
        return ETAG_NO_DATE;
    const etag_str text = str_trim(j->request->fields[lines.first].value);
    const int64_t now_s = http_date_needs_now(text)
                              ? (int64_t)(time_ns_of(CLOCK_REALTIME_COARSE) / NS_PER_S)
                              : 0;
    return http_date_parse(text, now_s);
}

static inline struct judgement judge_match(const struct judging *j, struct lines lines)
{
    switch (list_outcome(j, lines, ETAG_LIT(if_match), true)) {
    case OUTCOME_TRUE:
        return (struct judgement){ETAG_PROCEED, ETAG_REASON_MATCH};
    case OUTCOME_UNKNOWN:
        return (struct judgement){ETAG_UNKNOWN, ETAG_REASON_NONE};
    case OUTCOME_MALFORMED:
        return (struct judgement){ETAG_PRECONDITION_FAILED, ETAG_REASON_MALFORMED};
    case OUTCOME_FALSE:
    default:
        return (struct judgement){ETAG_PRECONDITION_FAILED, ETAG_REASON_NO_MATCH};
    }
}

static inline struct judgement judge_none_match(const struct judging *j, struct lines lines)
{
    switch (list_outcome(j, lines, ETAG_LIT(if_none_match), false)) {
    case OUTCOME_TRUE:
        return (struct judgement){j->method == METHOD_READS ? ETAG_NOT_MODIFIED
                                                            : ETAG_PRECONDITION_FAILED,
                                  ETAG_REASON_MATCH};
    case OUTCOME_UNKNOWN:
        return (struct judgement){ETAG_UNKNOWN, ETAG_REASON_NONE};
    case OUTCOME_MALFORMED:
        return (struct judgement){j->method == METHOD_READS ? ETAG_PROCEED
                                                            : ETAG_PRECONDITION_FAILED,
                                  ETAG_REASON_MALFORMED};
    case OUTCOME_FALSE:
    default:
        return (struct judgement){ETAG_PROCEED, ETAG_REASON_NO_MATCH};
    }
}

/* Both conditions on dates ask the same question; they differ in which answer stops the request, and how. */
static struct judgement judge_date(const struct judging *j, struct lines lines,
                                   etag_verdict if_unmodified, etag_verdict if_modified)
{
    const int64_t date = lines_date(j, lines);
    if (date == ETAG_NO_DATE || j->last_modified == ETAG_NO_DATE)
        return (struct judgement){ETAG_PROCEED, ETAG_REASON_NO_CONDITION};
    if (j->last_modified <= date)
        return (struct judgement){if_unmodified, ETAG_REASON_NOT_MODIFIED_SINCE};
    return (struct judgement){if_modified, ETAG_REASON_MODIFIED_SINCE};
}

struct judgement precondition_judge(const etag_request *request, const etag_validators *validators)
{
    struct judgement first = {ETAG_PROCEED, ETAG_REASON_NO_CONDITION};
    const struct judging j = judging_of(request, validators);
    if (j.method == METHOD_OUTSIDE || (j.method == METHOD_READS && j.existence == ETAG_ABSENT))
        return first;

    struct conditions c = {0};
    conditions_find(&c, request);
    if (c.match.count > 0)
        first = judge_match(&j, c.match);
    else if (c.unmodified_since.count > 0)
        first = judge_date(&j, c.unmodified_since, ETAG_PROCEED, ETAG_PRECONDITION_FAILED);
    if (first.verdict != ETAG_PROCEED)
        return first;

    if (c.none_match.count > 0)
        return judge_none_match(&j, c.none_match);
    if (c.modified_since.count > 0 && j.method == METHOD_READS) {
        const struct judgement second = judge_date(&j, c.modified_since, ETAG_NOT_MODIFIED,
                                                   ETAG_PROCEED);
        if (second.reason != ETAG_REASON_NO_CONDITION)
            return second;
    }
    return first;
}
