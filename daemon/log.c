/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A line is put together on the stack, bounded, and leaves in one write(2): no lock, no allocation, so any
 * thread may log at any time. A line that does not fit ends in "..."; a log that can't be written is nobody's error.
 */
#include "log.h"

#include "clocktime.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#define LINE_BYTES_MAX 4096
#define CUT_MARK "...\n"

struct line {
    size_t len;
    bool cut;
    char bytes[LINE_BYTES_MAX];
};

/* All or nothing, so that an escape is never cut in half. Leaves room for CUT_MARK. */
static void line_add(struct line *line, const char *bytes, size_t len)
{
    if (line->cut || len > sizeof(line->bytes) - (sizeof(CUT_MARK) - 1) - line->len) {
        line->cut = true;
        return;
    }
    memcpy(line->bytes + line->len, bytes, len);
    line->len += len;
}

static void line_add_text(struct line *line, const char *text)
{
    line_add(line, text, strlen(text));
}

static bool is_control(char c)
{
    return (unsigned char)c < 0x20 || c == 0x7f;
}

static bool is_special(char c)
{
    return is_control(c) || c == ' ' || c == '"' || c == '=' || c == '\\';
}

static bool needs_quotes(etag_str value)
{
    for (size_t i = 0; i < value.len; i++)
        if (is_special(value.data[i]))
            return true;
    return value.len == 0;
}

static void line_add_escaped(struct line *line, char c)
{
    char hex[5];
    if (c == '"' || c == '\\')
        line_add(line, (char[]){'\\', c}, 2);
    else if (c == '\n')
        line_add(line, "\\n", 2);
    else if (!is_control(c))
        line_add(line, &c, 1);
    else
        line_add(line, hex, (size_t)snprintf(hex, sizeof(hex), "\\x%02x", (unsigned char)c));
}

static void line_add_value(struct line *line, etag_str value)
{
    if (!needs_quotes(value)) {
        const size_t room = sizeof(line->bytes) - (sizeof(CUT_MARK) - 1) - line->len;
        line_add(line, value.data, value.len < room ? value.len : room);
        line->cut |= value.len > room;
        return;
    }
    line_add(line, "\"", 1);
    for (size_t i = 0; i < value.len && !line->cut; i++)
        line_add_escaped(line, value.data[i]);
    line_add(line, "\"", 1);
}

static void line_add_pair(struct line *line, const struct log_pair *pair)
{
    char number[32];
    line_add(line, " ", 1);
    line_add_text(line, pair->name);
    line_add(line, "=", 1);
    if (pair->kind == LOG_TEXT) {
        line_add_value(line, pair->text);
        return;
    }
    if (pair->kind == LOG_ERRNO) {
        const int error = (int)(pair->number < 0 ? -pair->number : pair->number);
        const char *text = strerrordesc_np(error);
        if (text) {
            line_add_value(line, str_of(text));
            return;
        }
    }
    (void)snprintf(number, sizeof(number), "%lld", (long long)pair->number);
    line_add_text(line, number);
}

static void line_add_time(struct line *line)
{
    char text[64];
    const uint64_t now_ms = time_wall_ms();
    const time_t seconds = (time_t)(now_ms / 1000);
    struct tm utc;
    gmtime_r(&seconds, &utc);
    size_t len = strftime(text, sizeof(text), "time=%Y-%m-%dT%H:%M:%S", &utc);
    len += (size_t)snprintf(text + len, sizeof(text) - len, ".%03uZ", (unsigned)(now_ms % 1000));
    line_add(line, text, len);
}

void log_set_least(struct log *log, enum log_level least)
{
    __atomic_store_n(&log->least, least, __ATOMIC_RELAXED);
}

void log_write(const struct log *log, enum log_level level, const char *event,
               const struct log_pair *pairs, size_t pair_count)
{
    static const char *const words[] = {"debug", "info", "warn", "error"};
    struct line line;

    if (level < __atomic_load_n(&log->least, __ATOMIC_RELAXED))
        return;
    line.len = 0;
    line.cut = false;
    line_add_time(&line);
    line_add_text(&line, " level=");
    line_add_text(&line, words[level]);
    line_add_text(&line, " event=");
    line_add_value(&line, str_of(event));
    for (size_t i = 0; i < pair_count; i++)
        line_add_pair(&line, &pairs[i]);

    const char *end = line.cut ? CUT_MARK : "\n";
    memcpy(line.bytes + line.len, end, strlen(end));
    line.len += strlen(end);
    while (write(log->fd, line.bytes, line.len) < 0 && errno == EINTR)
        ;
}
