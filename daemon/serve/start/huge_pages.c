/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The thread works through the index in steps of 2 MiB. It skips a step that is busy after TRIES
 * tries, and ends at any other error, since the following steps would fail too.
 */
#include "huge_pages.h"

#include "clocktime.h"
#include "layout.h"
#include "thread.h"

#include <errno.h>
#include <sys/mman.h>

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

#define TRIES 3u /* of 2 MiB that somebody else holds at the moment */

struct huge_pages {
    uint8_t *base;
    /* what fills no huge page at the end stays on small ones */
    size_t bytes;
    enum huge_pages_use use;
    const struct log *log;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    bool stopping;
    /* atomic: read by the loop thread */
    uint64_t done_bytes;
};

/* False: it is time to end. */
static bool rest(struct huge_pages *huge, uint64_t ns)
{
    const uint64_t until_ns = time_ns_of(CLOCK_MONOTONIC) + ns;

    pthread_mutex_lock(&huge->lock);
    while (!huge->stopping && thread_wait_until(&huge->lock, &huge->wake, until_ns))
        ;
    const bool go_on = !huge->stopping;
    pthread_mutex_unlock(&huge->lock);
    return go_on;
}

/* Nanoseconds that one step took; *error: 0 or an errno. */
static uint64_t collapse(uint8_t *at, int *error)
{
    const uint64_t start_ns = time_ns_of(CLOCK_MONOTONIC);

    *error = 0;
    for (unsigned i = 0; i < TRIES; i++) {
        *error = madvise(at, LAYOUT_ALIGN, MADV_COLLAPSE) < 0 ? errno : 0;
        if (*error != EAGAIN && *error != EBUSY)
            break;
    }
    return time_ns_of(CLOCK_MONOTONIC) - start_ns;
}

static void tell(const struct huge_pages *huge, size_t done, int error)
{
    const int64_t mib = (int64_t)(done >> 20), of_mib = (int64_t)(huge->bytes >> 20);

    if (error == 0)
        log_event(huge->log, LOG_INFO, "huge_pages", log_number("mib", mib),
                  log_number("of_mib", of_mib));
    else
        log_event(huge->log, huge->use == HUGE_PAGES_ON ? LOG_WARN : LOG_INFO, "huge_pages",
                  log_number("mib", mib), log_number("of_mib", of_mib),
                  log_error("reason", -error));
}

static void *huge_pages_run(void *argument)
{
    struct huge_pages *const huge = (struct huge_pages *)argument;
    size_t done = 0;
    int r = 0;
    bool going_on = true;

    for (size_t at = 0; going_on && at < huge->bytes; at += LAYOUT_ALIGN) {
        const uint64_t took_ns = collapse(huge->base + at, &r);
        done += r == 0 ? LAYOUT_ALIGN : 0;
        __atomic_store_n(&huge->done_bytes, done, __ATOMIC_RELAXED);
        /* Refused, unknown, or none left: what follows would fare no better. */
        if (r != 0 && r != EAGAIN && r != EBUSY)
            break;
        going_on = rest(huge, took_ns);
    }
    if (going_on)
        tell(huge, done, r);
    return NULL;
}

static struct huge_pages *huge_pages_free(struct huge_pages *huge)
{
    thread_locks_deinit(&huge->lock, &huge->wake);
    free(huge);
    return NULL;
}

int huge_pages_start(struct huge_pages **out, void *base, size_t bytes, enum huge_pages_use use,
                     const struct log *log)
{
    *out = NULL;
    if (use == HUGE_PAGES_OFF)
        return 0;
    struct huge_pages *const huge = calloc(1, sizeof(*huge));
    if (!huge)
        return -ENOMEM;
    huge->base = base;
    huge->bytes = bytes / LAYOUT_ALIGN * LAYOUT_ALIGN;
    huge->use = use;
    huge->log = log;
    thread_locks_init(&huge->lock, &huge->wake);
    const int r = thread_start(&huge->thread, "etagd-huge", huge_pages_run, huge);
    *out = r ? huge_pages_free(huge) : huge;
    return r;
}

uint64_t huge_pages_wanted_bytes(const struct huge_pages *huge)
{
    return huge ? huge->bytes : 0;
}

uint64_t huge_pages_bytes(const struct huge_pages *huge)
{
    return huge ? __atomic_load_n(&huge->done_bytes, __ATOMIC_RELAXED) : 0;
}

struct huge_pages *huge_pages_stop(struct huge_pages *huge)
{
    if (!huge)
        return NULL;
    pthread_mutex_lock(&huge->lock);
    huge->stopping = true;
    pthread_cond_signal(&huge->wake);
    pthread_mutex_unlock(&huge->lock);
    pthread_join(huge->thread, NULL);
    return huge_pages_free(huge);
}
