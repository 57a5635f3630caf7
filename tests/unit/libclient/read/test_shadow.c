/* SPDX-License-Identifier: Apache-2.0 */
/* Shadow mode: what would have been answered, and whether it would have been right. */
#include "client_fixture.h"
#include "numbers.h"

static int setup(void **state)
{
    struct fixture *f = client_setup(state);

    f->options.shadow = true;
    client_start(f);
    f->key.scope = (etag_scope){ETAG_SCOPE_NAMED, ETAG_LIT("customer:7")};
    client_ask(f, "If-None-Match", "\"v1\"");
    client_field(f, "ETag", "\"v1\"");
    return 0;
}

#define CASE(name) TEST_OF(name, struct fixture *f, setup, client_teardown)

/* Everything was invalidated. */
static void invalidate(struct fixture *f)
{
    struct shm_view *view = index_view(f->daemon.index);

    shm_lsn_store(view, 200);
    shm_clock_store(view, CLOCK_FLOOR, 200);
}

static void check(struct fixture *f)
{
    assert_int_equal(client_precheck(f), 0);
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
    f->fields[0].value = str_of(etag);
    return client_finish(f);
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
    client_store_etag(f, "\"v1\"", 100);
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
    client_store_etag(f, "\"v1\"", 100);
    f->asked[0].value = ETAG_LIT("\"v0\"");
    check_veiled(f);
    assert_int_equal(f->client->counters->shadow_proceed, 1);
    f->asked[0].name = ETAG_LIT("If-Match");
    check_veiled(f);
    assert_int_equal(f->client->counters->shadow_precondition_failed, 1);
}

CASE(what_comes_from_the_request_alone_is_answered)
{
    client_store_etag(f, "\"v1\"", 100);
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
    client_store_etag(f, "\"v1\"", 100);
    check_veiled(f);
    assert_int_equal(finish(f, "\"v2\""), 0);
    expect_compared(f, 0, 1, 0);
    expect_fills(f, 1);
}

CASE(so_is_one_that_a_request_without_conditions_meets)
{
    client_store_etag(f, "\"v1\"", 100);
    f->request.field_count = 0;
    check_veiled(f);
    assert_int_equal(finish(f, "\"v2\""), 0);
    expect_compared(f, 0, 1, 0);
}

CASE(so_is_a_page_that_is_gone)
{
    client_store_etag(f, "\"v1\"", 100);
    check_veiled(f);
    f->response.http_status = 404;
    assert_int_equal(finish(f, "\"v1\""), 0);
    expect_compared(f, 0, 1, 0);
    f->response.http_status = 500;
    check_veiled(f);
    assert_int_equal(finish(f, "\"v1\""), 0);
    expect_compared(f, 0, 1, 0);
}

CASE(a_change_that_was_announced_meanwhile_is_none)
{
    client_store_etag(f, "\"v1\"", 100);
    check_veiled(f);
    invalidate(f);
    assert_int_equal(finish(f, "\"v2\""), 0);
    expect_compared(f, 0, 0, 1);
}

CASE(nor_is_one_that_is_filled_already)
{
    client_store_etag(f, "\"v1\"", 100);
    check_veiled(f);
    client_store_etag(f, "\"v2\"", 150);
    assert_int_equal(finish(f, "\"v2\""), 0);
    expect_compared(f, 0, 0, 1);
}

/* Another render says that the former version is back: which of the two is newer is not known. */
CASE(nor_is_one_whose_entry_was_filled_anew)
{
    client_store_etag(f, "\"v1\"", 100);
    check_veiled(f);
    client_store_etag(f, "\"v1\"", 150);
    assert_int_equal(finish(f, "\"v2\""), 0);
    expect_compared(f, 0, 0, 1);
}

CASE(without_a_lease_nothing_is_decided)
{
    client_store_etag(f, "\"v1\"", 100);
    check_veiled(f);
    shm_lease_store(index_view(f->daemon.index), 0);
    assert_int_equal(finish(f, "\"v2\""), 0);
    expect_compared(f, 0, 0, 1);
}

/* A render whose request began at another time is not the one of the check. */
CASE(only_the_same_token_is_compared)
{
    client_store_etag(f, "\"v1\"", 100);
    check_veiled(f);
    f->answer.token.lsn--;
    assert_int_equal(finish(f, "\"v2\""), 0);
    expect_compared(f, 0, 0, 0);
}

CASE(plain_fills_are_compared_as_well)
{
    client_store_etag(f, "\"v1\"", 100);
    f->response.key = &f->key;
    check_veiled(f);
    assert_int_equal(etag_fill(f->client, f->answer.token, &f->response), ETAG_OK);
    expect_compared(f, 1, 0, 0);
    expect_fills(f, 0);
    f->fields[0].value = ETAG_LIT("\"v2\"");
    assert_int_equal(etag_fill(f->client, f->answer.token, &f->response), ETAG_OK);
    expect_compared(f, 1, 1, 0);
    expect_fills(f, 1);
}

CASE(one_request_alone_can_be_in_shadow_mode)
{
    etag_client_close(f->client);
    f->options.shadow = false;
    client_open(f);
    client_store_etag(f, "\"v1\"", 100);
    assert_int_equal(etag_precheck(f->client, &f->request, etag_token_now(f->client), &f->answer),
                     304);
    f->request.shadow = true;
    check_veiled(f);
    assert_int_equal(finish(f, "\"v2\""), 0);
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
        client_store_etag(f, "\"v1\"", 100 + i);
        assert_int_equal(
            etag_precheck(f->client, &f->request, etag_token_now(f->client), &f->answer),
            cases[i].status);
    }
}
