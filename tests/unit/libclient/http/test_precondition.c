/* SPDX-License-Identifier: Apache-2.0 */
/* The precondition engine: the table of other servers' facts, the RFC's order, bad input, and a
 * reference. */
#include "precondition.h"

#include "abi.h"
#include "http_date.h"
#include "numbers.h"
#include "reference_evaluator.h"
#include "testing.h"
#include "text.h"
#include "tsv.h"

#define FIELDS_MAX 16

/* ---- Shorthand ---- */

/* A request with the given lines ("Name: value"). fields: room for them. */
static void request_make(etag_request *request, etag_field *fields, const char *method,
                         size_t count, const char *const *lines)
{
    for (size_t i = 0; i < count; i++) {
        const char *colon = strchr(lines[i], ':');
        fields[i].name = (etag_str){lines[i], (size_t)(colon - lines[i])};
        fields[i].value = str_of(colon + 1);
    }
    ETAG_INIT(request);
    request->method = str_of(method);
    request->fields = fields;
    request->field_count = count;
}

static struct judgement judge(const char *method, const etag_validators *now, size_t count,
                              const char *const *lines)
{
    etag_field fields[FIELDS_MAX];
    etag_request request;

    assert_true(count <= FIELDS_MAX);
    request_make(&request, fields, method, count, lines);
    const struct judgement j = precondition_judge(&request, now, DATES_AS_RFC);
    assert_int_equal(j.verdict, etag_evaluate(&request, now));
    assert_int_equal(j.verdict, ref_evaluate(&request, now));
    assert_int_equal(etag_evaluate_range(&request, now), ref_evaluate_range(&request, now));
    return j;
}

static etag_validators validators(etag_existence existence, const char *etag, const char *modified)
{
    etag_validators v;

    etag_validators_init(&v);
    v.existence = existence;
    v.etag = str_of(etag);
    if (modified)
        v.last_modified = etag_date_parse(str_of(modified));
    return v;
}

#define LM "Wed, 25 Jun 2014 17:12:18 GMT"
#define LATER "Fri, 01 Jan 2021 00:00:00 GMT"
#define EARLIER "Sat, 01 Jan 2000 00:00:00 GMT"

#define EXPECT(method_, now_, verdict_, reason_, ...)                                              \
    do {                                                                                           \
        const char *const lines_[] = {__VA_ARGS__};                                                \
        const struct judgement j_ = judge((method_), (now_), COUNT_OF(lines_), lines_);            \
        assert_string_equal(etag_verdict_word(j_.verdict), etag_verdict_word(ETAG_##verdict_));    \
        assert_string_equal(etag_reason_word(j_.reason), etag_reason_word(ETAG_REASON_##reason_)); \
    } while (0)

/* ---- The table ---- */

struct row {
    char method[64], etag[1024], modified[256], headers[8192];
    etag_field fields[FIELDS_MAX];
    etag_request request;
    etag_validators validators;
};

/* Field lines stand separated by " | ", with everything behind the colon as it came. */
static void row_fields(const struct tsv *t, struct row *row)
{
    const char *raw = tsv_raw(t, "request_headers");
    size_t used = 0;

    row->request.field_count = 0;
    if (strcmp(raw, "-") == 0)
        return;
    for (const char *end; raw; raw = end ? end + 3 : NULL) {
        end = strstr(raw, " | ");
        char line[4096];
        snprintf(line, sizeof(line), "%.*s", end ? (int)(end - raw) : (int)strlen(raw), raw);
        char *text = row->headers + used;
        const size_t len = tsv_unescape(t, line, text, sizeof(row->headers) - used);
        used += len + 1;
        const char *colon = memchr(text, ':', len);
        assert_non_null(colon);
        assert_true(row->request.field_count < FIELDS_MAX);
        etag_field *field = &row->fields[row->request.field_count++];
        field->name = (etag_str){text, (size_t)(colon - text)};
        field->value = (etag_str){colon + 1, len - field->name.len - 1};
    }
}

static void row_read(const struct tsv *t, struct row *row)
{
    ETAG_INIT(&row->request);
    row->request.method = (etag_str){row->method, tsv_text(t, "method", row->method, 64)};
    row->request.fields = row->fields;
    row_fields(t, row);

    const bool found = strcmp(tsv_raw(t, "base_status"), "200") == 0;
    row->validators = validators(found ? ETAG_EXISTS : ETAG_ABSENT, NULL, NULL);
    const size_t etag_len = tsv_text(t, "current_etag", row->etag, sizeof(row->etag));
    if (strcmp(row->etag, "-") != 0)
        row->validators.etag = (etag_str){row->etag, etag_len};
    const size_t len = tsv_text(t, "current_last_modified", row->modified, sizeof(row->modified));
    row->validators.last_modified_is_strong = row->modified[0] == '!';
    const size_t mark = row->validators.last_modified_is_strong;
    if (strcmp(row->modified, "-") != 0)
        row->validators.last_modified = etag_date_parse(
            (etag_str){row->modified + mark, len - mark});
}

static const char *status_of(const struct row *row, const char *base_status)
{
    switch (precondition_judge(&row->request, &row->validators, DATES_AS_RFC).verdict) {
    case ETAG_NOT_MODIFIED:
        return "304";
    case ETAG_PRECONDITION_FAILED:
        return "412";
    default:
        return precondition_range(&row->request, &row->validators) == ETAG_RANGE_HONOR
                   ? "206"
                   : base_status;
    }
}

/* Is status one of the alternatives "304/200"? */
static bool allowed(const char *alternatives, const char *status)
{
    for (const char *p = alternatives; p; p = strchr(p, '/')) {
        p += *p == '/';
        if (strncmp(p, status, 3) == 0 && (p[3] == '/' || p[3] == '\0'))
            return true;
    }
    return false;
}

/* Does the class of the row allow a 304, or ask for it? */
static bool class_holds(const char *class, bool is_304)
{
    if (strcmp(class, "must304") == 0)
        return is_304;
    return strcmp(class, "may304") == 0 || !is_304;
}

/* All rows of a table as an origin server; where the engine chooses, it is always the first
 * alternative. */
static void table_as_origin(const char *name, bool first_only, size_t rows_min)
{
    struct tsv t;
    size_t rows = 0, failures = 0;
    struct row row;

    tsv_open(&t, name);
    while (tsv_next(&t)) {
        row_read(&t, &row);
        const char *status = status_of(&row, tsv_raw(&t, "base_status"));
        const char *expected = tsv_raw(&t, "expected_status");
        const bool holds =
            (first_only ? strncmp(expected, status, 3) == 0 : allowed(expected, status)) &&
            class_holds(tsv_raw(&t, "class"), strcmp(status, "304") == 0) &&
            precondition_judge(&row.request, &row.validators, DATES_AS_RFC).verdict ==
                ref_evaluate(&row.request, &row.validators) &&
            precondition_range(&row.request, &row.validators) ==
                ref_evaluate_range(&row.request, &row.validators);
        if (!holds)
            print_error("%s: %s, expected %s %s: %s\n", tsv_raw(&t, "id"), status, expected,
                        tsv_raw(&t, "class"), tsv_raw(&t, "request_headers"));
        failures += !holds;
        rows++;
    }
    tsv_close(&t);
    print_message("%s: %zu rows as an origin server\n", name, rows);
    assert_int_equal(failures, 0);
    assert_true(rows >= rows_min);
}

TEST(table_of_facts)
{
    table_as_origin("preconditions.tsv", false, 159);
}

TEST(table_of_the_rfc)
{
    table_as_origin("preconditions_rfc.tsv", true, 425);
}

/* A front end has an entry only of a 200 with a valid tag; of anything else it knows nothing. */
TEST(table_as_front)
{
    struct tsv t;
    size_t rows = 0, failures = 0;
    struct row row;

    tsv_open(&t, "preconditions.tsv");
    while (tsv_next(&t)) {
        row_read(&t, &row);
        const char *front = tsv_raw(&t, "front");
        bool weak;
        etag_verdict verdict = ETAG_UNKNOWN;
        if (row.validators.existence == ETAG_EXISTS && row.validators.etag.data &&
            ref_entity_tag(row.etag, row.validators.etag.len, 0, &weak) == row.validators.etag.len)
            verdict = precondition_judge(&row.request, &row.validators, DATES_AS_RFC).verdict;
        const bool is_304 = verdict == ETAG_NOT_MODIFIED;
        const bool holds = strcmp(front, "304") == 0      ? is_304
                           : strcmp(front, "origin") == 0 ? !is_304
                                                          : true;
        if (!holds)
            print_error("%s: %s, a front end: %s\n", tsv_raw(&t, "id"), etag_verdict_word(verdict),
                        front);
        failures += !holds;
        rows++;
    }
    tsv_close(&t);
    print_message("preconditions.tsv: %zu rows as a front end\n", rows);
    assert_int_equal(failures, 0);
}

/* ---- The RFC's order, and reasons ---- */

TEST(order)
{
    const etag_validators v1 = validators(ETAG_EXISTS, "\"v1\"", LM);

    EXPECT("GET", &v1, PROCEED, NO_CONDITION, "Host: a");
    /* If-Match silences If-Unmodified-Since ... */
    EXPECT("PUT", &v1, PROCEED, MATCH, "If-Unmodified-Since: " EARLIER, "If-Match: \"v1\"");
    EXPECT("PUT", &v1, PRECONDITION_FAILED, NO_MATCH, "If-Match: \"v2\"",
           "If-Unmodified-Since: " LATER);
    /* ... even malformed, and comes before If-None-Match. */
    EXPECT("PUT", &v1, PRECONDITION_FAILED, MALFORMED, "If-Match: v1",
           "If-Unmodified-Since: " LATER);
    EXPECT("GET", &v1, PRECONDITION_FAILED, NO_MATCH, "If-None-Match: \"v1\"", "If-Match: \"v2\"");
    EXPECT("GET", &v1, NOT_MODIFIED, MATCH, "If-None-Match: \"v1\"", "If-Match: \"v1\"");
    EXPECT("GET", &v1, PROCEED, NO_MATCH, "If-None-Match: \"v2\"", "If-Match: \"v1\"");
    EXPECT("PUT", &v1, PRECONDITION_FAILED, MODIFIED_SINCE, "If-Unmodified-Since: " EARLIER,
           "If-None-Match: \"v2\"");
    EXPECT("PUT", &v1, PROCEED, NOT_MODIFIED_SINCE, "If-Unmodified-Since: " LM);
    EXPECT("PUT", &v1, PRECONDITION_FAILED, MATCH, "If-Unmodified-Since: " LM,
           "If-None-Match: \"v1\"");
    /* If-None-Match silences If-Modified-Since: matching, not matching, malformed, empty. */
    EXPECT("GET", &v1, NOT_MODIFIED, MATCH, "If-None-Match: \"v1\"", "If-Modified-Since: " EARLIER);
    EXPECT("GET", &v1, PROCEED, NO_MATCH, "If-Modified-Since: " LATER, "If-None-Match: \"v2\"");
    EXPECT("GET", &v1, PROCEED, MALFORMED, "If-Modified-Since: " LATER, "If-None-Match: v1");
    EXPECT("GET", &v1, PROCEED, NO_MATCH, "If-Modified-Since: " LATER, "If-None-Match:");
    /* If-Modified-Since after a true If-Match or If-Unmodified-Since. */
    EXPECT("GET", &v1, NOT_MODIFIED, NOT_MODIFIED_SINCE, "If-Match: \"v1\"",
           "If-Modified-Since: " LM);
    EXPECT("HEAD", &v1, PROCEED, MODIFIED_SINCE, "If-Modified-Since: " EARLIER);
    EXPECT("PUT", &v1, PROCEED, NO_CONDITION, "If-Modified-Since: " LATER);
    EXPECT("GET", &v1, PROCEED, MATCH, "If-Match: \"v1\"", "If-Modified-Since: not a date");
}

TEST(lines_are_one_list)
{
    const etag_validators v1 = validators(ETAG_EXISTS, "\"v1\"", LM);

    EXPECT("GET", &v1, NOT_MODIFIED, MATCH, "If-None-Match: \"a\"", "Accept: x",
           "if-none-match:\"b\", W/\"v1\"");
    EXPECT("GET", &v1, NOT_MODIFIED, MATCH, "IF-NONE-MATCH:\"v1\"", "If-None-Match: \"b\"");
    EXPECT("GET", &v1, NOT_MODIFIED, MATCH, "If-None-Match:", "If-None-Match: ,",
           "If-None-Match: \"v1\"");
    EXPECT("PUT", &v1, PROCEED, MATCH, "If-Match: \"a\"", "If-Match: \"v1\"");
    EXPECT("PUT", &v1, PRECONDITION_FAILED, NO_MATCH, "If-Match: \"a\"", "If-Match: W/\"v1\"");
    /* A malformed line makes all of them malformed, before and behind it. */
    EXPECT("GET", &v1, PROCEED, MALFORMED, "If-None-Match: \"v1\"", "If-None-Match: b");
    EXPECT("GET", &v1, PROCEED, MALFORMED, "If-None-Match: b", "If-None-Match: \"v1\"");
    EXPECT("PUT", &v1, PRECONDITION_FAILED, MALFORMED, "If-Match: \"v1\"", "If-Match: \"");
    /* A tag does not go on in the next line. */
    const etag_validators comma = validators(ETAG_EXISTS, "\"a,b\"", NULL);
    EXPECT("GET", &comma, PROCEED, MALFORMED, "If-None-Match: \"a", "If-None-Match: b\"");
    EXPECT("GET", &comma, NOT_MODIFIED, MATCH, "If-None-Match: \"x\",\"a,b\"");
    /* "*" stands alone in the whole field. */
    EXPECT("GET", &v1, NOT_MODIFIED, MATCH, "If-None-Match: \t* \t");
    EXPECT("GET", &v1, PROCEED, MALFORMED, "If-None-Match: *", "If-None-Match: \"b\"");
    EXPECT("GET", &v1, PROCEED, MALFORMED, "If-None-Match: *", "If-None-Match: *");
    EXPECT("GET", &v1, PROCEED, MALFORMED, "If-None-Match: *, \"v1\"");
    EXPECT("GET", &v1, PROCEED, MALFORMED, "If-None-Match: *,");
    EXPECT("PUT", &v1, PRECONDITION_FAILED, MALFORMED, "If-Match: *", "If-Match: *");
    /* "*" in quotes is a tag. */
    EXPECT("GET", &v1, PROCEED, NO_MATCH, "If-None-Match: \"*\"");
    /* Several dates are no date. */
    EXPECT("GET", &v1, PROCEED, NO_CONDITION, "If-Modified-Since: " LM, "If-Modified-Since: " LM);
    EXPECT("PUT", &v1, PROCEED, NO_CONDITION, "If-Unmodified-Since: " EARLIER,
           "If-Unmodified-Since: " EARLIER);
}

TEST(malformed_lists_do_no_harm)
{
    const etag_validators v1 = validators(ETAG_EXISTS, "\"v1\"", LM);
    static const char *const lists[] = {
        "v1",
        "\"v1",
        "v1\"",
        "\"v1\" \"v1\"",
        "\"v1\"x",
        "\"v1\";",
        "\"v1\", x",
        "x, \"v1\"",
        "\"v1\", \"",
        "w/\"v1\"",
        "W/ \"v1\"",
        "W/W/\"v1\"",
        "W/",
        "\"v1\", W/",
        "\"v1\"\x01",
        "\"v1\"\n",
        "'v1'",
        "**",
        "* *",
        "\"v1\", *",
        "\"v1\\\"\"",
        "\"v1\",\"\x7f\"",
        "\"v1\"\"\"",
        "\"v1\", \"a b\"",
        "\"v1\"\r, \"b\"",
        "\"v1\", \x80",
    };

    for (size_t i = 0; i < COUNT_OF(lists); i++) {
        char none[64], match[64];
        snprintf(none, sizeof(none), "If-None-Match: %s", lists[i]);
        snprintf(match, sizeof(match), "If-Match: %s", lists[i]);
        EXPECT("GET", &v1, PROCEED, MALFORMED, none);
        EXPECT("HEAD", &v1, PROCEED, MALFORMED, none, "If-Modified-Since: " LATER);
        EXPECT("PUT", &v1, PRECONDITION_FAILED, MALFORMED, none);
        EXPECT("PUT", &v1, PRECONDITION_FAILED, MALFORMED, match);
        EXPECT("GET", &v1, PRECONDITION_FAILED, MALFORMED, match);
    }
}

TEST(stored_tag_that_is_none)
{
    static const char *const bad[] = {"v1", "\"v1", "w/\"v1\"", "W/v1", "\"a b\"", " \"v1\"", "*"};

    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        const etag_validators v = validators(ETAG_EXISTS, bad[i], NULL);
        EXPECT("GET", &v, PROCEED, NO_MATCH, "If-None-Match: \"v1\", \"\"");
        EXPECT("GET", &v, NOT_MODIFIED, MATCH, "If-None-Match: *");
        EXPECT("PUT", &v, PRECONDITION_FAILED, NO_MATCH, "If-Match: \"v1\"");
    }
}

TEST(existence)
{
    const etag_validators unknown = validators(ETAG_EXISTENCE_UNKNOWN, NULL, NULL);
    const etag_validators implied = validators(ETAG_EXISTENCE_UNKNOWN, "\"v1\"", NULL);
    const etag_validators dated = validators(ETAG_EXISTENCE_UNKNOWN, NULL, LM);
    const etag_validators absent = validators(ETAG_ABSENT, NULL, NULL);
    const etag_validators odd = validators(ETAG_ABSENT, "\"v1\"", LM);
    const etag_validators untagged = validators(ETAG_EXISTS, NULL, NULL);

    EXPECT("GET", &unknown, UNKNOWN, NONE, "If-None-Match: *");
    EXPECT("PUT", &unknown, UNKNOWN, NONE, "If-None-Match: *");
    EXPECT("PUT", &unknown, UNKNOWN, NONE, "If-Match: *");
    EXPECT("PUT", &unknown, UNKNOWN, NONE, "If-Match: \"v1\"");
    EXPECT("GET", &unknown, UNKNOWN, NONE, "If-None-Match: \"v1\"");
    EXPECT("GET", &unknown, PROCEED, NO_CONDITION, "Accept: *");
    /* What is malformed or empty is false, whatever exists. */
    EXPECT("PUT", &unknown, PRECONDITION_FAILED, MALFORMED, "If-Match: \"v1\", x");
    EXPECT("PUT", &unknown, PRECONDITION_FAILED, NO_MATCH, "If-Match: ,");
    EXPECT("GET", &dated, NOT_MODIFIED, NOT_MODIFIED_SINCE, "If-Modified-Since: " LM);

    EXPECT("GET", &implied, NOT_MODIFIED, MATCH, "If-None-Match: *");
    EXPECT("PUT", &implied, PROCEED, MATCH, "If-Match: *");

    EXPECT("GET", &absent, PROCEED, NO_CONDITION, "If-Match: *");
    EXPECT("HEAD", &absent, PROCEED, NO_CONDITION, "If-Match: \"v1\"", "If-None-Match: *");
    EXPECT("PUT", &absent, PRECONDITION_FAILED, NO_MATCH, "If-Match: *");
    EXPECT("PUT", &absent, PRECONDITION_FAILED, NO_MATCH, "If-Match: \"v1\"");
    EXPECT("PUT", &absent, PROCEED, NO_MATCH, "If-None-Match: *");
    EXPECT("PUT", &absent, PROCEED, NO_MATCH, "If-None-Match: \"v1\"");
    /* Absent is absent, whatever else the validators say. */
    EXPECT("PUT", &odd, PRECONDITION_FAILED, NO_MATCH, "If-Match: \"v1\"");
    EXPECT("PUT", &odd, PROCEED, NO_CONDITION, "If-Unmodified-Since: " EARLIER);

    EXPECT("GET", &untagged, NOT_MODIFIED, MATCH, "If-None-Match: *");
    EXPECT("GET", &untagged, PROCEED, NO_MATCH, "If-None-Match: \"\"");
    EXPECT("PUT", &untagged, PRECONDITION_FAILED, NO_MATCH, "If-Match: \"v1\"");
    EXPECT("PUT", &untagged, PRECONDITION_FAILED, MATCH, "If-None-Match: *");
}

TEST(methods)
{
    const etag_validators v1 = validators(ETAG_EXISTS, "\"v1\"", LM);
    static const char *const outside[] = {"OPTIONS", "TRACE", "CONNECT"};

    for (size_t i = 0; i < COUNT_OF(outside); i++)
        EXPECT(outside[i], &v1, PROCEED, NO_CONDITION, "If-None-Match: *", "If-Match: \"v2\"");
    static const char *const others[] = {"",     "get",     "Get",     "GETS", "GE",      "head",
                                         "HEAS", "options", "CONNECS", "POST", "TRACE\n", "QUERY"};
    for (size_t i = 0; i < COUNT_OF(others); i++) {
        EXPECT(others[i], &v1, PRECONDITION_FAILED, MATCH, "If-None-Match: \"v1\"");
        EXPECT(others[i], &v1, PROCEED, NO_CONDITION, "If-Modified-Since: " LATER);
    }
}

TEST(names_that_are_near)
{
    const etag_validators v1 = validators(ETAG_EXISTS, "\"v1\"", LM);
    static const char *const names[] = {
        "If-None-Matc",
        "If-None-Match ",
        "If\rNone\rMatch",
        "If-None-Matci",
        "If-Nope-Match",
        "Jf-None-Match",
        "If-Mbtch",
        "If_None_Match",
        "If-Modified-Sincf",
        "If-Mpdified-Since",
        "If-Modified-Tince",
        "If-Unmodified-Sincf",
        "Jf-Match",
        "If-Range",
        "If-Vnmodified-Since",
        "X-If-None-Match",
        "If-None-Match-X",
        "If-Unmodified_Since",
        "If-Modified-SinceSi",
        "\x49\x66\x0d-match",
        "",
    };

    for (size_t i = 0; i < COUNT_OF(names); i++) {
        char star[64], date[80];
        snprintf(star, sizeof(star), "%s: *", names[i]);
        snprintf(date, sizeof(date), "%s: " LM, names[i]);
        EXPECT("GET", &v1, PROCEED, NO_CONDITION, star, date);
        EXPECT("GET", &v1, PROCEED, NO_CONDITION, star);
        EXPECT("PUT", &v1, PROCEED, NO_CONDITION, star, date);
    }
    EXPECT("GET", &v1, NOT_MODIFIED, NOT_MODIFIED_SINCE, "iF-mODIFIED-sINCE: " LM);
    EXPECT("PUT", &v1, PRECONDITION_FAILED, MODIFIED_SINCE, "IF-UNMODIFIED-SINCE: " EARLIER);
    EXPECT("PUT", &v1, PROCEED, MATCH, "IF-MATCH: \"v1\"");
}

TEST(absent_value_is_no_line)
{
    const etag_validators v1 = validators(ETAG_EXISTS, "\"v1\"", LM);
    const etag_field fields[] = {{ETAG_LIT("If-None-Match"), {NULL, 0}},
                                 {ETAG_LIT("If-None-Match"), ETAG_LIT("*")},
                                 {ETAG_LIT("If-None-Match"), {NULL, 0}},
                                 {ETAG_LIT("If-Match"), {NULL, 0}}};
    etag_request request;

    ETAG_INIT(&request);
    request.method = ETAG_LIT("GET");
    request.fields = fields;
    request.field_count = COUNT_OF(fields);
    assert_int_equal(precondition_judge(&request, &v1, DATES_AS_RFC).verdict, ETAG_NOT_MODIFIED);
    assert_int_equal(ref_evaluate(&request, &v1), ETAG_NOT_MODIFIED);

    const etag_field between[] = {{ETAG_LIT("If-None-Match"), ETAG_LIT("\"a\"")},
                                  {ETAG_LIT("If-None-Match"), {NULL, 0}},
                                  {ETAG_LIT("If-None-Match"), ETAG_LIT("\"v1\"")}};
    request.fields = between;
    request.field_count = COUNT_OF(between);
    assert_int_equal(precondition_judge(&request, &v1, DATES_AS_RFC).verdict, ETAG_NOT_MODIFIED);
    request.fields = between + 1;
    request.field_count = 1;
    assert_int_equal(precondition_judge(&request, &v1, DATES_AS_RFC).verdict, ETAG_PROCEED);
}

/* ---- If-Range ---- */

static etag_range range_of(const char *method, const etag_validators *now, size_t count,
                           const char *const *lines)
{
    etag_field fields[FIELDS_MAX];
    etag_request request;

    request_make(&request, fields, method, count, lines);
    const etag_range range = precondition_range(&request, now);
    assert_int_equal(range, etag_evaluate_range(&request, now));
    assert_int_equal(range, ref_evaluate_range(&request, now));
    return range;
}

#define RANGE(method_, now_, range_, ...)                                                          \
    do {                                                                                           \
        const char *const lines_[] = {__VA_ARGS__};                                                \
        assert_int_equal(range_of((method_), (now_), COUNT_OF(lines_), lines_),                    \
                         ETAG_RANGE_##range_);                                                     \
    } while (0)

TEST(ranges)
{
    etag_validators v1 = validators(ETAG_EXISTS, "\"v1\"", LM);

    v1.last_modified_is_strong = true;
    RANGE("GET", &v1, NONE, "If-Range: \"v1\"");
    RANGE("HEAD", &v1, NONE, "Range: bytes=0-1");
    RANGE("get", &v1, NONE, "Range: bytes=0-1");
    RANGE("PUT", &v1, NONE, "Range: bytes=0-1", "If-Range: \"v1\"");
    RANGE("GET", &v1, HONOR, "rAnge: bytes=0-1");
    RANGE("GET", &v1, HONOR, "Range: bytes=0-1", "if-range:\t\"v1\" ");
    RANGE("GET", &v1, HONOR, "IF-RANGE: " LM, "RANGE: bytes=0-1");
    static const char *const false_ones[] = {
        "If-Range: \"v2\"",
        "If-Range: W/\"v1\"",
        "If-Range: \"v1\", \"v1\"",
        "If-Range: \"v1\" x",
        "If-Range: v1",
        "If-Range: *",
        "If-Range:",
        "If-Range: \"",
        "If-Range: x\"v1\"",
        "If-Range: " LATER,
        "If-Range: " EARLIER,
        "If-Range: Wed, 25 Jun 2014 17:12:18 CET",
        "If-Range: Wed Jun 25 17:12:18 2014", /* the second, but not the text that was sent */
        "If-Range: Thu, 25 Jun 2014 17:12:18 GMT",
        "If-Range: \"" LM "\"",
    };
    for (size_t i = 0; i < COUNT_OF(false_ones); i++)
        RANGE("GET", &v1, IGNORE, "Range: bytes=0-1", false_ones[i]);
    RANGE("GET", &v1, IGNORE, "Range: bytes=0-1", "If-Range: \"v1\"", "If-Range: \"v1\"");

    v1.last_modified_is_strong = false;
    RANGE("GET", &v1, IGNORE, "Range: bytes=0-1", "If-Range: " LM);
    const etag_validators weak = validators(ETAG_EXISTS, "W/\"v1\"", NULL);
    RANGE("GET", &weak, IGNORE, "Range: bytes=0-1", "If-Range: W/\"v1\"");
    RANGE("GET", &weak, IGNORE, "Range: bytes=0-1", "If-Range: \"v1\"");
    etag_validators undated = validators(ETAG_EXISTS, NULL, NULL);
    undated.last_modified_is_strong = true;
    RANGE("GET", &undated, IGNORE, "Range: bytes=0-1", "If-Range: \"v1\"");
    RANGE("GET", &undated, IGNORE, "Range: bytes=0-1", "If-Range: foo");
    etag_validators absent = validators(ETAG_ABSENT, "\"v1\"", LM);
    absent.last_modified_is_strong = true;
    RANGE("GET", &absent, IGNORE, "Range: bytes=0-1", "If-Range: \"v1\"");
    RANGE("GET", &absent, IGNORE, "Range: bytes=0-1", "If-Range: " LM);
    /* A false If-Range changes no verdict. */
    EXPECT("GET", &v1, NOT_MODIFIED, MATCH, "Range: bytes=0-1", "If-Range: \"v2\"",
           "If-None-Match: \"v1\"");
}

/* ---- What the caller asks for ---- */

static struct judgement judge_with(bool require, bool suffixes, const char *method,
                                   const etag_validators *now, const char *line)
{
    etag_field fields[1];
    etag_request request;

    request_make(&request, fields, method, line != NULL, &line);
    request.require_if_match = require;
    request.compression_suffixes = suffixes;
    const struct judgement j = precondition_judge(&request, now, DATES_AS_RFC);
    assert_int_equal(j.verdict, ref_evaluate(&request, now));
    assert_int_equal(precondition_missing(&request), j.verdict == ETAG_PRECONDITION_REQUIRED);
    return j;
}

TEST(a_required_condition)
{
    const etag_validators v1 = validators(ETAG_EXISTS, "\"v1\"", LM);
    const etag_validators absent = validators(ETAG_ABSENT, NULL, NULL);
    static const char *const missing[] = {NULL, "Accept: *", "If-Unmodified-Since: " LM,
                                          "If-None-Match: \"v2\"", "If-None-Match: *, *"};

    for (size_t i = 0; i < COUNT_OF(missing); i++) {
        const struct judgement j = judge_with(true, false, "PUT", &v1, missing[i]);
        assert_int_equal(j.verdict, ETAG_PRECONDITION_REQUIRED);
        assert_int_equal(j.reason, ETAG_REASON_REQUIRED);
        assert_int_equal(judge_with(true, false, "DELETE", &absent, missing[i]).verdict,
                         ETAG_PRECONDITION_REQUIRED);
        assert_int_not_equal(judge_with(true, false, "GET", &v1, missing[i]).verdict,
                             ETAG_PRECONDITION_REQUIRED);
        assert_int_not_equal(judge_with(true, false, "OPTIONS", &v1, missing[i]).verdict,
                             ETAG_PRECONDITION_REQUIRED);
        assert_int_not_equal(judge_with(false, false, "PUT", &v1, missing[i]).verdict,
                             ETAG_PRECONDITION_REQUIRED);
    }
    assert_int_equal(judge_with(true, false, "PUT", &v1, "If-Match: \"v1\"").verdict, ETAG_PROCEED);
    assert_int_equal(judge_with(true, false, "PUT", &v1, "If-Match: v1").verdict,
                     ETAG_PRECONDITION_FAILED);
    assert_int_equal(judge_with(true, false, "PUT", &absent, "If-None-Match: *").verdict,
                     ETAG_PROCEED);
    assert_int_equal(etag_verdict_http_status(ETAG_PRECONDITION_REQUIRED), 428);
}

TEST(compression_suffixes)
{
    const etag_validators x = validators(ETAG_EXISTS, "\"x\"", NULL);
    const etag_validators gzip = validators(ETAG_EXISTS, "W/\"x-gzip\"", NULL);
    static const char *const with[] = {"If-None-Match: \"x-gzip\"", "If-None-Match: W/\"x--br\"",
                                       "If-None-Match: \"y\", \"x-zstd\"",
                                       "If-None-Match: \"x-deflate\"",
                                       "If-None-Match: \"x--compress\""};

    for (size_t i = 0; i < COUNT_OF(with); i++) {
        assert_int_equal(judge_with(false, true, "GET", &x, with[i]).verdict, ETAG_NOT_MODIFIED);
        assert_int_equal(judge_with(false, true, "PUT", &x, with[i]).verdict,
                         ETAG_PRECONDITION_FAILED);
        assert_int_equal(judge_with(false, false, "GET", &x, with[i]).verdict, ETAG_PROCEED);
    }
    static const char *const without[] = {
        "If-None-Match: \"x-gz\"",       "If-None-Match: \"x-GZIP\"", "If-None-Match: \"-gzip\"",
        "If-None-Match: \"x---gzip\"",   "If-None-Match: \"xgzip\"",  "If-None-Match: \"y-gzip\"",
        "If-None-Match: \"x-gzip-gzip\""};
    for (size_t i = 0; i < COUNT_OF(without); i++)
        assert_int_equal(judge_with(false, true, "GET", &x, without[i]).verdict, ETAG_PROCEED);
    /* Never for If-Match, and never the other way round. */
    assert_int_equal(judge_with(false, true, "PUT", &x, "If-Match: \"x-gzip\"").verdict,
                     ETAG_PRECONDITION_FAILED);
    assert_int_equal(judge_with(false, true, "GET", &gzip, "If-None-Match: \"x\"").verdict,
                     ETAG_PROCEED);
    assert_int_equal(judge_with(false, true, "GET", &gzip, "If-None-Match: \"x-gzip\"").verdict,
                     ETAG_NOT_MODIFIED);
}

TEST(a_suffix_beside_a_malformed_tag)
{
    static const char *const bad[] = {"W/W/\"x\"", "\"xy", "x\"", "\"x\"y", "\"x y\""};

    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        const etag_validators v = validators(ETAG_EXISTS, bad[i], NULL);
        assert_int_equal(judge_with(false, true, "PUT", &v, "If-None-Match: \"x-gzip\"").verdict,
                         ETAG_PROCEED);
        assert_int_equal(judge_with(false, true, "GET", &v, "If-None-Match: \"x-gzip\"").verdict,
                         ETAG_PROCEED);
    }
}

TEST(a_suffix_beside_an_absent_tag)
{
    const etag_validators none = validators(ETAG_EXISTS, NULL, LM);

    assert_int_equal(judge_with(false, true, "GET", &none, "If-None-Match: \"-gzip\"").verdict,
                     ETAG_PROCEED);
    assert_int_equal(judge_with(false, true, "PUT", &none, "If-None-Match: \"x-br\"").verdict,
                     ETAG_PROCEED);
}

/* ---- Structs ---- */

TEST(structs_without_a_size_are_unknown)
{
    etag_validators v1 = validators(ETAG_EXISTS, "\"v1\"", LM);
    const char *const lines[] = {"Range: bytes=0-1", "If-Range: " LM};
    etag_field fields[2];
    etag_request request;

    request_make(&request, fields, "GET", 2, lines);
    assert_int_equal(etag_evaluate(&request, &v1), ETAG_PROCEED);
    request.size = 0;
    assert_int_equal(etag_evaluate(&request, &v1), ETAG_UNKNOWN);
    assert_int_equal(etag_evaluate_range(&request, &v1), ETAG_RANGE_IGNORE);
    request.size = sizeof(request);
    v1.size = ABI_FIRST_VALIDATORS - 1;
    assert_int_equal(etag_evaluate(&request, &v1), ETAG_UNKNOWN);
    assert_int_equal(etag_evaluate(NULL, NULL), ETAG_UNKNOWN);
}

TEST(long_lists)
{
    const size_t count = 4096;
    const etag_validators v = validators(ETAG_EXISTS, "\"tag-4095\"", NULL);
    char *list = malloc(count * 16);

    assert_non_null(list);
    size_t len = (size_t)sprintf(list, "If-None-Match: ");
    for (size_t i = 0; i < count; i++)
        len += (size_t)sprintf(list + len, "\"tag-%zu\",", i);
    EXPECT("GET", &v, NOT_MODIFIED, MATCH, list);
    list[len - 2] = 'x'; /* the last quote */
    EXPECT("GET", &v, PROCEED, MALFORMED, list);
    free(list);
}

/* ---- Against the reference ---- */

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state >> 11;
}

#define PICK(state, list) ((list)[next_random(state) % COUNT_OF(list)])

/* Bytes in a block of just their size, so that a read behind them is an error under ASan. */
static etag_str exact(const char *text, size_t len)
{
    char *copy = malloc(len ? len : 1);

    assert_non_null(copy);
    memcpy(copy, text, len);
    return (etag_str){copy, len};
}

static etag_str random_value(uint64_t *seed)
{
    static const char *const parts[] = {
        "\"a\"",        "W/\"a\"", "\"b\"",   "\"\"",       ",",
        ", ",           " ,",      "\t",      " ",          "*",
        "w/\"a\"",      "\"a,b\"", "\"",      "W/",         "a",
        "\"\x80\xff\"", "\\",      "\"a b\"", "W",          "\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"",
        "\x7f",         "\r",      "\n",      "\"a-gzip\"", "\"a--br\"",
    };
    static const char *const whole[] = {"\"a\"",
                                        "W/\"a\"",
                                        "\"b\", \"a,b\",, W/\"a\"",
                                        "\"a,b\",\"\x80\xff\"",
                                        LM,
                                        LATER,
                                        EARLIER,
                                        "*",
                                        " * ",
                                        "Wed Jun 25 17:12:18 2014",
                                        "Wednesday, 25-Jun-14 17:12:18 GMT",
                                        "foo",
                                        "",
                                        "Wed, 25 Jun 2014 17:12:19 GMT",
                                        " " LM "\t",
                                        LM ", " LM,
                                        "Sunday, 06-Nov-94 08:49:37 GMT",
                                        "\"a\""};
    char text[1024] = "";

    if (next_random(seed) % 2) {
        const char *value = PICK(seed, whole);
        return exact(value, strlen(value));
    }
    for (uint64_t n = next_random(seed) % 8; n > 0; n--)
        strcat(text, PICK(seed, parts));
    return exact(text, strlen(text));
}

TEST(random_against_reference)
{
    static const char *const method_names[] = {"GET", "HEAD", "GET", "HEAD", "PUT", "OPTIONS", ""};
    static const char *const names[] = {
        "If-Match", "If-None-Match", "if-none-match", "If-Modified-Since", "IF-UNMODIFIED-SINCE",
        "Range",    "If-Range",      "Accept"};
    static const char *const tags[] = {"\"a\"",
                                       "W/\"a\"",
                                       "\"a,b\"",
                                       "",
                                       "a",
                                       "\"\x80\xff\"",
                                       "\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\""};
    uint64_t seed = UINT64_C(0x9e3779b97f4a7c15);
    size_t verdicts[5] = {0}, ranges_seen[3] = {0};

    for (int round = 0; round < 60000; round++) {
        etag_field fields[4];
        etag_request request;
        ETAG_INIT(&request);
        const char *method = PICK(&seed, method_names);
        request.method = exact(method, strlen(method));
        request.fields = fields;
        request.field_count = next_random(&seed) % 3 + (round % 4 == 0);
        request.require_if_match = next_random(&seed) % 8 == 0;
        request.compression_suffixes = next_random(&seed) % 2;
        for (size_t i = 0; i < request.field_count; i++) {
            const char *name = PICK(&seed, names);
            fields[i].name = exact(name, strlen(name));
            fields[i].value = random_value(&seed);
        }
        const etag_existence exists = (etag_existence)(next_random(&seed) % 3);
        etag_validators v = validators(exists, NULL, next_random(&seed) % 2 ? LM : NULL);
        const char *tag = PICK(&seed, tags);
        v.etag = exact(tag, strlen(tag));
        v.last_modified_is_strong = next_random(&seed) % 2;

        const etag_verdict verdict = precondition_judge(&request, &v, DATES_AS_RFC).verdict;
        assert_int_equal(verdict, ref_evaluate(&request, &v));
        verdicts[verdict]++;
        const etag_range range = precondition_range(&request, &v);
        assert_int_equal(range, ref_evaluate_range(&request, &v));
        ranges_seen[range]++;

        free((void *)(uintptr_t)request.method.data);
        free((void *)(uintptr_t)v.etag.data);
        for (size_t i = 0; i < request.field_count; i++) {
            free((void *)(uintptr_t)fields[i].name.data);
            free((void *)(uintptr_t)fields[i].value.data);
        }
    }
    print_message(
        "%zu unknown, %zu not modified, %zu failed, %zu proceed, %zu required; ranges: %zu "
        "none, %zu honored, %zu ignored\n",
        verdicts[0], verdicts[1], verdicts[2], verdicts[3], verdicts[4], ranges_seen[0],
        ranges_seen[1], ranges_seen[2]);
    for (size_t i = 0; i < COUNT_OF(verdicts); i++) /* the generator reaches everything */
        assert_in_range(verdicts[i], 150, 60000);
    for (size_t i = 0; i < COUNT_OF(ranges_seen); i++)
        assert_in_range(ranges_seen[i], 150, 60000);
}
