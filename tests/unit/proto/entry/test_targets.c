/* SPDX-License-Identifier: Apache-2.0 */
#include "bounds.h"
#include "numbers.h"
#include "targets.h"
#include "testing.h"

static const char *check_resource(etag_str host, etag_str target)
{
    const etag_resource r = {host, target};

    return targets_check(&(etag_targets){.resources = &r, .resource_count = 1});
}

static const char *check_prefix(etag_str target)
{
    const etag_resource r = {ETAG_LIT("example.com"), target};

    return targets_check(&(etag_targets){.prefixes = &r, .prefix_count = 1});
}

static const char *check_surrogate(etag_str name)
{
    return targets_check(&(etag_targets){.surrogates = &name, .surrogate_count = 1});
}

TEST(something_must_be_named)
{
    assert_non_null(targets_check(&(etag_targets){0}));
    assert_null(targets_check(&(etag_targets){.everything = true}));
}

TEST(every_target_is_checked)
{
    assert_null(check_resource(ETAG_LIT("example.com"), ETAG_LIT("/a?b")));
    assert_null(check_resource((etag_str){NULL, 0}, ETAG_LIT("/")));
    assert_non_null(check_resource(ETAG_LIT("example.com"), ETAG_LIT("a")));
    assert_non_null(check_resource(ETAG_LIT("exa mple"), ETAG_LIT("/a")));
    assert_null(check_surrogate(ETAG_LIT("upload:42")));
    assert_non_null(check_surrogate(ETAG_LIT("upload 42")));
    assert_non_null(check_surrogate((etag_str){NULL, 0}));

    /* the second one of each, and beside "everything" */
    const etag_resource resources[] = {{ETAG_LIT("a"), ETAG_LIT("/")},
                                       {ETAG_LIT("a"), ETAG_LIT("")}};
    const etag_str surrogates[] = {ETAG_LIT("a"), ETAG_LIT("a b")};
    etag_targets targets = {
        .resources = resources, .surrogates = surrogates, .prefixes = resources};
    targets.everything = true;
    targets.resource_count = targets.surrogate_count = targets.prefix_count = 1;
    assert_null(targets_check(&targets));
    targets.resource_count = 2;
    assert_non_null(targets_check(&targets));
    targets.resource_count = 1;
    targets.surrogate_count = 2;
    assert_non_null(targets_check(&targets));
    targets.surrogate_count = 1;
    targets.prefix_count = 2;
    assert_non_null(targets_check(&targets));
    targets.prefix_count = 1;
    targets.families = surrogates;
    targets.family_count = 1;
    assert_null(targets_check(&targets));
    targets.family_count = 2;
    assert_non_null(targets_check(&targets));
}

TEST(a_family_has_a_name)
{
    const etag_str fine[] = {ETAG_LIT("uploads"), ETAG_LIT("uploads:*"), ETAG_LIT("*")};
    const etag_str bad[] = {{NULL, 0}, ETAG_LIT(":"), ETAG_LIT(":x"), ETAG_LIT("up loads")};

    for (size_t i = 0; i < COUNT_OF(fine); i++)
        assert_null(targets_check(&(etag_targets){.families = &fine[i], .family_count = 1}));
    for (size_t i = 0; i < COUNT_OF(bad); i++)
        assert_non_null(targets_check(&(etag_targets){.families = &bad[i], .family_count = 1}));
}

/* Off a segment boundary is allowed: it means the nearest covered ancestor. */
TEST(a_prefix_is_any_path)
{
    assert_null(check_prefix(ETAG_LIT("/")));
    assert_null(check_prefix(ETAG_LIT("/a/")));
    assert_null(check_prefix(ETAG_LIT("/a/b")));
    assert_null(check_prefix(ETAG_LIT("/a/b/c/d/e/f/")));
    assert_non_null(check_prefix(ETAG_LIT("/a/?q")));
    assert_non_null(check_prefix(ETAG_LIT("/a/?")));
    assert_non_null(check_prefix(ETAG_LIT("/a/%4")));
    assert_non_null(check_prefix(ETAG_LIT("")));
}

TEST(an_event_names_at_most_4096_targets)
{
    static etag_str surrogates[TARGETS_PER_EVENT_MAX + 1];

    for (size_t i = 0; i <= TARGETS_PER_EVENT_MAX; i++)
        surrogates[i] = ETAG_LIT("x");
    const etag_resource one = {ETAG_LIT("a"), ETAG_LIT("/")};
    etag_targets targets = {.surrogates = surrogates, .surrogate_count = TARGETS_PER_EVENT_MAX};
    targets.resources = targets.prefixes = &one;
    assert_null(targets_check(&targets));
    targets.prefix_count = 1;
    assert_non_null(targets_check(&targets));
    targets.surrogate_count--;
    assert_null(targets_check(&targets));
    targets.resource_count = 1;
    assert_non_null(targets_check(&targets));
    targets.resource_count = 0;
    targets.families = &surrogates[0];
    targets.family_count = 1;
    assert_non_null(targets_check(&targets));
    targets.surrogate_count--;
    assert_null(targets_check(&targets));
    targets.surrogate_count = SIZE_MAX;
    assert_non_null(targets_check(&targets));
}
