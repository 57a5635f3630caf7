/* SPDX-License-Identifier: Apache-2.0 */
#include "etcd_json.h"

#include "testing.h"
#include "text.h"

#include <errno.h>

#define HEADER                                                                                     \
    "\"header\":{\"cluster_id\":\"15551305059469388296\",\"revision\":\"12\",\"raft_term\":\"3\"}"

struct fixture {
    struct arena arena;
    struct etcd_reply reply;
    const char *wrong;
};

static int set_up(void **state)
{
    struct fixture *const f = calloc(1, sizeof(*f));

    assert_non_null(f);
    arena_init(&f->arena, 65536);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *const f = *state;

    arena_deinit(&f->arena);
    free(f);
    return 0;
}

#define CASE(name) TEST_OF(name, struct fixture *f, set_up, tear_down)

static int reply_of(struct fixture *f, const char *json)
{
    return etcd_reply_read(&f->reply, &f->arena, str_of(json), &f->wrong);
}

CASE(a_transaction_is_answered)
{
    assert_int_equal(
        reply_of(f, "{" HEADER ",\"succeeded\":true,\"responses\":["
                    "{\"response_range\":{\"kvs\":[{\"key\":\"YQ==\",\"value\":\"AAE=\","
                    "\"create_revision\":\"3\",\"mod_revision\":\"7\",\"lease\":\"5\"},"
                    "{\"key\":\"Yg==\",\"mod_revision\":8}],\"more\":true,\"count\":\"9\"}},"
                    "{\"response_range\":{}},{\"response_put\":{\"header\":{}}},"
                    "{\"response_delete_range\":{\"deleted\":\"4\"}}]}"),
        0);
    assert_true(f->reply.cluster_id == UINT64_C(15551305059469388296));
    assert_int_equal(f->reply.revision, 12);
    assert_int_equal(f->reply.raft_term, 3);
    assert_true(f->reply.succeeded);
    assert_int_equal(f->reply.result_count, 4);
    const struct etcd_result *const first = &f->reply.results[0];
    assert_int_equal(first->kv_count, 2);
    assert_int_equal(first->count, 9);
    assert_true(first->more);
    assert_true(str_equal(first->kvs[0].key, ETAG_LIT("a")));
    assert_int_equal(first->kvs[0].value.len, 2);
    assert_memory_equal(first->kvs[0].value.data, "\0\1", 2);
    assert_int_equal(first->kvs[0].create_revision, 3);
    assert_int_equal(first->kvs[1].mod_revision, 8);
    assert_int_equal(first->kvs[1].value.len, 0);
    assert_int_equal(f->reply.results[1].kv_count, 0);
    assert_int_equal(f->reply.results[3].count, 4);
}

/* What is left out is zero: conditions that did not hold, and nothing was done. */
CASE(what_is_left_out_is_zero)
{
    assert_int_equal(reply_of(f, "{" HEADER "}"), 0);
    assert_false(f->reply.succeeded);
    assert_int_equal(f->reply.result_count, 0);
}

CASE(what_no_etcd_answers_is_refused)
{
    static const char *const texts[] = {
        "",
        "null",
        "[]",
        "{",
        "{" HEADER,
        "{" HEADER "} x",
        "{" HEADER "," HEADER "}",
        "{\"header\":[]}",
        "{\"header\":{\"cluster_id\":\"1\"}}",
        "{\"header\":{\"cluster_id\":\"0\",\"revision\":\"1\"}}",
        "{\"header\":{\"cluster_id\":-1,\"revision\":\"1\"}}",
        "{\"header\":{\"cluster_id\":\"1\",\"revision\":\"0x10\"}}",
        "{\"header\":{\"cluster_id\":\"1\",\"revision\":\"\"}}",
        "{\"header\":{\"cluster_id\":\"1\",\"revision\":\"18446744073709551616\"}}",
        "{\"header\":{\"cluster_id\":\"1\",\"revision\":\"9223372036854775807\"}}",
        "{\"header\":{\"cluster_id\":\"1\",\"revision\":1.5}}",
        "{" HEADER ",\"succeeded\":1}",
        "{" HEADER ",\"responses\":{}}",
        "{" HEADER ",\"responses\":[1]}",
        "{" HEADER ",\"responses\":[{}]}",
        "{" HEADER ",\"responses\":[{\"response_txn\":{}}]}",
        "{" HEADER ",\"responses\":[{\"response_put\":{},\"response_range\":{}}]}",
        "{" HEADER ",\"responses\":[{\"response_range\":[]}]}",
        "{" HEADER ",\"responses\":[{\"response_delete_range\":7}]}",
        "{" HEADER ",\"responses\":[{\"response_range\":{\"kvs\":{}}}]}",
        "{" HEADER ",\"responses\":[{\"response_range\":{\"kvs\":[null]}}]}",
        "{" HEADER ",\"responses\":[{\"response_range\":{\"kvs\":[{\"key\":\"YQ==\"}]}}]}",
        "{" HEADER ",\"responses\":[{\"response_range\":{\"kvs\":[{\"key\":\"YQ\","
        "\"mod_revision\":\"1\"}]}}]}",
        "{" HEADER ",\"responses\":[{\"response_range\":{\"kvs\":[{\"key\":\"YQ==\","
        "\"mod_revision\":\"1\",\"create_revision\":\"2\"}]}}]}",
        "{\"a\":\"\\u0000\"," HEADER "}",
    };

    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        assert_int_equal(reply_of(f, texts[i]), -EPROTO);
        assert_non_null(f->wrong);
        assert_int_equal(f->reply.result_count, 0);
    }
}

/* A parser recurses; brackets within text are none. */
CASE(depth_has_a_bound)
{
    char deep[40000], quoted[200];

    memset(deep, '[', sizeof(deep));
    deep[sizeof(deep) - 1] = '\0';
    assert_int_equal(reply_of(f, deep), -EPROTO);
    (void)snprintf(quoted, sizeof(quoted), "{\"a\":\"\\\"[[[[[[[[[[[[[[[[[[[[[[[[{{\"," HEADER "}");
    assert_int_equal(reply_of(f, quoted), 0);
}

CASE(more_than_the_arena_takes)
{
    struct arena small;

    arena_init(&small, 16);
    assert_int_equal(etcd_reply_read(&f->reply, &small,
                                     ETAG_LIT("{" HEADER ",\"responses\":[{\"response_range\":{}},"
                                              "{\"response_range\":{}}]}"),
                                     &f->wrong),
                     -ENOMEM);
    arena_deinit(&small);
}

TEST(an_error_says_its_code_and_its_text)
{
    struct etcd_error error;

    assert_true(etcd_error_read(&error, ETAG_LIT("{\"error\":\"e\",\"code\":16,\"message\":"
                                                 "\"invalid\\u001b token\\u0007\"}")));
    assert_int_equal(error.code, ETCD_CODE_UNAUTHENTICATED);
    assert_string_equal(error.text, "invalid? token?");
    assert_true(etcd_error_read(&error, ETAG_LIT("{\"error\":\"old ones\"}")));
    assert_string_equal(error.text, "old ones");
    assert_false(etcd_error_read(&error, ETAG_LIT("{\"error\":{},\"code\":3}")));
    assert_false(etcd_error_read(&error, ETAG_LIT("{\"message\":\"m\",\"code\":\"x\"}")));
    assert_false(etcd_error_read(&error, ETAG_LIT("<html>")));
}

/* It becomes a line of a header. */
TEST(a_token_is_one_word)
{
    char token[ETCD_TOKEN_BYTES_MAX], *login;

    assert_true(etcd_token_read(token, ETAG_LIT("{\"header\":{},\"token\":\"abc.12\"}")));
    assert_string_equal(token, "abc.12");
    assert_false(etcd_token_read(token, ETAG_LIT("{\"token\":\"a\\r\\nX: y\"}")));
    assert_false(etcd_token_read(token, ETAG_LIT("{\"token\":\"\"}")));
    assert_false(etcd_token_read(token, ETAG_LIT("{\"token\":7}")));
    assert_false(etcd_token_read(token, ETAG_LIT("{}")));
    login = etcd_login_write("a\"b", "p\\w\n");
    assert_string_equal(login, "{\"name\":\"a\\\"b\",\"password\":\"p\\\\w\\n\"}");
    free(login);
    assert_null(etcd_login_write("a", "\xff"));
}
