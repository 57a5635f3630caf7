/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The loop thread's side of the persister: it queues events and entries, submits a turn's events
 * together, and asks what is safe. Nothing here waits for a disk. persist_thread.c writes.
 */
#include "persist_shared.h"

#include "index.h"
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
    event_line_free(&persist->open);
    event_line_free(&persist->submitted);
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
    const int r = event_line_add(&persist->open, event, record);
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
    event_line_move(&persist->submitted, &persist->open);
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

/* The thread has to learn of the first that waits (it then waits for more), and of a full chunk. */
static void wake_for_entries(struct persist *persist, size_t line_count_before)
{
    if (line_count_before == 0)
        persist->dirty_since_ns = persist_now_ns();
    if (line_count_before == 0 || persist->dirty.line_count == PERSIST_CHUNK_MAX)
        pthread_cond_signal(&persist->wake);
    persist_waiting_publish(persist);
}

int persist_entry(struct persist *persist, struct hash128 fingerprint, etag_str resource_text,
                  etag_str record)
{
    persist_lock(persist);
    const size_t before = persist->dirty.line_count;
    const int r = dirty_put(&persist->dirty, fingerprint, resource_text, record);
    if (!r)
        wake_for_entries(persist, before);
    persist_unlock(persist);
    return r;
}

int persist_erase(struct persist *persist, struct hash128 fingerprint)
{
    persist_lock(persist);
    const size_t before = persist->dirty.line_count;
    const int r = dirty_erase(&persist->dirty, fingerprint);
    if (!r)
        wake_for_entries(persist, before);
    persist_unlock(persist);
    return r;
}

int persist_find(struct persist *persist, struct hash128 fingerprint,
                 int (*found)(void *ctx, struct hash128 fingerprint, etag_str record), void *ctx)
{
    int r = STORE_E_NOT_FOUND;

    persist_lock(persist);
    const struct dirty_entry *entry = dirty_find(&persist->dirty, fingerprint);
    if (entry)
        r = entry->erase ? PERSIST_E_ERASED
            : found      ? found(ctx, fingerprint, dirty_record(entry))
                         : 0;
    persist_unlock(persist);
    return r;
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

uint64_t persist_waiting(const struct persist *persist)
{
    return __atomic_load_n(&persist->waiting, __ATOMIC_ACQUIRE);
}

bool persist_crowded(const struct persist *persist)
{
    return __atomic_load_n(&persist->crowded, __ATOMIC_RELAXED);
}

uint64_t persist_entry_commits(const struct persist *persist)
{
    return __atomic_load_n(&persist->entry_commits, __ATOMIC_ACQUIRE);
}

/* ---- Unstored ---- */

/* Itself, what came into the index for it, and what either of them evicts. */
#define PER_FILL_MAX (2 * (INDEX_EVICTED_MAX + 1))

bool unstored_waits(struct persist *persist, struct hash128 fingerprint)
{
    return persist_waiting(persist) > 0 &&
           persist_find(persist, fingerprint, NULL, NULL) != STORE_E_NOT_FOUND;
}

void unstored_settle(struct unstored *unstored, struct persist *persist)
{
    size_t kept = 0;

    for (size_t i = 0; i < unstored->count; i++) {
        if (!unstored->stuck[i] && !unstored_waits(persist, unstored->fingerprints[i]))
            continue;
        unstored->fingerprints[kept] = unstored->fingerprints[i];
        unstored->stuck[kept++] = unstored->stuck[i];
    }
    unstored->count = kept;
}

bool unstored_has_room(struct unstored *unstored, struct persist *persist)
{
    if (unstored->count + PER_FILL_MAX > UNSTORED_MAX)
        unstored_settle(unstored, persist);
    return unstored->count + PER_FILL_MAX <= UNSTORED_MAX;
}

void unstored_add(struct unstored *unstored, struct hash128 fingerprint, bool stuck)
{
    assert(unstored->count < UNSTORED_MAX);
    unstored->fingerprints[unstored->count] = fingerprint;
    unstored->stuck[unstored->count++] = stuck;
}
