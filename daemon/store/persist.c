/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The loop thread's side of the persister: it queues events, submits a turn's events together, and
 * asks what is safe. Nothing here waits for a disk. persist_entries.c has the entries,
 * persist_thread.c writes both.
 */
#include "persist_internal.h"

#include "thread.h"

#include <assert.h>
#include <errno.h>
#include <sys/eventfd.h>

/* ---- Life ---- */

static int count_event(void *ctx, uint64_t lsn, etag_str record)
{
    struct persist *persist = (struct persist *)ctx;

    persist->events_since_checkpoint++;
    persist->bytes_since_checkpoint += sizeof(struct queued_event) + record.len;
    persist->last_lsn = lsn;
    return 0;
}

static struct persist *persist_free(struct persist *persist)
{
    event_queue_free(&persist->open);
    event_queue_free(&persist->submitted);
    retained_deinit(&persist->retained);
    dirty_deinit(&persist->dirty);
    cleanup_fd(&persist->event_fd);
    thread_locks_deinit(&persist->lock, &persist->wake);
    checkpoint_deinit(&persist->checkpoint);
    free(persist);
    return NULL;
}

int persist_open(struct persist **out, struct store *store, const struct shm_view *view,
                 const struct log *log, uint64_t checkpoint_lsn, const struct retention *retention)
{
    static const struct retention normal = {EVENTS_KEPT, EVENTS_KEPT_BYTES, EVENTS_KEPT_MS};

    *out = NULL;
    struct persist *persist = calloc(1, sizeof(*persist));
    if (!persist)
        return -ENOMEM;
    persist->store = store;
    persist->log = log;
    persist->last_lsn = checkpoint_lsn;
    retained_init(&persist->retained, store, log);
    thread_locks_init(&persist->lock, &persist->wake);
    persist->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

    int r = persist->event_fd < 0 ? -errno : 0;
    if (!r)
        r = checkpoint_init(&persist->checkpoint, view, retention ? retention : &normal);
    if (!r)
        r = dirty_init(&persist->dirty);
    /* A log that can't be read to its end is replaced by a checkpoint all the sooner. */
    if (!r && store_each_event(store, checkpoint_lsn + 1, count_event, persist) != 0)
        persist->events_since_checkpoint = CHECKPOINT_EVENTS;
    persist->taken_lsn = persist->last_lsn;
    if (!r)
        r = thread_start(&persist->thread, "etagd-persist", persist_thread, persist);
    if (r)
        persist = persist_free(persist);
    *out = persist;
    return r;
}

void persist_witness(struct persist *persist, const char *socket_path)
{
    disk_witness_set(&persist->retained.disk, socket_path);
}

struct persist *persist_close(struct persist *persist)
{
    if (!persist)
        return NULL;
    (void)persist_submit(persist, true);
    persist_lock(persist);
    persist->closing = true;
    pthread_cond_signal(&persist->wake);
    persist_unlock(persist);
    pthread_join(persist->thread, NULL);
    return persist_free(persist);
}

/* ---- Queueing, and what is safe ---- */

int persist_fd(const struct persist *persist)
{
    return persist->event_fd;
}

int persist_event(struct persist *persist, const struct persist_event *event, etag_str record)
{
    assert(event->lsn > persist->last_lsn);
    const int r = event_queue_add(&persist->open, event, record);
    if (r)
        return r;
    persist->last_lsn = event->lsn;
    persist->events_queued++;
    return 0;
}

/* A thread that will look soon enough by itself is not woken: with a stream of events that costs a
 * wake-up each EVENTS_LAZY_NS, not one a turn. */
uint64_t persist_submit(struct persist *persist, bool urgent)
{
    if (!persist->open.first)
        return 0;
    persist_lock(persist);
    if (!persist->submitted.first)
        persist->submitted_since_ns = persist_now_ns();
    event_queue_move(&persist->submitted, &persist->open);
    persist->urgent |= urgent;
    const uint64_t ticket = ++persist->tickets;
    if (urgent || persist->submitted.count >= EVENTS_LAZY_MAX ||
        persist->sleeps_until_ns > persist->submitted_since_ns + EVENTS_LAZY_NS)
        pthread_cond_signal(&persist->wake);
    persist_unlock(persist);
    return ticket;
}

uint64_t persist_stored_lsn(const struct persist *persist)
{
    return __atomic_load_n(&persist->retained.stored_lsn, __ATOMIC_ACQUIRE);
}

struct persist_progress persist_progress(struct persist *persist)
{
    uint64_t count;

    /* First: what moves after the look below makes it readable again. */
    while (read(persist->event_fd, &count, sizeof(count)) < 0 && errno == EINTR)
        ;
    persist_lock(persist);
    struct persist_progress progress = persist->progress;
    persist->told_done = progress.done;
    persist_unlock(persist);
    progress.stored_lsn = persist_stored_lsn(persist);
    return progress;
}

uint64_t persist_sync(struct persist *persist)
{
    persist_lock(persist);
    const struct sync_point point = {++persist->sync_tickets, persist->events_queued,
                                     persist->dirty.last_sequence};
    /* A third one joins the second: what waits is bounded, and the first is not put off. */
    if (persist->sync.ticket)
        persist->next_sync = point;
    else
        persist->sync = point;
    persist_syncs_settle(persist);
    pthread_cond_signal(&persist->wake);
    persist_unlock(persist);
    return point.ticket;
}

bool persist_failed(const struct persist *persist)
{
    return persist_fails(persist);
}
