/* SPDX-License-Identifier: Apache-2.0 */
/* The targets of a mutation, whichever call they were given to: names mean what they mean in a
 * fill. */
#include "mutate.h"

#include "numbers.h"
#include "surrogate.h"
#include "testing.h"
#include "text.h"

#include <string.h>

#define E_ACUTE "\xc3\xa9"

static int setup(void **state)
{
    etag_client_options options;
    etag_client *client;

    ETAG_INIT(&options);
    options.socket_path = "/nonexistent/etagd.sock";
    options.spool = ETAG_SPOOL_NEVER;
    if (etag_client_open(&client, &options) != ETAG_OK)
        return -1;
    *state = client;
    return 0;
}

static int teardown(void **state)
{
    (void)etag_client_close(*state);
    return 0;
}

#define CASE(name) TEST_OF(name, etag_client *client, setup, teardown)

CASE(surrogate_keys_are_named_as_in_a_fill)
{
    char over[SURROGATE_BYTES_MAX + 1], made[SURROGATE_MADE_BYTES];

    memset(over, 'x', sizeof(over));
    const etag_str names[] = {ETAG_LIT("plain"),
                              ETAG_LIT(E_ACUTE "t" E_ACUTE),
                              {over, sizeof(over)},
                              ETAG_LIT("a,b"),
                              ETAG_LIT("c,")};
    const size_t count = COUNT_OF(names);
    etag_targets targets, out;
    ETAG_INIT(&targets);
    targets.surrogates = names;
    targets.surrogate_count = count;
    for (int twice = 0; twice < 2; twice++) {
        assert_int_equal(mutate_targets(client, &targets, &out), ETAG_OK);
        assert_int_equal(out.surrogate_count, count);
        for (size_t i = 0; i < count; i++)
            assert_true(str_equal(out.surrogates[i], surrogate_name(names[i], made)));
    }
    /* Names that need nothing stay where they are. */
    targets.surrogate_count = 1;
    assert_int_equal(mutate_targets(client, &targets, &out), ETAG_OK);
    assert_ptr_equal(out.surrogates, names);
}

CASE(families_are_named_by_what_stands_before_the_colon)
{
    const etag_str names[] = {ETAG_LIT("uploads"), ETAG_LIT("uploads:*"), ETAG_LIT("uploads:42"),
                              ETAG_LIT("uploads,")};
    const etag_str foreign = ETAG_LIT(E_ACUTE "t" E_ACUTE), bad = ETAG_LIT(":x");
    char made[SURROGATE_MADE_BYTES];
    etag_targets targets, out;

    ETAG_INIT(&targets);
    targets.families = names;
    targets.family_count = COUNT_OF(names);
    targets.surrogates = &foreign;
    targets.surrogate_count = 1;
    assert_int_equal(mutate_targets(client, &targets, &out), ETAG_OK);
    assert_int_equal(out.family_count, COUNT_OF(names));
    for (size_t i = 0; i < COUNT_OF(names); i++)
        assert_true(str_equal(out.families[i], names[0]));
    assert_true(str_equal(out.surrogates[0], surrogate_name(foreign, made)));
    targets.families = &foreign;
    targets.family_count = 1;
    assert_int_equal(mutate_targets(client, &targets, &out), ETAG_OK);
    assert_true(str_equal(out.families[0], surrogate_name(foreign, made)));
    targets.families = &bad;
    assert_int_equal(mutate_targets(client, &targets, &out), ETAG_INVALID);
    assert_non_null(strstr(etag_client_error(client), "family"));
    /* A program that was built before there were families has none. */
    targets.size = offsetof(etag_targets, families);
    assert_int_equal(mutate_targets(client, &targets, &out), ETAG_OK);
    assert_int_equal(out.family_count, 0);
}

CASE(what_no_fill_could_name_is_invalid)
{
    const etag_str bad[] = {ETAG_LIT("a b"), ETAG_LIT(E_ACUTE " b"), ETAG_LIT(""),
                            ETAG_LIT("\x7f")};
    etag_targets targets, out;

    ETAG_INIT(&targets);
    targets.surrogate_count = 1;
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        targets.surrogates = &bad[i];
        assert_int_equal(mutate_targets(client, &targets, &out), ETAG_INVALID);
        assert_non_null(strstr(etag_client_error(client), "surrogate key"));
    }
    static etag_str many[TARGETS_PER_EVENT_MAX + 1];
    for (size_t i = 0; i <= TARGETS_PER_EVENT_MAX; i++)
        many[i] = ETAG_LIT(E_ACUTE);
    targets.surrogates = many;
    targets.surrogate_count = TARGETS_PER_EVENT_MAX + 1;
    assert_int_equal(mutate_targets(client, &targets, &out), ETAG_INVALID);
    assert_non_null(strstr(etag_client_error(client), "more than 4096"));
    targets.surrogate_count = TARGETS_PER_EVENT_MAX;
    assert_int_equal(mutate_targets(client, &targets, &out), ETAG_OK);
}
