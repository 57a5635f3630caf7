/* SPDX-License-Identifier: Apache-2.0 */
/* Which fields a 304 repeats: the RFC's, the client's, and what the client must not add. */
#include "repeated.h"

#include "numbers.h"
#include "testing.h"
#include "text.h"

TEST(the_usual_ones)
{
    struct repeated_fields fields = {0};

    assert_true(repeated_fields_copy(&fields, NULL, 0));
    assert_true(repeated_fields_has(&fields, ETAG_LIT("Cache-Control")));
    assert_true(repeated_fields_has(&fields, ETAG_LIT("EXPIRES")));
    assert_true(repeated_fields_has(&fields, ETAG_LIT("vary")));
    assert_false(repeated_fields_has(&fields, ETAG_LIT("Surrogate-Key")));
    assert_false(repeated_fields_has(&fields, ETAG_LIT("ETag"))); /* the entry's own */
    assert_false(repeated_fields_has(&fields, ETAG_LIT("")));
}

TEST(added_ones_are_copied)
{
    struct repeated_fields fields;
    char name[REPEATED_NAME_BYTES_MAX];

    memset(name, 'x', sizeof(name));
    etag_str names[REPEATED_FIELDS_MAX];
    for (size_t i = 0; i < REPEATED_FIELDS_MAX; i++)
        names[i] = (etag_str){name, i + 1 == REPEATED_FIELDS_MAX ? sizeof(name) : i + 1};
    assert_true(repeated_fields_copy(&fields, names, REPEATED_FIELDS_MAX));
    memset(name, 'y', sizeof(name));
    assert_true(repeated_fields_has(&fields, ETAG_LIT("Xx")));
    assert_false(repeated_fields_has(&fields, ETAG_LIT("yy")));
    assert_true(repeated_fields_has(&fields, ETAG_LIT("vary")));
}

TEST(bad_ones)
{
    struct repeated_fields fields;
    char name[REPEATED_NAME_BYTES_MAX + 1];

    memset(name, 'x', sizeof(name));
    static const char *const refused[] = {"Content-Length",
                                          "set-cookie",
                                          "DATE",
                                          "Content-Security-Policy",
                                          "content-security-policy-report-only",
                                          "Connection",
                                          "Transfer-Encoding",
                                          "Content-Range",
                                          "ETag",
                                          "Last-Modified",
                                          "Content-Location",
                                          "Location",
                                          "X-Accel-Redirect",
                                          "",
                                          "a b",
                                          "a:",
                                          "\x80"};
    for (size_t i = 0; i < COUNT_OF(refused); i++) {
        const etag_str both[] = {ETAG_LIT("Surrogate-Key"), str_of(refused[i])};
        assert_false(repeated_fields_copy(&fields, both, 2));
    }
    const etag_str long_one = {name, sizeof(name)};
    assert_false(repeated_fields_copy(&fields, &long_one, 1));
    etag_str many[REPEATED_FIELDS_MAX + 1];
    for (size_t i = 0; i <= REPEATED_FIELDS_MAX; i++)
        many[i] = ETAG_LIT("x");
    assert_false(repeated_fields_copy(&fields, many, REPEATED_FIELDS_MAX + 1));
}
