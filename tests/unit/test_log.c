/* SPDX-License-Identifier: Apache-2.0 */
#include "log.h"
#include "testing.h"

#include <errno.h>
#include <fcntl.h>
#include <regex.h>
#include <stdio.h>
#include <unistd.h>

#define LINE_BYTES 4096

struct sink {
    int read_fd;
    struct log log;
    char line[LINE_BYTES + 1];
    size_t len;
};

static int sink_open(void **state)
{
    static struct sink sink;
    int fds[2];
    if (pipe2(fds, O_NONBLOCK | O_CLOEXEC) < 0)
        return -1;
    sink = (struct sink){.read_fd = fds[0], .log = {.fd = fds[1], .least = LOG_DEBUG}};
    *state = &sink;
    return 0;
}

static int sink_close(void **state)
{
    struct sink *sink = *state;
    close(sink->read_fd);
    close(sink->log.fd);
    return 0;
}

/* What one read(2) brings, which is what one write(2) wrote. */
static const char *sink_read(struct sink *sink)
{
    const ssize_t len = read(sink->read_fd, sink->line, LINE_BYTES);
    sink->len = len > 0 ? (size_t)len : 0;
    sink->line[sink->len] = '\0';
    return sink->line;
}

/* The line behind its event. */
static void assert_pairs(struct sink *sink, const char *expected)
{
    const char *at = strstr(sink_read(sink), "event=e");
    assert_non_null(at);
    assert_string_equal(at + strlen("event=e"), expected);
}

static void a_line_begins_with_time_level_and_event(void **state)
{
    struct sink *sink = *state;
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

static void an_event_needs_no_pairs(void **state)
{
    struct sink *sink = *state;
    log_event(&sink->log, LOG_WARN, "e");
    assert_pairs(sink, "\n");
}

static void values_are_quoted_only_where_they_must_be(void **state)
{
    struct sink *sink = *state;
    log_event(&sink->log, LOG_INFO, "e", log_text("a", "plain/-_.:"), log_text("b", "two words"),
              log_text("c", "say \"x\""), log_text("d", "a=b"), log_text("e", ""),
              log_text("f", NULL), log_text("g", "back\\slash"), log_text("h", "\xc3\xa4"));
    assert_pairs(sink, " a=plain/-_.: b=\"two words\" c=\"say \\\"x\\\"\" d=\"a=b\" e=\"\" f=\"\""
                       " g=\"back\\\\slash\" h=\xc3\xa4\n");
}

static void controls_cannot_make_a_second_line(void **state)
{
    struct sink *sink = *state;
    const etag_str value = {"a\nlevel=error\r\t\0\x7f", 17};
    log_event(&sink->log, LOG_INFO, "e", log_str("v", value));
    assert_pairs(sink, " v=\"a\\nlevel=error\\x0d\\x09\\x00\\x7f\"\n");
}

static void an_errno_is_told_in_words_whatever_its_sign(void **state)
{
    struct sink *sink = *state;
    log_event(&sink->log, LOG_INFO, "e", log_error("a", ENOENT), log_error("b", -ENOENT),
              log_error("c", 99999));
    assert_pairs(sink,
                 " a=\"No such file or directory\" b=\"No such file or directory\" c=99999\n");
}

static void levels_below_the_least_are_silent(void **state)
{
    struct sink *sink = *state;
    sink->log.least = LOG_WARN;
    log_event(&sink->log, LOG_INFO, "e");
    assert_string_equal(sink_read(sink), "");
    log_event(&sink->log, LOG_WARN, "e");
    assert_pairs(sink, "\n");
}

static void a_line_has_an_end_however_long_its_values_are(void **state)
{
    struct sink *sink = *state;
    static char value[3 * LINE_BYTES];
    for (size_t len = LINE_BYTES - 200; len < sizeof(value); len += len < LINE_BYTES ? 1 : 997) {
        for (int quoted = 0; quoted < 2; quoted++) {
            memset(value, quoted ? '\n' : 'x', len);
            log_event(&sink->log, LOG_INFO, "e", log_str("v", ((etag_str){value, len})),
                      log_number("n", 1));
            sink_read(sink);
            assert_in_range(sink->len, 1, LINE_BYTES);
            assert_ptr_equal(memchr(sink->line, '\n', sink->len), sink->line + sink->len - 1);
            if (len >= LINE_BYTES)
                assert_string_equal(sink->line + sink->len - 4, "...\n");
            assert_string_equal(sink_read(sink), "");
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_line_begins_with_time_level_and_event, sink_open,
                                        sink_close),
        cmocka_unit_test_setup_teardown(an_event_needs_no_pairs, sink_open, sink_close),
        cmocka_unit_test_setup_teardown(values_are_quoted_only_where_they_must_be, sink_open,
                                        sink_close),
        cmocka_unit_test_setup_teardown(controls_cannot_make_a_second_line, sink_open, sink_close),
        cmocka_unit_test_setup_teardown(an_errno_is_told_in_words_whatever_its_sign, sink_open,
                                        sink_close),
        cmocka_unit_test_setup_teardown(levels_below_the_least_are_silent, sink_open, sink_close),
        cmocka_unit_test_setup_teardown(a_line_has_an_end_however_long_its_values_are, sink_open,
                                        sink_close),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
