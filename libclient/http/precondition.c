/* SPDX-License-Identifier: Apache-2.0 */
/*
 * RFC 9110 section 13.2.2 in its order: If-Match, else If-Unmodified-Since; then If-None-Match,
 * else If-Modified-Since; If-Range last. One pass over the fields finds the conditions; only those
 * that count are then parsed, in place. Nothing is copied: several lines of a field are read as the
 * one list that they form.
 *
 * Where the RFC leaves a choice, the harmless answer is taken:
 *
 *   malformed list     The whole field counts as malformed, valid elements before the bad place
 *                      included: what the client meant is not known. If-Match is then false (412:
 *                      no update is lost). If-None-Match never gives a 304; on a method that may
 *                      change something it is false too (412), as the client asked to be protected
 *                      from overwriting. If-Modified-Since stays ignored beside it.
 *   "*"                Means "any" only if it is the whole field. A second line or an element
 *                      beside it is malformed.
 *   empty list         Well formed by the grammar for recipients; no element, so nothing matches.
 *   dates              Several lines, or anything but an HTTP-date: ignored, as the RFC demands. A
 *                      date beside which the resource has none: ignored.
 *   stored tag         If it is no entity tag, it matches nothing.
 *   unknown methods    Are like PUT: never a 304.
 *   absent resource    GET and HEAD answer 404 without their conditions, so these are ignored
 *                      (section 13.2.1).
 *   If-Range           Anything but one tag, or the very text of one date, is false: the whole
 *                      representation is right for everybody.
 */
#include "precondition.h"

#include "bytes.h"
#include "clocktime.h"
#include "entity_tag.h"
#include "http_date.h"
#include "numbers.h"
#include "text.h"

/* ---- Finding the conditions ---- */

/* Where the lines of one field are; count 0: the request has no such field. A line whose value is
 * absent (not empty) is none. */
struct lines {
    size_t first, count;
};

struct conditions {
    struct lines match, none_match, modified_since, unmodified_since;
};

struct range_lines {
    struct lines range, if_range;
};

/* Eight letters and hyphens of a name, compared without case: the bit that makes a letter lower
 * case is set where the constant has a letter, and nowhere else. */
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
static const char if_range[] = "if-range";

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

/* Field i is one more of these lines. */
static inline void lines_add(struct lines *lines, const etag_request *request, size_t i)
{
    if (lines && request->fields[i].value.data && lines->count++ == 0)
        lines->first = i;
}

static inline void conditions_find(struct conditions *c, const etag_request *request)
{
    for (size_t i = 0; i < request->field_count; i++)
        lines_add(condition_of(c, request->fields[i].name), request, i);
}

/* A pass of its own, for the few requests that have come so far: the way to a 304 does not pay for
 * it. */
static void range_find(struct range_lines *r, const etag_request *request)
{
    for (size_t i = 0; i < request->field_count; i++) {
        const etag_str name = request->fields[i].name;
        if (str_equal_nocase(name, ETAG_LIT("range")))
            lines_add(&r->range, request, i);
        else if (name.len == sizeof(if_range) - 1 && eight_equal(name.data, if_range))
            lines_add(&r->if_range, request, i);
    }
}

/* Is the whole field "*"? */
static inline bool lines_are_any(const etag_request *request, struct lines lines)
{
    if (lines.count != 1)
        return false;
    const etag_str whole = str_trim(request->fields[lines.first].value);
    return whole.len == 1 && whole.data[0] == '*';
}

/* ---- Judging them ---- */

enum method_kind {
    /* GET, HEAD: false conditions can mean 304 */
    METHOD_READS,
    /* may change something, or it is not known */
    METHOD_OTHER,
    /* selects no representation: conditions mean nothing (section 13.2.1) */
    METHOD_OUTSIDE,
};

/* What is judged: a request, and what the validators say in terms of it. */
struct judging {
    const etag_request *request;
    enum method_kind method;
    etag_existence existence;
    /* of length 0: none. Only divided: a malformed one equals no tag of a request */
    struct entity_tag tag;
    /* the request wants it, and tag is well formed: else a part of it might be equal */
    bool suffixes_count;
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
        j.existence = ETAG_EXISTS; /* a tag implies existence */
        j.tag = entity_tag_divide(validators->etag);
        j.suffixes_count = request->compression_suffixes &&
                           entity_tag_parse(validators->etag, &j.tag);
    }
    return j;
}

enum outcome {
    /* nothing listed is the current tag */
    OUTCOME_FALSE,
    OUTCOME_TRUE,
    OUTCOME_MALFORMED,
    /* it depends on the existence, which is not known */
    OUTCOME_UNKNOWN,
};

/* How listed tags are compared with the current one. */
enum comparison { COMPARE_STRONG, COMPARE_WEAK, COMPARE_SUFFIXED };

static inline bool tags_equal(struct entity_tag listed, struct entity_tag current,
                              enum comparison how)
{
    switch (how) {
    case COMPARE_STRONG:
        return entity_tag_equal_strong(listed, current);
    case COMPARE_SUFFIXED:
        return entity_tag_equal_suffixed(listed, current);
    case COMPARE_WEAK:
    default:
        return entity_tag_equal_weak(listed, current);
    }
}

/* "*" */
static inline enum outcome any_outcome(const struct judging *j)
{
    if (j->existence == ETAG_EXISTENCE_UNKNOWN)
        return OUTCOME_UNKNOWN;
    return j->existence == ETAG_EXISTS ? OUTCOME_TRUE : OUTCOME_FALSE;
}

/* What one listed tag, after others, makes of the outcome. */
static inline enum outcome tag_outcome(const struct judging *j, struct entity_tag listed,
                                       enum comparison how, enum outcome so_far)
{
    if (j->existence == ETAG_EXISTENCE_UNKNOWN)
        return OUTCOME_UNKNOWN;
    return tags_equal(listed, j->tag, how) ? OUTCOME_TRUE : so_far;
}

/* Walks one line of a list to its end, as a malformed end makes all of it malformed. */
static enum outcome line_outcome(const struct judging *j, etag_str line, enum comparison how,
                                 enum outcome so_far)
{
    struct entity_tag listed;
    int next;

    while ((next = entity_tag_next(&line, &listed)) > 0)
        so_far = tag_outcome(j, listed, how, so_far);
    return next == 0 ? so_far : OUTCOME_MALFORMED;
}

/* All lines of the field, which is not "*". */
static enum outcome lines_outcome(const struct judging *j, struct lines lines, etag_str name,
                                  enum comparison how)
{
    const etag_field *field = j->request->fields + lines.first;
    enum outcome outcome = line_outcome(j, field->value, how, OUTCOME_FALSE);

    for (size_t left = lines.count - 1; left > 0 && outcome != OUTCOME_MALFORMED;) {
        field++;
        if (!field->value.data || !str_equal_nocase(field->name, name))
            continue;
        left--;
        outcome = line_outcome(j, field->value, how, outcome);
    }
    return outcome;
}

/* Does the field, all its lines together, list the current tag? Nearly every one is a single
 * tag. */
static inline enum outcome list_outcome(const struct judging *j, struct lines lines, etag_str name,
                                        enum comparison how)
{
    struct entity_tag listed;

    if (lines.count == 1 &&
        entity_tag_parse(str_trim(j->request->fields[lines.first].value), &listed))
        return tag_outcome(j, listed, how, OUTCOME_FALSE);
    if (lines_are_any(j->request, lines))
        return any_outcome(j);
    return lines_outcome(j, lines, name, how);
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
    switch (list_outcome(j, lines, ETAG_LIT(if_match), COMPARE_STRONG)) {
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
    const enum comparison how = j->suffixes_count ? COMPARE_SUFFIXED : COMPARE_WEAK;

    switch (list_outcome(j, lines, ETAG_LIT(if_none_match), how)) {
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

/* Both conditions on dates ask the same question; they differ in which answer stops the request,
 * and how. */
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

/* "If-None-Match: *" will do too: who wants only to create overwrites nothing. */
static bool condition_is_missing(const etag_request *request, enum method_kind method,
                                 const struct conditions *c)
{
    return method == METHOD_OTHER && c->match.count == 0 && !lines_are_any(request, c->none_match);
}

bool precondition_missing(const etag_request *request)
{
    struct conditions c = {0};

    if (!request->require_if_match)
        return false;
    conditions_find(&c, request);
    return condition_is_missing(request, method_kind_of(request->method), &c);
}

/* The one field whose name begins with "If-"; NULL: there is none, or several. */
static inline const etag_field *only_condition(const etag_request *request)
{
    const etag_field *only = NULL;

    for (size_t i = 0; i < request->field_count; i++) {
        const etag_str name = request->fields[i].name;
        if (name.len < 8 || (load_u32(name.data) & 0xffdfdf) != ('I' | 'F' << 8 | '-' << 16))
            continue;
        if (only)
            return NULL;
        only = &request->fields[i];
    }
    return only;
}

/* The question that nearly all conditional requests ask, and no other condition: is it still this
 * one tag? */
static inline bool only_tag(const etag_request *request, struct entity_tag *out)
{
    const etag_field *const only = only_condition(request);

    return only && only->name.len == sizeof(if_none_match) - 1 &&
           eight_equal(only->name.data, if_none_match) &&
           eight_equal(only->name.data + 5, if_none_match + 5) &&
           method_kind_of(request->method) == METHOD_READS && !request->compression_suffixes &&
           entity_tag_parse(only->value, out);
}

bool precondition_only_tag(const etag_request *request, struct entity_tag *out)
{
    return only_tag(request, out);
}

/* True: *out is what the long way would come to. It takes a third of the long way's time
 * (bench/bench_evaluate.c). */
static inline bool judge_one_tag(struct judgement *out, const etag_request *request,
                                 const etag_validators *validators)
{
    struct entity_tag listed;

    if (validators->etag.len == 0 || validators->existence == ETAG_ABSENT ||
        !only_tag(request, &listed))
        return false;
    *out = entity_tag_equal_weak(listed, entity_tag_divide(validators->etag))
               ? (struct judgement){ETAG_NOT_MODIFIED, ETAG_REASON_MATCH}
               : (struct judgement){ETAG_PROCEED, ETAG_REASON_NO_MATCH};
    return true;
}

/* Rule DATE_STRONG: without a strong date the client may have an earlier version of the same
 * second. */
static struct judgement judge_modified_since(const struct judging *j, struct lines lines,
                                             bool date_counts)
{
    const struct judgement judgement = judge_date(j, lines, ETAG_NOT_MODIFIED, ETAG_PROCEED);

    return judgement.verdict == ETAG_NOT_MODIFIED && !date_counts
               ? (struct judgement){ETAG_PROCEED, ETAG_REASON_DATE_WEAK}
               : judgement;
}

struct judgement precondition_judge(const etag_request *request, const etag_validators *validators,
                                    enum dates dates)
{
    struct judgement first = {ETAG_PROCEED, ETAG_REASON_NO_CONDITION};

    if (judge_one_tag(&first, request, validators))
        return first;
    const struct judging j = judging_of(request, validators);
    if (j.method == METHOD_OUTSIDE || (j.method == METHOD_READS && j.existence == ETAG_ABSENT))
        return first;

    struct conditions c = {0};
    conditions_find(&c, request);
    if (request->require_if_match && condition_is_missing(request, j.method, &c))
        return (struct judgement){ETAG_PRECONDITION_REQUIRED, ETAG_REASON_REQUIRED};
    if (c.match.count > 0)
        first = judge_match(&j, c.match);
    else if (c.unmodified_since.count > 0)
        first = judge_date(&j, c.unmodified_since, ETAG_PROCEED, ETAG_PRECONDITION_FAILED);
    if (first.verdict != ETAG_PROCEED)
        return first;

    if (c.none_match.count > 0)
        return judge_none_match(&j, c.none_match);
    if (c.modified_since.count > 0 && j.method == METHOD_READS) {
        const struct judgement second = judge_modified_since(
            &j, c.modified_since, dates == DATES_AS_RFC || validators->last_modified_is_strong);
        if (second.reason != ETAG_REASON_NO_CONDITION)
            return second;
    }
    return first;
}

/* ---- Range and If-Range ---- */

/* Section 13.1.5: "A valid entity-tag can be distinguished from a valid HTTP-date by examining the
 * first three characters for a DQUOTE." The tag is compared strongly. The date must be strong, and
 * "exactly match the Last-Modified field value", which is always sent in the one form; another text
 * of the same second did not come from us. */
static bool if_range_is_true(const struct judging *j, struct lines lines, bool date_is_strong)
{
    struct entity_tag listed;
    char sent[HTTP_DATE_BYTES];

    if (lines.count != 1)
        return false;
    const etag_str value = str_trim(j->request->fields[lines.first].value);
    if (value.len > 0 && memchr(value.data, '"', min_of(value.len, 3)))
        return entity_tag_parse(value, &listed) && entity_tag_equal_strong(listed, j->tag);
    if (!date_is_strong || j->last_modified == ETAG_NO_DATE)
        return false;
    http_date_format(j->last_modified, sent);
    return str_equal(value, (etag_str){sent, sizeof(sent)});
}

etag_range precondition_range(const etag_request *request, const etag_validators *validators)
{
    struct range_lines r = {0};

    if (!str_equal(request->method, ETAG_LIT("GET")))
        return ETAG_RANGE_NONE;
    range_find(&r, request);
    if (r.range.count == 0)
        return ETAG_RANGE_NONE;
    if (r.if_range.count == 0)
        return ETAG_RANGE_HONOR;
    const struct judging j = judging_of(request, validators);
    return if_range_is_true(&j, r.if_range, validators->last_modified_is_strong)
               ? ETAG_RANGE_HONOR
               : ETAG_RANGE_IGNORE;
}
