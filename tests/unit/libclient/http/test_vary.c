/* SPDX-License-Identifier: Apache-2.0 */
/* Request header fields for the key: absent, empty, several lines, and values that do not fit. */
#include "key.h"
#include "numbers.h"
#include "testing.h"
#include "text.h"

static const etag_str names[] = {ETAG_LIT("Accept-Language"), ETAG_LIT("accept"),
                                 ETAG_LIT("Origin")};
#define NAMES 3

static const etag_field fields[] = {
    {ETAG_LIT("ACCEPT-language"), ETAG_LIT(" de ")},
    {ETAG_LIT("Host"), ETAG_LIT("a")},
    {ETAG_LIT("Accept"), ETAG_LIT("")},
    {ETAG_LIT("Accept-Language"), {NULL, 0}},
    {ETAG_LIT("accept-language"), ETAG_LIT("\ten")},
    {ETAG_LIT("Accept-Language"), ETAG_LIT("fr")},
};
#define FIELDS COUNT_OF(fields)

static void assert_value(etag_field field, const char *value)
{
    assert_true(field.value.data != NULL);
    assert_true(str_equal(field.value, str_of(value)));
}

TEST(values)
{
    etag_field vary[NAMES];
    char text[64];

    assert_int_equal(etag_vary_select(names, NAMES, fields, FIELDS, vary, text, sizeof(text)),
                     ETAG_OK);
    assert_true(str_equal(vary[0].name, names[0]));
    assert_value(vary[0], "de, en, fr");
    assert_value(vary[1], ""); /* empty is not absent */
    assert_null(vary[2].value.data);
    /* One line takes no memory. */
    assert_int_equal(etag_vary_select(names, NAMES, fields, 4, vary, NULL, 0), ETAG_OK);
    assert_value(vary[0], "de");
    assert_int_equal(etag_vary_select(names, NAMES, NULL, 0, vary, NULL, 0), ETAG_OK);
    assert_null(vary[0].value.data);
}

TEST(several_joined)
{
    const etag_field twice[] = {{ETAG_LIT("Origin"), ETAG_LIT("1")},
                                {ETAG_LIT("Accept"), ETAG_LIT("x")},
                                {ETAG_LIT("Origin"), ETAG_LIT("2")},
                                {ETAG_LIT("Accept"), ETAG_LIT("")}};
    etag_field vary[NAMES];
    char text[8];

    assert_int_equal(etag_vary_select(names, NAMES, twice, 4, vary, text, 7), ETAG_OK);
    assert_value(vary[1], "x, ");
    assert_value(vary[2], "1, 2");
}

/* Half a value would be another key, under which other representations stand. */
TEST(what_does_not_fit_makes_no_key)
{
    etag_field vary[NAMES];
    char text[10];

    for (size_t size = 0; size < 10; size++) {
        struct key canonical;
        etag_key key;
        ETAG_INIT(&key);
        key.resource.target = ETAG_LIT("/a");
        key.scope.kind = ETAG_SCOPE_PUBLIC;
        key.vary = vary;
        key.vary_count = NAMES;
        assert_int_equal(etag_vary_select(names, NAMES, fields, FIELDS, vary, text, size),
                         ETAG_INVALID);
        assert_non_null(key_canonicalize(&canonical, &key));
    }
    assert_int_equal(etag_vary_select(names, NAMES, fields, FIELDS, vary, text, 10), ETAG_OK);
}
