/* SPDX-License-Identifier: Apache-2.0 */
/* Each rule by itself: a poll as it should be, with one thing that is not. */
#include "relay.h"

#include "clocktime.h"
#include "engine_script.h"
#include "testing.h"
#include "text.h"

struct fixture {
    struct arena arena;
    struct cursor cursor;
    struct engine_answer answer;
};

static int set_up(void **state)
{
    struct fixture *const f = calloc(1, sizeof(*f));
    arena_init(&f->arena, 8u << 20);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *const f = *state;
    cursor_deinit(&f->cursor);
    arena_deinit(&f->arena);
    free(f);
    return 0;
}

static void ask(struct engine *engine, enum engine_op op, struct fixture *f)
{
    const struct engine_request request = {.op = op};
    struct why why;
    assert_int_equal(engine->kind->start(engine, &request, &why), 0);
    assert_int_equal(engine->kind->finish(engine, &f->arena, &f->answer, &why), 0);
}

static struct engine *opened(const char *script)
{
    struct engine *engine;
    struct why why;
    assert_int_equal(engine_script_from(&engine, str_of(script), NULL, &why), 0);
    assert_int_equal(engine->kind->dispatch(engine, &why), 0);
    return engine;
}

/* The first poll of the script becomes the cursor, the second one is judged. */
static struct relay_verdict judged(struct fixture *f, const char *script)
{
    struct engine *engine = opened(script);

    ask(engine, ENGINE_POLL, f);
    assert_int_equal(cursor_set(&f->cursor, &f->answer.poll), 0);
    ask(engine, ENGINE_POLL, f);
    const struct relay_verdict verdict = relay_judge(&f->cursor, false, &f->answer.poll);
    engine->kind->close(engine);
    return verdict;
}

/* What is judged is a batch that raises everything, for this reason; and it counts. */
static void check_everything(struct fixture *f, const char *script, enum relay_reason reason)
{
    const struct relay_verdict verdict = judged(f, script);
    assert_true(verdict.batch);
    assert_string_equal(relay_reason_word(verdict.everything), relay_reason_word(reason));
    assert_true(verdict.counts);
}

static void rows_alone_where_all_goes_on(void **state)
{
    struct fixture *const f = *state;
    check_everything(f,
                     "poll next=10 running=5,7 trimmed=4\n"
                     "poll next=14 running=7,12\nrow 5 a\nrow 11 b",
                     RELAY_REASON_NONE);
    assert_int_equal(f->answer.poll.row_count, 2);
}

static void a_cold_start_knows_nothing(void **state)
{
    struct fixture *const f = *state;
    struct engine *engine = opened("poll next=10");

    ask(engine, ENGINE_POLL, f);
    assert_int_equal(relay_judge(&f->cursor, false, &f->answer.poll).everything,
                     RELAY_REASON_NO_CURSOR);
    assert_int_equal(relay_judge(&f->cursor, true, &f->answer.poll).everything,
                     RELAY_REASON_CURSOR_UNREADABLE);
    engine->kind->close(engine);
}

static void a_standby_says_nothing(void **state)
{
    const struct relay_verdict verdict = judged(*state, "poll\npoll standby=1\nrow 11 a");
    assert_false(verdict.batch);
    assert_false(verdict.counts);
}

static void another_cluster(void **state)
{
    check_everything(*state, "poll\npoll system=2", RELAY_REASON_SYSTEM);
}

static void a_database_made_from_a_template(void **state)
{
    check_everything(*state, "poll\npoll database=2", RELAY_REASON_DATABASE);
}

static void a_promotion_with_a_witness_that_survived(void **state)
{
    check_everything(*state, "poll\npoll timeline=2", RELAY_REASON_TIMELINE);
}

static void a_restart_with_a_witness_that_survived(void **state)
{
    check_everything(*state, "poll\npoll started=2", RELAY_REASON_SERVER_RUN);
}

static void the_witness_is_gone(void **state)
{
    check_everything(*state, "poll\npoll witness=none", RELAY_REASON_WITNESS_GONE);
    check_everything(*state, "poll witness=none\npoll", RELAY_REASON_WITNESS_GONE);
}

static void another_host_has_made_a_new_witness(void **state)
{
    check_everything(*state, "poll\npoll witness=v", RELAY_REASON_WITNESS_CHANGED);
    check_everything(*state, "poll witness=none\npoll witness=v", RELAY_REASON_WITNESS_CHANGED);
}

static void what_was_visible_is_not(void **state)
{
    check_everything(*state, "poll next=10\npoll next=9", RELAY_REASON_WENT_BACK);
    check_everything(*state, "poll next=10\npoll next=12 running=8", RELAY_REASON_WENT_BACK);
}

static void rows_were_trimmed_that_the_cursor_lacks(void **state)
{
    check_everything(*state, "poll next=10\npoll next=30 trimmed=9", RELAY_REASON_NONE);
    check_everything(*state, "poll next=10\npoll next=30 trimmed=10", RELAY_REASON_TRIMMED);
}

/* Its number is below, and it was visible to nobody when the cursor was read. */
static void the_mark_of_a_trim_was_running(void **state)
{
    check_everything(*state, "poll next=10 running=9\npoll next=30 running=20 trimmed=9",
                     RELAY_REASON_TRIMMED);
}

static void a_row_of_a_transaction_that_has_not_begun(void **state)
{
    check_everything(*state, "poll\npoll next=12\nrow 11 a\nrow 12 b", RELAY_REASON_FOREIGN_ROWS);
    check_everything(*state, "poll\npoll next=12 unassigned=13\nrow 12 b", RELAY_REASON_NONE);
}

static void rows_that_were_left_out(void **state)
{
    check_everything(*state, "poll\npoll next=12 cut=1\nrow 11 a", RELAY_REASON_ROWS_CUT);
}

static void a_row_that_no_release_wrote(void **state)
{
    check_everything(*state, "poll\npoll next=13\nrow 11 a\nrow 12 unreadable",
                     RELAY_REASON_ROW_UNREADABLE);
}

static void a_trigger_was_disabled(void **state)
{
    check_everything(*state, "poll digest=5\npoll digest=6", RELAY_REASON_TABLES);
}

/* Rules MEMBER_IN_SNAPSHOT and WAIT_COVERS_LEASE. */
static void what_does_not_count_is_applied_all_the_same(void **state)
{
    static const char *const scripts[] = {
        "poll\npoll next=12 member=no\nrow 11 a",
        "poll\npoll next=12 member=leaving\nrow 11 a",
        "poll\npoll next=12 lease=2000 wait=2549\nrow 11 a",
        "poll\npoll next=12 lease=0 wait=0\nrow 11 a",
    };
    for (size_t i = 0; i < sizeof(scripts) / sizeof(scripts[0]); i++) {
        const struct relay_verdict verdict = judged(*state, scripts[i]);
        assert_true(verdict.batch);
        assert_int_equal(verdict.everything, RELAY_REASON_NONE);
        assert_false(verdict.counts);
    }
}

/* ---- "Everywhere" ---- */

static bool acknowledged(struct fixture *f, const char *script)
{
    struct engine *engine = opened(script);
    ask(engine, ENGINE_MEMBERS, f);
    engine->kind->close(engine);
    return everywhere_by_acknowledgements(&f->answer.members, 11);
}

static void each_member_has_acknowledged(void **state)
{
    assert_true(acknowledged(*state, "members\nhost a yes w 12\nhost b yes w 20"));
    assert_true(acknowledged(*state, "members\nhost a yes w 12 10"));
}

static void a_member_has_not(void **state)
{
    assert_false(acknowledged(*state, "members\nhost a yes w 12\nhost b yes -w 20"));
    assert_false(acknowledged(*state, "members\nhost a yes w 11"));
    assert_false(acknowledged(*state, "members\nhost a yes w 12 11"));
}

/* It may hold a lease yet. */
static void a_host_that_leaves_is_waited_for(void **state)
{
    assert_false(acknowledged(*state, "members\nhost a yes w 12\nhost b leaving -w 0"));
}

/* Rule ACK_EPOCH. */
static void an_acknowledgement_of_before_a_failover(void **state)
{
    assert_false(acknowledged(*state, "members witness=v\nhost a yes w 12"));
    assert_false(acknowledged(*state, "members witness=none\nhost a yes none 12"));
    assert_false(acknowledged(*state, "members standby=1\nhost a yes w 12"));
    assert_false(acknowledged(*state, "members cut=1\nhost a yes w 12"));
}

static void time_proves_it_too(void **state)
{
    assert_false(everywhere_by_time(7 * NS_PER_S, 2550, 7 * NS_PER_S + 2549 * NS_PER_MS));
    assert_true(everywhere_by_time(7 * NS_PER_S, 2550, 7 * NS_PER_S + 2550 * NS_PER_MS));
    assert_false(everywhere_by_time(7 * NS_PER_S, 0, 6 * NS_PER_S));
    assert_false(leaving_is_over(7 * NS_PER_S, 2550, 7 * NS_PER_S + 2549 * NS_PER_MS));
    assert_true(leaving_is_over(7 * NS_PER_S, 2550, 7 * NS_PER_S + 2550 * NS_PER_MS));
}

/* ---- Settings ---- */

static void check_step(struct relay_setting now, uint32_t wanted, struct relay_setting expected,
                       uint64_t expected_apart_ms)
{
    struct relay_setting next;
    uint64_t apart_ms;
    assert_true(setting_next(now, wanted, &next, &apart_ms));
    assert_int_equal(next.lease_ms, expected.lease_ms);
    assert_int_equal(next.wait_ms, expected.wait_ms);
    assert_int_equal(apart_ms, expected_apart_ms);
    assert_true(setting_is_sound(next.lease_ms, next.wait_ms));
}

static void a_longer_lease_after_its_wait(void **state)
{
    check_step((struct relay_setting){2000, 2550}, 4000, (struct relay_setting){2000, 5050}, 0);
    check_step((struct relay_setting){2000, 5050}, 4000, (struct relay_setting){4000, 5050}, 0);
}

static void a_shorter_wait_after_its_lease_and_a_time(void **state)
{
    check_step((struct relay_setting){4000, 5050}, 2000, (struct relay_setting){2000, 5050}, 0);
    check_step((struct relay_setting){2000, 5050}, 2000, (struct relay_setting){2000, 2550}, 5050);
}

static void then_nothing_is_left_to_do(void **state)
{
    struct relay_setting next;
    uint64_t apart_ms;
    assert_false(setting_next((struct relay_setting){2000, 2550}, 2000, &next, &apart_ms));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(rows_alone_where_all_goes_on, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_cold_start_knows_nothing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_standby_says_nothing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(another_cluster, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_database_made_from_a_template, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_promotion_with_a_witness_that_survived, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_restart_with_a_witness_that_survived, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_witness_is_gone, set_up, tear_down),
        cmocka_unit_test_setup_teardown(another_host_has_made_a_new_witness, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_was_visible_is_not, set_up, tear_down),
        cmocka_unit_test_setup_teardown(rows_were_trimmed_that_the_cursor_lacks, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_mark_of_a_trim_was_running, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_row_of_a_transaction_that_has_not_begun, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(rows_that_were_left_out, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_row_that_no_release_wrote, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_trigger_was_disabled, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_does_not_count_is_applied_all_the_same, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(each_member_has_acknowledged, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_member_has_not, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_host_that_leaves_is_waited_for, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_acknowledgement_of_before_a_failover, set_up, tear_down),
        cmocka_unit_test(time_proves_it_too),
        cmocka_unit_test(a_longer_lease_after_its_wait),
        cmocka_unit_test(a_shorter_wait_after_its_lease_and_a_time),
        cmocka_unit_test(then_nothing_is_left_to_do),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
