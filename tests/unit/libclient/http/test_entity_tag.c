/* SPDX-License-Identifier: Apache-2.0 */
/* Entity tags: every byte at every place of the word-wise scan, the comparison table, compression
 * suffixes, lists. */
#include "entity_tag.h"

#include "numbers.h"
#include "testing.h"
#include "text.h"

static bool parses(etag_str text)
{
    struct entity_tag tag;

    return entity_tag_parse(text, &tag);
}

static struct entity_tag parsed(const char *text)
{
    struct entity_tag tag;

    assert_true(entity_tag_parse(str_of(text), &tag));
    return tag;
}

TEST(grammar)
{
    static const char *const good[] = {"\"\"",    "\"a\"",        "W/\"\"", "W/\"W/\"",
                                       "\"a,b\"", "\"!#$%&'()\"", "\"\\\"", "\"\x80\xff\"",
                                       "\"*\"",   "\"{[~]}\""};
    static const char *const bad[] = {"",         "\"",       "a",         "\"a",     "a\"",
                                      "W/",       "W/a",      "W/\"",      "w/\"a\"", "W\"a\"",
                                      "W/ \"a\"", " \"a\"",   "\"a\" ",    "\"a\"b",  "\"a\"\"b\"",
                                      "\"a b\"",  "\"a\tb\"", "\"a\x7f\"", "'a'",     "W/W/\"a\""};

    for (size_t i = 0; i < COUNT_OF(good); i++)
        assert_true(parses(str_of(good[i])));
    for (size_t i = 0; i < COUNT_OF(bad); i++)
        assert_false(parses(str_of(bad[i])));
    assert_false(parses((etag_str){NULL, 0}));
    assert_false(parses((etag_str){"\"a\0b\"", 5}));
    assert_false(parses((etag_str){"\"ab\"", 3})); /* the closing quote is not ours */

    assert_true(parsed("W/\"x\"").weak);
    assert_false(parsed("\"W/x\"").weak);
    assert_true(str_equal(parsed("W/\"x\"").opaque, ETAG_LIT("\"x\"")));
}

/* The scan takes sixteen bytes at a step, the last step over bytes that it has seen. */
TEST(every_byte_at_every_place)
{
    for (size_t len = 1; len <= 34; len++) {
        char *text = malloc(len + 2); /* just its size: a read behind it is an error under ASan */
        assert_non_null(text);
        for (size_t at = 1; at <= len; at++) {
            for (int byte = 0; byte < 256; byte++) {
                memset(text, 'a', len + 2);
                text[0] = text[len + 1] = '"';
                text[at] = (char)byte;
                const bool valid = byte == 0x21 || (byte >= 0x23 && byte <= 0x7e) || byte >= 0x80;
                assert_int_equal(parses((etag_str){text, len + 2}), valid);
            }
        }
        free(text);
    }
    /* A foreign byte before the one that the word's lowest bit marks must be seen. */
    assert_false(parses(ETAG_LIT("\"aa\x20\x21\x22\x21 aaaaaaaa\"")));
    assert_true(parses(ETAG_LIT("\"\x21\x23\x21\x23\x80\xa0\xa1\xff\x7e\"")));
}

/* RFC 9110 section 8.8.3.2 */
TEST(comparison_table)
{
    static const struct {
        const char *a, *b;
        bool strong, weak;
    } rows[] = {
        {"W/\"1\"", "W/\"1\"", false, true}, {"W/\"1\"", "W/\"2\"", false, false},
        {"W/\"1\"", "\"1\"", false, true},   {"\"1\"", "\"1\"", true, true},
        {"\"1\"", "\"2\"", false, false},    {"\"a\"", "\"A\"", false, false},
        {"\"1\"", "\"11\"", false, false},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        const struct entity_tag a = parsed(rows[i].a), b = parsed(rows[i].b);
        assert_int_equal(entity_tag_equal_strong(a, b), rows[i].strong);
        assert_int_equal(entity_tag_equal_strong(b, a), rows[i].strong);
        assert_int_equal(entity_tag_equal_weak(a, b), rows[i].weak);
        assert_int_equal(entity_tag_equal_weak(b, a), rows[i].weak);
    }
}

TEST(compression_suffixes)
{
    static const struct {
        const char *listed, *current;
        bool equal;
    } rows[] = {
        /* every coding, both ways to write it, strong and weak */
        {"\"x-gzip\"", "\"x\"", true},
        {"\"x-br\"", "\"x\"", true},
        {"\"x-zstd\"", "\"x\"", true},
        {"\"x-deflate\"", "\"x\"", true},
        {"\"x-compress\"", "\"x\"", true},
        {"\"x--gzip\"", "\"x\"", true},
        {"\"x--br\"", "\"x\"", true},
        {"\"x--compress\"", "\"x\"", true},
        {"W/\"x-gzip\"", "\"x\"", true},
        {"\"x-gzip\"", "W/\"x\"", true},
        {"W/\"x-gzip\"", "W/\"x\"", true},
        {"\"-gzip\"", "\"\"", true},
        /* without a suffix: the weak comparison */
        {"\"x\"", "\"x\"", true},
        {"W/\"x\"", "\"x\"", true},
        {"\"\"", "\"\"", true},
        {"\"x\"", "\"y\"", false},
        {"\"x\"", "\"X\"", false},
        {"\"xy\"", "\"x\"", false},
        {"\"x\"", "\"xy\"", false},
        /* only on the listed side */
        {"\"x\"", "\"x-gzip\"", false},
        {"\"x\"", "\"x--gzip\"", false},
        {"\"x-br\"", "\"x-gzip\"", false},
        {"\"x-gzip\"", "\"x-br\"", false},
        {"\"x-gzip\"", "\"x-gzip\"", true},
        /* only one */
        {"\"x-gzip-gzip\"", "\"x-gzip\"", true},
        {"\"x-gzip-gzip\"", "\"x\"", false},
        {"\"x-gzip-br\"", "\"x\"", false},
        {"\"x--gzip--gzip\"", "\"x\"", false},
        {"\"x---gzip\"", "\"x\"", false},
        {"\"x---gzip\"", "\"x-\"", true},
        /* nothing like it */
        {"\"y-gzip\"", "\"x\"", false},
        {"\"x-gzi\"", "\"x\"", false},
        {"\"x-gzipp\"", "\"x\"", false},
        {"\"x-gzip-\"", "\"x\"", false},
        {"\"x-GZIP\"", "\"x\"", false},
        {"\"x-Br\"", "\"x\"", false},
        {"\"x-x-gzip\"", "\"x\"", false},
        {"\"x-identity\"", "\"x\"", false},
        {"\"xgzip\"", "\"x\"", false},
        {"\"x;gzip\"", "\"x\"", false},
        {"\"x_gzip\"", "\"x\"", false},
        {"\"x-\"", "\"x\"", false},
        {"\"x--\"", "\"x\"", false},
        {"\"xgzip-gzip\"", "\"x\"", false},
        {"\"gzip-x\"", "\"x\"", false},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        const bool equal = entity_tag_equal_suffixed(parsed(rows[i].listed),
                                                     parsed(rows[i].current));
        if (equal != rows[i].equal)
            fail_msg("%s listed, %s current: %d", rows[i].listed, rows[i].current, equal);
    }
}

/* Tags of just their size, so that a byte read behind one is an error under ASan. */
TEST(suffixes_at_every_length)
{
    for (size_t len = 0; len <= 40; len++) {
        char *current = malloc(len + 2), *listed = malloc(len + 7);
        assert_true(current && listed);
        memset(current, 'a', len + 2);
        current[0] = current[len + 1] = '"';
        memcpy(listed, current, len + 1);
        memcpy(listed + len + 1, "-gzip\"", 6);
        struct entity_tag plain, suffixed;
        assert_true(entity_tag_parse((etag_str){current, len + 2}, &plain));
        assert_true(entity_tag_parse((etag_str){listed, len + 7}, &suffixed));
        assert_true(entity_tag_equal_suffixed(suffixed, plain));
        assert_false(entity_tag_equal_suffixed(plain, suffixed));
        for (size_t at = 1; at <= len; at++) {
            listed[at] = 'b';
            assert_false(entity_tag_equal_suffixed(suffixed, plain));
            listed[at] = 'a';
        }
        free(current);
        free(listed);
    }
}

/* Writes the elements as "[W]opaque|..." and "!" where the line is malformed. */
static const char *walk(const char *line, char *out)
{
    etag_str rest = str_of(line);
    struct entity_tag tag;
    size_t len = 0;
    int next;

    while ((next = entity_tag_next(&rest, &tag)) == 1) {
        if (tag.weak)
            out[len++] = 'W';
        memcpy(out + len, tag.opaque.data + 1, tag.opaque.len - 2);
        len += tag.opaque.len - 2;
        out[len++] = '|';
    }
    if (next < 0) {
        assert_int_equal(entity_tag_next(&rest, &tag), -1); /* and stays so */
        out[len++] = '!';
    } else {
        assert_int_equal(rest.len, 0);
        assert_int_equal(entity_tag_next(&rest, &tag), 0);
    }
    out[len] = '\0';
    return out;
}

TEST(lists)
{
    static const struct {
        const char *line, *elements;
    } rows[] = {
        {"", ""},
        {" \t", ""},
        {",", ""},
        {", ,\t,", ""},
        {"\"a\"", "a|"},
        {"\"a\",W/\"b\"", "a|Wb|"},
        {" , \"a\" ,,\t\"b,c\" , ", "a|b,c|"},
        {"\"\",\"\"", "||"},
        {"\"a\" \"b\"", "!"},
        {"\"a\",b", "a|!"},
        {"\"a\",\"b", "a|!"},
        {"\"a\", *", "a|!"},
        {"*", "!"},
        {"\"a\";", "!"},
        {"\"a\"\n", "!"},
        {"\n\"a\"", "!"},
        {"W/", "!"},
        {"W", "!"},
    };
    char out[64];
    for (size_t i = 0; i < COUNT_OF(rows); i++)
        assert_string_equal(walk(rows[i].line, out), rows[i].elements);
    etag_str absent = {NULL, 0};
    struct entity_tag tag;
    assert_int_equal(entity_tag_next(&absent, &tag), 0);
}

/* The walk over a list looks for the closing quote; whatever stands around it, it finds the first
 * one. */
TEST(a_tag_in_a_list_at_every_length)
{
    for (size_t inside = 0; inside <= 50; inside++) {
        for (size_t behind = 0; behind <= 34; behind++) {
            const size_t len = inside + 2 + behind;
            char *text = malloc(len);
            struct entity_tag tag;
            assert_non_null(text);
            memset(text, 'a', len);
            text[0] = text[inside + 1] = '"';
            if (behind > 0)
                text[inside + 2] = ',';
            etag_str rest = {text, len};
            assert_int_equal(entity_tag_next(&rest, &tag), 1);
            assert_int_equal(tag.opaque.len, inside + 2);
            assert_int_equal(rest.len, behind);
            text[inside + 1] = 'a'; /* not closed */
            rest = (etag_str){text, len};
            assert_int_equal(entity_tag_next(&rest, &tag), -1);
            text[inside + 1] = ' '; /* a blank before it is closed */
            rest = (etag_str){text, len};
            assert_int_equal(entity_tag_next(&rest, &tag), -1);
            free(text);
        }
    }
}
