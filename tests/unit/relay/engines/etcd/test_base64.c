/* SPDX-License-Identifier: Apache-2.0 */
#include "base64.h"

#include "testing.h"
#include "text.h"

/* RFC 4648 section 10. */
TEST(known_ones)
{
    static const char *const pairs[][2] = {{"", ""},
                                           {"f", "Zg=="},
                                           {"fo", "Zm8="},
                                           {"foo", "Zm9v"},
                                           {"foob", "Zm9vYg=="},
                                           {"fooba", "Zm9vYmE="},
                                           {"foobar", "Zm9vYmFy"}};

    for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
        char text[16] = {0};
        uint8_t bytes[16];
        size_t len;
        base64_encode(text, str_of(pairs[i][0]));
        assert_string_equal(text, pairs[i][1]);
        assert_int_equal(strlen(text), BASE64_BYTES(strlen(pairs[i][0])));
        assert_true(base64_decode(bytes, &len, str_of(text)));
        assert_int_equal(len, strlen(pairs[i][0]));
        assert_memory_equal(bytes, pairs[i][0], len);
    }
}

TEST(all_bytes_come_back)
{
    uint8_t bytes[257], again[300];
    char text[BASE64_BYTES(sizeof(bytes))];
    size_t len;

    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (uint8_t)(255 - i);
    for (size_t count = 0; count <= sizeof(bytes); count++) {
        base64_encode(text, (etag_str){(const char *)bytes, count});
        assert_true(base64_decode(again, &len, (etag_str){text, BASE64_BYTES(count)}));
        assert_int_equal(len, count);
        assert_memory_equal(again, bytes, count);
    }
}

TEST(what_is_none_is_refused)
{
    static const char *const texts[] = {"Zg",   "Zg=",  "Zg===", "Z===",     "====",     "Zh==",
                                        "Zm9=", "Zm-v", "Zm 9",  "Zg==Zg==", "Zm9v\xc3", "=m9v"};
    uint8_t bytes[16];
    size_t len;

    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        assert_false(base64_decode(bytes, &len, str_of(texts[i])));
}
