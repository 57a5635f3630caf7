/* SPDX-License-Identifier: Apache-2.0 */
/* Messages of the relay: everything that goes in comes out again; what it must not send is
 * refused. */
#include "message_fixture.h"

#include "bytes.h"
#include "numbers.h"

#include <string.h>

static etag_str surrogates[] = {ETAG_LIT("upload:42"), ETAG_LIT("customer:7")};
static etag_resource resources[] = {{ETAG_LIT("example.org"), ETAG_LIT("/a?b")}};

MESSAGE_CASE(relay_requests_round_trip)
{
    struct request out;
    struct request in = {.id = 1, .kind = REQUEST_RELAY_HELLO};

    in.relay_hello.engine = ETAG_LIT("postgres");
    in.relay_hello.l_net_ms = 2000;
    assert_null(request_over(f, &in, &out));
    assert_int_equal(out.kind, REQUEST_RELAY_HELLO);
    assert_text(out.relay_hello.engine, "postgres");
    assert_int_equal(out.relay_hello.l_net_ms, 2000);

    etag_targets events[2] = {
        {.size = sizeof(etag_targets), .surrogates = surrogates, .surrogate_count = 2},
        {.size = sizeof(etag_targets), .prefixes = resources, .prefix_count = 1, .hold_ms = 7}};
    in = (struct request){.id = 2, .kind = REQUEST_RELAY_BATCH};
    in.relay_batch = (struct relay_batch){.t0_ns = UINT64_MAX,
                                          .targets = events,
                                          .targets_count = 2,
                                          .everything = true,
                                          .cursor = ETAG_LIT("10:20:10,12"),
                                          .log_id = ETAG_LIT("\0log"),
                                          .member = true,
                                          .more = true,
                                          .l_net_ms = 2000,
                                          .reason = ETAG_LIT("trimmed"),
                                          .writers = ETAG_LIT("front2")};
    assert_null(request_over(f, &in, &out));
    assert_int_equal(out.kind, REQUEST_RELAY_BATCH);
    assert_true(out.relay_batch.t0_ns == UINT64_MAX);
    assert_int_equal(out.relay_batch.targets_count, 2);
    assert_int_equal(out.relay_batch.targets[0].size, sizeof(etag_targets));
    assert_text(out.relay_batch.targets[0].surrogates[1], "customer:7");
    assert_text(out.relay_batch.targets[1].prefixes[0].target, "/a?b");
    assert_int_equal(out.relay_batch.targets[1].hold_ms, 7);
    assert_text(out.relay_batch.cursor, "10:20:10,12");
    assert_text(out.relay_batch.log_id, "\0log");
    assert_text(out.relay_batch.reason, "trimmed");
    assert_text(out.relay_batch.writers, "front2");
    assert_true(out.relay_batch.everything && out.relay_batch.member && out.relay_batch.more);
    assert_int_equal(out.relay_batch.l_net_ms, 2000);

    in = (struct request){.id = 3, .kind = REQUEST_RELAY_DONE};
    in.relay_done.token = UINT64_MAX;
    in.relay_done.outcome = RELAY_REFUSED;
    in.relay_done.position = 1;
    in.relay_done.text = ETAG_LIT("no such position");
    assert_null(request_over(f, &in, &out));
    assert_int_equal(out.kind, REQUEST_RELAY_DONE);
    assert_true(out.relay_done.token == UINT64_MAX);
    assert_int_equal(out.relay_done.outcome, RELAY_REFUSED);
    assert_int_equal(out.relay_done.position, 1);
    assert_text(out.relay_done.text, "no such position");
}

MESSAGE_CASE(relay_replies_round_trip)
{
    struct reply out;
    struct reply in = {.id = 4, .kind = REPLY_RELAY_HELLO};

    in.relay_hello.incarnation = UINT64_MAX;
    in.relay_hello.mode = RELAY_REQUIRED;
    assert_null(reply_over(f, &in, &out));
    assert_int_equal(out.kind, REPLY_RELAY_HELLO);
    assert_int_equal(out.relay_hello.cursor.len, 0);
    assert_int_equal(out.relay_hello.log_id.len, 0);
    assert_true(out.relay_hello.incarnation == UINT64_MAX);
    assert_int_equal(out.relay_hello.mode, RELAY_REQUIRED);
    in.relay_hello.cursor = ETAG_LIT("1:2:");
    in.relay_hello.log_id = ETAG_LIT("log");
    assert_null(reply_over(f, &in, &out));
    assert_text(out.relay_hello.cursor, "1:2:");
    assert_text(out.relay_hello.log_id, "log");

    in = (struct reply){.id = 0, .kind = REPLY_RELAY_PUBLISH};
    in.relay_publish.token = UINT64_MAX;
    in.relay_publish.targets.surrogates = surrogates;
    in.relay_publish.targets.surrogate_count = 2;
    in.relay_publish.targets.reach = ETAG_REACH_EVERYWHERE;
    in.relay_publish.targets.position = 77;
    assert_null(reply_over(f, &in, &out));
    assert_int_equal(out.kind, REPLY_RELAY_PUBLISH);
    assert_true(out.relay_publish.token == UINT64_MAX);
    assert_int_equal(out.relay_publish.targets.surrogate_count, 2);
    assert_int_equal(out.relay_publish.targets.reach, ETAG_REACH_EVERYWHERE);
    assert_int_equal(out.relay_publish.targets.position, 77);
}

/* A frame of a last part that is right. */
static struct relay_batch right_batch(void)
{
    return (struct relay_batch){.t0_ns = 1,
                                .cursor = ETAG_LIT("1:2:"),
                                .log_id = ETAG_LIT("log"),
                                .l_net_ms = L_NET_MS_MIN};
}

MESSAGE_CASE(relay_batches_are_checked)
{
    static etag_str many[TARGETS_PER_EVENT_MAX];
    static const char longer[RELAY_CURSOR_BYTES_MAX + 1];
    etag_targets events[2] = {{.size = sizeof(etag_targets), .surrogates = many},
                              {.size = sizeof(etag_targets), .surrogates = surrogates}};
    struct relay_batch batch = right_batch();

    for (size_t i = 0; i < COUNT_OF(many); i++)
        many[i] = surrogates[0];
    assert_null(relay_batch_check(&batch));
    batch.writers = (etag_str){longer, RELAY_WRITERS_BYTES_MAX};
    assert_non_null(relay_batch_check(&batch)); /* of no event */
    batch.targets = &events[1];
    batch.targets_count = events[1].surrogate_count = 1;
    assert_null(relay_batch_check(&batch));
    batch.writers.len++;
    assert_non_null(relay_batch_check(&batch));
    batch = right_batch();
    batch.l_net_ms = L_NET_MS_MIN - 1;
    assert_non_null(relay_batch_check(&batch));
    batch.l_net_ms = L_NET_MS_MAX + 1;
    assert_non_null(relay_batch_check(&batch));
    batch = right_batch();
    batch.cursor.len = 0;
    assert_non_null(relay_batch_check(&batch));
    batch.more = true; /* the cursor comes with the last part */
    assert_null(relay_batch_check(&batch));
    batch = right_batch();
    batch.log_id.len = 0;
    assert_non_null(relay_batch_check(&batch));
    batch = right_batch();
    batch.cursor = (etag_str){longer, RELAY_CURSOR_BYTES_MAX};
    assert_null(relay_batch_check(&batch));
    batch.cursor.len++;
    assert_non_null(relay_batch_check(&batch));
    batch = right_batch();
    batch.log_id = (etag_str){longer, RELAY_LOG_ID_BYTES_MAX + 1};
    assert_non_null(relay_batch_check(&batch));
    batch = right_batch();
    batch.targets = events;
    batch.targets_count = 1; /* names nothing */
    assert_non_null(relay_batch_check(&batch));
    events[0].surrogate_count = TARGETS_PER_EVENT_MAX;
    assert_null(relay_batch_check(&batch));
    events[1].surrogate_count = 1; /* one name more, of another event */
    batch.targets_count = 2;
    assert_non_null(relay_batch_check(&batch));
}

static const char *request_of_bytes(struct message_fixture *f, const char *bytes, size_t len)
{
    struct request out;

    arena_reset(&f->arena);
    return request_decode(&out, &f->arena, (etag_str){bytes, len});
}

MESSAGE_CASE(malformed_relay_requests_are_refused)
{
    static const char outcome_0[] = "\xb2\x01\x02\x08\x05";
    static const char outcome_5[] = "\xb2\x01\x04\x08\x05\x10\x05";
    static const char outcome_4[] = "\xb2\x01\x04\x08\x05\x10\x04";
    static const char reach_4[] = "\x22\x02\x38\x04";
    static const char reach_3[] = "\x22\x02\x38\x03";
    static const char two_cursors[] = "\xaa\x01\x06\x22\x01"
                                      "a\x22\x01"
                                      "b";
    static const char cursor_is_number[] = "\xaa\x01\x02\x20\x01";

    assert_non_null(request_of_bytes(f, outcome_0, sizeof(outcome_0) - 1));
    assert_non_null(request_of_bytes(f, outcome_5, sizeof(outcome_5) - 1));
    assert_null(request_of_bytes(f, outcome_4, sizeof(outcome_4) - 1));
    assert_non_null(request_of_bytes(f, reach_4, sizeof(reach_4) - 1));
    assert_null(request_of_bytes(f, reach_3, sizeof(reach_3) - 1));
    assert_non_null(request_of_bytes(f, two_cursors, sizeof(two_cursors) - 1));
    assert_non_null(request_of_bytes(f, cursor_is_number, sizeof(cursor_is_number) - 1));
}

/* As many events as there may be, and one more. */
MESSAGE_CASE(events_of_a_batch_are_bounded)
{
    static etag_targets events[RELAY_BATCH_TARGETS_MAX + 1];
    struct request out;
    struct request in = {.id = 1, .kind = REQUEST_RELAY_BATCH};

    in.relay_batch = right_batch();
    in.relay_batch.targets = events;
    in.relay_batch.targets_count = RELAY_BATCH_TARGETS_MAX;
    assert_null(request_over(f, &in, &out));
    assert_int_equal(out.relay_batch.targets_count, RELAY_BATCH_TARGETS_MAX);
    in.relay_batch.targets_count++;
    assert_non_null(request_over(f, &in, &out));
}
