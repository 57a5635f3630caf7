/* SPDX-License-Identifier: Apache-2.0 */
/* The rules of the cache, each with a case that fails without it. */
#include "testing.h"
#include "tsv.h"

#include "cache.h"
#include "clocktime.h"
#include "numbers.h"
#include "surrogate.h"
#include "targets.h"
#include "text.h"

#include <stdlib.h>
#include <string.h>

#define INCARNATION UINT64_C(5)
#define INCARNATION_ID 0x1234567890abcdefu

struct fixture {
    struct index *index;
    struct cache cache;
    struct key key;
    struct entry entry;
    etag_str surrogates[2];
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    const struct index_options options = {
        .plan = {.capacity = CAPACITY_MIN, .clock_count = 1u << 16},
        .incarnation = INCARNATION,
        .incarnation_id = INCARNATION_ID,
        .hash_key = {1, 2, 3},
        .lease_ns = NS_PER_S,
    };
    etag_key key;

    if (!f || index_open(&f->index, &options) < 0)
        return -1;
    if (cache_init(&f->cache, f->index, &options, 100 * NS_PER_MS) < 0)
        return -1;
    ETAG_INIT(&key);
    key.resource = (etag_resource){ETAG_LIT("shop.example"), ETAG_LIT("/api/v1/uploads/42?x=1")};
    key.scope.kind = ETAG_SCOPE_PUBLIC;
    if (key_canonicalize(&f->key, &key) != NULL)
        return -1;
    f->surrogates[0] = ETAG_LIT("upload:42");
    f->surrogates[1] = ETAG_LIT("customer:7");
    f->entry = (struct entry){.key = key,
                              .etag = ETAG_LIT("\"v1\""),
                              .last_modified = ETAG_NO_DATE,
                              .surrogates = f->surrogates,
                              .surrogate_count = 2};
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    cache_deinit(&f->cache);
    index_close(f->index);
    free(f);
    return 0;
}

#define CASE(name) TEST_OF(name, struct fixture *f, setup, teardown)

static etag_token token_now(const struct fixture *f)
{
    return (etag_token){INCARNATION_ID, shm_lsn_load(f->cache.view)};
}

static etag_reason fill(struct fixture *f, etag_token token)
{
    struct cache_stored stored;

    return cache_fill(&f->cache, token, &f->key, &f->entry, &stored);
}

static etag_reason state_now(struct fixture *f)
{
    struct shm_entry entry;
    uint32_t clock;
    uint64_t value;

    return cache_state(&f->cache, key_fingerprint(f->cache.hash_key, &f->key), &entry, &clock,
                       &value);
}

static uint64_t mutate(struct fixture *f, etag_targets targets)
{
    struct event event = {.targets = targets};

    assert_true(cache_next_lsn(&f->cache, &event.lsn));
    assert_null(targets_check(&event.targets));
    assert_int_equal(cache_apply(&f->cache, &event), 0);
    return event.lsn;
}

static etag_targets everything(void)
{
    return (etag_targets){.size = sizeof(etag_targets), .everything = true};
}

static const etag_resource resource_named = {{"shop.example", 12}, {"/api/v1/uploads/42?x=1", 22}};
static const etag_resource resource_other = {{"shop.example", 12}, {"/api/v1/uploads/43", 18}};
static const etag_resource prefix_named = {{"shop.example", 12}, {"/api/", 5}};
static const etag_resource prefix_deep = {{"shop.example", 12},
                                          {"/api/v1/uploads/42/deeper/still/", 32}};
static const etag_resource prefix_other = {{"shop.example", 12}, {"/static/", 8}};
static const etag_str surrogate_named = {"customer:7", 10};
static const etag_str surrogate_other = {"customer:8", 10};
static const etag_str family_named = {"customer", 8};
static const etag_str family_other = {"customers", 9};

/* Every way to name the entry, then every way not to. */
static etag_targets target_of(int i)
{
    etag_targets t = {.size = sizeof(t)};

    switch (i) {
    case 0:
        t.resources = &resource_named, t.resource_count = 1;
        break;
    case 1:
        t.surrogates = &surrogate_named, t.surrogate_count = 1;
        break;
    case 2:
        t.prefixes = &prefix_named, t.prefix_count = 1;
        break;
    case 3:
        t.prefixes = &prefix_deep, t.prefix_count = 1;
        break;
    case 4:
        t.everything = true;
        break;
    case 5:
        t.families = &family_named, t.family_count = 1;
        break;
    case 6:
        t.resources = &resource_other, t.resource_count = 1;
        break;
    case 7:
        t.surrogates = &surrogate_other, t.surrogate_count = 1;
        break;
    case 8:
        t.families = &family_other, t.family_count = 1;
        break;
    default:
        t.prefixes = &prefix_other, t.prefix_count = 1;
    }
    return t;
}

#define NAMING 6
#define TARGETS 10

CASE(test_an_invalidation_makes_the_entry_stale)
{
    for (int i = 0; i < TARGETS; i++) {
        assert_int_equal(fill(f, token_now(f)), ETAG_REASON_NONE);
        assert_int_equal(state_now(f), ETAG_REASON_VALID);
        mutate(f, target_of(i));
        assert_int_equal(state_now(f), i < NAMING ? ETAG_REASON_STALE : ETAG_REASON_VALID);
    }
}

static struct cache_stored stored_now(struct fixture *f, size_t first, size_t count)
{
    struct cache_stored stored = {0};

    f->entry.surrogates = f->surrogates + first;
    f->entry.surrogate_count = count;
    assert_int_equal(cache_fill(&f->cache, token_now(f), &f->key, &f->entry, &stored),
                     ETAG_REASON_NONE);
    return stored;
}

/* Rule WIDER_FILL_RECORDED begins here: the former entry, where it is current, would not hear of
 * what the new one depends on. */
CASE(test_a_fill_tells_what_its_key_had)
{
    struct cache_stored stored = stored_now(f, 0, 1);

    assert_true(stored.fresh && !stored.wider);
    stored = stored_now(f, 0, 1);
    assert_true(!stored.fresh && !stored.wider);
    stored = stored_now(f, 0, 2);
    assert_true(!stored.fresh && stored.wider);
    stored = stored_now(f, 1, 1);
    assert_true(!stored.fresh && !stored.wider);
    stored = stored_now(f, 0, 1);
    assert_true(!stored.fresh && stored.wider);
    mutate(f, target_of(1)); /* which this entry lacks: it is as current as before */
    stored = stored_now(f, 0, 2);
    assert_true(!stored.fresh && stored.wider);
    stored = stored_now(f, 0, 1);
    mutate(f, target_of(0)); /* stale: it never comes back */
    stored = stored_now(f, 0, 2);
    assert_true(!stored.fresh && !stored.wider);
}

CASE(test_a_fill_with_a_token_from_before_is_refused)
{
    for (int i = 0; i < TARGETS; i++) {
        const etag_token before = token_now(f);
        mutate(f, target_of(i));
        assert_int_equal(fill(f, before), i < NAMING ? ETAG_REASON_TOKEN_STALE : ETAG_REASON_NONE);
        mutate(f, everything());
    }
}

CASE(test_an_accepted_entry_keeps_the_token_as_its_fill_lsn)
{
    const etag_token before = token_now(f);

    mutate(f, target_of(TARGETS - 1));
    mutate(f, target_of(TARGETS - 1));
    assert_int_equal(fill(f, before), ETAG_REASON_NONE);
    struct shm_entry entry;
    assert_true(index_find(f->index, key_fingerprint(f->cache.hash_key, &f->key), &entry));
    assert_int_equal(entry.fill_lsn, before.lsn);
}

CASE(test_tokens_of_other_runs_and_of_the_future_are_refused)
{
    const etag_token now = token_now(f);

    assert_int_equal(fill(f, (etag_token){INCARNATION_ID + 1, now.lsn}), ETAG_REASON_TOKEN_FOREIGN);
    assert_int_equal(fill(f, (etag_token){0, now.lsn}), ETAG_REASON_TOKEN_FOREIGN);
    assert_int_equal(fill(f, (etag_token){INCARNATION_ID, now.lsn + 1}), ETAG_REASON_TOKEN_FOREIGN);
    assert_int_equal(state_now(f), ETAG_REASON_NO_ENTRY);
}

CASE(test_of_two_fills_the_higher_token_stays)
{
    const etag_token before = token_now(f);

    mutate(f, target_of(TARGETS - 1));
    assert_int_equal(fill(f, token_now(f)), ETAG_REASON_NONE);
    assert_int_equal(fill(f, before), ETAG_REASON_OLDER_FILL);
}

CASE(test_in_flux_is_neither_served_nor_filled)
{
    const uint32_t clock = clock_of_surrogate(f->cache.hash_key, f->cache.view->clock_count,
                                              surrogate_named);

    assert_int_equal(fill(f, token_now(f)), ETAG_REASON_NONE);
    const uint64_t value = shm_clock_load(f->cache.view, clock);
    shm_clock_store(f->cache.view, clock, value | CLOCK_IN_FLUX);
    assert_int_equal(state_now(f), ETAG_REASON_IN_FLUX);
    assert_int_equal(fill(f, token_now(f)), ETAG_REASON_TOKEN_IN_FLUX);
    /* A mutation of a clock in flux moves its LSN and leaves the flux alone. */
    const uint64_t lsn = mutate(f, target_of(1));
    assert_true(shm_clock_load(f->cache.view, clock) == (lsn | CLOCK_IN_FLUX));
    shm_clock_store(f->cache.view, clock, value);
    assert_int_equal(state_now(f), ETAG_REASON_VALID);
}

CASE(test_an_event_applied_twice_or_late_moves_nothing_back)
{
    const uint64_t first = mutate(f, target_of(1));
    const uint64_t second = mutate(f, target_of(1));
    const struct event late = {.lsn = first, .targets = target_of(1)};
    const uint32_t clock = clock_of_surrogate(f->cache.hash_key, f->cache.view->clock_count,
                                              surrogate_named);

    assert_int_equal(cache_apply(&f->cache, &late), 0);
    assert_int_equal(shm_clock_load(f->cache.view, clock), second);
    assert_int_equal(shm_lsn_load(f->cache.view), second);
}

CASE(test_lsns_grow_and_carry_the_incarnation)
{
    uint64_t lsn, last = 0;

    for (int i = 0; i < 10; i++) {
        assert_true(cache_next_lsn(&f->cache, &lsn));
        assert_true(lsn > last);
        assert_int_equal(lsn >> LSN_COUNTER_BITS, INCARNATION);
        last = lsn;
    }
    f->cache.lsn = ((INCARNATION + 1) << LSN_COUNTER_BITS) - 1;
    assert_false(cache_next_lsn(&f->cache, &lsn));
}

/* The daemon answers with it. */
CASE(test_a_refused_fill_has_no_fill_lsn)
{
    struct cache_stored stored;

    memset(&stored, 0xff, sizeof(stored));
    f->cache.paused = true;
    assert_int_equal(cache_fill(&f->cache, token_now(f), &f->key, &f->entry, &stored),
                     ETAG_REASON_PAUSED);
    f->cache.paused = false;
    assert_int_equal(stored.fill_lsn, 0);
    assert_int_equal(stored.evicted.count, 0);
}

CASE(test_paused_and_a_failed_store_refuse_fills)
{
    f->cache.paused = true;
    assert_int_equal(fill(f, token_now(f)), ETAG_REASON_PAUSED);
    f->cache.paused = false;
    f->cache.store_failed = true;
    assert_int_equal(fill(f, token_now(f)), ETAG_REASON_STORE_FAILED);
}

CASE(test_an_entry_is_loaded_under_its_old_fill_lsn)
{
    const uint64_t filled = ((INCARNATION - 1) << LSN_COUNTER_BITS) + 100;
    struct entry_record record = {.entry = f->entry, .fill_lsn = filled};
    struct event event = {.lsn = filled - 1, .targets = target_of(0)};
    struct index_evicted evicted;

    assert_int_equal(cache_apply(&f->cache, &event), 0);
    assert_int_equal(cache_load(&f->cache, &f->key, &record, &evicted), ETAG_REASON_NONE);
    assert_int_equal(state_now(f), ETAG_REASON_VALID);
    index_remove(f->index, key_fingerprint(f->cache.hash_key, &f->key));

    event.lsn = filled + 1;
    assert_int_equal(cache_apply(&f->cache, &event), 0);
    assert_int_equal(cache_load(&f->cache, &f->key, &record, &evicted), ETAG_REASON_TOKEN_STALE);
    assert_int_equal(state_now(f), ETAG_REASON_NO_ENTRY);
}

CASE(test_an_entry_that_expired_while_nobody_served_is_not_loaded)
{
    struct entry_record record = {.entry = f->entry, .fill_lsn = 1, .expires_wall_ms = 1000};
    struct index_evicted evicted;

    assert_int_equal(cache_load(&f->cache, &f->key, &record, &evicted), ETAG_REASON_EXPIRED);
    record.expires_wall_ms = time_wall_ms() + 60000;
    record.entry.max_age_ms = 60000;
    assert_int_equal(cache_load(&f->cache, &f->key, &record, &evicted), ETAG_REASON_NONE);
}

static uint64_t loaded_expiry_ns(struct fixture *f, const struct entry_record *record)
{
    struct shm_entry entry;
    struct index_evicted evicted;

    index_remove(f->index, key_fingerprint(f->cache.hash_key, &f->key));
    assert_int_equal(cache_load(&f->cache, &f->key, record, &evicted), ETAG_REASON_NONE);
    assert_true(index_find(f->index, key_fingerprint(f->cache.hash_key, &f->key), &entry));
    return entry.expires_ns;
}

CASE(test_of_two_clocks_the_earlier_expiry_counts)
{
    const uint64_t now_ns = time_coarse_ns();
    struct entry_record record = {.entry = f->entry,
                                  .fill_lsn = 1,
                                  .expires_wall_ms = time_wall_ms() + 60000,
                                  .expires_ns = now_ns + 10 * NS_PER_S};
    struct index_evicted evicted;

    record.entry.max_age_ms = 3600000;
    /* The wall clock was set back: within one boot the other clock knows. */
    f->cache.monotonic_goes_on = true;
    assert_int_equal(loaded_expiry_ns(f, &record), now_ns + 10 * NS_PER_S);
    record.expires_ns = now_ns - 1;
    index_remove(f->index, key_fingerprint(f->cache.hash_key, &f->key));
    assert_int_equal(cache_load(&f->cache, &f->key, &record, &evicted), ETAG_REASON_EXPIRED);
    /* Of another boot it says nothing; and nothing lives longer than it was filled for. */
    f->cache.monotonic_goes_on = false;
    assert_in_range(loaded_expiry_ns(f, &record), now_ns + 59 * NS_PER_S, now_ns + 61 * NS_PER_S);
    record.entry.max_age_ms = 5000;
    assert_in_range(loaded_expiry_ns(f, &record), now_ns + 4 * NS_PER_S, now_ns + 6 * NS_PER_S);
}

/* ---- Groups ---- */

/* The entry depends on the group of "customer:7" instead of on the name. */
static void depend_on_group(struct fixture *f, char made[SURROGATE_MADE_BYTES])
{
    f->surrogates[1] = surrogate_group_name(surrogate_group(surrogate_named), made);
    assert_int_not_equal(surrogate_group(surrogate_named), surrogate_group(surrogate_other));
}

CASE(test_a_name_reaches_what_depends_on_its_group)
{
    char made[SURROGATE_MADE_BYTES];

    depend_on_group(f, made);
    assert_int_equal(fill(f, token_now(f)), ETAG_REASON_NONE);
    mutate(f, target_of(7));
    assert_int_equal(state_now(f), ETAG_REASON_VALID);
    const etag_token before = token_now(f);
    mutate(f, target_of(1));
    assert_int_equal(state_now(f), ETAG_REASON_STALE);
    assert_int_equal(fill(f, before), ETAG_REASON_TOKEN_STALE);
    assert_int_equal(f->cache.counters.targets, 2);
    assert_int_equal(fill(f, token_now(f)), ETAG_REASON_NONE);
    assert_int_equal(state_now(f), ETAG_REASON_VALID);
}

static uint64_t step(struct fixture *f, enum event_kind kind, struct guard_id id,
                     etag_targets targets);

CASE(test_a_guard_on_a_name_is_one_on_its_group)
{
    const struct guard_id id = {0xa, 1};
    char made[SURROGATE_MADE_BYTES];

    depend_on_group(f, made);
    assert_int_equal(fill(f, token_now(f)), ETAG_REASON_NONE);
    step(f, EVENT_GUARD_BEGIN, id, target_of(1));
    assert_int_equal(state_now(f), ETAG_REASON_IN_FLUX);
    step(f, EVENT_GUARD_ABORT, id, (etag_targets){.size = sizeof(etag_targets)});
    assert_int_equal(state_now(f), ETAG_REASON_VALID);
    step(f, EVENT_GUARD_BEGIN, id, target_of(1));
    step(f, EVENT_GUARD_COMMIT, id, target_of(1));
    assert_int_equal(state_now(f), ETAG_REASON_STALE);
}

/* ---- Families (rule FAMILY_OF_EACH_NAME) ---- */

static etag_targets family(const etag_str *name)
{
    return (etag_targets){.size = sizeof(etag_targets), .families = name, .family_count = 1};
}

CASE(test_a_guard_on_a_family_is_one_on_each_of_its_names)
{
    const struct guard_id id = {0xa, 1};

    assert_int_equal(fill(f, token_now(f)), ETAG_REASON_NONE);
    step(f, EVENT_GUARD_BEGIN, id, family(&family_named));
    assert_int_equal(state_now(f), ETAG_REASON_IN_FLUX);
    assert_int_equal(fill(f, token_now(f)), ETAG_REASON_TOKEN_IN_FLUX);
    step(f, EVENT_GUARD_ABORT, id, (etag_targets){.size = sizeof(etag_targets)});
    assert_int_equal(state_now(f), ETAG_REASON_VALID);
    step(f, EVENT_GUARD_BEGIN, id, family(&family_named));
    step(f, EVENT_GUARD_COMMIT, id, family(&family_named));
    assert_int_equal(state_now(f), ETAG_REASON_STALE);
    etag_targets held = family(&family_named);
    held.hold_ms = 50;
    assert_int_equal(fill(f, token_now(f)), ETAG_REASON_NONE);
    mutate(f, held);
    assert_int_equal(state_now(f), ETAG_REASON_IN_FLUX);
}

/* An entry of names of 16 families hears of each, and of no other; of one more, of all. */
CASE(test_of_too_many_families_an_entry_depends_on_all)
{
    etag_str names[2 * (FAMILIES_PER_ENTRY_MAX + 1)];
    char text[COUNT_OF(names)][16];
    const etag_str nobody = ETAG_LIT("nobody");

    for (size_t i = 0; i < COUNT_OF(names); i++) {
        snprintf(text[i], sizeof(text[i]), "family%zu:%zu", i / 2, i % 2);
        names[i] = str_of(text[i]);
    }
    f->entry.surrogates = names;
    f->entry.surrogate_count = 2 * FAMILIES_PER_ENTRY_MAX;
    for (size_t i = 0; i < COUNT_OF(names); i += 2) {
        assert_int_equal(fill(f, token_now(f)), ETAG_REASON_NONE);
        mutate(f, family(&nobody));
        assert_int_equal(state_now(f), ETAG_REASON_VALID);
        mutate(f, family(&names[i])); /* "family0:0": what stands after the colon does not count */
        assert_int_equal(state_now(f),
                         i < f->entry.surrogate_count ? ETAG_REASON_STALE : ETAG_REASON_VALID);
    }
    f->entry.surrogate_count = COUNT_OF(names);
    assert_int_equal(fill(f, token_now(f)), ETAG_REASON_NONE);
    const etag_token before = token_now(f);
    mutate(f, family(&nobody));
    assert_int_equal(state_now(f), ETAG_REASON_STALE);
    assert_int_equal(fill(f, before), ETAG_REASON_TOKEN_STALE);
}

/* Rule WIDER_FILL_RECORDED holds of families as well: two names that share a clock need not be of
 * one family. */
CASE(test_a_fill_of_another_family_is_wider)
{
    const etag_str name = ETAG_LIT("second:1");
    const uint32_t clock_count = f->cache.view->clock_count;
    const uint32_t clock = clock_of_surrogate(f->cache.hash_key, clock_count, name);
    char twin[16];
    unsigned i = 0;

    do
        snprintf(twin, sizeof(twin), "first%u", i++);
    while (clock_of_surrogate(f->cache.hash_key, clock_count, str_of(twin)) != clock);
    f->surrogates[0] = str_of(twin);
    f->surrogates[1] = name;
    assert_true(stored_now(f, 0, 1).fresh);
    assert_true(stored_now(f, 1, 1).wider);
    assert_false(stored_now(f, 0, 1).wider);
}

/* Of a fill of "key" and a mutation of "family" what the column "reached" says, here as they are
 * sent, and with the same token before it. */
CASE(test_families_table)
{
    static char key[TSV_CELL_BYTES_MAX], named[TSV_CELL_BYTES_MAX];
    char key_made[SURROGATE_MADE_BYTES], family_made[SURROGATE_MADE_BYTES];
    unsigned count = 0;
    struct tsv table;

    tsv_open(&table, "families.tsv");
    f->entry.surrogate_count = 1;
    for (; tsv_next(&table); count++) {
        const char *reached = tsv_raw(&table, "reached");
        f->surrogates[0] = surrogate_name(
            (etag_str){key, tsv_text(&table, "key", key, sizeof(key))}, key_made);
        const etag_str name = surrogate_family_name(
            (etag_str){named, tsv_text(&table, "family", named, sizeof(named))}, family_made);
        const etag_targets targets = family(&name);
        if (strcmp(reached, "error") == 0) {
            assert_non_null(targets_check(&targets));
            continue;
        }
        assert_int_equal(fill(f, token_now(f)), ETAG_REASON_NONE);
        assert_int_equal(state_now(f), ETAG_REASON_VALID);
        const etag_token before = token_now(f);
        mutate(f, targets);
        const bool stale = state_now(f) == ETAG_REASON_STALE;
        if (stale != (strcmp(reached, "yes") == 0))
            fail_msg("%s: %s", tsv_raw(&table, "id"), stale ? "reached" : "not reached");
        assert_int_equal(fill(f, before), stale ? ETAG_REASON_TOKEN_STALE : ETAG_REASON_NONE);
    }
    tsv_close(&table);
    assert_true(count >= 48);
}

/* What was recorded before the event is stale when it is loaded after it. */
CASE(test_an_entry_from_before_a_mutation_of_its_family_is_not_loaded)
{
    struct entry_record record = {.entry = f->entry, .fill_lsn = token_now(f).lsn};
    struct index_evicted evicted;

    assert_int_equal(cache_load(&f->cache, &f->key, &record, &evicted), ETAG_REASON_NONE);
    index_remove(f->index, key_fingerprint(f->cache.hash_key, &f->key));
    mutate(f, family(&family_named));
    assert_int_equal(cache_load(&f->cache, &f->key, &record, &evicted), ETAG_REASON_TOKEN_STALE);
}

/* ---- Guards and holds ---- */

static const struct guard_id guard_a = {0xa, 1};
static const struct guard_id guard_b = {0xb, 1};

static uint64_t step(struct fixture *f, enum event_kind kind, struct guard_id id,
                     etag_targets targets)
{
    struct event event = {.kind = kind, .guard = id, .targets = targets};

    assert_true(cache_next_lsn(&f->cache, &event.lsn));
    assert_null(event_check(&event));
    assert_int_equal(cache_apply(&f->cache, &event), 0);
    return event.lsn;
}

CASE(test_a_guard_is_in_flux_until_its_commit_and_what_was_filled_before_is_stale)
{
    assert_int_equal(fill(f, token_now(f)), ETAG_REASON_NONE);
    const etag_token before = token_now(f);
    step(f, EVENT_GUARD_BEGIN, guard_a, target_of(1));
    assert_int_equal(state_now(f), ETAG_REASON_IN_FLUX);
    const etag_token during = token_now(f);
    assert_int_equal(fill(f, during), ETAG_REASON_TOKEN_IN_FLUX);
    step(f, EVENT_GUARD_COMMIT, guard_a, target_of(1));
    assert_int_equal(state_now(f), ETAG_REASON_STALE);
    assert_int_equal(fill(f, before), ETAG_REASON_TOKEN_STALE);
    assert_int_equal(fill(f, during), ETAG_REASON_TOKEN_STALE);
    assert_int_equal(fill(f, token_now(f)), ETAG_REASON_NONE);
    assert_int_equal(state_now(f), ETAG_REASON_VALID);
}

CASE(test_an_abort_leaves_entries_as_valid_as_before)
{
    assert_int_equal(fill(f, token_now(f)), ETAG_REASON_NONE);
    step(f, EVENT_GUARD_BEGIN, guard_a, target_of(0));
    assert_int_equal(state_now(f), ETAG_REASON_IN_FLUX);
    step(f, EVENT_GUARD_ABORT, guard_a, (etag_targets){.size = sizeof(etag_targets)});
    assert_int_equal(state_now(f), ETAG_REASON_VALID);
}

CASE(test_guards_on_one_clock_are_counted)
{
    assert_int_equal(fill(f, token_now(f)), ETAG_REASON_NONE);
    step(f, EVENT_GUARD_BEGIN, guard_a, target_of(1));
    step(f, EVENT_GUARD_BEGIN, guard_b, target_of(1));
    step(f, EVENT_GUARD_ABORT, guard_a, target_of(1));
    assert_int_equal(state_now(f), ETAG_REASON_IN_FLUX);
    step(f, EVENT_GUARD_COMMIT, guard_b, target_of(1));
    assert_int_equal(state_now(f), ETAG_REASON_STALE);
    assert_int_equal(f->cache.guards.open_count, 0);
}

CASE(test_a_mutation_under_a_guard_keeps_it_in_flux)
{
    step(f, EVENT_GUARD_BEGIN, guard_a, target_of(1));
    mutate(f, target_of(1));
    assert_int_equal(fill(f, token_now(f)), ETAG_REASON_TOKEN_IN_FLUX);
    step(f, EVENT_GUARD_ABORT, guard_a, target_of(1));
    assert_int_equal(fill(f, token_now(f)), ETAG_REASON_NONE);
}

CASE(test_a_begin_applied_twice_counts_once)
{
    step(f, EVENT_GUARD_BEGIN, guard_a, target_of(1));
    step(f, EVENT_GUARD_BEGIN, guard_a, target_of(1));
    step(f, EVENT_GUARD_COMMIT, guard_a, target_of(1));
    assert_int_equal(fill(f, token_now(f)), ETAG_REASON_NONE);
    step(f, EVENT_GUARD_COMMIT, guard_a, target_of(1));
    assert_int_equal(state_now(f), ETAG_REASON_STALE);
}

static void confirm(struct fixture *f)
{
    struct event event = {
        .kind = EVENT_GUARD_BEGIN, .guard = guard_a, .confirms = true, .targets = target_of(1)};

    assert_true(cache_next_lsn(&f->cache, &event.lsn));
    assert_int_equal(cache_apply(&f->cache, &event), 0);
}

CASE(test_a_confirmation_that_begins_a_guard_again_is_counted)
{
    step(f, EVENT_GUARD_BEGIN, guard_a, target_of(1));
    confirm(f);
    assert_int_equal(f->cache.counters.guards_rearmed, 0);
    step(f, EVENT_GUARD_EXPIRED, guard_a, target_of(1));
    confirm(f);
    assert_int_equal(f->cache.counters.guards_rearmed, 1);
    assert_int_equal(f->cache.counters.guards_begun, 3);
}

CASE(test_a_hold_that_the_fold_stands_for_is_counted)
{
    struct event event = {.kind = EVENT_MUTATION, .targets = everything()};

    event.targets.hold_ms = 1000;
    assert_false(cache_fold(&f->cache, &event));
    assert_int_equal(event.targets.hold_ms, 1000);
    event.lsn = mutate(f, event.targets);
    f->cache.guards.fold = guards_id_of(&event);
    event.targets.hold_ms = 1001;
    assert_false(cache_fold(&f->cache, &event));
    assert_int_equal(f->cache.counters.holds_folded, 0);
    event.targets.hold_ms = 1000;
    assert_true(cache_fold(&f->cache, &event));
    assert_int_equal(event.targets.hold_ms, 0);
    assert_int_equal(f->cache.counters.holds_folded, 1);
}

CASE(test_a_commit_that_names_less_than_its_guard_commits_the_guard)
{
    const etag_str other = ETAG_LIT("other");
    etag_targets less = {.size = sizeof(less), .surrogates = &other, .surrogate_count = 1};

    const etag_token before = token_now(f);
    step(f, EVENT_GUARD_BEGIN, guard_a, target_of(1));
    step(f, EVENT_GUARD_COMMIT, guard_a, less);
    assert_int_equal(fill(f, before), ETAG_REASON_TOKEN_STALE);
}

CASE(test_the_commit_of_a_guard_that_is_gone_is_an_invalidation)
{
    assert_int_equal(fill(f, token_now(f)), ETAG_REASON_NONE);
    step(f, EVENT_GUARD_COMMIT, guard_a, target_of(1));
    assert_int_equal(state_now(f), ETAG_REASON_STALE);
}

CASE(test_a_hold_is_in_flux_and_then_changes_once_more)
{
    etag_targets held = target_of(1);

    held.hold_ms = 1000;
    const struct guard_id id = {.low = mutate(f, held)};
    assert_int_equal(f->cache.guards.hold_count, 1);
    const etag_token during = token_now(f);
    assert_int_equal(fill(f, during), ETAG_REASON_TOKEN_IN_FLUX);
    held.hold_ms = 0;
    step(f, EVENT_GUARD_EXPIRED, id, held);
    /* What was read from a replica while the hold stood. */
    assert_int_equal(fill(f, during), ETAG_REASON_TOKEN_STALE);
    assert_int_equal(fill(f, token_now(f)), ETAG_REASON_NONE);
    assert_int_equal(f->cache.guards.hold_count, 0);
}

CASE(test_a_guard_that_lingered_is_held_and_may_be_confirmed_yet)
{
    etag_targets held = target_of(1);

    held.hold_ms = 1000;
    step(f, EVENT_GUARD_BEGIN, guard_a, held);
    step(f, EVENT_GUARD_EXPIRED, guard_a, held);
    assert_int_equal(f->cache.guards.hold_count, 1);
    assert_int_equal(fill(f, token_now(f)), ETAG_REASON_TOKEN_IN_FLUX);
    /* Its writer lives after all: the hold is a guard again, and ends with it. */
    step(f, EVENT_GUARD_BEGIN, guard_a, held);
    assert_int_equal(f->cache.guards.hold_count, 0);
    assert_int_equal(f->cache.guards.open_count, 1);
    step(f, EVENT_GUARD_ABORT, guard_a, held);
    assert_int_equal(fill(f, token_now(f)), ETAG_REASON_NONE);
}

CASE(test_a_commit_with_a_hold_keeps_the_guards_count)
{
    etag_targets held = target_of(1);

    step(f, EVENT_GUARD_BEGIN, guard_a, held);
    held.hold_ms = 1000;
    step(f, EVENT_GUARD_COMMIT, guard_a, held);
    assert_int_equal(f->cache.guards.open_count, 0);
    assert_int_equal(f->cache.guards.hold_count, 1);
    assert_int_equal(fill(f, token_now(f)), ETAG_REASON_TOKEN_IN_FLUX);
    held.hold_ms = 0;
    step(f, EVENT_GUARD_EXPIRED, guard_a, held);
    assert_int_equal(fill(f, token_now(f)), ETAG_REASON_NONE);
    /* The same where the guard was lost. */
    held.hold_ms = 1000;
    step(f, EVENT_GUARD_COMMIT, guard_b, held);
    assert_int_equal(fill(f, token_now(f)), ETAG_REASON_TOKEN_IN_FLUX);
}

CASE(test_an_endless_age_does_not_overflow)
{
    f->entry.max_age_ms = UINT64_MAX;
    assert_int_equal(fill(f, token_now(f)), ETAG_REASON_NONE);
    assert_int_equal(state_now(f), ETAG_REASON_VALID);
}

static etag_reason retire(struct fixture *f, etag_token token)
{
    struct hash128 fingerprint;

    return cache_retire(&f->cache, token, &f->key, &fingerprint);
}

CASE(test_a_retire_removes_this_entry_and_nothing_else)
{
    const struct key key = f->key;
    etag_key other;

    ETAG_INIT(&other);
    other.resource = resource_other;
    other.scope.kind = ETAG_SCOPE_PUBLIC;
    assert_int_equal(fill(f, token_now(f)), ETAG_REASON_NONE);
    assert_null(key_canonicalize(&f->key, &other));
    assert_int_equal(fill(f, token_now(f)), ETAG_REASON_NONE);
    const uint64_t lsn = f->cache.lsn;
    assert_int_equal(retire(f, token_now(f)), ETAG_REASON_NONE);
    assert_int_equal(state_now(f), ETAG_REASON_NO_ENTRY);
    assert_int_equal(retire(f, token_now(f)), ETAG_REASON_NO_ENTRY);
    f->key = key;
    assert_int_equal(state_now(f), ETAG_REASON_VALID);
    assert_int_equal(f->cache.lsn, lsn); /* no event */
    assert_int_equal(f->cache.counters.retires, 1);
    assert_int_equal(f->cache.counters.retires_refused, 1);
}

/* What was answered with older data than the entry's says nothing about it. */
CASE(test_a_retire_of_an_older_token_removes_nothing)
{
    const etag_token before = token_now(f);

    mutate(f, everything());
    assert_int_equal(fill(f, token_now(f)), ETAG_REASON_NONE);
    assert_int_equal(retire(f, before), ETAG_REASON_OLDER_FILL);
    assert_int_equal(state_now(f), ETAG_REASON_VALID);
    assert_int_equal(retire(f, (etag_token){INCARNATION_ID + 1, before.lsn}),
                     ETAG_REASON_TOKEN_FOREIGN);
    assert_int_equal(retire(f, (etag_token){INCARNATION_ID, f->cache.lsn + 1}),
                     ETAG_REASON_TOKEN_FOREIGN);
    assert_int_equal(state_now(f), ETAG_REASON_VALID);
    assert_int_equal(retire(f, token_now(f)), ETAG_REASON_NONE);
}

/* It is no event: what is filled afterwards is judged by its clocks, as any fill. */
CASE(test_after_a_retire_a_fill_is_as_current_as_its_clocks_say)
{
    const etag_token before = token_now(f);

    assert_int_equal(fill(f, before), ETAG_REASON_NONE);
    assert_int_equal(retire(f, before), ETAG_REASON_NONE);
    assert_int_equal(fill(f, before), ETAG_REASON_NONE);
    assert_int_equal(state_now(f), ETAG_REASON_VALID);
    mutate(f, everything());
    assert_int_equal(retire(f, token_now(f)), ETAG_REASON_NONE);
    assert_int_equal(fill(f, before), ETAG_REASON_TOKEN_STALE);
}

/* The cell's resources, joined with " | ", each raised to lsn; returns how many. */
static size_t assert_raised(const struct fixture *f, const char *id, etag_str cell, uint64_t lsn)
{
    size_t count = 0;

    for (; cell.len > 0; count++) {
        const char *bar = memmem(cell.data, cell.len, " | ", 3);
        const size_t len = bar ? (size_t)(bar - cell.data) : cell.len;
        etag_resource split;
        struct resource resource;
        assert_null(resource_split((etag_str){cell.data, len}, &split));
        assert_null(resource_canonicalize(&resource, &split));
        const uint32_t clock = clock_of_resource(f->cache.hash_key, f->cache.view->clock_count,
                                                 &resource);
        if (shm_clock_load(f->cache.view, clock) != lsn)
            fail_msg("%s: %.*s is not stale", id, (int)len, cell.data);
        cell = str_skip(cell, bar ? len + 3 : len);
    }
    return count;
}

/* Column "write" of the table: dot segments lead to another resource, on some servers to two. */
CASE(test_a_write_with_dot_segments_reaches_what_it_may_have_changed)
{
    static char host[64 * 1024], target[64 * 1024], write[64 * 1024];
    struct tsv table;
    unsigned in_two_ways = 0;

    tsv_open(&table, "keys.tsv");
    while (tsv_next(&table)) {
        const bool has_host = strcmp(tsv_raw(&table, "host"), "-") != 0;
        const size_t host_len = tsv_text(&table, "host", host, sizeof(host));
        const etag_resource named = {
            .host = has_host ? (etag_str){host, host_len} : (etag_str){0},
            .target = {target, tsv_text(&table, "target", target, sizeof(target))}};
        const etag_targets targets = {
            .size = sizeof(targets), .resources = &named, .resource_count = 1};
        const etag_str cell = {write, tsv_text(&table, "write", write, sizeof(write))};
        if (str_equal(cell, ETAG_LIT("error"))) {
            assert_non_null(targets_check(&targets));
            continue;
        }
        const uint64_t before = f->cache.counters.targets;
        const size_t count = assert_raised(f, tsv_raw(&table, "id"), cell, mutate(f, targets));
        in_two_ways += count == 2;
        /* one reading may come out as the other: no third resource is touched */
        assert_in_range(f->cache.counters.targets - before, count, 2);
    }
    tsv_close(&table);
    assert_true(in_two_ways >= 12);
}

/* The same path as a prefix means the prefixes above what it leads to. */
CASE(test_a_prefix_with_dot_segments_reaches_below_both_readings)
{
    static const etag_resource dotted = {{"shop.example", 12}, {"/x%2Fy/../../api/v1/", 20}};
    const etag_targets targets = {.size = sizeof(targets), .prefixes = &dotted, .prefix_count = 1};

    assert_int_equal(fill(f, token_now(f)), ETAG_REASON_NONE);
    mutate(f, targets);
    assert_int_equal(state_now(f), ETAG_REASON_STALE);
}
