/* SPDX-License-Identifier: Apache-2.0 */
#include "entry.h"
#include "numbers.h"
#include "testing.h"
#include "text.h"

TEST(what_a_304_has_to_repeat)
{
    static const char *const standard[] = {"Cache-Control", "cache-control", "EXPIRES",
                                           "Expires",       "Vary",          "vary"};
    static const char *const others[] = {"", "Var", "Varys", "Cache-Contro1", "ETag", "Set-Cookie"};

    for (size_t i = 0; i < COUNT_OF(standard); i++) {
        assert_true(field_name_is_standard(str_of(standard[i])));
        assert_true(field_name_may_be_kept(str_of(standard[i])));
    }
    for (size_t i = 0; i < COUNT_OF(others); i++)
        assert_false(field_name_is_standard(str_of(others[i])));
}

/* Whoever may fill is trusted with validators, not with cookies, framing or redirects. */
TEST(what_no_entry_keeps)
{
    static const char *const refused[] = {
        "Set-Cookie",
        "set-cookie2",
        "Content-Length",
        "TRANSFER-ENCODING",
        "Location",
        "ETag",
        "Last-Modified",
        "Content-Location",
        "Connection",
        "Upgrade",
        "Status",
        "X-Accel-Redirect",
        "x-accel-expires",
        "X-Sendfile",
        "Alt-Svc",
        "Refresh",
        "Clear-Site-Data",
        "WWW-Authenticate",
        "Date",
        "Age",
        "Content-Security-Policy",
        "Content-Type",
        "Content-Encoding",
        "Content-Range",
    };
    static const char *const kept[] = {"Surrogate-Key", "Access-Control-Allow-Origin", "X-Accel",
                                       "Set-Cookies",   "Strict-Transport-Security",   "X-One"};

    for (size_t i = 0; i < COUNT_OF(refused); i++)
        if (field_name_may_be_kept(str_of(refused[i])))
            fail_msg("%s may be kept", refused[i]);
    for (size_t i = 0; i < COUNT_OF(kept); i++)
        if (!field_name_may_be_kept(str_of(kept[i])))
            fail_msg("%s may not be kept", kept[i]);
}

/* The fast way over eight bytes and the slow one say the same, at each place of a value. */
TEST(values_without_controls)
{
    char text[19];

    for (int byte = 0; byte < 256; byte++) {
        const bool clean = byte == '\t' || (byte >= ' ' && byte != 0x7f);
        for (size_t at = 0; at < sizeof(text); at++) {
            memset(text, 0xff, sizeof(text));
            text[at] = (char)byte;
            for (size_t len = at + 1; len <= sizeof(text); len++)
                assert_int_equal(str_is_field_value((etag_str){text, len}), clean);
            text[(at + 8) % sizeof(text)] = '\t'; /* suspicious, and allowed */
            assert_int_equal(str_is_field_value((etag_str){text, sizeof(text)}), clean);
        }
    }
    assert_true(str_is_field_value((etag_str){NULL, 0}));
}
