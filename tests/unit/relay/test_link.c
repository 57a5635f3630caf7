/* SPDX-License-Identifier: Apache-2.0 */
/* What goes over the wire between relay and daemon, and when the connection is given up: a session
 * on a scripted engine, a real link, and a daemon that is made up. */
#include "link.h"

#include "engine_script.h"
#include "fake_daemon.h"
#include "testing.h"

struct fixture {
    struct fake_daemon daemon;
    struct session session;
    struct session_options options;
    struct link link;
    struct engine_kind kind;
    struct log log;
    const char *script;
};

/* The engine's open() has no context. */
static struct fixture *the_fixture;

static int scripted_open(struct engine **out, const struct engine_options *options, struct why *why)
{
    return engine_script_from(out, str_of(the_fixture->script), NULL, why);
}

static int set_up(void **state)
{
    struct fixture *const f = calloc(1, sizeof(*f));

    assert_non_null(f);
    the_fixture = f;
    fake_init(&f->daemon);
    f->daemon.roles |= ROLE_RELAY;
    f->kind = engine_script;
    f->kind.open = scripted_open;
    f->script = "";
    log_set(&f->log, LOG_ERROR, LOG_LOGFMT);
    f->log.fd = -1;
    f->options = (struct session_options){.kind = &f->kind,
                                          .engine = {.connection = "", .host = ETAG_LIT("here")},
                                          .retention_ms = 60000};
    const struct session_daemon as_daemon = link_as_daemon(&f->link);
    session_init(&f->session, &f->options, &as_daemon, &f->log);
    assert_true(link_init(&f->link, f->daemon.path, "script", &f->session, &f->log));
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *const f = *state;

    link_deinit(&f->link);
    session_deinit(&f->session);
    fake_deinit(&f->daemon);
    free(f);
    return 0;
}

#define CASE(name) TEST_OF(name, struct fixture *f, set_up, tear_down)

static void turn(struct fixture *f)
{
    session_turn(&f->session);
    link_turn(&f->link);
    session_turn(&f->session);
    poll(NULL, 0, 1);
}

#define turn_until(f, condition)                                                                   \
    for (int ms_ = 0; !(condition); ms_++) {                                                       \
        assert_true(ms_ < 20000);                                                                  \
        turn(f);                                                                                   \
    }

#define relay_of(f, member) fake_get(&(f)->daemon.relay, member)

CASE(it_says_hello_takes_the_cursor_and_brings_batches)
{
    fake_start(&f->daemon, true);
    turn_until(f, f->session.figures.batches == 1);
    assert_int_equal(relay_of(f, relay_hellos), 1);
    assert_int_equal(f->daemon.relay.l_net_ms, 2000);
    assert_true(f->daemon.relay.last_everything);
    assert_true(f->daemon.relay.last_member);
    assert_string_equal(f->daemon.relay.last_reason, "no_cursor");
    session_woken(&f->session);
    turn_until(f, f->session.figures.batches == 2);
    assert_false(f->daemon.relay.last_everything);
}

/* A daemon that tells this cursor next time. */
static void start_again(struct fixture *f, uint8_t cursor[64], etag_str log_id)
{
    struct fake_relay *const relay = &f->daemon.relay;

    memcpy(cursor, relay->last_cursor, relay->last_cursor_len);
    fake_kill(&f->daemon);
    relay->refuse_batch = 0;
    relay->cursor = (etag_str){(const char *)cursor, relay->last_cursor_len};
    relay->log_id = log_id;
    fake_start(&f->daemon, true);
    f->link.again_ns = 0;
}

CASE(a_cursor_of_its_own_log_is_gone_on_with)
{
    uint8_t cursor[64];

    fake_start(&f->daemon, true);
    turn_until(f, f->session.figures.batches == 1);
    start_again(f, cursor, ETAG_LIT("script 1"));
    turn_until(f, f->session.figures.batches == 2);
    assert_int_equal(f->session.figures.daemon_lost, 1);
    assert_false(f->daemon.relay.last_everything);
}

/* Also one that could be read. */
CASE(a_cursor_of_another_log_is_none)
{
    uint8_t cursor[64];

    fake_start(&f->daemon, true);
    turn_until(f, f->session.figures.batches == 1);
    start_again(f, cursor, ETAG_LIT("etcd 1"));
    turn_until(f, f->session.figures.batches == 2);
    assert_string_equal(f->daemon.relay.last_reason, "cursor_unreadable");
}

/* In another time namespace t0 would mean another time. */
CASE(a_daemon_of_another_clock_is_left)
{
    f->daemon.clock_shift_ns = (int64_t)(3600 * NS_PER_S);
    fake_start(&f->daemon, true);
    turn_until(f, f->link.again_ns != 0);
    assert_true(f->link.again_ns > time_ns_of(CLOCK_MONOTONIC) + 3 * NS_PER_S);
    assert_int_equal(relay_of(f, relay_hellos), 0);
    assert_false(f->session.daemon_ready);
}

CASE(a_user_without_the_role_waits_for_somebody_to_give_it)
{
    f->daemon.roles = ROLE_READ;
    fake_start(&f->daemon, true);
    turn_until(f, f->link.again_ns != 0);
    assert_true(f->link.again_ns > time_ns_of(CLOCK_MONOTONIC) + 3 * NS_PER_S);
    assert_int_equal(relay_of(f, relay_hellos), 0);
}

CASE(a_daemon_that_works_without_a_relay_is_tried_again_later)
{
    f->daemon.relay.refuse_hello = WIRE_ERROR_INVALID;
    fake_start(&f->daemon, true);
    turn_until(f, relay_of(f, relay_hellos) == 1 && f->link.state == LINK_CLOSED);
    assert_true(f->link.again_ns > time_ns_of(CLOCK_MONOTONIC) + 3 * NS_PER_S);
    assert_int_equal(relay_of(f, parts), 0);
}

CASE(a_batch_that_is_refused_is_everything_on_the_next_connection)
{
    uint8_t cursor[64];

    fake_start(&f->daemon, true);
    turn_until(f, f->session.figures.batches == 1);
    fake_set(&f->daemon.relay, refuse_batch, WIRE_ERROR_INVALID);
    session_woken(&f->session);
    turn_until(f, f->link.state == LINK_CLOSED);
    start_again(f, cursor, ETAG_LIT("script 1"));
    turn_until(f, f->session.figures.batches == 2);
    assert_string_equal(f->daemon.relay.last_reason, "daemon_refused_batch");
}

/* Only the receipt of the last part is the batch's, and holds of other lengths are other parts. */
CASE(events_with_holds_of_different_lengths_go_in_parts)
{
    etag_str names[6] = {ETAG_LIT("a"), ETAG_LIT("b"), ETAG_LIT("c"),
                         ETAG_LIT("d"), ETAG_LIT("e"), ETAG_LIT("f")};
    const uint32_t holds[6] = {0, 0, 7, 7, 7, 0};
    const uint64_t sizes[3] = {2, 3, 1}, positions[3] = {21, 24, 25};
    const etag_str by[6] = {ETAG_LIT("front2"), ETAG_LIT("front1"), ETAG_LIT("front"),
                            ETAG_LIT("t"),      ETAG_LIT("front"),  {0}};
    static const char *const writers[3] = {"front2, front1", "front, t", ""};
    struct engine_row rows[6] = {{0}};

    fake_start(&f->daemon, true);
    turn_until(f, f->session.figures.batches == 1);
    const int before = relay_of(f, parts);
    for (size_t i = 0; i < 6; i++)
        rows[i] = (struct engine_row){.position = 20 + i,
                                      .writer = by[i],
                                      .targets = {.size = sizeof(etag_targets),
                                                  .surrogates = &names[i],
                                                  .surrogate_count = 1,
                                                  .hold_ms = holds[i]}};
    const struct session_batch batch = {.t0_ns = time_coarse_ns(),
                                        .rows = rows,
                                        .row_count = 6,
                                        .cursor = ETAG_LIT("c"),
                                        .member = true,
                                        .l_net_ms = 2000};
    const struct session_daemon daemon = link_as_daemon(&f->link);
    assert_true(daemon.batch(daemon.ctx, &batch));
    const uint64_t last_id = f->link.batch_id;
    turn_until(f, f->link.batch_id == 0);
    assert_true(last_id != 0);
    assert_int_equal(relay_of(f, parts) - before, 3);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(f->daemon.relay.part_targets[before + i], sizes[i]);
        assert_int_equal(f->daemon.relay.part_positions[before + i], positions[i]);
        assert_string_equal(f->daemon.relay.part_writers[before + i], writers[i]);
    }
}

/* As long as the daemon takes it, whole names only; and the batch is sent. */
CASE(more_writers_than_are_named_are_dots)
{
    char names[6][ENGINE_WRITER_BYTES_MAX];
    etag_str surrogate = ETAG_LIT("a");
    struct engine_row rows[6] = {{0}};

    fake_start(&f->daemon, true);
    turn_until(f, f->session.figures.batches == 1);
    const int before = relay_of(f, parts);
    for (size_t i = 0; i < 6; i++) {
        memset(names[i], 'a' + (int)i, sizeof(names[i]));
        rows[i] = (struct engine_row){.position = 20 + i,
                                      .writer = {names[i], i == 0 ? 5 : sizeof(names[i])},
                                      .targets = {.size = sizeof(etag_targets),
                                                  .surrogates = &surrogate,
                                                  .surrogate_count = 1}};
    }
    const struct session_batch batch = {
        .rows = rows, .row_count = 6, .cursor = ETAG_LIT("c"), .l_net_ms = 2000};
    const struct session_daemon daemon = link_as_daemon(&f->link);
    assert_true(daemon.batch(daemon.ctx, &batch));
    turn_until(f, f->link.batch_id == 0);
    const char *const said = f->daemon.relay.part_writers[before];
    assert_int_equal(relay_of(f, parts), before + 1);
    assert_int_equal(strlen(said), 5 + 2 + ENGINE_WRITER_BYTES_MAX + 5);
    assert_memory_equal(said, "aaaaa, bbb", 10);
    assert_string_equal(said + 5 + 2 + ENGINE_WRITER_BYTES_MAX - 1, "b, ...");
}

/* All parts or none: one that was not sent would be settled by the next batch's cursor. */
CASE(a_batch_that_does_not_fit_is_not_begun)
{
    const size_t count = 4096, len = 4000;
    char *const bytes = malloc(len);
    struct engine_row *const rows = calloc(count, sizeof(*rows));
    etag_str name = {bytes, len};

    assert_true(bytes && rows);
    memset(bytes, 'x', len);
    fake_start(&f->daemon, true);
    turn_until(f, f->session.figures.batches == 1);
    const int before = relay_of(f, parts);
    for (size_t i = 0; i < count; i++)
        rows[i].targets = (etag_targets){
            .size = sizeof(etag_targets), .surrogates = &name, .surrogate_count = 1};
    const struct session_batch batch = {.rows = rows, .row_count = count, .cursor = ETAG_LIT("c")};
    const struct session_daemon daemon = link_as_daemon(&f->link);
    assert_false(daemon.batch(daemon.ctx, &batch));
    turn(f);
    assert_int_equal(relay_of(f, parts), before);
    assert_int_equal(f->link.state, LINK_READY);
    free(rows);
    free(bytes);
}

CASE(what_the_daemon_hands_over_is_published_and_answered)
{
    static const etag_str name = ETAG_LIT("upload:42");

    f->script = "publish 12";
    f->daemon.relay.publish_token = 77;
    f->daemon.relay.publish = (etag_targets){.size = sizeof(etag_targets),
                                             .surrogates = &name,
                                             .surrogate_count = 1,
                                             .reach = ETAG_REACH_LOG};
    fake_start(&f->daemon, true);
    turn_until(f, relay_of(f, dones) == 1);
    assert_int_equal(f->daemon.relay.last_done_token, 77);
    assert_int_equal(f->daemon.relay.last_outcome, RELAY_LOGGED);
}

/* The writer is told why. */
CASE(why_a_position_was_refused_reaches_the_daemon)
{
    f->script = "missing transaction 11 has not ended";
    f->daemon.relay.publish_token = 78;
    f->daemon.relay.publish = (etag_targets){
        .size = sizeof(etag_targets), .reach = ETAG_REACH_LOG, .position = 11};
    fake_start(&f->daemon, true);
    turn_until(f, relay_of(f, dones) == 1);
    assert_int_equal(f->daemon.relay.last_outcome, RELAY_REFUSED);
    assert_string_equal(f->daemon.relay.last_text, "transaction 11 has not ended");
}

/* A receipt that does not come settles nothing, and no other batch is sent before it. */
CASE(one_batch_is_under_way_at_a_time)
{
    f->daemon.relay.no_receipt = true;
    fake_start(&f->daemon, true);
    turn_until(f, relay_of(f, batches) == 1);
    for (int i = 0; i < 20; i++) {
        session_woken(&f->session);
        turn(f);
    }
    assert_int_equal(relay_of(f, batches), 1);
    assert_int_equal(f->session.figures.batches, 0);
}
