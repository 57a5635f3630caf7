/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an answer does to its key's entry: a table of situations for etag_finish(), with a daemon
 * that counts fills and retires and an index that holds what the test puts there.
 */
#include "client_fixture.h"
#include "made_entry.h"
#include "numbers.h"

static int setup(void **state)
{
    struct fixture *f = client_setup(state);

    client_start(f);
    client_field(f, "ETag", "\"v1\"");
    client_field(f, "Cache-Control", "max-age=60");
    f->response.surrogate_count = 1;
    return 0;
}

#define CASE(name) TEST_OF(name, struct fixture *f, setup, client_teardown)

/* ---- The index ---- */

static uint32_t clock_of(struct fixture *f, etag_str surrogate)
{
    const struct shm_view *view = index_view(f->daemon.index);

    return clock_of_surrogate(view->header->hash_key, view->clock_count, surrogate);
}

static uint32_t family_of(struct fixture *f, etag_str surrogate)
{
    const struct shm_view *view = index_view(f->daemon.index);

    return clock_of_family(view->header->hash_key, view->clock_count, surrogate);
}

struct stored {
    const char *etag, *cache_control;
    size_t surrogate_count;
    /* left_ns 0: for ever */
    uint64_t fill_lsn, left_ns;
    int64_t last_modified;
};

static const struct stored AS_ANSWERED = {"\"v1\"", "max-age=60", 1, FAKE_TOKEN_LSN,
                                          0,        ETAG_NO_DATE};

static void store(struct fixture *f, struct stored what)
{
    uint8_t packed[FIELDSET_BYTES_MAX];
    const uint64_t left_ns = what.left_ns ? time_coarse_ns() + what.left_ns : UINT64_MAX;
    const uint32_t clocks[] = {clock_of(f, f->surrogates[0]), family_of(f, f->surrogates[0]),
                               clock_of(f, f->surrogates[1]), family_of(f, f->surrogates[1])};
    struct kept_field kept = {
        .field = {ETAG_LIT("Cache-Control"), str_of(what.cache_control)},
    };

    client_store(f, (struct index_entry){.fill_lsn = what.fill_lsn,
                                         .expires_ns = left_ns,
                                         .last_modified = what.last_modified,
                                         .etag = str_of(what.etag),
                                         .fieldset = made_fieldset(packed, &kept, 1),
                                         .clocks = clocks,
                                         .clock_count = 2 * what.surrogate_count});
}

/* ---- Requests ---- */

/* A request as a whole, and what it does to the entry. */
static void answered(struct fixture *f, int fills, int retires)
{
    assert_int_equal(client_precheck(f), 0);
    assert_int_equal(client_finish(f), 0);
    client_expect_sent(f, fills, retires);
}

/* ---- Refill ---- */

CASE(what_the_entry_says_is_not_filled_again)
{
    store(f, AS_ANSWERED);
    answered(f, 0, 0);
    f->surrogates[0] = ETAG_LIT("post:1"); /* fewer names than the entry has are covered by it */
    struct stored more = AS_ANSWERED;
    more.surrogate_count = 2;
    store(f, more);
    answered(f, 0, 0);
    assert_int_equal(etag_fill_reason(f->client), ETAG_REASON_NONE);
}

CASE(another_cache_control_fills)
{
    struct stored former = AS_ANSWERED;

    former.cache_control = "max-age=86400";
    store(f, former);
    answered(f, 1, 0);
    store(f, AS_ANSWERED);
    /* What was sent may be on its way. */
    store(f, former);
    answered(f, 0, 0);
    /* A second change within the second: the entry is wrong, and goes. */
    client_field(f, "Content-Location", "/posts/1.html");
    answered(f, 0, 1);
    answered(f, 0, 0);
    assert_int_equal(f->client->counters->fills_held_back, 3);
    assert_true(index_remove(f->daemon.index, client_fingerprint(f)));
    answered(f, 0, 0); /* until the second is over there is none */
}

/* It went on with the other fields for ever: what had been said before the invalidation seemed to
 * be on its way. */
CASE(fields_that_were_filled_over_after_an_invalidation_go)
{
    struct stored former = AS_ANSWERED;

    former.cache_control = "max-age=86400";
    former.fill_lsn = FAKE_TOKEN_LSN / 2;
    store(f, former);
    answered(f, 1, 0);
    shm_clock_store(index_view(f->daemon.index), clock_of(f, f->surrogates[0]), FAKE_TOKEN_LSN);
    f->fields[1].value = ETAG_LIT("max-age=86400");
    answered(f, 1, 0);
    former.fill_lsn = FAKE_TOKEN_LSN;
    store(f, former);
    f->fields[1].value = ETAG_LIT("max-age=60");
    answered(f, 0, 1);
}

CASE(a_surrogate_key_that_the_entry_lacks_always_fills)
{
    f->response.surrogate_count = 2;
    for (int i = 0; i < 5; i++) {
        store(f, AS_ANSWERED);
        answered(f, 1, 0);
    }
    /* Also within the second that other fields began. */
    f->response.surrogate_count = 1;
    f->fields[1].value = ETAG_LIT("max-age=1");
    answered(f, 1, 0);
    f->response.surrogate_count = 2;
    f->fields[1].value = ETAG_LIT("max-age=2");
    answered(f, 1, 0);
}

/* Two names may share a clock, and then only the family's tells them apart. */
CASE(a_family_that_the_entry_lacks_always_fills)
{
    const struct shm_view *view = index_view(f->daemon.index);
    const uint32_t clock = clock_of(f, f->surrogates[0]);
    char twin[24];
    unsigned i = 0;

    do
        snprintf(twin, sizeof(twin), "other%u:1", i++);
    while (clock_of_surrogate(view->header->hash_key, view->clock_count, str_of(twin)) != clock);
    store(f, AS_ANSWERED);
    answered(f, 0, 0);
    f->surrogates[0] = str_of(twin);
    answered(f, 1, 0);
}

CASE(another_date_or_tag_fills)
{
    store(f, AS_ANSWERED);
    f->response.last_modified = 784111777;
    answered(f, 1, 0);
    f->response.last_modified = ETAG_NO_DATE;
    f->response.last_modified_is_strong = true; /* or no longer: the entry's word is believed */
    answered(f, 1, 0);
    f->response.last_modified_is_strong = false;
    f->fields[0].value = ETAG_LIT("\"v2\"");
    answered(f, 1, 0);
    f->fields[0].value = ETAG_LIT("W/\"v1\"");
    answered(f, 1, 0);
}

CASE(an_expiry_in_half_fills)
{
    struct stored young = AS_ANSWERED;

    f->response.max_age_s = 10000;
    young.left_ns = 9000 * NS_PER_S;
    store(f, young);
    answered(f, 0, 0);
    young.left_ns = 4000 * NS_PER_S;
    store(f, young);
    answered(f, 1, 0);
    f->response.max_age_s = 0; /* for ever */
    answered(f, 1, 0);
    store(f, AS_ANSWERED);
    answered(f, 0, 0);
    f->response.max_age_s = 5000; /* sooner than the entry's */
    answered(f, 1, 0);
}

/* Whole seconds of Expires and of Date: the distance between them is a second more or less. */
CASE(an_expires_that_rounds_otherwise_is_the_same)
{
    struct index_evicted evicted;

    static const struct {
        int64_t offset_s;
        int fills;
    } cases[] = {{3600, 0}, {3599, 0}, {3601, 0}, {3602, 1}};
    f->fields[1] = (etag_field){ETAG_LIT("Expires"), ETAG_LIT("Sun, 06 Nov 1994 09:49:37 GMT")};
    client_field(f, "Date", "Sun, 06 Nov 1994 08:49:37 GMT");
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct kept_field kept = {.kind = FIELDSET_EXPIRES, .offset_s = cases[i].offset_s};
        uint8_t packed[FIELDSET_BYTES_MAX];
        const uint32_t clocks[] = {clock_of(f, f->surrogates[0]), family_of(f, f->surrogates[0])};
        const struct index_entry entry = {.fingerprint = client_fingerprint(f),
                                          .fill_lsn = FAKE_TOKEN_LSN,
                                          .expires_ns = UINT64_MAX,
                                          .last_modified = ETAG_NO_DATE,
                                          .etag = ETAG_LIT("\"v1\""),
                                          .fieldset = made_fieldset(packed, &kept, 1),
                                          .clocks = clocks,
                                          .clock_count = 2};
        assert_int_equal(index_put(f->daemon.index, &entry, time_coarse_ns(), &evicted),
                         INDEX_STORED);
        answered(f, cases[i].fills, 0);
    }
}

/* What a slow render says of an entry that came after its token, the daemon would refuse. */
CASE(an_entry_of_a_newer_token_stays)
{
    struct stored newer = AS_ANSWERED;

    newer.fill_lsn = FAKE_TOKEN_LSN + 1;
    newer.etag = "\"v2\"";
    store(f, newer);
    answered(f, 0, 0);
    f->response.http_status = 404;
    answered(f, 0, 0);
}

/* Between the look-up and the answer another process filled it. */
CASE(what_came_while_it_was_rendered_is_not_filled_again)
{
    assert_int_equal(client_precheck(f), 0);
    assert_int_equal(f->answer.reason, ETAG_REASON_NO_ENTRY);
    store(f, AS_ANSWERED);
    assert_int_equal(client_finish(f), 0);
    client_expect_sent(f, 0, 0);
}

CASE(without_a_lease_everything_is_filled)
{
    store(f, AS_ANSWERED);
    shm_lease_store(index_view(f->daemon.index), 1);
    answered(f, 1, 0);
}

/* ---- Retire ---- */

CASE(statuses)
{
    static const struct {
        int http_status, retires;
    } cases[] = {{404, 1}, {410, 1}, {301, 1}, {308, 1}, {401, 0}, {403, 0}, {302, 0}, {303, 0},
                 {307, 0}, {500, 0}, {502, 0}, {503, 0}, {304, 0}, {405, 0}, {429, 0}};
    store(f, AS_ANSWERED);
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        f->response.http_status = cases[i].http_status;
        answered(f, 0, cases[i].retires);
    }
    assert_int_equal(f->client->counters->retires_sent, 4);
}

CASE(what_is_not_stored_is_not_retired)
{
    f->response.http_status = 404;
    answered(f, 0, 0);
    f->response.http_status = 200;
    f->fields[1].value = ETAG_LIT("no-store");
    answered(f, 0, 0);
    struct stored old = AS_ANSWERED;
    store(f, old);
    shm_clock_store(index_view(f->daemon.index), CLOCK_FLOOR, 200); /* stale: it answers nothing */
    shm_lsn_store(index_view(f->daemon.index), 200);
    answered(f, 0, 0);
}

/* A guard that is aborted would bring it back. */
CASE(an_entry_in_flux_is_retired)
{
    store(f, AS_ANSWERED);
    shm_clock_store(index_view(f->daemon.index), CLOCK_FLOOR, CLOCK_IN_FLUX);
    f->response.http_status = 404;
    answered(f, 0, 1);
}

CASE(only_who_looked_it_up_retires)
{
    store(f, AS_ANSWERED);
    f->answer.token = etag_token_now(f->client); /* a bypass: etag_precheck() was not called */
    f->response.http_status = 404;
    assert_int_equal(client_finish(f), 0);
    client_expect_sent(f, 0, 0);
    ETAG_INIT(&f->answer);
    f->answer.token = etag_token_now(f->client);
    f->response.http_status = 200;
    f->fields[1].value = ETAG_LIT("no-store");
    assert_int_equal(client_finish(f), 0);
    client_expect_sent(f, 0, 0);
    answered(f, 0, 1);
}

CASE(head_and_range_retire_nothing)
{
    store(f, AS_ANSWERED);
    f->response.http_status = 404;
    f->request.method = ETAG_LIT("HEAD");
    answered(f, 0, 0);
    f->request.method = ETAG_LIT("GET");
    f->asked[0] = (etag_field){ETAG_LIT("Range"), ETAG_LIT("bytes=0-1")};
    f->request.field_count = 1;
    answered(f, 0, 0);
    f->response.http_status = 200;
    f->fields[1].value = ETAG_LIT("no-store");
    answered(f, 0, 0);
    f->fields[1] = (etag_field){ETAG_LIT("Content-Range"), ETAG_LIT("bytes 0-1/2")};
    f->fields[0].value = ETAG_LIT("\"v2\"");
    f->request.field_count = 0;
    answered(f, 0, 0);
}

/* Of a 200 that can't be stored: field, with the entry's tag, with another one. */
CASE(a_200_that_cannot_be_stored)
{
    static const struct {
        const char *name, *value;
        int same, other;
    } cases[] = {
        {"Cache-Control", "no-store", 1, 1},
        {"Cache-Control", "private", 1, 1},
        {"Vary", "Cookie", 1, 1},
        {"Vary", "*", 1, 1},
        {"Set-Cookie", "id=1", 0, 1},
        {"Content-Security-Policy", "script-src 'nonce-1'", 0, 1},
        {"Cache-Control", "max-age=\"", 0, 1},
    };
    store(f, AS_ANSWERED);
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        f->fields[1] = (etag_field){str_of(cases[i].name), str_of(cases[i].value)};
        f->fields[0].value = ETAG_LIT("\"v1\"");
        answered(f, 0, cases[i].same);
        f->fields[0].value = ETAG_LIT("\"v2\"");
        answered(f, 0, cases[i].other);
        assert_int_not_equal(etag_fill_reason(f->client), ETAG_REASON_NONE);
    }
    f->response.fields = f->fields + 2; /* no tag */
    f->response.field_count = 0;
    answered(f, 0, 1);
}

/* Of a named scope "private" is what it should be. */
CASE(private_under_a_named_scope_is_stored)
{
    f->key.scope = (etag_scope){ETAG_SCOPE_NAMED, ETAG_LIT("customer:7")};
    struct stored theirs = AS_ANSWERED;
    theirs.cache_control = "private";
    store(f, theirs);
    f->fields[1].value = ETAG_LIT("private");
    answered(f, 0, 0);
}

/* ---- The second look is where the first one was ---- */

CASE(an_entry_that_came_after_the_miss_is_seen)
{
    f->response.http_status = 404;
    assert_int_equal(client_precheck(f), 0);
    assert_int_equal(f->answer.reason, ETAG_REASON_NO_ENTRY);
    assert_true(f->answer.place[0] != 0 || f->answer.place[1] != 0);
    store(f, AS_ANSWERED);
    assert_int_equal(client_finish(f), 0);
    client_expect_sent(f, 0, 1);
    /* An answer that does not say where, of a binding that does not pass it on. */
    assert_int_equal(client_precheck(f), 0);
    f->answer.place[0] = f->answer.place[1] = 0;
    assert_int_equal(client_finish(f), 0);
    client_expect_sent(f, 0, 1);
}

CASE(a_response_with_a_key_of_its_own_is_another_page)
{
    etag_key other = f->key;

    other.resource.target = ETAG_LIT("/posts/2");
    store(f, AS_ANSWERED); /* of the first page, which says all that the second one will */
    f->response.key = &other;
    answered(f, 1, 0);
    f->response.http_status = 404;
    answered(f, 0, 0);
    f->key.resource.target = ETAG_LIT(
        "/posts/2"); /* and the other way round: of the second alone */
    store(f, AS_ANSWERED);
    f->key.resource.target = ETAG_LIT("/posts/3");
    answered(f, 0, 1);
}

/* ETAG_TEST_MISSING=300000: the long form. */
CASE(missing_urls_retire_nothing)
{
    char target[64];
    const char *const said = getenv("ETAG_TEST_MISSING");
    const long count = said ? strtol(said, NULL, 10) : 3000;

    f->response.http_status = 404;
    for (long i = 0; i < count; i++) {
        snprintf(target, sizeof(target), "/wp-login.php?%ld", i);
        f->key.resource.target = str_of(target);
        assert_int_equal(client_precheck(f), 0);
        assert_int_equal(client_finish(f), 0);
    }
    client_expect_sent(f, 0, 0);
    assert_int_equal(f->client->counters->retires_sent, 0);
    assert_int_equal(f->client->counters->fills_refused, 0);
    assert_int_equal(f->client->counters->fills_dropped, 0);
}
