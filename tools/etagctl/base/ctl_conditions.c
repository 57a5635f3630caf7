/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The verdict is libetag's, of the whole request. Why it is so is found by asking libetag again
 * with parts of the request: one condition alone, one entity tag alone. So there is no second
 * implementation of RFC 9110 that could differ.
 */
#include "ctl_conditions.h"

#include "text.h"

struct judging {
    struct conditions *out;
    const etag_request *request;
    const etag_validators *validators;
};

static etag_verdict verdict_with(const struct judging *judging, etag_str method,
                                 const etag_field *fields, size_t count)
{
    etag_request part = *judging->request;

    part.method = method;
    part.fields = fields;
    part.field_count = count;
    part.require_if_match = false;
    return etag_evaluate(&part, judging->validators);
}

static void note(const struct judging *judging, const char *name, etag_str value, const char *says)
{
    struct conditions *out = judging->out;

    if (out->count == CONDITIONS_MAX) {
        out->left_out++;
        return;
    }
    out->list[out->count++] = (struct condition){name, value, says, false};
}

static size_t field_count(const struct judging *judging, const char *name)
{
    size_t count = 0;

    for (size_t i = 0; i < judging->request->field_count; i++)
        count += str_equal_nocase(judging->request->fields[i].name, str_of(name));
    return count;
}

/* The verdict of all lines of one condition. */
static etag_verdict verdict_of(const struct judging *judging, const char *name)
{
    etag_field fields[CONDITIONS_MAX];
    size_t count = 0;

    for (size_t i = 0; i < judging->request->field_count && count < CONDITIONS_MAX; i++)
        if (str_equal_nocase(judging->request->fields[i].name, str_of(name)))
            fields[count++] = judging->request->fields[i];
    return verdict_with(judging, judging->request->method, fields, count);
}

static void decided(const struct judging *judging, const char *name)
{
    for (size_t i = 0; i < judging->out->count; i++)
        if (strcmp(judging->out->list[i].name, name) == 0)
            /* The matching member of a list that matches, else the whole list. */
            judging->out->list[i].decides = strcmp(name, "If-None-Match") != 0 ||
                                            strncmp(judging->out->list[i].says, "matches", 7) == 0;
}

/* ---- Entity tags ---- */

/* The next element of a list; commas within quotes are part of it. */
static bool element_next(etag_str *list, etag_str *element)
{
    bool quoted = false;
    size_t len = 0;

    while (list->len > 0 && (char_is_blank(list->data[0]) || list->data[0] == ','))
        *list = str_skip(*list, 1);
    while (len < list->len && (quoted || list->data[len] != ',')) {
        quoted ^= list->data[len] == '"';
        len++;
    }
    *element = str_trim((etag_str){list->data, len});
    *list = str_skip(*list, len);
    return len > 0;
}

/* Does the tag alone match, by strong (If-Match) or by weak comparison (If-None-Match)? */
static bool tag_matches(const struct judging *judging, const char *condition, etag_str tag)
{
    const etag_field field = {str_of(condition), tag};
    const etag_verdict verdict = verdict_with(judging, ETAG_LIT("GET"), &field, 1);

    return strcmp(condition, "If-Match") == 0 ? verdict == ETAG_PROCEED
                                              : verdict == ETAG_NOT_MODIFIED;
}

static const char *tag_says(const struct judging *judging, const char *condition, etag_str tag)
{
    const bool wants_strong = strcmp(condition, "If-Match") == 0;
    const bool strong = tag_matches(judging, "If-Match", tag);
    const bool weak = tag_matches(judging, "If-None-Match", tag);

    if (str_equal(tag, ETAG_LIT("*")))
        return "matches: the representation exists";
    if (tag.len < 2 || tag.data[tag.len - 1] != '"')
        return "is no entity tag: those are quoted";
    if (wants_strong)
        return strong
                   ? "matches, strongly"
                   : (weak ? "matches only weakly, and If-Match wants strong" : "does not match");
    if (strong)
        return "matches, strongly";
    if (weak && !str_equal(tag, judging->validators->etag) &&
        judging->request->compression_suffixes)
        return "matches, weakly or but for the coding's suffix";
    return weak ? "matches, weakly, which is enough here" : "does not match";
}

static void tags_note(const struct judging *judging, const char *name)
{
    for (size_t i = 0; i < judging->request->field_count; i++) {
        const etag_field *field = &judging->request->fields[i];
        etag_str list = field->value;
        etag_str tag;
        if (!str_equal_nocase(field->name, str_of(name)))
            continue;
        if (list.len == 0)
            note(judging, name, list, "is empty");
        while (element_next(&list, &tag))
            note(judging, name, tag, tag_says(judging, name, tag));
    }
}

/* ---- Dates ---- */

static const char *date_says(const struct judging *judging, const char *name, etag_str value,
                             const char *instead)
{
    const bool modified_since = strcmp(name, "If-Modified-Since") == 0;
    const int64_t date = etag_date_parse(value);

    if (instead)
        return instead;
    if (date == ETAG_NO_DATE)
        return "is no HTTP date: ignored";
    if (judging->validators->last_modified == ETAG_NO_DATE)
        return "says nothing: the entry has no Last-Modified";
    if (modified_since && !str_equal(judging->request->method, ETAG_LIT("GET")) &&
        !str_equal(judging->request->method, ETAG_LIT("HEAD")))
        return "is ignored: the method is neither GET nor HEAD";
    if (judging->validators->last_modified > date)
        return "modified since";
    return modified_since && !judging->validators->last_modified_is_strong
               ? "not modified since, but the date is weak: two versions may have it, so it is "
                 "rendered"
               : "not modified since";
}

static void date_note(const struct judging *judging, const char *name, const char *instead)
{
    for (size_t i = 0; i < judging->request->field_count; i++) {
        const etag_field *field = &judging->request->fields[i];
        if (str_equal_nocase(field->name, str_of(name)))
            note(judging, name, field->value, date_says(judging, name, field->value, instead));
    }
}

/* ---- Ranges ---- */

static const char *range_says(const struct judging *judging, bool if_range)
{
    const struct conditions *out = judging->out;

    if (out->verdict != ETAG_PROCEED)
        return "is not looked at: another condition decided";
    if (!if_range)
        return out->range == ETAG_RANGE_HONOR ? "may be honored: 206 or 416"
                                              : "is ignored: all of it is sent";
    if (out->range == ETAG_RANGE_NONE)
        return "is ignored: there is no Range";
    return out->range == ETAG_RANGE_HONOR ? "is true: by strong comparison"
                                          : "is false: it wants a strong match, also of a date";
}

static void range_note(const struct judging *judging)
{
    for (size_t i = 0; i < judging->request->field_count; i++) {
        const etag_field *field = &judging->request->fields[i];
        if (str_equal_nocase(field->name, ETAG_LIT("Range")))
            note(judging, "Range", field->value, range_says(judging, false));
        if (str_equal_nocase(field->name, ETAG_LIT("If-Range")))
            note(judging, "If-Range", field->value, range_says(judging, true));
    }
}

/* ---- All of them, in the order of RFC 9110 section 13.2.2 ---- */

void conditions_judge(struct conditions *out, const etag_request *request,
                      const etag_validators *validators)
{
    const struct judging judging = {out, request, validators};

    *out = (struct conditions){.verdict = etag_evaluate(request, validators)};
    /* As the lookup does: a weak date alone is no 304. */
    if (out->verdict == ETAG_NOT_MODIFIED && !validators->last_modified_is_strong &&
        field_count(&judging, "If-None-Match") == 0)
        out->verdict = ETAG_PROCEED;
    if (out->verdict == ETAG_PROCEED)
        out->range = etag_evaluate_range(request, validators);

    const char *first = field_count(&judging, "If-Match") ? "If-Match" : "If-Unmodified-Since";
    const char *second = field_count(&judging, "If-None-Match") ? "If-None-Match"
                                                                : "If-Modified-Since";
    tags_note(&judging, "If-Match");
    date_note(&judging, "If-Unmodified-Since",
              strcmp(first, "If-Match") == 0 ? "is ignored: If-Match is there" : NULL);
    tags_note(&judging, "If-None-Match");
    date_note(&judging, "If-Modified-Since",
              strcmp(second, "If-None-Match") == 0 ? "is ignored: If-None-Match is there" : NULL);
    range_note(&judging);

    if (out->verdict == ETAG_PROCEED || out->verdict == ETAG_UNKNOWN)
        return;
    if (verdict_of(&judging, first) == ETAG_PRECONDITION_FAILED)
        decided(&judging, first);
    else if (out->verdict != ETAG_PRECONDITION_REQUIRED)
        decided(&judging, second);
}
