/* SPDX-License-Identifier: Apache-2.0 */
/* A whole request in two calls, with a daemon that counts the fills and an index that holds one
 * entry. */
#include "client_fixture.h"
#include "numbers.h"

static int setup(void **state)
{
    struct fixture *f = client_setup(state);

    f->repeated = ETAG_LIT("Surrogate-Key");
    f->options.repeated_fields = &f->repeated;
    f->options.repeated_field_count = 1;
    client_start(f);
    f->key.scope = (etag_scope){ETAG_SCOPE_NAMED, ETAG_LIT("customer:7")};
    client_field(f, "ETag", "\"v1\"");
    client_field(f, "Cache-Control", "max-age=60");
    client_field(f, "Content-Type", "text/plain");
    client_field(f, "Surrogate-Key", "a b");
    client_field(f, "Expires", "Sun, 06 Nov 1994 09:49:37 GMT");
    return 0;
}

#define CASE(name) TEST_OF(name, struct fixture *f, setup, client_teardown)

static void expect_field(const struct fixture *f, size_t i, const char *name, const char *value)
{
    assert_true(i < f->answer.field_count);
    assert_true(str_equal(f->answer.fields[i].name, str_of(name)));
    assert_true(str_equal(f->answer.fields[i].value, str_of(value)));
}

CASE(a_miss_is_filled_and_sent)
{
    assert_int_equal(client_precheck(f), 0);
    assert_int_equal(f->answer.reason, ETAG_REASON_NO_ENTRY);
    assert_int_equal(client_finish(f), 0);
    assert_int_equal(f->answer.verdict, ETAG_PROCEED);
    assert_int_equal(f->answer.field_count, 0);
    assert_true(str_equal(f->answer.etag, ETAG_LIT("\"v1\"")));
    client_expect_sent(f, 1, 0);
    assert_int_equal(fake_get(&f->daemon, last_fill_lsn), 100);
}

CASE(a_miss_that_is_what_the_client_has)
{
    client_ask(f, "If-None-Match", "\"v1\"");
    assert_int_equal(client_precheck(f), 0);
    client_field(f, "Content-Location", "/uploads/42.txt");
    assert_int_equal(client_finish(f), 304);
    assert_int_equal(f->answer.field_count, 5);
    expect_field(f, 0, "ETag", "\"v1\"");
    expect_field(f, 1, "Content-Location", "/uploads/42.txt");
    expect_field(f, 2, "Cache-Control", "max-age=60");
    expect_field(f, 3, "Surrogate-Key", "a b");
    expect_field(f, 4, "Expires", "Sun, 06 Nov 1994 09:49:37 GMT"); /* the Date is of now, too */
    client_expect_sent(f, 1, 0);
}

CASE(a_hit_renders_nothing)
{
    client_store_etag(f, "\"v1\"", 100);
    client_ask(f, "If-None-Match", "\"v1\"");
    assert_int_equal(client_precheck(f), 304);
    expect_field(f, 0, "ETag", "\"v1\"");
    f->request.method = ETAG_LIT("PUT");
    assert_int_equal(client_precheck(f), 412);
    expect_field(f, 0, "ETag", "\"v1\"");
    f->request.require_if_match = true;
    assert_int_equal(client_precheck(f), 428);
    assert_int_equal(f->answer.field_count, 0);
}

/* A known entry needs no second fill, unless something else was rendered: then nobody has announced
 * a change. */
CASE(what_the_cache_has_is_not_filled)
{
    client_store_etag(f, "\"v1\"", 100);
    f->response.field_count = 1; /* the stored one has no other fields: see test_refill */
    client_ask(f, "If-None-Match", "\"v0\"");
    assert_int_equal(client_precheck(f), 0);
    assert_int_equal(f->answer.verdict, ETAG_PROCEED);
    assert_int_equal(client_finish(f), 0);
    client_expect_sent(f, 0, 0);
    assert_int_equal(client_precheck(f), 0);
    f->fields[0].value = ETAG_LIT("\"v2\"");
    assert_int_equal(client_finish(f), 0);
    client_expect_sent(f, 1, 0);
}

CASE(head_is_judged_and_not_filled)
{
    f->request.method = ETAG_LIT("HEAD");
    client_ask(f, "If-None-Match", "\"v1\"");
    assert_int_equal(client_precheck(f), 0);
    assert_int_equal(client_finish(f), 304);
    client_expect_sent(f, 0, 0);
    assert_int_equal(f->client->counters->fills_refused, 0);
}

CASE(if_match_of_a_get)
{
    client_ask(f, "If-Match", "\"v0\"");
    assert_int_equal(client_precheck(f), 0);
    assert_int_equal(client_finish(f), 412);
    assert_int_equal(f->answer.field_count, 1);
    expect_field(f, 0, "ETag", "\"v1\"");
}

/* RFC 9110 section 13.2.1: a redirect or an error stands whatever the conditions say. */
CASE(what_is_not_2xx_stands)
{
    static const int statuses[] = {100, 199, 300, 302, 404, 500};

    client_ask(f, "If-None-Match", "*");
    for (size_t i = 0; i < COUNT_OF(statuses); i++) {
        f->response.http_status = statuses[i];
        assert_int_equal(client_precheck(f), 0);
        assert_int_equal(client_finish(f), 0);
        assert_int_equal(f->answer.verdict, ETAG_PROCEED);
        assert_int_equal(f->answer.field_count, 0);
    }
    client_expect_sent(f, 0, 0);
    f->response.http_status = 203; /* is judged, and not stored */
    assert_int_equal(client_precheck(f), 0);
    assert_int_equal(client_finish(f), 304);
    client_expect_sent(f, 0, 0);
}

/* The write is done by then: a 412 would be a lie. */
CASE(what_was_written_stands)
{
    f->request.method = ETAG_LIT("PUT");
    f->request.require_if_match = true;
    client_ask(f, "If-Match", "\"v0\"");
    assert_int_equal(client_precheck(f), 0);
    f->response.http_status = 201;
    assert_int_equal(client_finish(f), 0);
    assert_int_equal(f->answer.reason, ETAG_REASON_METHOD);
    client_expect_sent(f, 0, 0);
}

CASE(what_must_not_be_stored_is_judged)
{
    client_ask(f, "If-None-Match", "\"v1\"");
    f->fields[1].value = ETAG_LIT("no-store");
    assert_int_equal(client_precheck(f), 0);
    assert_int_equal(client_finish(f), 304);
    expect_field(f, 1, "Cache-Control", "no-store");
    assert_int_equal(etag_fill_reason(f->client), ETAG_REASON_NO_STORE);
    client_expect_sent(f, 0, 0);
}

/* Nobody can forget to say it: the request itself says that it was authorized. */
CASE(authorization_is_seen_in_the_request)
{
    f->key.scope = (etag_scope){ETAG_SCOPE_PUBLIC, {0}};
    client_ask(f, "authorization", "Bearer x");
    assert_int_equal(client_precheck(f), 0);
    assert_int_equal(client_finish(f), 0);
    assert_int_equal(etag_fill_reason(f->client), ETAG_REASON_AUTHORIZATION);
    f->asked[0].value.data = NULL;
    assert_int_equal(client_precheck(f), 0);
    assert_int_equal(client_finish(f), 0);
    client_expect_sent(f, 1, 0);
}

CASE(ranges)
{
    client_ask(f, "Range", "bytes=0-1");
    client_ask(f, "If-Range", "\"v1\"");
    assert_int_equal(client_precheck(f), 0);
    assert_int_equal(client_finish(f), 0);
    assert_int_equal(f->answer.range, ETAG_RANGE_HONOR);
    f->asked[1].value = ETAG_LIT("Sun, 06 Nov 1994 08:49:37 GMT");
    client_field(f, "Last-Modified", "Sun, 06 Nov 1994 08:49:37 GMT");
    assert_int_equal(client_finish(f), 0);
    assert_int_equal(f->answer.range, ETAG_RANGE_IGNORE);
    f->response.last_modified_is_strong = true;
    assert_int_equal(client_finish(f), 0);
    assert_int_equal(f->answer.range, ETAG_RANGE_HONOR);
    client_ask(f, "If-None-Match", "\"v1\"");
    assert_int_equal(client_finish(f), 304);
    assert_int_equal(f->answer.range, ETAG_RANGE_NONE);
}

CASE(without_a_daemon)
{
    fake_kill(&f->daemon);
    f->client = etag_client_close(f->client);
    assert_int_equal(etag_client_open(&f->client, &f->options), ETAG_OK);
    client_ask(f, "If-None-Match", "\"v1\"");
    assert_int_equal(client_precheck(f), 0);
    assert_int_equal(f->answer.reason, ETAG_REASON_NO_INDEX);
    assert_int_equal(client_finish(f), 304);
}

CASE(the_response_may_say_it_itself)
{
    etag_key other = f->key;

    other.resource.target = ETAG_LIT("no slash");
    assert_int_equal(client_precheck(f), 0);
    f->response.method = ETAG_LIT("POST"); /* which may not be stored */
    assert_int_equal(client_finish(f), 0);
    assert_int_equal(etag_fill_reason(f->client), ETAG_REASON_METHOD);
    f->response.method = (etag_str){0};
    f->response.key = &other;
    assert_int_equal(client_precheck(f), 0);
    assert_int_equal(client_finish(f), 0);
    assert_int_equal(etag_fill_reason(f->client), ETAG_REASON_BAD_KEY);
    client_expect_sent(f, 0, 0);
}

CASE(a_304_without_a_tag)
{
    client_ask(f, "If-Modified-Since", "Sun, 06 Nov 1994 08:49:37 GMT");
    f->fields[0] = (etag_field){ETAG_LIT("Last-Modified"),
                                ETAG_LIT("Sun, 06 Nov 1994 08:49:37 GMT")};
    assert_int_equal(client_precheck(f), 0);
    assert_int_equal(client_finish(f), 0); /* it may come from an earlier version of that second */
    assert_int_equal(f->answer.reason, ETAG_REASON_DATE_WEAK);
    assert_int_equal(f->answer.field_count, 0);
    f->response.last_modified_is_strong = true;
    assert_int_equal(client_finish(f), 304);
    expect_field(f, 0, "Cache-Control", "max-age=60");
    assert_int_equal(etag_fill_reason(f->client), ETAG_REASON_NO_VALIDATOR);
    f->asked[0] = (etag_field){ETAG_LIT("If-Match"), ETAG_LIT("\"v1\"")};
    assert_int_equal(client_finish(f), 412);
    assert_int_equal(f->answer.field_count, 0); /* there is no current tag to name */
}

CASE(bad_arguments)
{
    assert_int_equal(client_precheck(f), 0);
    f->request.key = NULL;
    assert_int_equal(client_finish(f), 0);
    assert_string_not_equal(etag_client_error(f->client), "");
    f->response.key = &f->key;
    assert_int_equal(client_finish(f), 0);
    f->response.size = 1;
    assert_int_equal(client_finish(f), 0);
    f->response.size = sizeof(f->response);
    f->request.size = 1;
    assert_int_equal(client_finish(f), 0);
    f->request.size = sizeof(f->request);
    f->answer.size = 1;
    assert_int_equal(client_finish(f), 0);
    assert_int_equal(etag_finish(f->client, &f->request, &f->response, NULL), 0);
}
