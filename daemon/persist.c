/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One thread, one mutex that is never held during a write, one condition. Work goes in turns: all submitted events in
 * one transaction, then at most one piece of what is not urgent (a checkpoint or a chunk of entries), so that neither
 * an event waits long nor a stream of events starves the rest.
 *
 * A checkpoint says "the clocks are complete up to LSN n". n is the last event that was taken from the queue: the loop
 * thread moved its clocks before it queued it, and the mutex makes that visible here. Clocks of later events may be in
 * the checkpoint too, which makes entries stale a little earlier than their event is known, never later.
 */
#include "persist.h"

#include "bounds.h"
#include "clocktime.h"
#include "delay_point.h"
#include "dirty.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>

#define LAZY_NS (100 * NS_PER_MS) /* an entry waits so long for others of its chunk */
#define RETRY_NS NS_PER_S         /* pause after a failure of what is not urgent */

struct queued_event {
    struct queued_event *next;
    uint64_t lsn;
    size_t len;
    char record[];
};

struct event_line {
    struct queued_event *first, *last;
    size_t count;
};

/* A sync is reached when so many events and entries, counted from the start, are decided. */
struct sync_point {
    uint64_t ticket; /* 0: none */
    uint64_t events, entries;
};

struct persist {
    struct store *store;
    const struct shm_view *view;
    const struct log *log;
    int event_fd;
    pthread_t thread;

    /* Loop thread only. */
    struct event_line open; /* queued, not submitted */
    uint64_t last_lsn;
    uint64_t events_queued;
    uint64_t sync_tickets;

    pthread_mutex_t lock;
    pthread_cond_t wake;
    /* Under the lock. */
    struct event_line submitted;
    uint64_t tickets;
    uint64_t events_decided;
    struct dirty dirty;
    uint64_t dirty_since_ns;  /* how long the front of the line waits */
    uint64_t entries_decided; /* sequence */
    struct sync_point sync, next_sync;
    struct persist_progress progress;
    bool closing;

    /* Atomic: read without the lock. */
    bool events_failed;
    bool entries_failing;
    uint64_t waiting;

    /* The thread only. */
    uint64_t taken_lsn; /* of the last event taken from the queue */
    uint64_t events_since_checkpoint;
    uint64_t retry_at_ns;
    bool urgent_was_last; /* the last work was events: something else may have its turn */
    bool background_failing;
    bool gave_up; /* closing, and what is not urgent fails */
    bool final_checkpoint_done;
    bool saved_valid;
    uint64_t *saved_clocks; /* as in the store */
};

enum work { WORK_NONE, WORK_EVENTS, WORK_ENTRIES, WORK_CHECKPOINT, WORK_END };

static uint64_t now_ns(void)
{
    return time_ns_of(CLOCK_MONOTONIC);
}

/* ---- Under the lock ---- */

static void lock(struct persist *persist)
{
    pthread_mutex_lock(&persist->lock);
}

static void unlock(struct persist *persist)
{
    pthread_mutex_unlock(&persist->lock);
}

static void notify(const struct persist *persist)
{
    const uint64_t one = 1;
    /* Fails only if the counter is full, and then the descriptor is readable anyway. */
    if (write(persist->event_fd, &one, sizeof(one)) < 0)
        return;
}

static void waiting_publish(struct persist *persist)
{
    __atomic_store_n(&persist->waiting, persist->dirty.count, __ATOMIC_RELAXED);
}

static void syncs_settle(struct persist *persist)
{
    while (persist->sync.ticket && persist->events_decided >= persist->sync.events &&
           persist->entries_decided >= persist->sync.entries) {
        persist->progress.synced = persist->sync.ticket;
        persist->sync = persist->next_sync;
        persist->next_sync = (struct sync_point){0};
        notify(persist);
    }
}

static bool entries_due(const struct persist *persist, uint64_t now)
{
    if (!persist->dirty.first)
        return false;
    return persist->dirty.line_count >= PERSIST_CHUNK_MAX || persist->closing ||
           (persist->sync.ticket && persist->sync.entries > persist->entries_decided) ||
           now >= persist->dirty_since_ns + LAZY_NS;
}

/* What is not urgent and has its time. */
static enum work background_work(const struct persist *persist, uint64_t now)
{
    if (persist->gave_up || (now < persist->retry_at_ns && !persist->closing))
        return WORK_NONE;
    if (persist->events_since_checkpoint >= CHECKPOINT_EVENTS)
        return WORK_CHECKPOINT;
    return entries_due(persist, now) ? WORK_ENTRIES : WORK_NONE;
}

static enum work choose_work(const struct persist *persist, uint64_t now)
{
    const enum work background = background_work(persist, now);
    if (persist->submitted.first && (!persist->urgent_was_last || background == WORK_NONE))
        return WORK_EVENTS;
    if (background != WORK_NONE || !persist->closing)
        return background;
    return persist->gave_up || persist->final_checkpoint_done ? WORK_END : WORK_CHECKPOINT;
}

static void wait_for_work(struct persist *persist)
{
    uint64_t until_ns = 0;
    if (persist->dirty.first)
        until_ns = persist->dirty_since_ns + LAZY_NS;
    if ((until_ns || persist->events_since_checkpoint >= CHECKPOINT_EVENTS) &&
        until_ns < persist->retry_at_ns)
        until_ns = persist->retry_at_ns;
    if (!until_ns) {
        pthread_cond_wait(&persist->wake, &persist->lock);
        return;
    }
    const struct timespec until = {.tv_sec = (time_t)(until_ns / NS_PER_S),
                                   .tv_nsec = (long)(until_ns % NS_PER_S)};
    pthread_cond_timedwait(&persist->wake, &persist->lock, &until);
}

/* ---- Events ---- */

static void line_free(struct event_line *line)
{
    while (line->first) {
        struct queued_event *event = line->first;
        line->first = event->next;
        free(event);
    }
    *line = (struct event_line){0};
}

static void line_append(struct event_line *to, struct event_line *from)
{
    if (!from->first)
        return;
    if (to->last)
        to->last->next = from->first;
    else
        to->first = from->first;
    to->last = from->last;
    to->count += from->count;
    *from = (struct event_line){0};
}

static int end_txn(struct store_txn *txn, int error)
{
    if (!error)
        return store_commit(txn);
    store_abort(txn);
    return error;
}

static int events_store(struct persist *persist, const struct event_line *line)
{
    struct store_txn *txn;
    int error = store_begin(persist->store, &txn);
    if (error)
        return error;
    for (const struct queued_event *event = line->first; event && !error; event = event->next)
        error = store_put_event(txn, event->lsn, (etag_str){event->record, event->len});
    return end_txn(txn, error);
}

/* From here on the state on disk lacks an event: nobody may trust it at the next start. 0 where that is marked: the events
 * hold until this daemon ends, and nothing older is loaded after it. */
static int events_fail(struct persist *persist, int error)
{
    const int mark_error = store_warm_mark_clear(persist->store);
    if (mark_error)
        log_event(persist->log, LOG_ERROR, "warm_mark_not_cleared", log_error("error", mark_error),
                  log_text("advice", "remove the state directory's file \"warm\" before the next "
                                     "start"));
    if (__atomic_exchange_n(&persist->events_failed, true, __ATOMIC_RELAXED))
        return mark_error;
    log_event(persist->log, LOG_ERROR, "events_not_persisted", log_number("code", error),
              log_error("error", error > 0 ? EUCLEAN : error),
              log_text("effect", "the next start is cold"));
    return mark_error;
}

static void write_events(struct persist *persist)
{
    struct event_line line = {0};
    line_append(&line, &persist->submitted);
    const uint64_t ticket = persist->tickets;
    assert(line.last);
    persist->taken_lsn = line.last->lsn;
    unlock(persist);

    DELAY_POINT("persist.taken_stored");
    const int error = events_store(persist, &line);
    DELAY_POINT("persist.stored_told");
    const int lost = error ? events_fail(persist, error) : 0;

    lock(persist);
    if (lost && !persist->progress.failed_from)
        persist->progress.failed_from = persist->progress.done + 1;
    persist->progress.done = ticket;
    persist->events_decided += line.count;
    persist->events_since_checkpoint += line.count;
    syncs_settle(persist);
    notify(persist);
    line_free(&line);
}

/* ---- Entries ---- */

static int entries_store(struct persist *persist, struct dirty_entry **chunk, size_t count)
{
    struct store_txn *txn;
    int error = store_begin(persist->store, &txn);
    if (error)
        return error;
    for (size_t i = 0; i < count && !error; i++)
        error = chunk[i]->erase ? store_erase_entry(txn, chunk[i]->fingerprint)
                                : store_put_entry(txn, chunk[i]->fingerprint, dirty_name(chunk[i]),
                                                  dirty_record(chunk[i]));
    return end_txn(txn, error);
}

static void background_failed(struct persist *persist, const char *event, int error)
{
    persist->retry_at_ns = now_ns() + RETRY_NS;
    persist->gave_up = persist->closing;
    if (persist->background_failing)
        return; /* said once */
    persist->background_failing = true;
    log_event(persist->log, LOG_WARN, event, log_number("code", error),
              log_error("error", error > 0 ? EUCLEAN : error));
}

static void entries_failing_set(struct persist *persist, bool failing)
{
    if (__atomic_exchange_n(&persist->entries_failing, failing, __ATOMIC_RELAXED) != failing)
        notify(persist);
}

static void write_entries(struct persist *persist)
{
    struct dirty_entry *chunk[PERSIST_CHUNK_MAX];
    const size_t count = dirty_take(&persist->dirty, chunk, PERSIST_CHUNK_MAX);
    uint64_t decided = chunk[count - 1]->sequence;
    unlock(persist);

    const int error = entries_store(persist, chunk, count);

    lock(persist);
    if (error) {
        dirty_put_back(&persist->dirty, chunk, count);
        background_failed(persist, "entries_not_persisted", error);
        decided = persist->dirty.last_sequence; /* the others would fail as well */
    } else {
        dirty_done(&persist->dirty, chunk, count);
        persist->dirty_since_ns = now_ns();
        persist->background_failing = false;
    }
    entries_failing_set(persist, error != 0);
    if (decided > persist->entries_decided)
        persist->entries_decided = decided;
    waiting_publish(persist);
    syncs_settle(persist);
}

/* ---- Checkpoints ---- */

static int clocks_store(struct persist *persist, struct store_txn *txn)
{
    uint64_t words[CLOCK_CHUNK_WORDS];
    const uint32_t clock_count = persist->view->clock_count;
    int error = 0;
    for (uint32_t first = 0; first < clock_count && !error; first += CLOCK_CHUNK_WORDS) {
        const uint32_t left = clock_count - first;
        const size_t count = left < CLOCK_CHUNK_WORDS ? left : CLOCK_CHUNK_WORDS;
        for (size_t i = 0; i < count; i++)
            words[i] = shm_clock_load(persist->view, first + (uint32_t)i) & CLOCK_LSN_MASK;
        uint64_t *saved = persist->saved_clocks + first;
        if (persist->saved_valid && memcmp(saved, words, count * sizeof(*words)) == 0)
            continue;
        memcpy(saved, words, count * sizeof(*words));
        error = store_put_clocks(txn, first / CLOCK_CHUNK_WORDS, words, count);
    }
    return error;
}

static int checkpoint_store(struct persist *persist)
{
    struct store_txn *txn;
    int error = store_begin(persist->store, &txn);
    if (error)
        return error;
    error = clocks_store(persist, txn);
    if (!error)
        error = store_put_checkpoint_lsn(txn, persist->taken_lsn);
    if (!error)
        error = store_trim_events(txn, persist->taken_lsn, EVENTS_KEPT);
    return end_txn(txn, error);
}

static void write_checkpoint(struct persist *persist)
{
    unlock(persist);
    const int error = checkpoint_store(persist);
    persist->saved_valid = error == 0;
    lock(persist);
    if (error) {
        background_failed(persist, "checkpoint_not_written", error);
        return;
    }
    persist->events_since_checkpoint = 0;
    persist->background_failing = false;
    persist->final_checkpoint_done = persist->closing && !persist->submitted.first;
}

/* ---- The thread ---- */

static void *persist_run(void *argument)
{
    struct persist *persist = (struct persist *)argument;
    enum work work = WORK_NONE;
    lock(persist);
    while (work != WORK_END) {
        work = choose_work(persist, now_ns());
        persist->urgent_was_last = work == WORK_EVENTS;
        if (work == WORK_NONE)
            wait_for_work(persist);
        else if (work == WORK_EVENTS)
            write_events(persist);
        else if (work == WORK_ENTRIES)
            write_entries(persist);
        else if (work == WORK_CHECKPOINT)
            write_checkpoint(persist);
    }
    unlock(persist);
    return NULL;
}

/* Signals are the loop thread's. */
static int start_thread(struct persist *persist)
{
    sigset_t all;
    sigset_t former;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &former);
    const int error = pthread_create(&persist->thread, NULL, persist_run, persist);
    pthread_sigmask(SIG_SETMASK, &former, NULL);
    if (!error)
        (void)pthread_setname_np(persist->thread, "etagd-persist");
    return -error;
}

static int count_event(void *ctx, uint64_t lsn, etag_str record)
{
    struct persist *persist = (struct persist *)ctx;
    persist->events_since_checkpoint++;
    persist->last_lsn = lsn;
    return 0;
}

static struct persist *persist_free(struct persist *persist)
{
    line_free(&persist->open);
    line_free(&persist->submitted);
    dirty_deinit(&persist->dirty);
    cleanup_fd(&persist->event_fd);
    pthread_cond_destroy(&persist->wake);
    pthread_mutex_destroy(&persist->lock);
    free(persist->saved_clocks);
    free(persist);
    return NULL;
}

/* Deadlines are of the monotonic clock, so that setting the wall clock neither hurries nor stalls. */
static void init_locks(struct persist *persist)
{
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&persist->wake, &attributes);
    pthread_condattr_destroy(&attributes);
    pthread_mutex_init(&persist->lock, NULL);
}

int persist_open(struct persist **out, struct store *store, const struct shm_view *view,
                 const struct log *log, uint64_t checkpoint_lsn)
{
    *out = NULL;
    struct persist *persist = (struct persist *)calloc(1, sizeof(*persist));
    if (!persist)
        return -ENOMEM;
    persist->store = store;
    persist->view = view;
    persist->log = log;
    persist->last_lsn = checkpoint_lsn;
    init_locks(persist);
    persist->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    persist->saved_clocks = (uint64_t *)calloc(view->clock_count, sizeof(uint64_t));

    int error = persist->event_fd < 0 ? -errno : 0;
    if (!error && !persist->saved_clocks)
        error = -ENOMEM;
    if (!error)
        error = dirty_init(&persist->dirty);
    /* A log that can't be read to its end is replaced by a checkpoint all the sooner. */
    if (!error && store_each_event(store, checkpoint_lsn + 1, count_event, persist) != 0)
        persist->events_since_checkpoint = CHECKPOINT_EVENTS;
    persist->taken_lsn = persist->last_lsn;
    if (!error)
        error = start_thread(persist);
    if (error)
        persist = persist_free(persist);
    *out = persist;
    return error;
}

struct persist *persist_close(struct persist *persist)
{
    if (!persist)
        return NULL;
    (void)persist_submit(persist);
    lock(persist);
    persist->closing = true;
    pthread_cond_signal(&persist->wake);
    unlock(persist);
    pthread_join(persist->thread, NULL);
    return persist_free(persist);
}

/* ---- The loop thread's side ---- */

int persist_fd(const struct persist *persist)
{
    return persist->event_fd;
}

int persist_event(struct persist *persist, uint64_t lsn, etag_str record)
{
    assert(lsn > persist->last_lsn);
    struct queued_event *event = (struct queued_event *)malloc(sizeof(*event) + record.len);
    if (!event)
        return -ENOMEM;
    event->next = NULL;
    event->lsn = lsn;
    event->len = record.len;
    if (record.len > 0)
        memcpy(event->record, record.data, record.len);
    line_append(&persist->open, &(struct event_line){event, event, 1});
    persist->last_lsn = lsn;
    persist->events_queued++;
    return 0;
}

uint64_t persist_submit(struct persist *persist)
{
    if (!persist->open.first)
        return 0;
    lock(persist);
    line_append(&persist->submitted, &persist->open);
    const uint64_t ticket = ++persist->tickets;
    pthread_cond_signal(&persist->wake);
    unlock(persist);
    return ticket;
}

struct persist_progress persist_progress(struct persist *persist)
{
    uint64_t count;
    /* First: what moves after the look below makes it readable again. */
    while (read(persist->event_fd, &count, sizeof(count)) < 0 && errno == EINTR)
        ;
    lock(persist);
    const struct persist_progress progress = persist->progress;
    unlock(persist);
    return progress;
}

/* The thread has to learn of the first that waits (it then waits for more), and of a full chunk. */
static void wake_for_entries(struct persist *persist, size_t line_count_before)
{
    if (line_count_before == 0)
        persist->dirty_since_ns = now_ns();
    if (line_count_before == 0 || persist->dirty.line_count == PERSIST_CHUNK_MAX)
        pthread_cond_signal(&persist->wake);
    waiting_publish(persist);
}

int persist_entry(struct persist *persist, struct hash128 fingerprint, etag_str resource_text,
                  etag_str record)
{
    lock(persist);
    const size_t before = persist->dirty.line_count;
    const int error = dirty_put(&persist->dirty, fingerprint, resource_text, record);
    if (!error)
        wake_for_entries(persist, before);
    unlock(persist);
    return error;
}

int persist_erase(struct persist *persist, struct hash128 fingerprint)
{
    lock(persist);
    const size_t before = persist->dirty.line_count;
    const int error = dirty_erase(&persist->dirty, fingerprint);
    if (!error)
        wake_for_entries(persist, before);
    unlock(persist);
    return error;
}

int persist_find(struct persist *persist, struct hash128 fingerprint,
                 int (*found)(void *ctx, struct hash128 fingerprint, etag_str record), void *ctx)
{
    int result = STORE_E_NOT_FOUND;
    lock(persist);
    const struct dirty_entry *entry = dirty_find(&persist->dirty, fingerprint);
    if (entry)
        result = entry->erase ? PERSIST_E_ERASED : found(ctx, fingerprint, dirty_record(entry));
    unlock(persist);
    return result;
}

uint64_t persist_sync(struct persist *persist)
{
    lock(persist);
    const struct sync_point point = {++persist->sync_tickets, persist->events_queued,
                                     persist->dirty.last_sequence};
    /* A third one joins the second: what waits is bounded, and the first is not put off. */
    if (persist->sync.ticket)
        persist->next_sync = point;
    else
        persist->sync = point;
    syncs_settle(persist);
    pthread_cond_signal(&persist->wake);
    unlock(persist);
    return point.ticket;
}

bool persist_failed(const struct persist *persist)
{
    return __atomic_load_n(&persist->events_failed, __ATOMIC_RELAXED) ||
           __atomic_load_n(&persist->entries_failing, __ATOMIC_RELAXED);
}

uint64_t persist_waiting(const struct persist *persist)
{
    return __atomic_load_n(&persist->waiting, __ATOMIC_RELAXED);
}
