/* SPDX-License-Identifier: Apache-2.0 */
/* Families of surrogate keys. Names and groups: test_surrogates.c; what reaches what:
 * tests/cases/families.tsv, which test_cache.c reads. */
#include "surrogate.h"

#include "key.h"
#include "numbers.h"
#include "testing.h"
#include "text.h"

#include <stdio.h>

static void assert_families(const etag_str *names, size_t count, const char *expected)
{
    struct surrogate_families families;
    char text[256] = "";
    size_t len = 0;

    surrogate_families_of(&families, names, count);
    for (size_t i = 0; i < families.count; i++)
        len += (size_t)snprintf(text + len, sizeof(text) - len, "%s%.*s", i > 0 ? " " : "",
                                (int)families.names[i].len, families.names[i].data);
    assert_string_equal(families.all ? "all" : text, expected);
    assert_true(!families.all || families.count == 0);
}

TEST(each_family_counts_once)
{
    const etag_str names[] = {ETAG_LIT("upload:42"),  ETAG_LIT("upload:43"), ETAG_LIT("customer:7"),
                              ETAG_LIT("upload:a:b"), ETAG_LIT("front"),     ETAG_LIT("upload:*")};

    assert_families(names, COUNT_OF(names), "upload customer");
    assert_families(names + 4, 1, "");
    assert_families(NULL, 0, "");
}

TEST(a_name_that_hides_its_family_depends_on_all)
{
    const etag_str hiding[] = {ETAG_LIT(":x"), ETAG_LIT("~hash-1"), ETAG_LIT("~group-127"),
                               ETAG_LIT("~hash-0:1")};
    const etag_str showing[] = {ETAG_LIT("~group-128"), ETAG_LIT("~hash"), ETAG_LIT("~"),
                                ETAG_LIT("x"), ETAG_LIT("*")};

    for (size_t i = 0; i < COUNT_OF(hiding); i++) {
        const etag_str names[] = {ETAG_LIT("upload:42"), hiding[i], ETAG_LIT("customer:7")};
        assert_families(names, COUNT_OF(names), "all");
        assert_true(surrogate_family_reaches(ETAG_LIT("nobody"), hiding[i]));
    }
    for (size_t i = 0; i < COUNT_OF(showing); i++) {
        assert_families(&showing[i], 1, "");
        assert_true(surrogate_family_reaches(showing[i], showing[i]));
        assert_false(surrogate_family_reaches(ETAG_LIT("nobody"), showing[i]));
    }
}

TEST(more_families_than_an_entry_may_have_are_all)
{
    char text[FAMILIES_PER_ENTRY_MAX + 1][8];
    etag_str names[FAMILIES_PER_ENTRY_MAX + 2];
    struct surrogate_families families;

    for (size_t i = 0; i <= FAMILIES_PER_ENTRY_MAX; i++) {
        snprintf(text[i], sizeof(text[i]), "%zu:x", i);
        names[i] = str_of(text[i]);
    }
    names[FAMILIES_PER_ENTRY_MAX + 1] = names[FAMILIES_PER_ENTRY_MAX];
    names[FAMILIES_PER_ENTRY_MAX] = names[0]; /* one of those that are there is none more */
    surrogate_families_of(&families, names, FAMILIES_PER_ENTRY_MAX + 1);
    assert_false(families.all);
    assert_int_equal(families.count, FAMILIES_PER_ENTRY_MAX);
    surrogate_families_of(&families, names, FAMILIES_PER_ENTRY_MAX + 2);
    assert_true(families.all);
}

/* A family shares a clock neither with the key of its name nor, ever, with what is fixed. */
TEST(a_family_has_a_clock_of_its_own)
{
    static const uint8_t hash_key[SIPHASH_KEY_BYTES] = {1};
    const etag_str name = ETAG_LIT("upload");
    struct family_clocks of;

    assert_int_not_equal(clock_of_family(hash_key, CLOCKS_MAX, name),
                         clock_of_surrogate(hash_key, CLOCKS_MAX, name));
    assert_int_equal(clock_of_family(hash_key, CLOCKS_MAX, ETAG_LIT("upload:*")),
                     clock_of_family(hash_key, CLOCKS_MAX, name));
    assert_true(clock_of_family(hash_key, CLOCKS_MAX, ETAG_LIT("~group-5")) >= CLOCKS_FIXED);
    const etag_str hidden = ETAG_LIT("~group-5");
    family_clocks_of(&of, hash_key, CLOCKS_MAX, &hidden, 1);
    assert_int_equal(of.count, 1);
    assert_int_equal(of.clocks[0], CLOCK_FAMILIES);
    assert_int_equal(CLOCK_FAMILIES, clock_of_group(SURROGATE_GROUPS - 1) + 1);
}
