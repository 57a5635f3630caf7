/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Limits the log lines that a peer can cause: a few of each event at once, then one in ten seconds.
 * The first line after others were left out says how many ("not_said"). So no peer can fill a disk
 * with log lines, whatever it does and however often it connects. Any thread.
 */
#ifndef ETAGD_LOG_LIMIT_H
#define ETAGD_LOG_LIMIT_H

#include "bounds.h"
#include "log.h"

#include <pthread.h>

struct limited_event {
    /* a literal; NULL: not used yet */
    const char *name;
    /* lines that may be written at once */
    uint32_t lines_left;
    uint64_t refilled_ns;
    uint64_t not_said;
};

struct log_limit {
    const struct log *log;
    pthread_mutex_t lock;
    struct limited_event events[LOG_LIMITED_EVENTS_MAX];
    /* of all events together, since the start */
    uint64_t not_said;
};

/* log: borrowed. */
void log_limit_init(struct log_limit *limit, const struct log *log);
void log_limit_deinit(struct log_limit *limit);

/* As log_write(), from any thread. event: a literal. */
void log_limit_write(struct log_limit *limit, enum log_level level, const char *event,
                     const struct log_pair *pairs, size_t pair_count);

#define log_limited(limit, level, event, ...)                                                      \
    log_limit_write((limit), (level), (event), (struct log_pair[]){{0}, ##__VA_ARGS__} + 1,        \
                    sizeof((struct log_pair[]){{0}, ##__VA_ARGS__}) / sizeof(struct log_pair) - 1)

/* Lines left out since the start. */
uint64_t log_limit_not_said(struct log_limit *limit);

#endif
