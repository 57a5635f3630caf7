/* SPDX-License-Identifier: Apache-2.0 */
#include "reference_evaluator.h"

bool ref_blank(char c)
{
    return c == ' ' || c == '\t';
}

static struct ref_value ref_field(const etag_request *request, const char *name)
{
    struct ref_value v = {.text = calloc(1, 1)};

    for (size_t i = 0; v.text && i < request->field_count; i++) {
        const etag_field *f = &request->fields[i];
        if (f->name.len != strlen(name) || !f->value.data ||
            strncasecmp(f->name.data, name, f->name.len) != 0 ||
            memchr(f->name.data, 0, f->name.len))
            continue;
        v.text = realloc(v.text, v.len + f->value.len + 3);
        if (!v.text)
            break;
        if (v.present) {
            memcpy(v.text + v.len, ", ", 2);
            v.len += 2;
        }
        memcpy(v.text + v.len, f->value.data, f->value.len);
        v.len += f->value.len;
        v.present = true;
        v.line_count++;
    }
    if (!v.text)
        abort();
    size_t begin = 0;
    while (begin < v.len && ref_blank(v.text[begin]))
        begin++;
    while (v.len > begin && ref_blank(v.text[v.len - 1]))
        v.len--;
    v.len -= begin;
    memmove(v.text, v.text + begin, v.len);
    v.text[v.len] = '\0';
    return v;
}

/* etagc = %x21 / %x23-7E / obs-text;  obs-text = %x80-FF */
static bool ref_etagc(char c)
{
    const int code = (unsigned char)c;

    return code == 0x21 || (code >= 0x23 && code <= 0x7e) || (code >= 0x80 && code <= 0xff);
}

size_t ref_entity_tag(const char *s, size_t len, size_t at, bool *weak)
{
    *weak = at + 1 < len && s[at] == 'W' && s[at + 1] == '/';
    if (*weak)
        at += 2;
    if (at >= len || s[at] != '"')
        return REF_NO_MATCH;
    for (at++; at < len && ref_etagc(s[at]); at++)
        ;
    return at < len && s[at] == '"' ? at + 1 : REF_NO_MATCH;
}

static size_t ref_ows(const char *s, size_t len, size_t at)
{
    while (at < len && ref_blank(s[at]))
        at++;
    return at;
}

/* "x-gzip" or "x--gzip" for "x": every suffix in turn is put behind the current tag, and the result
 * compared. */
static bool ref_equal_but_suffix(const char *s, size_t len, const char *current, size_t current_len)
{
    static const char *const codings[] = {"gzip", "br", "zstd", "deflate", "compress"};
    char made[8192];

    for (size_t i = 0; i < 2 * COUNT_OF(codings); i++) {
        const int made_len = snprintf(made, sizeof(made), "%s%s\"", i % 2 ? "--" : "-",
                                      codings[i / 2]);
        if (current_len - 1 + (size_t)made_len == len && memcmp(s, current, current_len - 1) == 0 &&
            memcmp(s + current_len - 1, made, (size_t)made_len) == 0)
            return true;
    }
    return false;
}

static size_t ref_element(struct ref_list *list, const char *s, size_t len, size_t at,
                          etag_str current, bool suffixes)
{
    bool weak = false, current_weak = false;
    const size_t end = ref_entity_tag(s, len, at, &weak);

    if (end == REF_NO_MATCH)
        return at; /* an element is optional */
    list->count++;
    const bool current_valid = current.len > 0 && ref_entity_tag(current.data, current.len, 0,
                                                                 &current_weak) == current.len;
    const size_t skip = weak ? 2 : 0, current_skip = current_weak ? 2 : 0;
    if (current_valid && end - at - skip == current.len - current_skip &&
        memcmp(s + at + skip, current.data + current_skip, current.len - current_skip) == 0) {
        list->weak_match = true;
        if (!weak && !current_weak)
            list->strong_match = true;
    }
    if (current_valid && suffixes &&
        ref_equal_but_suffix(s + at + skip, end - at - skip, current.data + current_skip,
                             current.len - current_skip))
        list->weak_match = true;
    return end;
}

struct ref_list ref_list(const char *s, size_t len, etag_str current, bool suffixes)
{
    struct ref_list list = {0};
    size_t at = ref_element(&list, s, len, 0, current, suffixes);

    for (;;) {
        const size_t comma = ref_ows(s, len, at);
        if (comma >= len || s[comma] != ',')
            break;
        at = ref_element(&list, s, len, ref_ows(s, len, comma + 1), current, suffixes);
    }
    list.well_formed = at == len;
    return list;
}

/* Seconds of a broken-down time that exists, or ETAG_NO_DATE. */
static int64_t ref_seconds(struct tm t)
{
    const int leap_second = t.tm_sec == 60;

    t.tm_sec -= leap_second;
    struct tm copy = t;
    const time_t seconds = timegm(&copy);
    struct tm back;
    if (!gmtime_r(&seconds, &back) || back.tm_year != t.tm_year || back.tm_mon != t.tm_mon ||
        back.tm_mday != t.tm_mday || back.tm_hour != t.tm_hour || back.tm_min != t.tm_min ||
        back.tm_sec != t.tm_sec)
        return ETAG_NO_DATE;
    return (int64_t)seconds + leap_second;
}

/* A two-digit year: the latest one that is not more than 50 years ahead. */
static int64_t ref_two_digit_year(struct tm t, int two_digits, int64_t now_s)
{
    const time_t now = now_s;
    struct tm limit;

    gmtime_r(&now, &limit);
    limit.tm_year += 50;
    const int64_t limit_s = timegm(&limit);
    for (int year = limit.tm_year + 1900; year > 0; year--) {
        if (year % 100 != two_digits)
            continue;
        t.tm_year = year - 1900;
        struct tm copy = t;
        if (timegm(&copy) <= limit_s)
            return ref_seconds(t);
    }
    return ETAG_NO_DATE;
}

int64_t ref_date(const char *s, size_t len, int64_t now_s)
{
    static const char *const days[] = {"Monday", "Tuesday",  "Wednesday", "Thursday",
                                       "Friday", "Saturday", "Sunday"};
    static const char *const months[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                         "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    char text[64], again[128];

    if (len >= sizeof(text) || memchr(s, 0, len))
        return ETAG_NO_DATE;
    memcpy(text, s, len);
    text[len] = '\0';
    for (int form = 0; form < 4; form++) {
        char month[4] = "";
        int day = -1, year = -1, hour = -1, minute = -1, second = -1, read = 0;
        if (form == 0)
            read = sscanf(text, "%*3s, %2d %3s %4d %2d:%2d:%2d GMT", &day, month, &year, &hour,
                          &minute, &second);
        else if (form == 1)
            read = sscanf(text, "%*[a-zA-Z], %2d-%3[a-zA-Z]-%2d %2d:%2d:%2d GMT", &day, month,
                          &year, &hour, &minute, &second);
        else
            read = sscanf(text, "%*3s %3s %2d %2d:%2d:%2d %4d", month, &day, &hour, &minute,
                          &second, &year);
        if (read != 6 || year < 0)
            continue;
        for (int d = 0; d < 7; d++) {
            if (form == 0)
                snprintf(again, sizeof(again), "%.3s, %02d %s %04d %02d:%02d:%02d GMT", days[d],
                         day, month, year, hour, minute, second);
            else if (form == 1)
                snprintf(again, sizeof(again), "%s, %02d-%s-%02d %02d:%02d:%02d GMT", days[d], day,
                         month, year, hour, minute, second);
            else
                snprintf(again, sizeof(again),
                         form == 2 ? "%.3s %s %2d %02d:%02d:%02d %04d"
                                   : "%.3s %s %02d %02d:%02d:%02d %04d",
                         days[d], month, day, hour, minute, second, year);
            for (int m = 0; m < 12; m++) {
                if (strcmp(again, text) != 0 || strcmp(month, months[m]) != 0 || second > 60)
                    continue;
                struct tm t = {.tm_mday = day,
                               .tm_mon = m,
                               .tm_year = year - 1900,
                               .tm_hour = hour,
                               .tm_min = minute,
                               .tm_sec = second};
                return form == 1 ? ref_two_digit_year(t, year, now_s) : ref_seconds(t);
            }
        }
    }
    return ETAG_NO_DATE;
}

static bool ref_method_is(const etag_request *request, const char *name)
{
    return request->method.len == strlen(name) &&
           memcmp(request->method.data, name, request->method.len) == 0;
}

/* Is the current tag, or anything at all for "*", among the field's? Malformed: *malformed. */
static enum ref_truth ref_listed(const struct ref_value *v, const etag_validators *now, bool strong,
                                 bool suffixes, bool *malformed)
{
    const bool exists = now->existence != ETAG_ABSENT && now->etag.len > 0;
    const bool unknown = now->existence == ETAG_EXISTENCE_UNKNOWN && !exists;

    *malformed = false;
    if (v->line_count == 1 && v->len == 1 && v->text[0] == '*') {
        if (unknown)
            return REF_UNKNOWN;
        return now->existence == ETAG_EXISTS || exists ? REF_TRUE : REF_FALSE;
    }
    const etag_str none = {NULL, 0};
    const struct ref_list list = ref_list(v->text, v->len, exists ? now->etag : none, suffixes);
    *malformed = !list.well_formed;
    if (unknown && list.count > 0)
        return REF_UNKNOWN;
    return (strong ? list.strong_match : list.weak_match) ? REF_TRUE : REF_FALSE;
}

/* Is the date of the field at or after the last modification? */
static enum ref_truth ref_unmodified(const struct ref_value *v, const etag_validators *now,
                                     int64_t now_s)
{
    if (!v->present || v->line_count != 1 || now->last_modified == ETAG_NO_DATE ||
        now->existence == ETAG_ABSENT)
        return REF_IGNORED;
    const int64_t date = ref_date(v->text, v->len, now_s);
    if (date == ETAG_NO_DATE)
        return REF_IGNORED;
    return now->last_modified <= date ? REF_TRUE : REF_FALSE;
}

static etag_verdict ref_decide(const etag_request *request, const etag_validators *now,
                               const struct ref_value field[4], int64_t now_s)
{
    const bool reads = ref_method_is(request, "GET") || ref_method_is(request, "HEAD");
    bool malformed = false;

    /* RFC 6585 section 3, as etag.h has it. */
    const bool creates = field[2].line_count == 1 && field[2].len == 1 && field[2].text[0] == '*';
    if (request->require_if_match && !reads && !field[0].present && !creates)
        return ETAG_PRECONDITION_REQUIRED;
    if (field[0].present) {
        const enum ref_truth listed = ref_listed(&field[0], now, true, false, &malformed);
        if (malformed || listed == REF_FALSE)
            return ETAG_PRECONDITION_FAILED;
        if (listed == REF_UNKNOWN)
            return ETAG_UNKNOWN;
    } else if (ref_unmodified(&field[1], now, now_s) == REF_FALSE) {
        return ETAG_PRECONDITION_FAILED;
    }

    if (field[2].present) {
        const enum ref_truth listed = ref_listed(&field[2], now, false,
                                                 request->compression_suffixes, &malformed);
        if (malformed)
            return reads ? ETAG_PROCEED : ETAG_PRECONDITION_FAILED;
        if (listed == REF_UNKNOWN)
            return ETAG_UNKNOWN;
        if (listed == REF_TRUE)
            return reads ? ETAG_NOT_MODIFIED : ETAG_PRECONDITION_FAILED;
    } else if (reads && ref_unmodified(&field[3], now, now_s) == REF_TRUE) {
        return ETAG_NOT_MODIFIED;
    }
    return ETAG_PROCEED;
}

etag_verdict ref_evaluate(const etag_request *request, const etag_validators *now)
{
    const bool reads = ref_method_is(request, "GET") || ref_method_is(request, "HEAD");

    if (ref_method_is(request, "OPTIONS") || ref_method_is(request, "TRACE") ||
        ref_method_is(request, "CONNECT") || (reads && now->existence == ETAG_ABSENT))
        return ETAG_PROCEED;
    struct ref_value field[4] = {
        ref_field(request, "If-Match"),
        ref_field(request, "If-Unmodified-Since"),
        ref_field(request, "If-None-Match"),
        ref_field(request, "If-Modified-Since"),
    };
    const etag_verdict verdict = ref_decide(request, now, field, (int64_t)time(NULL));
    for (int i = 0; i < 4; i++)
        free(field[i].text);
    return verdict;
}

static bool ref_if_range(const struct ref_value *v, const etag_validators *now)
{
    bool weak = false, current_weak = false;
    const bool exists = now->existence != ETAG_ABSENT;

    if (v->line_count != 1)
        return false;
    if (ref_entity_tag(v->text, v->len, 0, &weak) == v->len)
        return exists && !weak && now->etag.len == v->len &&
               ref_entity_tag(now->etag.data, now->etag.len, 0, &current_weak) == v->len &&
               !current_weak && memcmp(now->etag.data, v->text, v->len) == 0;
    char last_modified[64];
    struct tm t;
    const time_t seconds = now->last_modified;
    if (!exists || now->last_modified == ETAG_NO_DATE || !now->last_modified_is_strong ||
        !gmtime_r(&seconds, &t))
        return false;
    const size_t len = strftime(last_modified, sizeof(last_modified), "%a, %d %b %Y %H:%M:%S GMT",
                                &t);
    return v->len == len && memcmp(v->text, last_modified, len) == 0;
}

etag_range ref_evaluate_range(const etag_request *request, const etag_validators *now)
{
    struct ref_value range = ref_field(request, "Range"), if_range = ref_field(request, "If-Range");
    etag_range use = ETAG_RANGE_NONE;

    if (ref_method_is(request, "GET") && range.present)
        use = !if_range.present || ref_if_range(&if_range, now) ? ETAG_RANGE_HONOR
                                                                : ETAG_RANGE_IGNORE;
    free(range.text);
    free(if_range.text);
    return use;
}
