/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A line is put together on the stack, bounded, and leaves in one write(2): no lock, no allocation,
 * so any thread may log at any time. A line that does not fit says so at its end; an error of
 * writing the log is ignored, since no caller could do anything about it.
 *
 * Both formats write the same pairs: a format says how a pair begins and how a text is written, and
 * nothing else.
 */
#include "log.h"

#include "clocktime.h"
#include "numbers.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#define LINE_BYTES_MAX 4096
#define END_BYTES_MAX sizeof("\",\"cut\":true}\n") /* what a line may still need */

struct line {
    enum log_format format;
    size_t len;
    bool cut;
    char bytes[LINE_BYTES_MAX];
};

/* All or nothing, so that an escape is never cut in half. Leaves room for the end. */
static void line_add(struct line *line, const char *bytes, size_t len)
{
    if (line->cut || line->len + len > sizeof(line->bytes) - END_BYTES_MAX) {
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

/* ---- logfmt ---- */

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

static void logfmt_value(struct line *line, etag_str value)
{
    if (!needs_quotes(value)) {
        if (line->cut)
            return;
        const size_t room = sizeof(line->bytes) - END_BYTES_MAX - line->len;
        line_add(line, value.data, min_of(value.len, room));
        line->cut |= value.len > room;
        return;
    }
    line_add(line, "\"", 1);
    for (size_t i = 0; i < value.len && !line->cut; i++)
        line_add_escaped(line, value.data[i]);
    line_add(line, "\"", 1);
}

/* ---- JSON ---- */

/* How many bytes a whole UTF-8 character at the start of text takes (RFC 3629); 0: there is
 * none. */
static size_t utf8_len(etag_str text)
{
    const unsigned char *const b = (const unsigned char *)text.data;
    const size_t len = b[0] < 0x80 ? 1 : b[0] < 0xc2 ? 0 : b[0] < 0xe0 ? 2 : b[0] < 0xf0 ? 3 : 4;

    if (len == 0 || len > text.len || b[0] > 0xf4)
        return 0;
    for (size_t i = 1; i < len; i++)
        if ((b[i] & 0xc0) != 0x80)
            return 0;
    /* Not the shortest form, a surrogate, beyond U+10FFFF. */
    if ((b[0] == 0xe0 && b[1] < 0xa0) || (b[0] == 0xed && b[1] > 0x9f) ||
        (b[0] == 0xf0 && b[1] < 0x90) || (b[0] == 0xf4 && b[1] > 0x8f))
        return 0;
    return len;
}

static void json_char(struct line *line, const char *at, size_t len)
{
    char hex[7];

    if (len == 0)
        line_add_text(line, "\\ufffd");
    else if (*at == '"' || *at == '\\')
        line_add(line, (char[]){'\\', *at}, 2);
    else if (is_control(*at))
        line_add(line, hex, (size_t)snprintf(hex, sizeof(hex), "\\u%04x", (unsigned char)*at));
    else
        line_add(line, at, len);
}

/* The closing quote has its room even where the text was cut. */
static void json_value(struct line *line, etag_str value)
{
    line_add(line, "\"", 1);
    if (line->cut)
        return;
    while (value.len > 0 && !line->cut) {
        const size_t len = utf8_len(value);
        json_char(line, value.data, len);
        value = str_skip(value, len > 0 ? len : 1);
    }
    line->bytes[line->len++] = '"';
}

/* ---- Pairs ---- */

/* Takes the beginning of a pair back whose value did not find room, so that what is left is
 * whole. */
static bool line_add_name(struct line *line, const char *name)
{
    const size_t before = line->len;
    const bool is_json = line->format == LOG_JSON;

    line_add_text(line, is_json ? (line->len == 0 ? "{\"" : ",\"") : (line->len == 0 ? "" : " "));
    line_add_text(line, name);
    line_add_text(line, is_json ? "\":" : "=");
    if (is_json && line->cut)
        line->len = before;
    return !line->cut;
}

static void line_add_value(struct line *line, etag_str value)
{
    if (line->format == LOG_JSON)
        json_value(line, value);
    else
        logfmt_value(line, value);
}

static void line_add_number(struct line *line, long long value)
{
    char number[32];

    line_add(line, number, (size_t)snprintf(number, sizeof(number), "%lld", value));
}

static void line_add_pair(struct line *line, const struct log_pair *pair)
{
    const size_t before = line->len;

    if (!line_add_name(line, pair->name))
        return;
    const size_t begun = line->len;
    const int code = (int)(pair->number < 0 ? -pair->number : pair->number);
    const char *text = pair->kind == LOG_ERRNO ? strerrordesc_np(code) : NULL;
    if (pair->kind == LOG_TEXT)
        line_add_value(line, pair->text);
    else if (text)
        line_add_value(line, str_of(text));
    else
        line_add_number(line, (long long)pair->number);
    if (line->format == LOG_JSON && line->len == begun)
        line->len = before;
}

static void line_add_time(struct line *line)
{
    char text[64];
    const uint64_t now_ms = time_wall_ms();
    const time_t seconds = (time_t)(now_ms / 1000);
    struct tm utc;

    gmtime_r(&seconds, &utc);
    size_t len = strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &utc);
    len += (size_t)snprintf(text + len, sizeof(text) - len, ".%03uZ", (unsigned)(now_ms % 1000));
    line_add_pair(line, &(struct log_pair)log_str("time", ((etag_str){text, len})));
}

static void line_end(struct line *line)
{
    const bool is_json = line->format == LOG_JSON;
    const char *end = is_json ? (line->cut ? ",\"cut\":true}\n" : "}\n")
                              : (line->cut ? "...\n" : "\n");

    memcpy(line->bytes + line->len, end, strlen(end));
    line->len += strlen(end);
}

void log_set(struct log *log, enum log_level least, enum log_format format)
{
    __atomic_store_n(&log->least, least, __ATOMIC_RELAXED);
    __atomic_store_n(&log->format, format, __ATOMIC_RELAXED);
}

bool log_says(const struct log *log, enum log_level level)
{
    return level >= __atomic_load_n(&log->least, __ATOMIC_RELAXED);
}

void log_write(const struct log *log, enum log_level level, const char *event,
               const struct log_pair *pairs, size_t pair_count)
{
    static const char *const words[] = {"debug", "info", "warn", "error"};
    struct line line;

    if (!log_says(log, level))
        return;
    line.format = __atomic_load_n(&log->format, __ATOMIC_RELAXED);
    line.len = 0;
    line.cut = false;
    line_add_time(&line);
    line_add_pair(&line, &(struct log_pair)log_text("level", words[level]));
    line_add_pair(&line, &(struct log_pair)log_text("event", event));
    for (size_t i = 0; i < pair_count; i++)
        line_add_pair(&line, &pairs[i]);
    line_end(&line);
    while (write(log->fd, line.bytes, line.len) < 0 && errno == EINTR)
        ;
}
