/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The log: one line an event on standard error, written with one write(2) so that lines of several
 * threads do not mix.
 *
 *   logfmt   time=2026-01-31T12:00:00.123Z level=info event=serving entries=3
 *            Values with space, quote, '=' or controls are quoted and escaped.
 *   json     {"time":"2026-01-31T12:00:00.123Z","level":"info","event":"serving","entries":3}
 *            Always valid: bytes that are not UTF-8 become U+FFFD. A line that would be too long
 *            loses whole pairs at its end, or the end of its last value, and has "cut":true
 *            instead.
 */
#ifndef ETAGD_LOG_H
#define ETAGD_LOG_H

#include "text.h"

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };
enum log_format { LOG_LOGFMT, LOG_JSON };

struct log_pair {
    const char *name;
    enum { LOG_TEXT, LOG_NUMBER, LOG_ERRNO } kind;
    union {
        etag_str text;
        /* LOG_ERRNO: positive or negative errno, written as error="No such file ..." */
        int64_t number;
    };
};

struct log {
    int fd;
    enum log_level least;
    enum log_format format;
};

/* Sets level and format for every thread that logs from now on. */
void log_set(struct log *log, enum log_level least, enum log_format format);

/* Returns whether lines of this level are written. */
bool log_says(const struct log *log, enum log_level level);

void log_write(const struct log *log, enum log_level level, const char *event,
               const struct log_pair *pairs, size_t pair_count);

/* log_event(&log, LOG_INFO, "listening", log_text("socket", path), log_number("peers", 3)); */
#define log_event(log, level, event, ...)                                                          \
    log_write((log), (level), (event), (struct log_pair[]){{0}, ##__VA_ARGS__} + 1,                \
              sizeof((struct log_pair[]){{0}, ##__VA_ARGS__}) / sizeof(struct log_pair) - 1)
#define log_text(n, v)                                                                             \
    {                                                                                              \
        .name = (n), .kind = LOG_TEXT, .text = str_of(v)                                           \
    }
#define log_str(n, v)                                                                              \
    {                                                                                              \
        .name = (n), .kind = LOG_TEXT, .text = (v)                                                 \
    }
#define log_number(n, v)                                                                           \
    {                                                                                              \
        .name = (n), .kind = LOG_NUMBER, .number = (int64_t)(v)                                    \
    }
#define log_error(n, v)                                                                            \
    {                                                                                              \
        .name = (n), .kind = LOG_ERRNO, .number = (v)                                              \
    }

#endif
