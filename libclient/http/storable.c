/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The input is a response with all of its header fields; the result is an entry with those that a
 * 304 repeats. One pass reads each field, by name; the fields are judged together at the end, in
 * the order of etag.h, so that a response with several faults always gets the same reason.
 *
 * Refusing costs a render, storing wrongly costs a leak: a Cache-Control that can't be read is
 * refused (it could hide no-store), a qualified private counts as private (RFC 9111 section 5.2.2.7
 * allows that), and no-store counts even with must-understand.
 */
#include "storable.h"

#include "clocktime.h"
#include "http_date.h"
#include "text.h"

/* What the fields said. */
struct findings {
    /* Cache-Control; the last: RFC 9111 section 3.5 */
    bool no_store, is_private, common_anyway;
    bool set_cookie, vary_star, vary_uncovered, csp_nonce, content_range;
    etag_str etag, last_modified, content_location, date;
    /* what is wrong besides; NONE: nothing */
    etag_reason fault;
    /* in a sentence, static text */
    const char *malformed;
};

/* Of several faults the one with the lowest number stays, in whatever order the fields come. */
static void fault_note(struct findings *f, etag_reason reason, const char *text)
{
    if (f->fault != ETAG_REASON_NONE && f->fault <= reason)
        return;
    f->fault = reason;
    f->malformed = text;
}

/* ---- Cache-Control ---- */

static size_t token_span(etag_str text)
{
    size_t at = 0;

    while (at < text.len && char_is_token(text.data[at]))
        at++;
    return at;
}

/* Length of a quoted-string at the start of text, 0 if it does not end. */
static size_t quoted_span(etag_str text)
{
    for (size_t at = 1; at < text.len; at++) {
        if (text.data[at] == '\\')
            at++;
        else if (text.data[at] == '"')
            return at + 1;
    }
    return 0;
}

/* Reads one directive at the start of *rest: 1 and its name; 0 at the end; -1 malformed. */
static int directive_next(etag_str *rest, etag_str *name)
{
    while (rest->len > 0 && (rest->data[0] == ',' || char_is_blank(rest->data[0])))
        *rest = str_skip(*rest, 1);
    if (rest->len == 0)
        return 0;
    *name = (etag_str){rest->data, token_span(*rest)};
    *rest = str_skip(*rest, name->len);
    if (rest->len > 0 && rest->data[0] == '=') {
        *rest = str_skip(*rest, 1);
        const bool quoted = rest->len > 0 && rest->data[0] == '"';
        const size_t value_len = quoted ? quoted_span(*rest) : token_span(*rest);
        if (value_len == 0)
            return -1;
        *rest = str_skip(*rest, value_len);
    }
    *rest = str_trim(*rest);
    return name->len > 0 && (rest->len == 0 || rest->data[0] == ',') ? 1 : -1;
}

static void cache_control_read(struct findings *f, etag_str value)
{
    etag_str name;
    int next;

    while ((next = directive_next(&value, &name)) > 0) {
        f->no_store |= str_is_named(name, ETAG_LIT("no-store"));
        f->is_private |= str_is_named(name, ETAG_LIT("private"));
        f->common_anyway |= str_is_named(name, ETAG_LIT("public")) ||
                            str_is_named(name, ETAG_LIT("must-revalidate")) ||
                            str_is_named(name, ETAG_LIT("s-maxage"));
    }
    if (next < 0)
        fault_note(f, ETAG_REASON_BAD_FIELD, "Cache-Control is malformed");
}

/* ---- The other fields ---- */

static bool key_covers(const etag_key *key, etag_str name)
{
    for (size_t i = 0; i < key->vary_count; i++)
        if (str_is_named(key->vary[i].name, name))
            return true;
    return false;
}

static void vary_read(struct findings *f, const etag_key *key, etag_str value)
{
    while (value.len > 0) {
        const char *comma = memchr(value.data, ',', value.len);
        const size_t len = comma ? (size_t)(comma - value.data) : value.len;
        const etag_str name = str_trim((etag_str){value.data, len});
        value = str_skip(value, comma ? len + 1 : len);
        if (str_equal(name, ETAG_LIT("*")))
            f->vary_star = true;
        else if (name.len > 0 && !key_covers(key, name))
            f->vary_uncovered = true;
    }
}

/* A policy's nonce-source; elsewhere the text can't occur, so that no grammar is needed. */
static bool has_nonce(etag_str policy)
{
    const etag_str source = ETAG_LIT("'nonce-");

    while (policy.len >= source.len) {
        const char *const quote = memchr(policy.data, source.data[0], policy.len);
        if (!quote)
            return false;
        policy = str_skip(policy, (size_t)(quote - policy.data));
        if (policy.len >= source.len &&
            str_equal_nocase((etag_str){policy.data, source.len}, source))
            return true;
        policy = str_skip(policy, 1);
    }
    return false;
}

/* For a field that must be in one line. */
static void single_read(struct findings *f, etag_str *into, etag_str value, etag_reason reason,
                        const char *twice)
{
    if (into->data)
        fault_note(f, reason, twice);
    *into = value;
}

/* Notes what one field says. */
static void field_read(struct findings *f, const etag_key *key, etag_str name, etag_str value)
{
    if (str_is_named(name, ETAG_LIT("Cache-Control")))
        cache_control_read(f, value);
    else if (str_is_named(name, ETAG_LIT("Vary")))
        vary_read(f, key, value);
    else if (str_is_named(name, ETAG_LIT("ETag")))
        single_read(f, &f->etag, value, ETAG_REASON_BAD_ETAG, "several ETag fields");
    else if (str_is_named(name, ETAG_LIT("Last-Modified")))
        single_read(f, &f->last_modified, value, ETAG_REASON_BAD_FIELD,
                    "several Last-Modified fields");
    else if (str_is_named(name, ETAG_LIT("Content-Location")))
        single_read(f, &f->content_location, value, ETAG_REASON_BAD_FIELD,
                    "several Content-Location fields");
    else if (str_is_named(name, ETAG_LIT("Date")))
        f->date = value;
    else if (str_is_named(name, ETAG_LIT("Set-Cookie")))
        f->set_cookie = true;
    else if (str_is_named(name, ETAG_LIT("Content-Range")))
        f->content_range = true;
    else if (str_is_named(name, ETAG_LIT("Content-Security-Policy")) ||
             str_is_named(name, ETAG_LIT("Content-Security-Policy-Report-Only")))
        f->csp_nonce |= has_nonce(value);
}

/* ---- The verdict ---- */

static etag_reason judge(const struct findings *f, const etag_entry *response)
{
    const bool is_public = response->key->scope.kind == ETAG_SCOPE_PUBLIC;

    if (response->method.data && !str_equal(response->method, ETAG_LIT("GET")))
        return ETAG_REASON_METHOD;
    if (response->http_status != 200)
        return ETAG_REASON_HTTP_STATUS;
    if (!response->etag.data && !f->etag.data)
        return ETAG_REASON_NO_VALIDATOR;
    if (f->no_store)
        return ETAG_REASON_NO_STORE;
    if (f->is_private && is_public)
        return ETAG_REASON_PRIVATE;
    if (response->had_authorization && is_public && !f->common_anyway)
        return ETAG_REASON_AUTHORIZATION;
    if (f->set_cookie)
        return ETAG_REASON_SET_COOKIE;
    if (f->vary_star)
        return ETAG_REASON_VARY_STAR;
    if (f->vary_uncovered)
        return ETAG_REASON_VARY_UNCOVERED;
    if (f->csp_nonce)
        return ETAG_REASON_CSP_NONCE;
    if (f->content_range)
        return ETAG_REASON_CONTENT_RANGE;
    if (response->withheld)
        return ETAG_REASON_WITHHELD;
    return f->fault;
}

/* Expires as an offset from Date, so that a 304 of tomorrow does not carry today's. What is no date
 * ("0": already expired) stays as it is. */
static void expires_reduce(struct kept_field *kept, const struct findings *f, int64_t now_s)
{
    const int64_t expires_s = http_date_parse(kept->field.value, now_s);

    if (expires_s == ETAG_NO_DATE)
        return;
    const int64_t date_s = http_date_parse(f->date, now_s);
    kept->kind = FIELDSET_EXPIRES;
    kept->offset_s = expires_s - (date_s == ETAG_NO_DATE ? now_s : date_s);
}

static uint64_t ms_of_seconds(uint64_t s)
{
    return s > UINT64_MAX / 1000 ? UINT64_MAX : s * 1000;
}

static void entry_build(struct entry *out, const etag_entry *response, const struct findings *f,
                        struct storable_scratch *scratch, size_t kept_count)
{
    const int64_t now_s = (int64_t)(time_ns_of(CLOCK_REALTIME_COARSE) / NS_PER_S);

    for (size_t i = 0; i < kept_count; i++)
        if (str_equal_nocase(scratch->fields[i].field.name, ETAG_LIT("expires")))
            expires_reduce(&scratch->fields[i], f, now_s);
    *out = (struct entry){
        .key = *response->key,
        .etag = response->etag.data ? str_trim(response->etag) : f->etag,
        .last_modified = response->last_modified != ETAG_NO_DATE
                             ? response->last_modified
                             : http_date_parse(f->last_modified, now_s),
        .fields = scratch->fields,
        .field_count = kept_count,
        .content_location = f->content_location,
        .surrogates = scratch->surrogates.names,
        .surrogate_count = scratch->surrogates.count,
        .max_age_ms = ms_of_seconds(response->max_age_s),
        .last_modified_is_strong = response->last_modified_is_strong,
    };
}

static void surrogate_note(struct findings *f, const char *wrong)
{
    if (wrong)
        fault_note(f, ETAG_REASON_BAD_SURROGATE, wrong);
}

/* What the application gave besides the fields. */
static void surrogates_read(struct findings *f, const etag_entry *response,
                            struct surrogate_set *set)
{
    for (size_t i = 0; i < response->surrogate_count; i++)
        surrogate_note(f, surrogate_set_add(set, response->surrogates[i]));
    for (size_t i = 0; response->surrogate_lists && i < response->surrogate_list_count; i++)
        surrogate_note(f, surrogate_set_add_list(set, response->surrogate_lists[i]));
}

/* Notes what each field says, and keeps those that a 304 repeats. Returns how many. */
static size_t fields_read(struct findings *f, const etag_entry *response,
                          const struct repeated_fields *repeated, struct storable_scratch *scratch)
{
    size_t kept_count = 0;
    const bool lists_are_fields = !response->surrogate_lists;

    for (size_t i = 0; i < response->field_count; i++) {
        const etag_field field = {response->fields[i].name, str_trim(response->fields[i].value)};
        if (!field.value.data)
            continue;
        field_read(f, response->key, field.name, field.value);
        if (lists_are_fields && surrogate_field(field.name))
            surrogate_note(f, surrogate_set_add_list(&scratch->surrogates, field.value));
        if (!repeated_fields_has(repeated, field.name))
            continue;
        if (kept_count == FIELDS_PER_ENTRY_MAX)
            fault_note(f, ETAG_REASON_LIMIT, "too many header fields that a 304 repeats");
        else
            scratch->fields[kept_count++] = (struct kept_field){FIELDSET_LITERAL, field, 0};
    }
    return kept_count;
}

etag_reason storable_reduce(const etag_entry *response, const struct repeated_fields *repeated,
                            struct entry *out, struct storable_scratch *scratch, const char **why)
{
    struct findings f = {0};

    surrogate_set_init(&scratch->surrogates);
    surrogates_read(&f, response, &scratch->surrogates);
    const size_t kept_count = fields_read(&f, response, repeated, scratch);
    surrogate_set_close(&scratch->surrogates);
    entry_build(out, response, &f, scratch, kept_count);

    const etag_reason reason = judge(&f, response);
    if (reason == ETAG_REASON_NONE) {
        uint8_t packed[FIELDSET_BYTES_MAX]; /* for its length alone: the wire has them one by one */
        const etag_reason judged = entry_judge(out, packed, why);
        out->fieldset = (etag_str){0};
        return judged;
    }
    *why = reason == f.fault ? f.malformed : NULL;
    return reason;
}
