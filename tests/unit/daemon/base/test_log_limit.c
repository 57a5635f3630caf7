/* SPDX-License-Identifier: Apache-2.0 */
/* What a peer can make the daemon write: a bound of lines, by event, whatever it does. */
#include "log_limit.h"

#include "log_sink.h"

#define CASE(name) TEST_OF(name, struct sink *sink, sink_open, sink_close)

static size_t count_of(const char *text, const char *what)
{
    size_t count = 0;

    for (const char *at = text; (at = strstr(at, what)); at += strlen(what))
        count++;
    return count;
}

/* As if so much time had passed for the event. */
static void later(struct sink *sink, uint64_t ms)
{
    for (size_t i = 0; i < LOG_LIMITED_EVENTS_MAX && sink->limit.events[i].name; i++)
        sink->limit.events[i].refilled_ns -= ms * UINT64_C(1000000);
}

CASE(a_few_lines_are_written_and_the_rest_is_counted)
{
    for (int i = 0; i < 100000; i++)
        log_limited(&sink->limit, LOG_WARN, "peer_broke_protocol", log_number("pid", i));
    assert_int_equal(count_of(sink_read(sink), "\n"), LOG_LIMITED_LINES);
    assert_int_equal(log_limit_not_said(&sink->limit), 100000 - LOG_LIMITED_LINES);
}

CASE(each_event_has_its_own_lines)
{
    for (int i = 0; i < 100; i++) {
        log_limited(&sink->limit, LOG_WARN, "peer_slow", log_number("pid", i));
        log_limited(&sink->limit, LOG_WARN, "peer_refused", log_number("pid", i));
    }
    const char *text = sink_read(sink);
    assert_int_equal(count_of(text, "event=peer_slow"), LOG_LIMITED_LINES);
    assert_int_equal(count_of(text, "event=peer_refused"), LOG_LIMITED_LINES);
}

CASE(after_a_while_there_is_one_more_that_says_how_many_were_left_out)
{
    for (int i = 0; i < 10; i++)
        log_limited(&sink->limit, LOG_WARN, "peer_slow", log_number("pid", i));
    assert_null(strstr(sink_read(sink), "not_said"));
    later(sink, LOG_LIMITED_MS);
    log_limited(&sink->limit, LOG_WARN, "peer_slow", log_text("reason", "late"));
    log_limited(&sink->limit, LOG_WARN, "peer_slow", log_text("reason", "later"));
    const char *text = sink_read(sink);
    assert_int_equal(count_of(text, "\n"), 1);
    assert_non_null(strstr(text, "reason=late not_said=7\n"));
}

CASE(a_long_silence_does_not_add_up)
{
    log_limited(&sink->limit, LOG_WARN, "peer_slow");
    later(sink, 1000 * LOG_LIMITED_MS);
    for (int i = 0; i < 100; i++)
        log_limited(&sink->limit, LOG_WARN, "peer_slow");
    assert_int_equal(count_of(sink_read(sink), "\n"), 1 + LOG_LIMITED_LINES);
}

/* Lines below the level use nothing up. */
CASE(a_level_that_is_not_written_does_not_count)
{
    for (int i = 0; i < 100; i++)
        log_limited(&sink->limit, LOG_DEBUG, "peer_slow");
    assert_int_equal(log_limit_not_said(&sink->limit), 0);
    log_limited(&sink->limit, LOG_WARN, "peer_slow");
    assert_int_equal(count_of(sink_read(sink), "\n"), 1);
}
