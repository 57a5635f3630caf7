/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One thread, one mutex that is never held during a write, one condition. Work goes in turns: all submitted events in
 * one transaction, then at most one piece of what is not urgent (a checkpoint or a chunk of entries), so that neither
 * an event waits long nor a stream of events starves the rest.
 */
#include "persist.h"

#include "bounds.h"
#include "clocktime.h"
#include "delay_point.h"
#include "dirty.h"
#include "numbers.h"
#include "retained.h"
#include "thread.h"

#include <assert.h>
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <sys/eventfd.h>

#define LAZY_NS (100 * NS_PER_MS)      /* an entry waits so long for others of its chunk */
#define EVENTS_LAZY_NS (5 * NS_PER_MS) /* an event that nobody waits for */
#define ENTRY_PAGE_BYTES 1024 /* of pages that change with an entry; the headroom takes the rest */
#define EVENTS_LAZY_MAX 4096  /* so many of them do not wait */
#define TRIM_ENTRIES 4096     /* after a burst of so many malloc gives back what it keeps of them */

/* A sync is reached when so many events and entries, counted from the start, are decided. */
struct sync_point {
    uint64_t ticket; /* 0: none */
    uint64_t events, entries;
};

struct persist {
    struct store *store;
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
    uint64_t submitted_since_ns;
    bool urgent; /* somebody waits for what is submitted */
    uint64_t tickets;
    uint64_t told_done;       /* tickets that the loop thread knows to be decided */
    uint64_t sleeps_until_ns; /* 0: the thread does not sleep; UINT64_MAX: until it is woken */
    uint64_t events_decided;
    struct dirty dirty;
    uint64_t dirty_since_ns;  /* how long the front of the line waits */
    uint64_t entries_decided; /* sequence */
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
    bool no_room;       /* for entries, when it was looked for last */
    size_t untrimmed;   /* entries whose memory was freed since malloc was trimmed */
    uint64_t taken_lsn; /* of the last event taken from the queue */
    uint64_t events_since_checkpoint, bytes_since_checkpoint;
    uint64_t retry_at_ns;
    bool urgent_was_last; /* the last work was events: something else may have its turn */
    bool background_failing;
    bool gave_up; /* closing, and what is not urgent fails */
    bool final_checkpoint_done;
    struct checkpoint checkpoint;
};

enum work { WORK_NONE, WORK_EVENTS, WORK_ENTRIES, WORK_CHECKPOINT, WORK_DISK, WORK_END };

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
    /* Who sees that none waits any more sees that removals were stored, too. */
    __atomic_store_n(&persist->waiting, persist->dirty.count, __ATOMIC_RELEASE);
    __atomic_store_n(&persist->crowded,
                     persist->dirty.count > DIRTY_ENTRIES_MAX / 4 * 3 ||
                         persist->dirty.bytes > DIRTY_BYTES_MAX / 4 * 3,
                     __ATOMIC_RELAXED);
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

static bool sync_wants_events(const struct persist *persist)
{
    return persist->sync.ticket && persist->sync.events > persist->events_decided;
}

/* Those that failed before go with them, when it is time to try again. */
static bool events_due(const struct persist *persist, uint64_t now)
{
    if (persist->retained.retry_ns &&
        (now >= persist->retained.retry_ns || (persist->closing && !persist->gave_up)))
        return true;
    return persist->submitted.first &&
           (persist->urgent || persist->closing || persist->retained.retry_ns ||
            persist->submitted.count >= EVENTS_LAZY_MAX || sync_wants_events(persist) ||
            now >= persist->submitted_since_ns + EVENTS_LAZY_NS);
}

static bool entries_due(const struct persist *persist, uint64_t now)
{
    if (!persist->dirty.first)
        return false;
    return persist->dirty.line_count >= PERSIST_CHUNK_MAX || persist->closing ||
           (persist->sync.ticket && persist->sync.entries > persist->entries_decided) ||
           now >= persist->dirty_since_ns + LAZY_NS;
}

static bool checkpoint_due(const struct persist *persist, uint64_t now)
{
    const uint64_t bytes_max = persist->checkpoint.retention.bytes;
    return (persist->events_since_checkpoint >=
                (persist->no_room ? EVENTS_KEPT_MIN : CHECKPOINT_EVENTS) ||
            (bytes_max > 0 && persist->bytes_since_checkpoint >= bytes_max) ||
            now >= persist->checkpoint.due_ns) &&
           retained_nothing(&persist->retained);
}

/* What is not urgent and has its time. */
static enum work background_work(const struct persist *persist, uint64_t now)
{
    if (persist->gave_up || (now < persist->retry_at_ns && !persist->closing))
        return WORK_NONE;
    if (checkpoint_due(persist, now))
        return WORK_CHECKPOINT;
    return entries_due(persist, now) ? WORK_ENTRIES : WORK_NONE;
}

static enum work choose_work(const struct persist *persist, uint64_t now)
{
    if (now >= persist->retained.disk.ask_ns)
        return WORK_DISK;
    const enum work background = background_work(persist, now);
    if (events_due(persist, now) && (!persist->urgent_was_last || background == WORK_NONE))
        return WORK_EVENTS;
    if (background != WORK_NONE || !persist->closing)
        return background;
    return persist->gave_up || persist->final_checkpoint_done ||
                   !retained_nothing(&persist->retained)
               ? WORK_END
               : WORK_CHECKPOINT;
}

/* When something will be due without anybody coming. */
static uint64_t next_due_ns(const struct persist *persist)
{
    uint64_t until_ns = persist->retained.disk.ask_ns;
    if (persist->dirty.first)
        until_ns = min_of(until_ns,
                          max_of(persist->dirty_since_ns + LAZY_NS, persist->retry_at_ns));
    if (checkpoint_due(persist, 0))
        until_ns = min_of(until_ns, persist->retry_at_ns);
    if (retained_nothing(&persist->retained))
        until_ns = min_of(until_ns, max_of(persist->checkpoint.due_ns, persist->retry_at_ns));
    if (persist->submitted.first)
        until_ns = min_of(until_ns, persist->submitted_since_ns + EVENTS_LAZY_NS);
    if (persist->retained.retry_ns)
        until_ns = min_of(until_ns, persist->retained.retry_ns);
    return until_ns;
}

static void wait_for_work(struct persist *persist)
{
    const uint64_t until_ns = next_due_ns(persist);
    persist->sleeps_until_ns = until_ns;
    (void)thread_wait_until(&persist->lock, &persist->wake, until_ns);
    persist->sleeps_until_ns = 0;
}

/* ---- Events ---- */

/* Little room makes a checkpoint due early, and the log short. */
static void look_for_room(struct persist *persist, size_t bytes)
{
    persist->no_room = !store_has_entry_room(persist->store, bytes);
}

/* Tickets up to this one are decided. The range of the lost ones begins anew when the loop thread knows the former one. */
static void tickets_decide(struct persist *persist, uint64_t ticket, bool lost)
{
    struct persist_progress *progress = &persist->progress;
    if (lost && progress->done < ticket) {
        if (progress->failed_to <= persist->told_done)
            progress->failed_from = progress->done + 1;
        progress->failed_to = ticket;
    }
    progress->done = ticket;
}

static void write_events(struct persist *persist)
{
    struct event_line line = {0};
    const uint64_t ticket = persist->tickets;
    const size_t count = persist->submitted.count;
    const size_t bytes = persist->submitted.bytes;
    bool tell = persist->urgent;
    event_line_move(&line, &persist->submitted);
    persist->urgent = false;
    if (line.last)
        persist->taken_lsn = line.last->event.lsn;
    const bool failed = persist_failed(persist);
    const bool closing = persist->closing;
    unlock(persist);

    DELAY_POINT("persist.taken_stored");
    const int lost = retained_write(&persist->retained, &line, closing);
    DELAY_POINT("persist.stored_told");
    if (retained_nothing(&persist->retained))
        look_for_room(persist, 0);

    lock(persist);
    persist->gave_up |= persist->closing && persist->retained.retry_ns != 0;
    tell |= failed != persist_failed(persist);
    tickets_decide(persist, ticket, lost != 0);
    persist->events_decided += count;
    persist->events_since_checkpoint += count;
    persist->bytes_since_checkpoint += bytes;
    syncs_settle(persist);
    if (tell)
        notify(persist);
}

/* ---- Entries ---- */

static int entries_store(struct persist *persist, struct dirty_entry **chunk, size_t count)
{
    struct store_txn *txn;
    if (count == 0)
        return 0;
    int error = store_begin(persist->store, &txn);
    if (error)
        return error;
    for (size_t i = 0; i < count && !error; i++)
        error = chunk[i]->erase ? store_erase_entry(txn, chunk[i]->fingerprint)
                                : store_put_entry(txn, chunk[i]->fingerprint, dirty_name(chunk[i]),
                                                  dirty_record(chunk[i]));
    return store_end(txn, error);
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

/* What writing them may take: half-filled pages, and copies of those that change. */
static size_t chunk_bytes(struct dirty_entry *const *chunk, size_t count)
{
    size_t bytes = 0;
    for (size_t i = 0; i < count; i++)
        bytes += 2 * (chunk[i]->name_len + chunk[i]->record_len) + ENTRY_PAGE_BYTES;
    return bytes;
}

/* Where there is no room for entries only what makes room is taken, and the others wait. */
static size_t chunk_take(struct persist *persist, struct dirty_entry **chunk)
{
    const size_t count = dirty_take(&persist->dirty, chunk, PERSIST_CHUNK_MAX, false);
    unlock(persist);
    look_for_room(persist, chunk_bytes(chunk, count));
    lock(persist);
    if (!persist->no_room)
        return count;
    dirty_put_back(&persist->dirty, chunk, count);
    return dirty_take(&persist->dirty, chunk, PERSIST_CHUNK_MAX, true);
}

/* malloc keeps what a burst of fills took, some hundred bytes an entry. Without the lock: it takes some milliseconds. */
static void trim_after_burst(struct persist *persist, size_t freed)
{
    persist->untrimmed += freed;
    if (persist->untrimmed < TRIM_ENTRIES || persist->dirty.count > 0)
        return;
    persist->untrimmed = 0;
    unlock(persist);
    (void)malloc_trim(0);
    lock(persist);
}

static void write_entries(struct persist *persist)
{
    struct dirty_entry *chunk[PERSIST_CHUNK_MAX];
    const size_t count = chunk_take(persist, chunk);
    uint64_t decided = count > 0 ? chunk[count - 1]->sequence : 0;
    const int no_room = persist->no_room && persist->dirty.first ? -ENOSPC : 0;
    unlock(persist);

    int error = entries_store(persist, chunk, count);

    lock(persist);
    if (error) {
        dirty_put_back(&persist->dirty, chunk, count);
    } else {
        /* Before they cannot be found any more. */
        __atomic_fetch_add(&persist->entry_commits, 1, __ATOMIC_RELEASE);
        dirty_done(&persist->dirty, chunk, count);
        persist->dirty_since_ns = now_ns();
        error = no_room;
    }
    if (error) {
        background_failed(persist, "entries_not_persisted", error);
        decided = persist->dirty.last_sequence; /* the others would fail as well */
    } else {
        persist->background_failing = false;
    }
    entries_failing_set(persist, error != 0);
    if (decided > persist->entries_decided)
        persist->entries_decided = decided;
    waiting_publish(persist);
    syncs_settle(persist);
    trim_after_burst(persist, count);
}

/* ---- Checkpoints ---- */

static void write_checkpoint(struct persist *persist)
{
    unlock(persist);
    const int error = checkpoint_write(&persist->checkpoint, persist->store, persist->taken_lsn,
                                       persist->no_room);
    lock(persist);
    if (error) {
        background_failed(persist, "checkpoint_not_written", error);
        return;
    }
    persist->events_since_checkpoint = persist->bytes_since_checkpoint = 0;
    persist->background_failing = false;
    persist->final_checkpoint_done = persist->closing && !persist->submitted.first;
}

static void ask_disk(struct persist *persist)
{
    unlock(persist);
    if (retained_lost(&persist->retained, false))
        notify(persist);
    lock(persist);
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
        else if (work == WORK_DISK)
            ask_disk(persist);
    }
    unlock(persist);
    if (retained_lost(&persist->retained, true))
        notify(persist);
    return NULL;
}

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
    struct persist *persist = (struct persist *)calloc(1, sizeof(*persist));
    if (!persist)
        return -ENOMEM;
    persist->store = store;
    persist->log = log;
    persist->last_lsn = checkpoint_lsn;
    retained_init(&persist->retained, store, log);
    thread_locks_init(&persist->lock, &persist->wake);
    persist->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

    int error = persist->event_fd < 0 ? -errno : 0;
    if (!error)
        error = checkpoint_init(&persist->checkpoint, view, retention ? retention : &normal);
    if (!error)
        error = dirty_init(&persist->dirty);
    /* A log that can't be read to its end is replaced by a checkpoint all the sooner. */
    if (!error && store_each_event(store, checkpoint_lsn + 1, count_event, persist) != 0)
        persist->events_since_checkpoint = CHECKPOINT_EVENTS;
    persist->taken_lsn = persist->last_lsn;
    if (!error)
        error = thread_start(&persist->thread, "etagd-persist", persist_run, persist);
    if (error)
        persist = persist_free(persist);
    *out = persist;
    return error;
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

int persist_event(struct persist *persist, const struct persist_event *event, etag_str record)
{
    assert(event->lsn > persist->last_lsn);
    const int error = event_line_add(&persist->open, event, record);
    if (error)
        return error;
    persist->last_lsn = event->lsn;
    persist->events_queued++;
    return 0;
}

/* A thread that will look soon enough by itself is not woken: with a stream of events that costs a wake-up each
 * EVENTS_LAZY_NS, not one a turn. */
uint64_t persist_submit(struct persist *persist, bool urgent)
{
    if (!persist->open.first)
        return 0;
    lock(persist);
    if (!persist->submitted.first)
        persist->submitted_since_ns = now_ns();
    event_line_move(&persist->submitted, &persist->open);
    persist->urgent |= urgent;
    const uint64_t ticket = ++persist->tickets;
    if (urgent || persist->submitted.count >= EVENTS_LAZY_MAX ||
        persist->sleeps_until_ns > persist->submitted_since_ns + EVENTS_LAZY_NS)
        pthread_cond_signal(&persist->wake);
    unlock(persist);
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
    lock(persist);
    struct persist_progress progress = persist->progress;
    persist->told_done = progress.done;
    unlock(persist);
    progress.stored_lsn = persist_stored_lsn(persist);
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
        result = entry->erase ? PERSIST_E_ERASED
                 : found      ? found(ctx, fingerprint, dirty_record(entry))
                              : 0;
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
    return __atomic_load_n(&persist->retained.failed, __ATOMIC_RELAXED) ||
           __atomic_load_n(&persist->entries_failing, __ATOMIC_RELAXED);
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
