/* SPDX-License-Identifier: Apache-2.0 */
/* Guards in the daemon's memory: signs of life, linger, ends that are remembered, counts of
 * flux. */
#include "testing.h"

#include "clocktime.h"
#include "guards.h"

#define CLOCKS 64u
#define LINGER_NS (30 * NS_PER_S)
#define NOW (UINT64_C(1000) * NS_PER_S)

struct fixture {
    struct guards guards;
    bool peer_lives;
    uint32_t calm[8];
    size_t calm_count;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));

    *state = f;
    return f ? guards_init(&f->guards, CLOCKS, LINGER_NS) : -1;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    guards_deinit(&f->guards);
    free(f);
    return 0;
}

#define CASE(name) TEST_OF(name, struct fixture *f, setup, teardown)

static void on_calm(void *ctx, uint32_t clock)
{
    struct fixture *f = ctx;

    f->calm[f->calm_count++] = clock;
}

static bool lives(void *ctx, uint64_t peer_id)
{
    const struct fixture *f = ctx;

    assert_int_equal(peer_id, 77);
    return f->peer_lives;
}

static const struct guard_id id_a = {1, 2};

static struct event begin_of(struct guard_id id)
{
    struct event event = {.lsn = 5, .kind = EVENT_GUARD_BEGIN, .guard = id};

    ETAG_INIT(&event.targets);
    event.targets.everything = true;
    return event;
}

static struct guard *opened(struct fixture *f, struct guard_id id, uint64_t now_ns)
{
    static const uint32_t clocks[] = {3, 7};
    const struct event event = begin_of(id);

    assert_int_equal(guards_open(&f->guards, &event, clocks, 2, now_ns), 0);
    struct guard *guard = guards_find_open(&f->guards, id);
    assert_non_null(guard);
    return guard;
}

static struct guard *overdue(struct fixture *f, uint64_t now_ns)
{
    return guards_overdue(&f->guards, now_ns, lives, f);
}

CASE(test_without_a_sign_of_life_a_guard_lingers_and_is_over)
{
    struct guard *guard = opened(f, id_a, NOW);

    assert_null(overdue(f, NOW + LINGER_NS - 1));
    assert_ptr_equal(overdue(f, NOW + LINGER_NS), guard);
}

CASE(test_a_confirmation_is_a_sign_of_life)
{
    struct guard *guard = opened(f, id_a, NOW);

    guards_touch(&f->guards, guard, 0, 0, NOW + 20 * NS_PER_S);
    assert_null(overdue(f, NOW + 20 * NS_PER_S + LINGER_NS - 1));
    assert_ptr_equal(overdue(f, NOW + 20 * NS_PER_S + LINGER_NS), guard);
}

CASE(test_an_open_connection_is_one_until_it_ends)
{
    struct guard *guard = opened(f, id_a, NOW);

    f->peer_lives = true;
    guards_touch(&f->guards, guard, 77, 600000, NOW);
    assert_null(overdue(f, NOW + 500 * NS_PER_S));
    f->peer_lives = false;
    assert_null(overdue(f, NOW + 501 * NS_PER_S));
    assert_null(overdue(f, NOW + 501 * NS_PER_S + LINGER_NS - 1));
    assert_ptr_equal(overdue(f, NOW + 501 * NS_PER_S + LINGER_NS), guard);
}

CASE(test_max_ms_bounds_what_a_connection_is_good_for)
{
    struct guard *guard = opened(f, id_a, NOW);

    f->peer_lives = true;
    guards_touch(&f->guards, guard, 77, 1000, NOW);
    assert_null(overdue(f, NOW + 2 * NS_PER_S));
    assert_null(overdue(f, NOW + 2 * NS_PER_S + LINGER_NS - 1));
    assert_ptr_equal(overdue(f, NOW + 2 * NS_PER_S + LINGER_NS), guard);
}

CASE(test_counts_come_off_as_they_were_put_on)
{
    const struct guard_id id_b = {1, 3};
    struct guard *a = opened(f, id_a, NOW);
    struct guard *b = opened(f, id_b, NOW);

    assert_int_equal(guards_flux(&f->guards, 3), 2);
    guards_end(&f->guards, a, true, NOW, on_calm, f);
    assert_int_equal(f->calm_count, 0);
    guards_end(&f->guards, b, true, NOW, on_calm, f);
    assert_int_equal(f->calm_count, 2);
    assert_int_equal(guards_flux(&f->guards, 3), 0);
    assert_int_equal(guards_flux(&f->guards, 7), 0);
}

CASE(test_an_end_that_was_said_is_remembered_for_one_linger)
{
    guards_end(&f->guards, opened(f, id_a, NOW), true, NOW, on_calm, f);
    assert_int_equal(guards_find(&f->guards, id_a)->state, GUARD_ENDED);
    assert_null(guards_find_open(&f->guards, id_a));
    assert_null(overdue(f, NOW + LINGER_NS - 1));
    assert_non_null(guards_find(&f->guards, id_a));
    assert_null(overdue(f, NOW + LINGER_NS));
    assert_null(guards_find(&f->guards, id_a));
    assert_int_equal(f->guards.ended_count, 0);
}

CASE(test_an_end_that_came_by_itself_is_not)
{
    guards_end(&f->guards, opened(f, id_a, NOW), false, NOW, on_calm, f);
    assert_null(guards_find(&f->guards, id_a));
}

CASE(test_an_unknown_end_is_remembered_and_a_known_one_not_twice)
{
    guards_remember_end(&f->guards, id_a, NOW);
    guards_remember_end(&f->guards, id_a, NOW);
    assert_int_equal(f->guards.ended_count, 1);
    /* Begun again (recovery, a living writer): it is open, and counted once. */
    opened(f, id_a, NOW);
    assert_int_equal(f->guards.ended_count, 0);
    assert_int_equal(f->guards.open_count, 1);
}

CASE(test_of_too_many_ends_the_first_are_forgotten)
{
    for (uint64_t i = 1; i <= GUARDS_MAX + 10; i++)
        guards_remember_end(&f->guards, (struct guard_id){1, i}, NOW + i);
    assert_int_equal(f->guards.ended_count, GUARDS_MAX);
    assert_null(guards_find(&f->guards, (struct guard_id){1, 10}));
    assert_non_null(guards_find(&f->guards, (struct guard_id){1, 11}));
    /* One from the middle is begun again; the rest is forgotten in its time. */
    opened(f, (struct guard_id){1, 100}, NOW + LINGER_NS);
    assert_null(overdue(f, NOW + LINGER_NS + GUARDS_MAX + 10));
    assert_int_equal(f->guards.ended_count, 0);
    assert_null(f->guards.ended.first);
    assert_null(f->guards.ended.last);
}

CASE(test_a_hold_ends_in_its_time_whoever_lives)
{
    struct guard *guard = opened(f, id_a, NOW);

    f->peer_lives = true;
    guards_touch(&f->guards, guard, 77, 0, NOW);
    struct event commit = {.kind = EVENT_GUARD_COMMIT, .targets = {.hold_ms = 1500}};
    guards_hold(&f->guards, guard, &commit, NOW);
    assert_int_equal(f->guards.hold_count, 1);
    assert_null(overdue(f, NOW + 1500 * NS_PER_MS - 1));
    assert_ptr_equal(overdue(f, NOW + 1500 * NS_PER_MS), guard);
}

static struct event hold_of(uint64_t lsn, uint32_t hold_ms)
{
    struct event event = {.lsn = lsn, .kind = EVENT_MUTATION};

    ETAG_INIT(&event.targets);
    event.targets.everything = true;
    event.targets.hold_ms = hold_ms;
    return event;
}

/* Each has a time of its own; some are lengthened, some become guards again. */
CASE(test_holds_end_in_the_order_of_their_ends)
{
    static const uint32_t clock = 5;
    uint64_t last_ns = 0;
    uint32_t random = 1;

    for (uint64_t lsn = 1; lsn <= 1000; lsn++) {
        random = random * 1103515245 + 12345;
        const struct event event = hold_of(lsn, 1 + (random >> 16) % 1000);
        assert_int_equal(guards_open(&f->guards, &event, &clock, 1, NOW), 0);
    }
    for (uint64_t lsn = 3; lsn <= 1000; lsn += 3) {
        struct guard *guard = guards_find(&f->guards, (struct guard_id){0, lsn});
        const struct event longer = hold_of(lsn, 2000 + (uint32_t)lsn);
        if (lsn % 2 == 0)
            guards_end(&f->guards, guard, false, NOW, on_calm, f);
        else
            guards_hold(&f->guards, guard, &longer, NOW);
    }
    assert_int_equal(f->guards.hold_count, 1000 - 166);
    for (size_t left = f->guards.hold_count; left > 0; left--) {
        struct guard *guard = overdue(f, NOW + NS_PER_S * 10);
        assert_non_null(guard);
        assert_true(guard->ends_ns >= last_ns);
        last_ns = guard->ends_ns;
        assert_null(overdue(f, last_ns - 1));
        assert_int_equal(f->calm_count, 0);
        guards_end(&f->guards, guard, false, NOW, on_calm, f);
    }
    assert_int_equal(f->calm_count, 1);
    assert_int_equal(f->guards.bytes, 0);
}

CASE(test_the_bound_of_guards_is_not_that_of_holds)
{
    static const uint32_t clock = 5;

    for (uint64_t i = 1; i <= GUARDS_MAX; i++) {
        assert_true(guards_room(&f->guards, false));
        opened(f, (struct guard_id){1, i}, NOW);
    }
    assert_false(guards_room(&f->guards, false));
    assert_true(guards_room(&f->guards, true));
    for (uint64_t lsn = 1; lsn <= HOLDS_MAX; lsn++) {
        const struct event event = hold_of(lsn, 1000);
        assert_true(guards_room_for_hold(&f->guards));
        assert_int_equal(guards_open(&f->guards, &event, &clock, 1, NOW), 0);
    }
    assert_false(guards_room_for_hold(&f->guards));
    assert_true(guards_room(&f->guards, true));
    for (uint64_t i = 1; i <= GUARDS_MAX; i++)
        opened(f, (struct guard_id){2, i}, NOW);
    assert_false(guards_room(&f->guards, true));
}

CASE(test_memory_is_a_bound_too_and_comes_back)
{
    struct guard *guard = opened(f, id_a, NOW);

    assert_true(f->guards.bytes > sizeof(struct guard));
    f->guards.bytes += GUARDS_BYTES_MAX;
    assert_false(guards_room(&f->guards, false));
    assert_false(guards_room_for_hold(&f->guards));
    assert_true(guards_room(&f->guards, true));
    f->guards.bytes -= GUARDS_BYTES_MAX;
    guards_end(&f->guards, guard, true, NOW, on_calm, f);
    assert_int_equal(f->guards.bytes, 0);
    opened(f, id_a, NOW);
    assert_int_equal(f->guards.ended_count, 0);
}

CASE(test_the_fold_stands_for_holds_that_are_not_longer_than_its_own)
{
    static const uint32_t floor = 0;
    const struct event event = hold_of(7, 1000);

    assert_false(guards_fold(&f->guards, 1, NOW));
    assert_int_equal(guards_open(&f->guards, &event, &floor, 1, NOW), 0);
    f->guards.fold = guards_id_of(&event);
    assert_false(guards_fold(&f->guards, 1001, NOW));
    assert_true(guards_fold(&f->guards, 500, NOW)); /* it has 1000 ms to go */
    assert_true(guards_fold(&f->guards, 1000, NOW + 700 * NS_PER_MS));
    assert_null(overdue(f, NOW + 1700 * NS_PER_MS - 1));
    struct guard *fold = overdue(f, NOW + 1700 * NS_PER_MS);
    assert_non_null(fold);
    guards_end(&f->guards, fold, false, NOW, on_calm, f);
    assert_false(guards_fold(&f->guards, 1, NOW));
}

CASE(test_a_hold_has_an_id_of_its_own)
{
    struct event event = begin_of(id_a);

    assert_true(guard_id_equal(guards_id_of(&event), id_a));
    event.kind = EVENT_MUTATION;
    event.guard = (struct guard_id){0};
    assert_true(guard_id_equal(guards_id_of(&event), (struct guard_id){0}));
    event.targets.hold_ms = 1;
    assert_true(guard_id_equal(guards_id_of(&event), (struct guard_id){.low = event.lsn}));
}
