/* SPDX-License-Identifier: Apache-2.0 */
#include "log.h"
#include "log_sink.h"
#include "numbers.h"

#include <errno.h>
#include <regex.h>
#include <stdio.h>

#define LINE_BYTES 4096

#define CASE(name) TEST_OF(name, struct sink *sink, sink_open, sink_close)

/* The line behind its event. */
static void assert_pairs(struct sink *sink, const char *expected)
{
    const char *at = strstr(sink_read(sink), "event=e");

    assert_non_null(at);
    assert_string_equal(at + strlen("event=e"), expected);
}

CASE(a_line_begins_with_time_level_and_event)
{
    regex_t shape;

    assert_int_equal(
        regcomp(&shape,
                "^time=20[0-9]{2}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\\.[0-9]{3}Z "
                "level=info event=listening socket=/run/e\\.sock peers=-3\n$",
                REG_EXTENDED | REG_NOSUB),
        0);
    log_event(&sink->log, LOG_INFO, "listening", log_text("socket", "/run/e.sock"),
              log_number("peers", -3));
    assert_int_equal(regexec(&shape, sink_read(sink), 0, NULL, 0), 0);
    regfree(&shape);
}

CASE(an_event_needs_no_pairs)
{
    log_event(&sink->log, LOG_WARN, "e");
    assert_pairs(sink, "\n");
}

CASE(values_are_quoted_only_where_they_must_be)
{
    log_event(&sink->log, LOG_INFO, "e", log_text("a", "plain/-_.:"), log_text("b", "two words"),
              log_text("c", "say \"x\""), log_text("d", "a=b"), log_text("e", ""),
              log_text("f", NULL), log_text("g", "back\\slash"), log_text("h", "\xc3\xa4"));
    assert_pairs(sink, " a=plain/-_.: b=\"two words\" c=\"say \\\"x\\\"\" d=\"a=b\" e=\"\" f=\"\""
                       " g=\"back\\\\slash\" h=\xc3\xa4\n");
}

CASE(controls_cannot_make_a_second_line)
{
    const etag_str value = {"a\nlevel=error\r\t\0\x7f", 17};

    log_event(&sink->log, LOG_INFO, "e", log_str("v", value));
    assert_pairs(sink, " v=\"a\\nlevel=error\\x0d\\x09\\x00\\x7f\"\n");
}

CASE(an_errno_is_told_in_words_whatever_its_sign)
{
    log_event(&sink->log, LOG_INFO, "e", log_error("a", ENOENT), log_error("b", -ENOENT),
              log_error("c", 99999));
    assert_pairs(sink,
                 " a=\"No such file or directory\" b=\"No such file or directory\" c=99999\n");
}

CASE(levels_below_the_least_are_silent)
{
    sink->log.least = LOG_WARN;
    log_event(&sink->log, LOG_INFO, "e");
    assert_string_equal(sink_read(sink), "");
    log_event(&sink->log, LOG_WARN, "e");
    assert_pairs(sink, "\n");
}

CASE(a_line_has_an_end_however_long_its_values_are)
{
    static char value[3 * LINE_BYTES];

    for (size_t len = LINE_BYTES - 200; len < sizeof(value); len += len < LINE_BYTES ? 1 : 997) {
        for (int quoted = 0; quoted < 2; quoted++) {
            memset(value, quoted ? '\n' : 'x', len);
            log_event(&sink->log, LOG_INFO, "e", log_str("v", ((etag_str){value, len})),
                      log_number("n", 1));
            sink_read(sink);
            assert_in_range(sink->len, 1, LINE_BYTES);
            assert_ptr_equal(memchr(sink->text, '\n', sink->len), sink->text + sink->len - 1);
            if (len >= LINE_BYTES)
                assert_string_equal(sink->text + sink->len - 4, "...\n");
            assert_string_equal(sink_read(sink), "");
        }
    }
}

/* ---- JSON ---- */

/* The object behind its event. */
static void assert_members(struct sink *sink, const char *expected)
{
    const char *at = strstr(sink_read(sink), "\"event\":\"e\"");

    assert_non_null(at);
    assert_string_equal(at + strlen("\"event\":\"e\""), expected);
}

CASE(json_has_the_same_pairs)
{
    regex_t shape;

    sink->log.format = LOG_JSON;
    assert_int_equal(
        regcomp(
            &shape,
            "^[{]\"time\":\"20[0-9]{2}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\\.[0-9]{3}Z\","
            "\"level\":\"info\",\"event\":\"serving\",\"socket\":\"/run/e\\.sock\",\"peers\":-3,"
            "\"why\":\"No such file or directory\",\"code\":99999[}]\n$",
            REG_EXTENDED | REG_NOSUB),
        0);
    log_event(&sink->log, LOG_INFO, "serving", log_text("socket", "/run/e.sock"),
              log_number("peers", -3), log_error("why", -ENOENT), log_error("code", 99999));
    assert_int_equal(regexec(&shape, sink_read(sink), 0, NULL, 0), 0);
    regfree(&shape);
    log_event(&sink->log, LOG_INFO, "e");
    assert_members(sink, "}\n");
}

CASE(json_escapes_what_it_must)
{
    const etag_str controls = {"a\n\t\0\x7f\"\\", 7};

    sink->log.format = LOG_JSON;
    log_event(&sink->log, LOG_INFO, "e", log_str("v", controls), log_text("empty", ""),
              log_text("none", NULL), log_text("two words", "a=b c"));
    assert_members(sink,
                   ",\"v\":\"a\\u000a\\u0009\\u0000\\u007f\\\"\\\\\",\"empty\":\"\",\"none\":\"\""
                   ",\"two words\":\"a=b c\"}\n");
}

/* What is UTF-8 stays; every byte that begins no character becomes U+FFFD. */
CASE(json_is_valid_utf_8_whatever_comes)
{
    static const struct {
        const char *given, *written;
    } cases[] = {
        {"\xc3\xa4", "\xc3\xa4"},
        {"\xe2\x82\xac", "\xe2\x82\xac"},
        {"\xf0\x9f\x98\x80", "\xf0\x9f\x98\x80"},
        {"\xf4\x8f\xbf\xbf", "\xf4\x8f\xbf\xbf"},
        {"\xff", "\\ufffd"},
        {"a\xc3", "a\\ufffd"},
        {"\xc3(", "\\ufffd("},
        {"\x80", "\\ufffd"},
        {"\xc0\x80", "\\ufffd\\ufffd"},            /* not the shortest form */
        {"\xe0\x9f\xbf", "\\ufffd\\ufffd\\ufffd"}, /* nor this */
        {"\xed\xa0\x80", "\\ufffd\\ufffd\\ufffd"}, /* a surrogate */
        {"\xf0\x8f\xbf\xbf", "\\ufffd\\ufffd\\ufffd\\ufffd"},
        {"\xf4\x90\x80\x80", "\\ufffd\\ufffd\\ufffd\\ufffd"}, /* beyond U+10FFFF */
        {"\xf5\x80\x80\x80", "\\ufffd\\ufffd\\ufffd\\ufffd"},
    };
    sink->log.format = LOG_JSON;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        char expected[64];
        snprintf(expected, sizeof(expected), ",\"v\":\"%s\"}\n", cases[i].written);
        log_event(&sink->log, LOG_INFO, "e", log_text("v", cases[i].given));
        assert_members(sink, expected);
    }
}

/* Quotes outside of escapes are even in number, and it ends as an object. */
static void assert_whole_object(const struct sink *sink)
{
    bool inside = false;

    assert_int_equal(sink->text[0], '{');
    assert_string_equal(sink->text + sink->len - 2, "}\n");
    for (size_t i = 0; i < sink->len; i++) {
        if (inside && sink->text[i] == '\\')
            i++;
        else if (sink->text[i] == '"')
            inside = !inside;
    }
    assert_false(inside);
}

CASE(json_stays_an_object_however_long_its_values_are)
{
    static char value[2 * LINE_BYTES];

    sink->log.format = LOG_JSON;
    for (size_t len = LINE_BYTES / 6 - 60; len < sizeof(value);
         len += len < LINE_BYTES + 9 ? 1 : 997) {
        for (int escaped = 0; escaped < 2; escaped++) {
            memset(value, escaped ? '\n' : 'x', len);
            log_event(&sink->log, LOG_INFO, "e", log_str("v", ((etag_str){value, len})),
                      log_number("n", 123456), log_text("last", "abc"));
            sink_read(sink);
            assert_in_range(sink->len, 1, LINE_BYTES);
            assert_whole_object(sink);
            const bool cut = strstr(sink->text, ",\"cut\":true}\n") != NULL;
            assert_int_equal(cut, strstr(sink->text, "\"last\":\"abc\"}\n") == NULL);
            if (len >= LINE_BYTES)
                assert_true(cut);
            assert_string_equal(sink_read(sink), "");
        }
    }
}
