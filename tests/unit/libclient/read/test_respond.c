/* SPDX-License-Identifier: Apache-2.0 */
/* A whole request in two calls, with a daemon that counts the fills and an index that holds one entry. */
#include "client.h"
#include "fake_daemon.h"
#include "numbers.h"

#define FIELDS_MAX 8

struct fixture {
    struct fake_daemon daemon;
    etag_client_options options;
    etag_str repeated;
    etag_client *client;
    etag_key key;
    etag_request request;
    etag_field conditions[FIELDS_MAX];
    etag_entry response;
    etag_field fields[FIELDS_MAX];
    etag_answer answer;
    unsigned fills; /* seen so far */
};

static void condition(struct fixture *f, const char *name, const char *value)
{
    f->conditions[f->request.field_count++] = (etag_field){str_of(name), str_of(value)};
}

static void field(struct fixture *f, const char *name, const char *value)
{
    f->fields[f->response.field_count++] = (etag_field){str_of(name), str_of(value)};
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    fake_init(&f->daemon);
    f->repeated = ETAG_LIT("Surrogate-Key");
    ETAG_INIT(&f->options);
    f->options.socket_path = f->daemon.path;
    f->options.connect_timeout_ms = f->options.timeout_ms = 5000;
    f->options.repeated_fields = &f->repeated;
    f->options.repeated_field_count = 1;
    fake_start(&f->daemon, true);
    assert_int_equal(etag_client_open(&f->client, &f->options), ETAG_OK);

    ETAG_INIT(&f->key);
    f->key.resource = (etag_resource){ETAG_LIT("a.example"), ETAG_LIT("/uploads/42")};
    f->key.scope = (etag_scope){ETAG_SCOPE_NAMED, ETAG_LIT("customer:7")};
    ETAG_INIT(&f->request);
    f->request.method = ETAG_LIT("GET");
    f->request.key = &f->key;
    f->request.fields = f->conditions;
    etag_entry_init(&f->response);
    f->response.fields = f->fields;
    field(f, "ETag", "\"v1\"");
    field(f, "Cache-Control", "max-age=60");
    field(f, "Content-Type", "text/plain");
    field(f, "Surrogate-Key", "a b");
    field(f, "Expires", "Sun, 06 Nov 1994 09:49:37 GMT");
    ETAG_INIT(&f->answer);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    f->client = etag_client_close(f->client);
    fake_deinit(&f->daemon);
    free(f);
    return 0;
}

#define CASE(name) TEST_OF(name, struct fixture *f, setup, teardown)

/* The index gets the entry that the fake daemon does not put there. */
static void store(struct fixture *f, const char *etag)
{
    struct key key;
    struct index_evicted evicted;
    const struct index_entry entry = {.fill_lsn = 100,
                                      .expires_ns = UINT64_MAX,
                                      .last_modified = ETAG_NO_DATE,
                                      .etag = str_of(etag)};
    assert_null(key_canonicalize(&key, &f->key));
    struct index_entry named = entry;
    named.fingerprint = key_fingerprint(index_view(f->daemon.index)->header->hash_key, &key);
    assert_int_equal(index_put(f->daemon.index, &named, time_coarse_ns(), &evicted), INDEX_STORED);
}

static int precheck(struct fixture *f)
{
    return etag_precheck(f->client, &f->request, etag_token_now(f->client), &f->answer);
}

static int finish(struct fixture *f)
{
    return etag_finish(f->client, &f->request, &f->response, &f->answer);
}

/* So many fills more than last time. */
static void expect_fills(struct fixture *f, unsigned more)
{
    /* What the daemon answers after a fill, it answers when it has read the fill. */
    etag_targets targets;
    ETAG_INIT(&targets);
    targets.everything = true;
    assert_int_equal(etag_invalidate(f->client, &targets, NULL), ETAG_OK);
    assert_int_equal(fake_get(&f->daemon, fills), f->fills + more);
    f->fills += more;
}

static void expect_field(const struct fixture *f, size_t i, const char *name, const char *value)
{
    assert_true(i < f->answer.field_count);
    assert_true(str_equal(f->answer.fields[i].name, str_of(name)));
    assert_true(str_equal(f->answer.fields[i].value, str_of(value)));
}

CASE(a_miss_is_filled_and_sent)
{
    assert_int_equal(precheck(f), 0);
    assert_int_equal(f->answer.reason, ETAG_REASON_NO_ENTRY);
    assert_int_equal(finish(f), 200);
    assert_int_equal(f->answer.verdict, ETAG_PROCEED);
    assert_int_equal(f->answer.field_count, 0);
    assert_true(str_equal(f->answer.etag, ETAG_LIT("\"v1\"")));
    expect_fills(f, 1);
    assert_int_equal(fake_get(&f->daemon, last_fill_lsn), 100);
}

CASE(a_miss_that_is_what_the_client_has)
{
    condition(f, "If-None-Match", "\"v1\"");
    assert_int_equal(precheck(f), 0);
    field(f, "Content-Location", "/uploads/42.txt");
    assert_int_equal(finish(f), 304);
    assert_int_equal(f->answer.field_count, 5);
    expect_field(f, 0, "ETag", "\"v1\"");
    expect_field(f, 1, "Content-Location", "/uploads/42.txt");
    expect_field(f, 2, "Cache-Control", "max-age=60");
    expect_field(f, 3, "Surrogate-Key", "a b");
    expect_field(f, 4, "Expires", "Sun, 06 Nov 1994 09:49:37 GMT"); /* the Date is of now, too */
    expect_fills(f, 1);
}

CASE(a_hit_renders_nothing)
{
    store(f, "\"v1\"");
    condition(f, "If-None-Match", "\"v1\"");
    assert_int_equal(precheck(f), 304);
    expect_field(f, 0, "ETag", "\"v1\"");
    f->request.method = ETAG_LIT("PUT");
    assert_int_equal(precheck(f), 412);
    expect_field(f, 0, "ETag", "\"v1\"");
    f->request.require_if_match = true;
    assert_int_equal(precheck(f), 428);
    assert_int_equal(f->answer.field_count, 0);
}

/* A known entry needs no second fill, unless something else was rendered: then nobody has announced a change. */
CASE(what_the_cache_has_is_not_filled)
{
    store(f, "\"v1\"");
    f->response.field_count = 1; /* the stored one has no other fields: see test_refill */
    condition(f, "If-None-Match", "\"v0\"");
    assert_int_equal(precheck(f), 0);
    assert_int_equal(f->answer.verdict, ETAG_PROCEED);
    assert_int_equal(finish(f), 200);
    expect_fills(f, 0);
    assert_int_equal(precheck(f), 0);
    f->fields[0].value = ETAG_LIT("\"v2\"");
    assert_int_equal(finish(f), 200);
    expect_fills(f, 1);
}

CASE(head_is_judged_and_not_filled)
{
    f->request.method = ETAG_LIT("HEAD");
    condition(f, "If-None-Match", "\"v1\"");
    assert_int_equal(precheck(f), 0);
    assert_int_equal(finish(f), 304);
    expect_fills(f, 0);
    assert_int_equal(f->client->counters->fills_refused, 0);
}

CASE(if_match_of_a_get)
{
    condition(f, "If-Match", "\"v0\"");
    assert_int_equal(precheck(f), 0);
    assert_int_equal(finish(f), 412);
    assert_int_equal(f->answer.field_count, 1);
    expect_field(f, 0, "ETag", "\"v1\"");
}

/* RFC 9110 section 13.2.1: a redirect or an error stands whatever the conditions say. */
CASE(what_is_not_2xx_stands)
{
    static const int statuses[] = {100, 199, 300, 302, 404, 500};
    condition(f, "If-None-Match", "*");
    for (size_t i = 0; i < COUNT_OF(statuses); i++) {
        f->response.http_status = statuses[i];
        assert_int_equal(precheck(f), 0);
        assert_int_equal(finish(f), statuses[i]);
        assert_int_equal(f->answer.verdict, ETAG_PROCEED);
        assert_int_equal(f->answer.field_count, 0);
    }
    expect_fills(f, 0);
    f->response.http_status = 203; /* is judged, and not stored */
    assert_int_equal(precheck(f), 0);
    assert_int_equal(finish(f), 304);
    expect_fills(f, 0);
}

/* The write is done by then: a 412 would be a lie. */
CASE(what_was_written_stands)
{
    f->request.method = ETAG_LIT("PUT");
    f->request.require_if_match = true;
    condition(f, "If-Match", "\"v0\"");
    assert_int_equal(precheck(f), 0);
    f->response.http_status = 201;
    assert_int_equal(finish(f), 201);
    assert_int_equal(f->answer.reason, ETAG_REASON_METHOD);
    expect_fills(f, 0);
}

CASE(what_must_not_be_stored_is_judged)
{
    condition(f, "If-None-Match", "\"v1\"");
    f->fields[1].value = ETAG_LIT("no-store");
    assert_int_equal(precheck(f), 0);
    assert_int_equal(finish(f), 304);
    expect_field(f, 1, "Cache-Control", "no-store");
    assert_int_equal(etag_client_reason(f->client), ETAG_REASON_NO_STORE);
    expect_fills(f, 0);
}

/* Nobody can forget to say it: the request itself says that it was authorized. */
CASE(authorization_is_seen_in_the_request)
{
    f->key.scope = (etag_scope){ETAG_SCOPE_PUBLIC, {0}};
    condition(f, "authorization", "Bearer x");
    assert_int_equal(precheck(f), 0);
    assert_int_equal(finish(f), 200);
    assert_int_equal(etag_client_reason(f->client), ETAG_REASON_AUTHORIZATION);
    f->conditions[0].value.data = NULL;
    assert_int_equal(precheck(f), 0);
    assert_int_equal(finish(f), 200);
    expect_fills(f, 1);
}

CASE(ranges)
{
    condition(f, "Range", "bytes=0-1");
    condition(f, "If-Range", "\"v1\"");
    assert_int_equal(precheck(f), 0);
    assert_int_equal(finish(f), 200);
    assert_int_equal(f->answer.range, ETAG_RANGE_HONOR);
    f->conditions[1].value = ETAG_LIT("Sun, 06 Nov 1994 08:49:37 GMT");
    field(f, "Last-Modified", "Sun, 06 Nov 1994 08:49:37 GMT");
    assert_int_equal(finish(f), 200);
    assert_int_equal(f->answer.range, ETAG_RANGE_IGNORE);
    f->response.last_modified_is_strong = true;
    assert_int_equal(finish(f), 200);
    assert_int_equal(f->answer.range, ETAG_RANGE_HONOR);
    condition(f, "If-None-Match", "\"v1\"");
    assert_int_equal(finish(f), 304);
    assert_int_equal(f->answer.range, ETAG_RANGE_NONE);
}

CASE(without_a_daemon)
{
    fake_kill(&f->daemon);
    f->client = etag_client_close(f->client);
    assert_int_equal(etag_client_open(&f->client, &f->options), ETAG_OK);
    condition(f, "If-None-Match", "\"v1\"");
    assert_int_equal(precheck(f), 0);
    assert_int_equal(f->answer.reason, ETAG_REASON_NO_INDEX);
    assert_int_equal(finish(f), 304);
}

CASE(the_response_may_say_it_itself)
{
    etag_key other = f->key;
    other.resource.target = ETAG_LIT("no slash");
    assert_int_equal(precheck(f), 0);
    f->response.method = ETAG_LIT("POST"); /* which may not be stored */
    assert_int_equal(finish(f), 200);
    assert_int_equal(etag_client_reason(f->client), ETAG_REASON_METHOD);
    f->response.method = (etag_str){0};
    f->response.key = &other;
    assert_int_equal(precheck(f), 0);
    assert_int_equal(finish(f), 200);
    assert_int_equal(etag_client_reason(f->client), ETAG_REASON_BAD_KEY);
    expect_fills(f, 0);
}

CASE(a_304_without_a_tag)
{
    condition(f, "If-Modified-Since", "Sun, 06 Nov 1994 08:49:37 GMT");
    f->fields[0] = (etag_field){ETAG_LIT("Last-Modified"),
                                ETAG_LIT("Sun, 06 Nov 1994 08:49:37 GMT")};
    assert_int_equal(precheck(f), 0);
    assert_int_equal(finish(f), 200); /* it may come from an earlier version of that second */
    assert_int_equal(f->answer.reason, ETAG_REASON_DATE_WEAK);
    assert_int_equal(f->answer.field_count, 0);
    f->response.last_modified_is_strong = true;
    assert_int_equal(finish(f), 304);
    expect_field(f, 0, "Cache-Control", "max-age=60");
    assert_int_equal(etag_client_reason(f->client), ETAG_REASON_NO_VALIDATOR);
    f->conditions[0] = (etag_field){ETAG_LIT("If-Match"), ETAG_LIT("\"v1\"")};
    assert_int_equal(finish(f), 412);
    assert_int_equal(f->answer.field_count, 0); /* there is no current tag to name */
}

CASE(bad_arguments)
{
    assert_int_equal(precheck(f), 0);
    f->request.key = NULL;
    assert_int_equal(finish(f), 0);
    assert_string_not_equal(etag_client_error(f->client), "");
    f->response.key = &f->key;
    assert_int_equal(finish(f), 200);
    f->response.size = 1;
    assert_int_equal(finish(f), 0);
    f->response.size = sizeof(f->response);
    f->request.size = 1;
    assert_int_equal(finish(f), 0);
    f->request.size = sizeof(f->request);
    f->answer.size = 1;
    assert_int_equal(finish(f), 0);
    assert_int_equal(etag_finish(f->client, &f->request, &f->response, NULL), 0);
}
