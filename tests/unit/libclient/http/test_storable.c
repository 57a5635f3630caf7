/* SPDX-License-Identifier: Apache-2.0 */
/* Storability: each reason alone, their order, Cache-Control's grammar, and what is kept for a
 * 304. */
#include "storable.h"

#include "numbers.h"
#include "testing.h"
#include "text.h"

#include <string.h>
#include <time.h>

#define FIELDS_MAX 24

/* A response to GET /a under the public scope with ETag "v1", and what becomes of it. */
struct fixture {
    etag_field fields[FIELDS_MAX];
    etag_field vary[2];
    etag_key key;
    etag_entry response;
    struct entry entry;
    /* none but the usual ones */
    struct repeated_fields repeated;
    struct storable_scratch scratch;
    const char *why;
};

static void add(struct fixture *f, const char *name, const char *value)
{
    assert_true(f->response.field_count < FIELDS_MAX);
    f->fields[f->response.field_count++] = (etag_field){str_of(name), str_of(value)};
}

static struct fixture *fresh(struct fixture *f)
{
    memset(f, 0, sizeof(*f));
    ETAG_INIT(&f->key);
    f->key.resource.target = ETAG_LIT("/a");
    f->key.scope.kind = ETAG_SCOPE_PUBLIC;
    f->vary[0] = (etag_field){ETAG_LIT("accept-encoding"), ETAG_LIT("gzip")};
    f->vary[1] = (etag_field){ETAG_LIT("Accept-Language"), {NULL, 0}};
    f->key.vary = f->vary;
    f->key.vary_count = 2;
    etag_entry_init(&f->response);
    f->response.key = &f->key;
    f->response.fields = f->fields;
    f->response.etag = ETAG_LIT("\"v1\"");
    return f;
}

static etag_reason reduce(struct fixture *f)
{
    return storable_reduce(&f->response, &f->repeated, &f->entry, &f->scratch, &f->why);
}

/* The reason for a response with one more field. */
static etag_reason reason_of(const char *name, const char *value)
{
    struct fixture f;

    add(fresh(&f), name, value);
    return reduce(&f);
}

static void assert_reason(etag_reason got, etag_reason expected, const char *what)
{
    if (got != expected)
        fail_msg("%s: %s, expected %s", what, etag_reason_word(got), etag_reason_word(expected));
}

TEST(method_and_status)
{
    struct fixture f;

    assert_int_equal(reduce(fresh(&f)), ETAG_REASON_NONE);
    fresh(&f)->response.method = ETAG_LIT("GET");
    assert_int_equal(reduce(&f), ETAG_REASON_NONE);
    static const char *const methods[] = {"HEAD", "POST", "get", "GETS", ""};
    for (size_t i = 0; i < COUNT_OF(methods); i++) {
        fresh(&f)->response.method = str_of(methods[i]);
        assert_reason(reduce(&f), ETAG_REASON_METHOD, methods[i]);
    }
    static const int statuses[] = {0, 201, 203, 204, 206, 301, 304, 404, 412, 500};
    for (size_t i = 0; i < COUNT_OF(statuses); i++) {
        fresh(&f)->response.http_status = statuses[i];
        assert_int_equal(reduce(&f), ETAG_REASON_HTTP_STATUS);
    }
}

TEST(validators)
{
    struct fixture f;

    fresh(&f)->response.etag = (etag_str){NULL, 0};
    assert_int_equal(reduce(&f), ETAG_REASON_NO_VALIDATOR);
    add(&f, "Last-Modified", "Wed, 25 Jun 2014 17:12:18 GMT");
    assert_int_equal(reduce(&f), ETAG_REASON_NO_VALIDATOR);
    add(&f, "etag", " W/\"v2\"\t");
    assert_int_equal(reduce(&f), ETAG_REASON_NONE);
    assert_true(str_equal(f.entry.etag, ETAG_LIT("W/\"v2\"")));
    assert_int_equal(f.entry.last_modified, 1403716338);
    assert_int_equal(f.entry.field_count, 0);

    f.response.etag = ETAG_LIT(" \"v3\" ");
    f.response.last_modified = 7;
    assert_int_equal(reduce(&f), ETAG_REASON_NONE);
    assert_true(str_equal(f.entry.etag, ETAG_LIT("\"v3\"")));
    assert_int_equal(f.entry.last_modified, 7);

    add(&f, "ETag", "\"v4\"");
    assert_int_equal(reduce(&f), ETAG_REASON_BAD_ETAG);
    assert_string_equal(f.why, "several ETag fields");

    static const char *const bad[] = {"", "v1", "\"v 1\"", "w/\"v1\"", "\"v1"};
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        fresh(&f)->response.etag = str_of(bad[i]);
        assert_reason(reduce(&f), ETAG_REASON_BAD_ETAG, bad[i]);
        assert_non_null(f.why);
    }
    add(fresh(&f), "Last-Modified", "yesterday");
    assert_int_equal(reduce(&f), ETAG_REASON_NONE);
    assert_int_equal(f.entry.last_modified, ETAG_NO_DATE);
}

TEST(cache_control)
{
    static const struct {
        const char *value;
        etag_reason reason;
    } rows[] = {
        {"", ETAG_REASON_NONE},
        {"max-age=60, must-revalidate", ETAG_REASON_NONE},
        {"no-cache", ETAG_REASON_NONE},
        {",, max-age=60 ,\t,no-transform,", ETAG_REASON_NONE},
        {"no-store", ETAG_REASON_NO_STORE},
        {"NO-STORE", ETAG_REASON_NO_STORE},
        {"max-age=0,no-store", ETAG_REASON_NO_STORE},
        {"no-cache, no-store, must-revalidate", ETAG_REASON_NO_STORE},
        {"no-store=\"x\"", ETAG_REASON_NO_STORE},
        {"must-understand, no-store", ETAG_REASON_NO_STORE},
        {"private", ETAG_REASON_PRIVATE},
        {"max-age=1, Private", ETAG_REASON_PRIVATE},
        {"private=\"set-cookie\"", ETAG_REASON_PRIVATE},
        /* No directive of these names: substrings, arguments, quoted text. */
        {"x-no-store, no-storex", ETAG_REASON_NONE},
        {"ext=no-store", ETAG_REASON_NONE},
        {"ext=\"a, no-store, private\"", ETAG_REASON_NONE},
        {"ext=\"a\\\", no-store\", max-age=1", ETAG_REASON_NONE},
        {"ext=\"a\\\\\", no-store", ETAG_REASON_NO_STORE},
        /* Can't be read, so it may say anything. */
        {"ext=\"a, no-transform", ETAG_REASON_BAD_FIELD},
        {"ext=\"a\\", ETAG_REASON_BAD_FIELD},
        {"max-age=60; must-revalidate", ETAG_REASON_BAD_FIELD},
        {"max-age = 60", ETAG_REASON_BAD_FIELD},
        {"max-age=", ETAG_REASON_BAD_FIELD},
        {"=60", ETAG_REASON_BAD_FIELD},
        {"ext=\"a\"b", ETAG_REASON_BAD_FIELD},
        {"no-store no-cache", ETAG_REASON_BAD_FIELD},
        {"\"no-store\"", ETAG_REASON_BAD_FIELD},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++)
        assert_reason(reason_of("Cache-Control", rows[i].value), rows[i].reason, rows[i].value);

    struct fixture f;
    add(fresh(&f), "Cache-Control", "max-age=60");
    add(&f, "X-Other", "1");
    add(&f, "CACHE-CONTROL", "no-store");
    assert_int_equal(reduce(&f), ETAG_REASON_NO_STORE);

    add(fresh(&f), "Cache-Control", "private");
    f.key.scope = (etag_scope){ETAG_SCOPE_NAMED, ETAG_LIT("customer:7")};
    assert_int_equal(reduce(&f), ETAG_REASON_NONE);
}

/* RFC 9111 section 3.5 */
TEST(authorization)
{
    static const char *const shared[] = {"public", "max-age=0, Must-Revalidate", "s-maxage=10"};
    static const char *const others[] = {"max-age=60", "proxy-revalidate", "ext=public",
                                         "ext=\"x, public\""};
    struct fixture f;

    fresh(&f)->response.had_authorization = true;
    assert_int_equal(reduce(&f), ETAG_REASON_AUTHORIZATION);
    f.key.scope = (etag_scope){ETAG_SCOPE_NAMED, ETAG_LIT("customer:7")};
    assert_int_equal(reduce(&f), ETAG_REASON_NONE);
    for (size_t i = 0; i < COUNT_OF(shared); i++) {
        fresh(&f)->response.had_authorization = true;
        add(&f, "Cache-Control", shared[i]);
        assert_reason(reduce(&f), ETAG_REASON_NONE, shared[i]);
    }
    for (size_t i = 0; i < COUNT_OF(others); i++) {
        fresh(&f)->response.had_authorization = true;
        add(&f, "Cache-Control", others[i]);
        assert_reason(reduce(&f), ETAG_REASON_AUTHORIZATION, others[i]);
    }
}

TEST(other_fields)
{
    static const struct {
        const char *name, *value;
        etag_reason reason;
    } rows[] = {
        {"Set-Cookie", "a=b", ETAG_REASON_SET_COOKIE},
        {"set-cookie", "", ETAG_REASON_SET_COOKIE},
        {"Vary", "*", ETAG_REASON_VARY_STAR},
        {"Vary", "Accept-Encoding , *", ETAG_REASON_VARY_STAR},
        {"Vary", "Cookie, *", ETAG_REASON_VARY_STAR},
        {"Vary", "Cookie", ETAG_REASON_VARY_UNCOVERED},
        {"Vary", "Accept-Encoding, Cookie", ETAG_REASON_VARY_UNCOVERED},
        {"Vary", "Accept-Encodin", ETAG_REASON_VARY_UNCOVERED},
        {"Vary", "Accept-Encoding Accept-Language", ETAG_REASON_VARY_UNCOVERED},
        {"Vary", "ACCEPT-ENCODING,,accept-language ,", ETAG_REASON_NONE},
        {"Vary", "", ETAG_REASON_NONE},
        {"Content-Security-Policy", "script-src 'nonce-abc'", ETAG_REASON_CSP_NONCE},
        {"content-security-policy", "script-src 'NONCE-abc'", ETAG_REASON_CSP_NONCE},
        {"Content-Security-Policy-Report-Only", "x 'nonce-a'", ETAG_REASON_CSP_NONCE},
        {"Content-Security-Policy", "script-src 'self'", ETAG_REASON_NONE},
        {"Content-Security-Policy", "'nonce", ETAG_REASON_NONE},
        {"Content-Range", "bytes 0-1/2", ETAG_REASON_CONTENT_RANGE},
        {"X-Set-Cookie", "a=b", ETAG_REASON_NONE},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++)
        assert_reason(reason_of(rows[i].name, rows[i].value), rows[i].reason, rows[i].value);
}

/* With every fault at once, mended one by one. */
TEST(order_of_reasons)
{
    static const etag_reason order[] = {
        ETAG_REASON_METHOD,     ETAG_REASON_HTTP_STATUS,   ETAG_REASON_NO_VALIDATOR,
        ETAG_REASON_NO_STORE,   ETAG_REASON_PRIVATE,       ETAG_REASON_AUTHORIZATION,
        ETAG_REASON_SET_COOKIE, ETAG_REASON_VARY_STAR,     ETAG_REASON_VARY_UNCOVERED,
        ETAG_REASON_CSP_NONCE,  ETAG_REASON_CONTENT_RANGE, ETAG_REASON_BAD_FIELD,
        ETAG_REASON_NONE};

    for (size_t mended = 0; mended < COUNT_OF(order); mended++) {
        struct fixture f;
        fresh(&f);
        if (mended < 1)
            f.response.method = ETAG_LIT("POST");
        if (mended < 2)
            f.response.http_status = 206;
        if (mended < 3)
            f.response.etag = (etag_str){NULL, 0};
        if (mended < 4)
            add(&f, "Cache-Control", "no-store");
        if (mended < 5)
            add(&f, "Cache-Control", "private");
        f.response.had_authorization = mended < 6;
        if (mended < 7)
            add(&f, "Set-Cookie", "a=b");
        if (mended < 8)
            add(&f, "Vary", "*");
        if (mended < 9)
            add(&f, "Vary", "Cookie");
        if (mended < 10)
            add(&f, "Content-Security-Policy", "'nonce-a'");
        if (mended < 11)
            add(&f, "Content-Range", "bytes 0-1/2");
        if (mended < 12)
            add(&f, "Cache-Control", ";");
        assert_reason(reduce(&f), order[mended], "next");
        if (order[mended] != ETAG_REASON_BAD_FIELD)
            assert_null(f.why);
    }
}

static void assert_kept(const struct fixture *f, size_t i, const char *name, const char *value)
{
    assert_true(i < f->entry.field_count);
    const struct kept_field *kept = &f->entry.fields[i];
    assert_int_equal(kept->kind, FIELDSET_LITERAL);
    assert_true(str_equal(kept->field.name, str_of(name)));
    assert_true(str_equal(kept->field.value, str_of(value)));
}

TEST(what_is_kept)
{
    const etag_str surrogates[] = {ETAG_LIT("upload:42"), ETAG_LIT("customer:7")};
    struct fixture f;

    fresh(&f);
    add(&f, "Date", "Sun, 06 Nov 1994 08:49:37 GMT");
    add(&f, "Content-Type", "application/json");
    add(&f, "Cache-Control", " max-age=60\t");
    add(&f, "Content-Length", "12");
    add(&f, "vary", "Accept-Encoding");
    add(&f, "Content-Security-Policy", "default-src 'self'");
    add(&f, "Cache-Control", "must-revalidate");
    add(&f, "Content-Location", " /a.json");
    add(&f, "Expires", "Sun, 06 Nov 1994 09:49:37 GMT");
    add(&f, "ETag", "\"v1\"");
    add(&f, "Expires", "0");
    f.response.surrogates = surrogates;
    f.response.surrogate_count = 2;
    f.response.max_age_s = 90;
    assert_int_equal(reduce(&f), ETAG_REASON_NONE);
    assert_null(f.why);
    assert_int_equal(f.entry.field_count, 5);
    assert_kept(&f, 0, "Cache-Control", "max-age=60");
    assert_kept(&f, 1, "vary", "Accept-Encoding");
    assert_kept(&f, 2, "Cache-Control", "must-revalidate");
    assert_int_equal(f.entry.fields[3].kind, FIELDSET_EXPIRES);
    assert_int_equal(f.entry.fields[3].offset_s, 3600);
    assert_kept(&f, 4, "Expires", "0");
    assert_true(str_equal(f.entry.content_location, ETAG_LIT("/a.json")));
    assert_int_equal(f.entry.surrogate_count, 2);
    assert_true(str_equal(f.entry.surrogates[1], ETAG_LIT("customer:7")));
    assert_int_equal(f.entry.max_age_ms, 90000);
    assert_ptr_equal(f.entry.key.vary, f.vary);

    add(fresh(&f), "Expires", "Sun, 06 Nov 1994 08:49:37 GMT");
    add(&f, "Date", "Sun, 06 Nov 1994 08:49:47 GMT"); /* behind it, and later: the past */
    f.response.max_age_s = UINT64_MAX;
    assert_int_equal(reduce(&f), ETAG_REASON_NONE);
    assert_int_equal(f.entry.fields[0].offset_s, -10);
    assert_int_equal(f.entry.max_age_ms, UINT64_MAX);
    assert_int_equal(f.entry.surrogate_count, 0);
    assert_int_equal(f.entry.content_location.len, 0);
}

TEST(what_the_client_adds_is_kept)
{
    const etag_str names[] = {ETAG_LIT("surrogate-key"), ETAG_LIT("Access-Control-Expose-Headers")};
    struct fixture f;

    fresh(&f);
    assert_true(repeated_fields_copy(&f.repeated, names, 2));
    add(&f, "X-Other", "no");
    add(&f, "Surrogate-Key", "a b");
    add(&f, "Cache-Control", "max-age=60");
    add(&f, "access-control-expose-headers", "ETag");
    add(&f, "Surrogate-Key", "c");
    assert_int_equal(reduce(&f), ETAG_REASON_NONE);
    assert_int_equal(f.entry.field_count, 4);
    assert_kept(&f, 0, "Surrogate-Key", "a b");
    assert_kept(&f, 1, "Cache-Control", "max-age=60");
    assert_kept(&f, 2, "access-control-expose-headers", "ETag");
    assert_kept(&f, 3, "Surrogate-Key", "c");
}

/* The answer to the request itself may be a 304, also where nothing may be stored. */
TEST(what_is_refused_is_reduced_too)
{
    struct fixture f;

    add(fresh(&f), "Cache-Control", "no-store");
    add(&f, "Set-Cookie", "a=b");
    add(&f, "Content-Location", "/a.json");
    assert_int_equal(reduce(&f), ETAG_REASON_NO_STORE);
    assert_true(str_equal(f.entry.etag, ETAG_LIT("\"v1\"")));
    assert_int_equal(f.entry.field_count, 1);
    assert_kept(&f, 0, "Cache-Control", "no-store");
    assert_true(str_equal(f.entry.content_location, ETAG_LIT("/a.json")));
}

TEST(expires_without_date_counts_from_now)
{
    struct fixture f;

    add(fresh(&f), "Expires", "Fri, 01 Jan 2100 00:00:00 GMT");
    add(&f, "Date", "now");
    const int64_t before = time(NULL);
    assert_int_equal(reduce(&f), ETAG_REASON_NONE);
    const int64_t after = time(NULL);
    const int64_t now_s = INT64_C(4102444800) - f.entry.fields[0].offset_s;
    assert_true(now_s >= before - 1 && now_s <= after + 1);
}

static bool depends_on(const struct fixture *f, const char *name)
{
    for (size_t i = 0; i < f->entry.surrogate_count; i++)
        if (str_equal(f->entry.surrogates[i], str_of(name)))
            return true;
    return false;
}

TEST(surrogate_keys_of_names_lists_and_fields)
{
    struct fixture f;
    const etag_str names[] = {ETAG_LIT("upload:42")}, lists[] = {ETAG_LIT("a, b"), ETAG_LIT("c")};

    fresh(&f)->response.surrogates = names;
    f.response.surrogate_count = 1;
    add(&f, "xkey", "d,e");
    add(&f, "cache-tag", " f  upload:42 ");
    assert_int_equal(reduce(&f), ETAG_REASON_NONE);
    assert_int_equal(f.entry.surrogate_count, 5);
    assert_true(depends_on(&f, "upload:42") && depends_on(&f, "d,e") && depends_on(&f, "f"));
    /* Lists that were given stand for those of the fields, also where there are none. */
    f.response.surrogate_lists = lists;
    f.response.surrogate_list_count = 2;
    assert_int_equal(reduce(&f), ETAG_REASON_NONE);
    assert_int_equal(f.entry.surrogate_count, 4);
    assert_true(depends_on(&f, "a") && depends_on(&f, "c") && !depends_on(&f, "d"));
    f.response.surrogate_list_count = 0;
    assert_int_equal(reduce(&f), ETAG_REASON_NONE);
    assert_int_equal(f.entry.surrogate_count, 1);
}

TEST(limits)
{
    struct fixture f;

    fresh(&f);
    for (size_t i = 0; i < FIELDS_PER_ENTRY_MAX; i++)
        add(&f, "Cache-Control", "max-age=1");
    assert_int_equal(reduce(&f), ETAG_REASON_NONE);
    assert_int_equal(f.entry.field_count, FIELDS_PER_ENTRY_MAX);
    add(&f, "Vary", "Accept-Encoding");
    assert_int_equal(reduce(&f), ETAG_REASON_LIMIT);
    assert_non_null(f.why);

    etag_str surrogates[SURROGATES_PER_ENTRY_MAX + 1];
    for (size_t i = 0; i <= SURROGATES_PER_ENTRY_MAX; i++)
        surrogates[i] = ETAG_LIT("upload:42");
    fresh(&f)->response.surrogates = surrogates;
    f.response.surrogate_count = SURROGATES_PER_ENTRY_MAX;
    assert_int_equal(reduce(&f), ETAG_REASON_NONE);
    f.response.surrogate_count = SURROGATES_PER_ENTRY_MAX + 1;
    assert_int_equal(reduce(&f), ETAG_REASON_NONE);
    assert_int_equal(f.entry.surrogate_count, 1); /* each name counts once */

    surrogates[1] = ETAG_LIT("upload 42");
    f.response.surrogate_count = 2;
    assert_int_equal(reduce(&f), ETAG_REASON_BAD_SURROGATE);
    assert_non_null(f.why);

    static char long_value[FIELDSET_BYTES_MAX + 1];
    memset(long_value, 'a', FIELDSET_BYTES_MAX);
    assert_int_equal(reason_of("Cache-Control", long_value), ETAG_REASON_LIMIT);
    assert_int_equal(reason_of("Content-Location", long_value), ETAG_REASON_LIMIT);
    assert_int_equal(reason_of("Expires", "a\nb"), ETAG_REASON_BAD_FIELD);

    add(fresh(&f), "Content-Location", "/a");
    add(&f, "content-location", "/b");
    assert_int_equal(reduce(&f), ETAG_REASON_BAD_FIELD);
    /* Of two faults always the same one is told, whatever came first. */
    add(&f, "ETag", "\"v4\"");
    add(&f, "ETag", "\"v4\"");
    add(&f, "Content-Location", "/c");
    assert_int_equal(reduce(&f), ETAG_REASON_BAD_ETAG);
    add(fresh(&f), "Cache-Control", NULL); /* an absent value is no field */
    assert_int_equal(reduce(&f), ETAG_REASON_NONE);
    assert_int_equal(f.entry.field_count, 0);
}
