/* SPDX-License-Identifier: Apache-2.0 */
/* Shadow mode: what would have been answered, and whether it would have been right. */
#include "client.h"
#include "fake_daemon.h"
#include "numbers.h"

struct fixture {
    struct fake_daemon daemon;
    etag_client_options options;
    etag_client *client;
    etag_key key;
    etag_request request;
    etag_field condition, etag;
    etag_entry response;
    etag_answer answer;
};

static void client_open(struct fixture *f)
{
    assert_int_equal(etag_client_open(&f->client, &f->options), ETAG_OK);
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    fake_init(&f->daemon);
    ETAG_INIT(&f->options);
    f->options.socket_path = f->daemon.path;
    f->options.connect_timeout_ms = f->options.timeout_ms = 5000;
    f->options.shadow = true;
    fake_start(&f->daemon, true);
    client_open(f);

    ETAG_INIT(&f->key);
    f->key.resource = (etag_resource){ETAG_LIT("a.example"), ETAG_LIT("/uploads/42")};
    f->key.scope = (etag_scope){ETAG_SCOPE_NAMED, ETAG_LIT("customer:7")};
    f->condition = (etag_field){ETAG_LIT("If-None-Match"), ETAG_LIT("\"v1\"")};
    ETAG_INIT(&f->request);
    f->request.method = ETAG_LIT("GET");
    f->request.key = &f->key;
    f->request.fields = &f->condition;
    f->request.field_count = 1;
    f->etag = (etag_field){ETAG_LIT("ETag"), ETAG_LIT("\"v1\"")};
    etag_entry_init(&f->response);
    f->response.fields = &f->etag;
    f->response.field_count = 1;
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

/* The index gets an entry with this ETag, which no clock has made stale. */
static void store(struct fixture *f, const char *etag, uint64_t fill_lsn)
{
    struct key key;
    struct index_evicted evicted;
    struct index_entry entry = {.fill_lsn = fill_lsn,
                                .expires_ns = UINT64_MAX,
                                .last_modified = ETAG_NO_DATE,
                                .etag = str_of(etag)};
    assert_null(key_canonicalize(&key, &f->key));
    entry.fingerprint = key_fingerprint(index_view(f->daemon.index)->header->hash_key, &key);
    assert_int_equal(index_put(f->daemon.index, &entry, time_coarse_ns(), &evicted), INDEX_STORED);
}

/* Everything was invalidated. */
static void invalidate(struct fixture *f)
{
    struct shm_view *view = index_view(f->daemon.index);
    shm_lsn_store(view, 200);
    shm_clock_store(view, CLOCK_FLOOR, 200);
}

static void check(struct fixture *f)
{
    assert_int_equal(etag_precheck(f->client, &f->request, etag_token_now(f->client), &f->answer),
                     0);
}

static void check_veiled(struct fixture *f)
{
    check(f);
    assert_int_equal(f->answer.verdict, ETAG_UNKNOWN);
    assert_int_equal(f->answer.reason, ETAG_REASON_SHADOW);
    assert_null(f->answer.etag.data);
    assert_int_equal(f->answer.field_count, 0);
    assert_int_equal(f->answer.range, ETAG_RANGE_NONE);
    assert_true(f->answer.last_modified == ETAG_NO_DATE);
}

static int finish(struct fixture *f, const char *etag)
{
    f->etag.value = str_of(etag);
    return etag_finish(f->client, &f->request, &f->response, &f->answer);
}

static void expect_compared(const struct fixture *f, uint64_t matches, uint64_t mismatches,
                            uint64_t undecided)
{
    assert_int_equal(f->client->counters->shadow_matches, matches);
    assert_int_equal(f->client->counters->shadow_mismatches, mismatches);
    assert_int_equal(f->client->counters->shadow_undecided, undecided);
}

static void expect_fills(struct fixture *f, uint64_t fills)
{
    assert_int_equal(f->client->counters->fills_sent, fills);
}

CASE(what_would_be_a_304_is_counted_and_rendered)
{
    store(f, "\"v1\"", 100);
    check_veiled(f);
    assert_int_equal(f->client->counters->checks, 1);
    assert_int_equal(f->client->counters->not_modified, 0);
    assert_int_equal(f->client->counters->shadow_not_modified, 1);
    assert_int_equal(f->client->counters->unknown_torn, 0);
    /* The response's own validators make the 304 that follows, as in the absence of any cache. */
    assert_int_equal(finish(f, "\"v1\""), 304);
    expect_compared(f, 1, 0, 0);
    expect_fills(f, 0);
}

CASE(other_verdicts_are_counted_too)
{
    store(f, "\"v1\"", 100);
    f->condition.value = ETAG_LIT("\"v0\"");
    check_veiled(f);
    assert_int_equal(f->client->counters->shadow_proceed, 1);
    f->condition.name = ETAG_LIT("If-Match");
    check_veiled(f);
    assert_int_equal(f->client->counters->shadow_precondition_failed, 1);
}

CASE(what_comes_from_the_request_alone_is_answered)
{
    store(f, "\"v1\"", 100);
    f->request.method = ETAG_LIT("PUT");
    f->request.require_if_match = true;
    f->request.field_count = 0;
    assert_int_equal(etag_check(f->client, &f->request, etag_token_now(f->client), &f->answer),
                     ETAG_PRECONDITION_REQUIRED);
}

CASE(what_is_unknown_stays_so)
{
    check(f);
    assert_int_equal(f->answer.reason, ETAG_REASON_NO_ENTRY);
    assert_int_equal(f->client->counters->unknown_no_entry, 1);
    assert_int_equal(finish(f, "\"v1\""), 304);
    expect_compared(f, 0, 0, 0);
    expect_fills(f, 1);
}

CASE(a_change_that_nobody_announced_is_a_mismatch)
{
    store(f, "\"v1\"", 100);
    check_veiled(f);
    assert_int_equal(finish(f, "\"v2\""), 200);
    expect_compared(f, 0, 1, 0);
    expect_fills(f, 1);
}

CASE(so_is_one_that_a_request_without_conditions_meets)
{
    store(f, "\"v1\"", 100);
    f->request.field_count = 0;
    check_veiled(f);
    assert_int_equal(finish(f, "\"v2\""), 200);
    expect_compared(f, 0, 1, 0);
}

CASE(so_is_a_page_that_is_gone)
{
    store(f, "\"v1\"", 100);
    check_veiled(f);
    f->response.http_status = 404;
    assert_int_equal(finish(f, "\"v1\""), 404);
    expect_compared(f, 0, 1, 0);
    f->response.http_status = 500;
    check_veiled(f);
    assert_int_equal(finish(f, "\"v1\""), 500);
    expect_compared(f, 0, 1, 0);
}

CASE(a_change_that_was_announced_meanwhile_is_none)
{
    store(f, "\"v1\"", 100);
    check_veiled(f);
    invalidate(f);
    assert_int_equal(finish(f, "\"v2\""), 200);
    expect_compared(f, 0, 0, 1);
}

CASE(nor_is_one_that_is_filled_already)
{
    store(f, "\"v1\"", 100);
    check_veiled(f);
    store(f, "\"v2\"", 150);
    assert_int_equal(finish(f, "\"v2\""), 200);
    expect_compared(f, 0, 0, 1);
}

/* Another render says that the former version is back: which of the two is newer is not known. */
CASE(nor_is_one_whose_entry_was_filled_anew)
{
    store(f, "\"v1\"", 100);
    check_veiled(f);
    store(f, "\"v1\"", 150);
    assert_int_equal(finish(f, "\"v2\""), 200);
    expect_compared(f, 0, 0, 1);
}

CASE(without_a_lease_nothing_is_decided)
{
    store(f, "\"v1\"", 100);
    check_veiled(f);
    shm_lease_store(index_view(f->daemon.index), 0);
    assert_int_equal(finish(f, "\"v2\""), 200);
    expect_compared(f, 0, 0, 1);
}

/* A render whose request began at another time is not the one of the check. */
CASE(only_the_same_token_is_compared)
{
    store(f, "\"v1\"", 100);
    check_veiled(f);
    f->answer.token.lsn--;
    assert_int_equal(finish(f, "\"v2\""), 200);
    expect_compared(f, 0, 0, 0);
}

CASE(plain_fills_are_compared_as_well)
{
    store(f, "\"v1\"", 100);
    f->response.key = &f->key;
    check_veiled(f);
    assert_int_equal(etag_fill(f->client, f->answer.token, &f->response), ETAG_OK);
    expect_compared(f, 1, 0, 0);
    expect_fills(f, 0);
    f->etag.value = ETAG_LIT("\"v2\"");
    assert_int_equal(etag_fill(f->client, f->answer.token, &f->response), ETAG_OK);
    expect_compared(f, 1, 1, 0);
    expect_fills(f, 1);
}

CASE(one_request_alone_can_be_in_shadow_mode)
{
    etag_client_close(f->client);
    f->options.shadow = false;
    client_open(f);
    store(f, "\"v1\"", 100);
    assert_int_equal(etag_precheck(f->client, &f->request, etag_token_now(f->client), &f->answer),
                     304);
    f->request.shadow = true;
    check_veiled(f);
    assert_int_equal(finish(f, "\"v2\""), 200);
    expect_compared(f, 0, 1, 0);
}

CASE(the_environment_can_turn_it_on)
{
    static const struct {
        const char *value;
        int status;
    } cases[] = {{"1", 0}, {"yes", 0}, {"0", 304}, {"", 304}};
    f->options.shadow = false;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        etag_client_close(f->client);
        setenv("ETAGD_SHADOW", cases[i].value, 1);
        client_open(f);
        unsetenv("ETAGD_SHADOW");
        store(f, "\"v1\"", 100 + i);
        assert_int_equal(
            etag_precheck(f->client, &f->request, etag_token_now(f->client), &f->answer),
            cases[i].status);
    }
}
