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

#define CASE(name) TEST_OF(name, struct fixture *f, set_up, tear_down)

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

CASE(rows_alone_where_all_goes_on)
{
    check_everything(f,
                     "poll next=10 running=5,7 trimmed=4\n"
                     "poll next=14 running=7,12\nrow 5 a\nrow 11 b",
                     RELAY_REASON_NONE);
    assert_int_equal(f->answer.poll.row_count, 2);
}

CASE(a_cold_start_knows_nothing)
{
    struct engine *engine = opened("poll next=10");

    ask(engine, ENGINE_POLL, f);
    assert_int_equal(relay_judge(&f->cursor, false, &f->answer.poll).everything,
                     RELAY_REASON_NO_CURSOR);
    assert_int_equal(relay_judge(&f->cursor, true, &f->answer.poll).everything,
                     RELAY_REASON_CURSOR_UNREADABLE);
    engine->kind->close(engine);
}

CASE(a_standby_says_nothing)
{
    const struct relay_verdict verdict = judged(f, "poll\npoll standby=1\nrow 11 a");

    assert_false(verdict.batch);
    assert_false(verdict.counts);
}

CASE(another_cluster)
{
    check_everything(f, "poll\npoll system=2", RELAY_REASON_SYSTEM);
}

CASE(a_database_made_from_a_template)
{
    check_everything(f, "poll\npoll database=2", RELAY_REASON_DATABASE);
}

CASE(a_promotion_with_a_witness_that_survived)
{
    check_everything(f, "poll\npoll timeline=2", RELAY_REASON_TIMELINE);
}

CASE(a_restart_with_a_witness_that_survived)
{
    check_everything(f, "poll\npoll started=2", RELAY_REASON_SERVER_RUN);
}

CASE(the_witness_is_gone)
{
    check_everything(f, "poll\npoll witness=none", RELAY_REASON_WITNESS_GONE);
    check_everything(f, "poll witness=none\npoll", RELAY_REASON_WITNESS_GONE);
}

CASE(another_host_has_made_a_new_witness)
{
    check_everything(f, "poll\npoll witness=v", RELAY_REASON_WITNESS_CHANGED);
    check_everything(f, "poll witness=none\npoll witness=v", RELAY_REASON_WITNESS_CHANGED);
}

CASE(what_was_visible_is_not)
{
    check_everything(f, "poll next=10\npoll next=9", RELAY_REASON_WENT_BACK);
    check_everything(f, "poll next=10\npoll next=12 running=8", RELAY_REASON_WENT_BACK);
}

CASE(rows_were_trimmed_that_the_cursor_lacks)
{
    check_everything(f, "poll next=10\npoll next=30 trimmed=9", RELAY_REASON_NONE);
    check_everything(f, "poll next=10\npoll next=30 trimmed=10", RELAY_REASON_TRIMMED);
}

/* Its number is below, and it was visible to nobody when the cursor was read. */
CASE(the_mark_of_a_trim_was_running)
{
    check_everything(f, "poll next=10 running=9\npoll next=30 running=20 trimmed=9",
                     RELAY_REASON_TRIMMED);
}

CASE(a_row_of_a_transaction_that_has_not_begun)
{
    check_everything(f, "poll\npoll next=12\nrow 11 a\nrow 12 b", RELAY_REASON_FOREIGN_ROWS);
    check_everything(f, "poll\npoll next=12 unassigned=13\nrow 12 b", RELAY_REASON_NONE);
}

CASE(rows_that_were_left_out)
{
    check_everything(f, "poll\npoll next=12 cut=1\nrow 11 a", RELAY_REASON_ROWS_CUT);
}

CASE(a_row_that_no_release_wrote)
{
    check_everything(f, "poll\npoll next=13\nrow 11 a\nrow 12 unreadable",
                     RELAY_REASON_ROW_UNREADABLE);
}

CASE(a_trigger_was_disabled)
{
    check_everything(f, "poll digest=5\npoll digest=6", RELAY_REASON_TABLES);
}

/* Each poll raises everything: what is written meanwhile leaves no row. */
CASE(a_trigger_is_disabled_still)
{
    check_everything(f, "poll digest=7 broken=1\npoll digest=7", RELAY_REASON_WATCH_BROKEN);
}

/* Rules MEMBER_IN_SNAPSHOT and WAIT_COVERS_LEASE. */
CASE(what_does_not_count_is_applied_all_the_same)
{
    static const char *const scripts[] = {
        "poll\npoll next=12 member=no\nrow 11 a",
        "poll\npoll next=12 member=leaving\nrow 11 a",
        "poll\npoll next=12 lease=2000 wait=2549\nrow 11 a",
        "poll\npoll next=12 lease=0 wait=0\nrow 11 a",
    };

    for (size_t i = 0; i < sizeof(scripts) / sizeof(scripts[0]); i++) {
        const struct relay_verdict verdict = judged(f, scripts[i]);
        assert_true(verdict.batch);
        assert_int_equal(verdict.everything, RELAY_REASON_NONE);
        assert_false(verdict.counts);
    }
}

/* ---- "Everywhere" ---- */

static bool everywhere(struct fixture *f, const char *script, bool here)
{
    struct engine *engine = opened(script);

    ask(engine, ENGINE_MEMBERS, f);
    engine->kind->close(engine);
    return everywhere_by_acknowledgements(&f->answer.members, 11, here);
}

static bool acknowledged(struct fixture *f, const char *script)
{
    return everywhere(f, script, false);
}

CASE(each_member_has_acknowledged)
{
    assert_true(acknowledged(f, "members\nhost a yes w 12\nhost b yes w 20"));
    assert_true(acknowledged(f, "members\nhost a yes w 12 10"));
}

CASE(a_member_has_not)
{
    assert_false(acknowledged(f, "members\nhost a yes w 12\nhost b yes -w 20"));
    assert_false(acknowledged(f, "members\nhost a yes w 11"));
    assert_false(acknowledged(f, "members\nhost a yes w 12 11"));
}

/* It may hold a lease yet. */
CASE(a_host_that_leaves_is_waited_for)
{
    assert_false(acknowledged(f, "members\nhost a yes w 12\nhost b leaving -w 0"));
}

/* Rule OWN_IS_APPLIED. */
CASE(a_host_says_nothing_of_what_it_handed_over_itself)
{
    assert_true(everywhere(f, "members\nhost a own -w 0\nhost b yes w 12", true));
    assert_false(everywhere(f, "members\nhost a own -w 0\nhost b yes w 12", false));
    assert_false(everywhere(f, "members\nhost a own w 12\nhost b yes -w 0", true));
    assert_false(everywhere(f, "members\nhost a yes -w 0\nhost b yes w 12", true)); /* its name */
    assert_false(everywhere(f, "members witness=none\nhost a own -w 0", true));
}

/* Rule ACK_EPOCH. */
CASE(an_acknowledgement_of_before_a_failover)
{
    assert_false(acknowledged(f, "members witness=v\nhost a yes w 12"));
    assert_false(acknowledged(f, "members witness=none\nhost a yes none 12"));
    assert_false(acknowledged(f, "members standby=1\nhost a yes w 12"));
    assert_false(acknowledged(f, "members cut=1\nhost a yes w 12"));
}

TEST(time_proves_it_too)
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

TEST(a_longer_lease_after_its_wait)
{
    check_step((struct relay_setting){2000, 2550}, 4000, (struct relay_setting){2000, 5050}, 0);
    check_step((struct relay_setting){2000, 5050}, 4000, (struct relay_setting){4000, 5050}, 0);
}

TEST(a_shorter_wait_after_its_lease_and_a_time)
{
    check_step((struct relay_setting){4000, 5050}, 2000, (struct relay_setting){2000, 5050}, 0);
    check_step((struct relay_setting){2000, 5050}, 2000, (struct relay_setting){2000, 2550}, 5050);
}

TEST(then_nothing_is_left_to_do)
{
    struct relay_setting next;
    uint64_t apart_ms;

    assert_false(setting_next((struct relay_setting){2000, 2550}, 2000, &next, &apart_ms));
}
