/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the two sides of the persister share: the loop thread, which queues (persist.c,
 * persist_entries.c), and the persister's thread, which writes (persist_thread.c). One mutex, never
 * held during a write, and one condition variable. Private to persist*.c.
 */
#ifndef ETAGD_PERSIST_INTERNAL_H
#define ETAGD_PERSIST_INTERNAL_H

#include "bounds.h"
#include "clocktime.h"
#include "persist.h"
#include "persist_entries.h"
#include "retained.h"

#include <pthread.h>
#include <unistd.h>

#define EVENTS_LAZY_NS (5 * NS_PER_MS) /* delay of events without a waiting writer */
#define EVENTS_LAZY_MAX 4096           /* this many of them are written at once */

/* A sync is reached when this many events and entries, counted from the start, are decided. */
struct sync_point {
    /* 0: none */
    uint64_t ticket;
    uint64_t events, entries;
};

struct persist {
    struct store *store;
    const struct log *log;
    int event_fd;
    pthread_t thread;

    /* Loop thread only. */
    /* queued, not submitted */
    struct event_queue open;
    uint64_t last_lsn;
    uint64_t events_queued;
    uint64_t sync_tickets;

    pthread_mutex_t lock;
    pthread_cond_t wake;
    /* Under the lock. */
    struct event_queue submitted;
    uint64_t submitted_since_ns;
    /* a writer waits for submitted events */
    bool urgent;
    uint64_t tickets;
    /* the last ticket that the loop thread knows to be decided */
    uint64_t told_done;
    /* until when the thread sleeps; 0: it is awake; UINT64_MAX: until it is woken */
    uint64_t sleeps_until_ns;
    uint64_t events_decided;
    struct dirty dirty;
    /* since when the front of the entries' queue waits */
    uint64_t dirty_since_ns;
    /* sequence */
    uint64_t entries_decided;
    struct sync_point sync, next_sync;
    struct persist_progress progress;
    bool closing;

    /* Atomic: read without the lock. */
    bool entries_failing;
    uint64_t waiting;
    uint64_t entry_commits;
    bool crowded;

    /* The thread only, but for its atomic members. */
    struct retained retained;

    /* The thread only. */
    /* the store had no room for entries when last asked */
    bool no_room;
    /* entries whose memory was freed since malloc was trimmed */
    size_t untrimmed;
    /* LSN of the last event taken from the queue */
    uint64_t taken_lsn;
    uint64_t events_since_checkpoint, bytes_since_checkpoint;
    uint64_t retry_at_ns;
    /* the last piece of work was events, so other work is next */
    bool urgent_was_last;
    bool background_failing;
    /* closing, and a write failed: the rest of the entries and the checkpoint are given up */
    bool gave_up;
    bool final_checkpoint_done;
    struct checkpoint checkpoint;
};

static inline uint64_t persist_now_ns(void)
{
    return time_ns_of(CLOCK_MONOTONIC);
}

static inline void persist_lock(struct persist *persist)
{
    pthread_mutex_lock(&persist->lock);
}

static inline void persist_unlock(struct persist *persist)
{
    pthread_mutex_unlock(&persist->lock);
}

/* Wakes the loop thread, to read the progress. */
static inline void persist_notify(const struct persist *persist)
{
    const uint64_t one = 1;

    /* Fails only if the counter is full, and then the descriptor is readable anyway. */
    if (write(persist->event_fd, &one, sizeof(one)) < 0)
        return;
}

/* Reports syncs that are reached. The caller holds the lock. */
static inline void persist_syncs_settle(struct persist *persist)
{
    while (persist->sync.ticket && persist->events_decided >= persist->sync.events &&
           persist->entries_decided >= persist->sync.entries) {
        persist->progress.synced = persist->sync.ticket;
        persist->sync = persist->next_sync;
        persist->next_sync = (struct sync_point){0};
        persist_notify(persist);
    }
}

/* Publishes how many entries wait. Call under the lock, after each change of the queue. */
static inline void persist_waiting_publish(struct persist *persist)
{
    /* Release: a reader that sees 0 here also sees that the removals were stored. */
    __atomic_store_n(&persist->waiting, persist->dirty.count, __ATOMIC_RELEASE);
    __atomic_store_n(&persist->crowded,
                     persist->dirty.count > DIRTY_ENTRIES_MAX / 4 * 3 ||
                         persist->dirty.bytes > DIRTY_BYTES_MAX / 4 * 3,
                     __ATOMIC_RELAXED);
}

/* The answer of persist_failed(). */
static inline bool persist_fails(const struct persist *persist)
{
    return __atomic_load_n(&persist->retained.failed, __ATOMIC_RELAXED) ||
           __atomic_load_n(&persist->entries_failing, __ATOMIC_RELAXED);
}

/* The thread's function: runs until the persister is closing and everything that can be written is
 * written. argument: the persister. */
void *persist_thread(void *argument);

#endif
