/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Each event has a token bucket of lines, refilled one by one. The limit is by event, not by peer:
 * a user can open any number of peers, but the source has a fixed number of events, so only this
 * bounds the log.
 */
#include "log_limit.h"

#include "clocktime.h"

#include <assert.h>
#include <string.h>

#define PAIRS_MAX 12

void log_limit_init(struct log_limit *limit, const struct log *log)
{
    *limit = (struct log_limit){.log = log};
    pthread_mutex_init(&limit->lock, NULL);
}

void log_limit_deinit(struct log_limit *limit)
{
    pthread_mutex_destroy(&limit->lock);
}

static struct limited_event *event_find(struct log_limit *limit, const char *name, uint64_t now_ns)
{
    for (size_t i = 0; i < LOG_LIMITED_EVENTS_MAX; i++) {
        struct limited_event *event = &limit->events[i];
        if (!event->name)
            *event = (struct limited_event){
                .name = name, .lines_left = LOG_LIMITED_LINES, .refilled_ns = now_ns};
        if (strcmp(event->name, name) == 0)
            return event;
    }
    assert(!"more events than LOG_LIMITED_EVENTS_MAX");
    return NULL;
}

static void event_refill(struct limited_event *event, uint64_t now_ns)
{
    const uint64_t lines = (now_ns - event->refilled_ns) / (LOG_LIMITED_MS * NS_PER_MS);

    event->refilled_ns += lines * LOG_LIMITED_MS * NS_PER_MS;
    event->lines_left = lines < LOG_LIMITED_LINES - event->lines_left
                            ? event->lines_left + (uint32_t)lines
                            : LOG_LIMITED_LINES;
}

/* Whether the line is written; *not_said: how many were not since the last one. */
static bool event_says(struct log_limit *limit, const char *name, uint64_t *not_said)
{
    const uint64_t now_ns = time_coarse_ns();

    pthread_mutex_lock(&limit->lock);
    struct limited_event *event = event_find(limit, name, now_ns);
    event_refill(event, now_ns);
    const bool says = event->lines_left > 0;
    *not_said = event->not_said;
    event->lines_left -= says;
    event->not_said = says ? 0 : event->not_said + 1;
    limit->not_said += !says;
    pthread_mutex_unlock(&limit->lock);
    return says;
}

void log_limit_write(struct log_limit *limit, enum log_level level, const char *event,
                     const struct log_pair *pairs, size_t pair_count)
{
    struct log_pair all[PAIRS_MAX + 1];
    uint64_t not_said;

    assert(pair_count <= PAIRS_MAX);
    if (!log_says(limit->log, level) || !event_says(limit, event, &not_said))
        return;
    memcpy(all, pairs, pair_count * sizeof(pairs[0]));
    if (not_said > 0)
        all[pair_count++] = (struct log_pair)log_number("not_said", not_said);
    log_write(limit->log, level, event, all, pair_count);
}

uint64_t log_limit_not_said(struct log_limit *limit)
{
    pthread_mutex_lock(&limit->lock);
    const uint64_t not_said = limit->not_said;
    pthread_mutex_unlock(&limit->lock);
    return not_said;
}
