/* SPDX-License-Identifier: Apache-2.0 */
/* Prepared keys: the same answers as with the key's strings, and nothing of another run. */
#include "client_fixture.h"
#include "lookup.h"

static int setup(void **state)
{
    struct fixture *f = client_setup(state);

    client_start(f);
    shm_lease_store(index_view(f->daemon.index), UINT64_MAX);
    client_store_etag(f, "\"v1\"", 100);
    client_ask(f, "If-None-Match", "\"v1\"");
    return 0;
}

#define CASE(name) TEST_OF(name, struct fixture *f, setup, client_teardown)

static void prepare(struct fixture *f, etag_prepared_key *out)
{
    ETAG_INIT(out);
    assert_int_equal(etag_key_prepare(f->client, &f->key, out), ETAG_OK);
    assert_true(out->incarnation == etag_token_now(f->client).incarnation);
    f->request.prepared = out;
}

static void expect(struct fixture *f, etag_verdict verdict, etag_reason reason)
{
    for (int way = 0; way < 2; way++) {
        ETAG_INIT(&f->answer);
        if (way == 0)
            (void)etag_check(f->client, &f->request, etag_token_now(f->client), &f->answer);
        else
            assert_int_equal(
                etag_check_many(f->client, &f->request, 1, etag_token_now(f->client), &f->answer),
                ETAG_OK);
        assert_string_equal(etag_reason_word(f->answer.reason), etag_reason_word(reason));
        assert_int_equal(f->answer.verdict, verdict);
    }
}

CASE(a_prepared_key_is_looked_up_without_its_strings)
{
    etag_prepared_key prepared;

    prepare(f, &prepared);
    f->request.key = NULL;
    expect(f, ETAG_NOT_MODIFIED, ETAG_REASON_MATCH);
    assert_int_equal(f->answer.place[0], client_fingerprint(f).low);
    assert_int_equal(f->answer.place[1], client_fingerprint(f).high);
    expect(f, ETAG_NOT_MODIFIED, ETAG_REASON_MATCH); /* the short way, too */
    const etag_prepared_key copy = prepared;
    memset(&prepared, 0, sizeof(prepared));
    f->request.prepared = &copy;
    expect(f, ETAG_NOT_MODIFIED, ETAG_REASON_MATCH);
    f->asked[0].value = ETAG_LIT("\"v0\", \"v1\""); /* and the general way */
    expect(f, ETAG_NOT_MODIFIED, ETAG_REASON_MATCH);
    shm_clock_store(index_view(f->daemon.index), CLOCK_FLOOR, 101);
    expect(f, ETAG_UNKNOWN, ETAG_REASON_STALE);
}

/* Another run may hash with another secret: what was prepared could be another key's there. */
CASE(a_prepared_key_is_nothing_to_another_run)
{
    etag_prepared_key prepared;

    prepare(f, &prepared);
    prepared.incarnation++;
    prepared.place[0]++;                             /* as of another secret */
    expect(f, ETAG_NOT_MODIFIED, ETAG_REASON_MATCH); /* by the key */
    f->request.key = NULL;
    expect(f, ETAG_UNKNOWN, ETAG_REASON_BAD_KEY);
    client_expect_text(f, "another run");
    prepared.incarnation = 0;
    expect(f, ETAG_UNKNOWN, ETAG_REASON_BAD_KEY);
    f->request.key = &f->key;
    prepare(f, &prepared);
    f->request.key = NULL;
    expect(f, ETAG_NOT_MODIFIED, ETAG_REASON_MATCH);
    prepared.size = 8;
    expect(f, ETAG_UNKNOWN, ETAG_REASON_BAD_KEY);
}

CASE(what_cannot_be_prepared)
{
    etag_prepared_key prepared;

    ETAG_INIT(&prepared);
    prepared.incarnation = 7;
    f->key.resource.target = ETAG_LIT("/a/../b");
    assert_int_equal(etag_key_prepare(f->client, &f->key, &prepared), ETAG_INVALID);
    client_expect_text(f, "dot segments");
    assert_int_equal(prepared.incarnation, 0);
    assert_int_equal(etag_key_prepare(f->client, NULL, &prepared), ETAG_INVALID);
    f->key.size = 0;
    assert_int_equal(etag_key_prepare(f->client, &f->key, &prepared), ETAG_INVALID);
    f->key.size = sizeof(f->key);
    f->key.resource.target = ETAG_LIT("/");
    assert_int_equal(etag_key_prepare(f->client, &f->key, NULL), ETAG_INVALID);
    prepared.size = 0;
    assert_int_equal(etag_key_prepare(f->client, &f->key, &prepared), ETAG_INVALID);
    ETAG_INIT(&prepared);
    mapping_close(&f->client->mapping);
    f->client->counters = &f->client->own_counters;
    assert_int_equal(etag_key_prepare(f->client, &f->key, &prepared), ETAG_UNAVAILABLE);
    assert_int_equal(prepared.incarnation, 0);
}

/* What etag_finish() corrects is the entry of the key, wherever the check looked. */
CASE(after_a_prepared_check_the_render_fills_its_key)
{
    etag_prepared_key prepared;

    prepare(f, &prepared);
    f->asked[0].value = ETAG_LIT("\"v0\"");
    client_field(f, "ETag", "\"v2\"");
    assert_int_equal(client_precheck(f), 0);
    assert_int_equal(client_finish(f), 0);
    client_expect_sent(f, 1, 0);
}
