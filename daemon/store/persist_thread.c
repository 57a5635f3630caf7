/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The thread that writes. It alternates: all submitted events in one transaction, then at most one
 * piece of less urgent work (a checkpoint or a chunk of entries), so that no event waits long and a
 * stream of events does not starve the rest.
 */
#include "persist_internal.h"

#include "bounds.h"
#include "delay_point.h"
#include "numbers.h"
#include "thread.h"

#include <errno.h>
#include <malloc.h>

#define LAZY_NS (100 * NS_PER_MS) /* how long an entry waits for others of its chunk */
#define ENTRY_PAGE_BYTES 1024 /* of pages that change with an entry; the headroom takes the rest */
#define TRIM_ENTRIES 4096     /* after a burst of so many malloc gives back what it keeps of them */

enum work { WORK_NONE, WORK_EVENTS, WORK_ENTRIES, WORK_CHECKPOINT, WORK_DISK, WORK_END };

/* ---- What is due ---- */

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

/* Tickets up to this one are decided. The range of the lost ones begins again when the loop thread
 * knows the former one. */
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
    struct event_queue queue = {0};
    const uint64_t ticket = persist->tickets;
    const size_t count = persist->submitted.count;
    const size_t bytes = persist->submitted.bytes;
    bool tell = persist->urgent;

    event_queue_move(&queue, &persist->submitted);
    persist->urgent = false;
    if (queue.last)
        persist->taken_lsn = queue.last->event.lsn;
    const bool failed = persist_fails(persist);
    const bool closing = persist->closing;
    persist_unlock(persist);

    DELAY_POINT("persist.taken_stored");
    const int lost = retained_write(&persist->retained, &queue, closing);
    DELAY_POINT("persist.stored_told");
    if (retained_nothing(&persist->retained))
        look_for_room(persist, 0);

    persist_lock(persist);
    persist->gave_up |= persist->closing && persist->retained.retry_ns != 0;
    tell |= failed != persist_fails(persist);
    tickets_decide(persist, ticket, lost != 0);
    persist->events_decided += count;
    persist->events_since_checkpoint += count;
    persist->bytes_since_checkpoint += bytes;
    persist_syncs_settle(persist);
    if (tell)
        persist_notify(persist);
}

/* ---- Entries ---- */

static int entries_store(struct persist *persist, struct dirty_entry **chunk, size_t count)
{
    struct store_txn *txn;

    if (count == 0)
        return 0;
    int r = store_begin(persist->store, &txn);
    if (r)
        return r;
    for (size_t i = 0; i < count && !r; i++)
        r = chunk[i]->erase ? store_erase_entry(txn, chunk[i]->fingerprint)
                            : store_put_entry(txn, chunk[i]->fingerprint, dirty_name(chunk[i]),
                                              dirty_record(chunk[i]));
    return store_end(txn, r);
}

static void background_failed(struct persist *persist, const char *event, int error)
{
    persist->retry_at_ns = persist_now_ns() + RETRY_NS;
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
        persist_notify(persist);
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

    persist_unlock(persist);
    look_for_room(persist, chunk_bytes(chunk, count));
    persist_lock(persist);
    if (!persist->no_room)
        return count;
    dirty_put_back(&persist->dirty, chunk, count);
    return dirty_take(&persist->dirty, chunk, PERSIST_CHUNK_MAX, true);
}

/* malloc keeps what a burst of fills took, some hundred bytes an entry. Without the lock: it takes
 * some milliseconds. */
static void trim_after_burst(struct persist *persist, size_t freed)
{
    persist->untrimmed += freed;
    if (persist->untrimmed < TRIM_ENTRIES || persist->dirty.count > 0)
        return;
    persist->untrimmed = 0;
    persist_unlock(persist);
    (void)malloc_trim(0);
    persist_lock(persist);
}

static void write_entries(struct persist *persist)
{
    struct dirty_entry *chunk[PERSIST_CHUNK_MAX];
    const size_t count = chunk_take(persist, chunk);
    uint64_t decided = count > 0 ? chunk[count - 1]->sequence : 0;
    const int no_room = persist->no_room && persist->dirty.first ? -ENOSPC : 0;

    persist_unlock(persist);

    int r = entries_store(persist, chunk, count);

    persist_lock(persist);
    if (r) {
        dirty_put_back(&persist->dirty, chunk, count);
    } else {
        /* Before they cannot be found any more. */
        __atomic_fetch_add(&persist->entry_commits, 1, __ATOMIC_RELEASE);
        dirty_done(&persist->dirty, chunk, count);
        persist->dirty_since_ns = persist_now_ns();
        r = no_room;
    }
    if (r) {
        background_failed(persist, "entries_not_persisted", r);
        decided = persist->dirty.last_sequence; /* the others would fail as well */
    } else {
        persist->background_failing = false;
    }
    entries_failing_set(persist, r != 0);
    if (decided > persist->entries_decided)
        persist->entries_decided = decided;
    persist_waiting_publish(persist);
    persist_syncs_settle(persist);
    trim_after_burst(persist, count);
}

/* ---- Checkpoints ---- */

static void write_checkpoint(struct persist *persist)
{
    persist_unlock(persist);
    const int r = checkpoint_write(&persist->checkpoint, persist->store, persist->taken_lsn,
                                   persist->no_room);
    persist_lock(persist);
    if (r) {
        background_failed(persist, "checkpoint_not_written", r);
        return;
    }
    persist->events_since_checkpoint = persist->bytes_since_checkpoint = 0;
    persist->background_failing = false;
    persist->final_checkpoint_done = persist->closing && !persist->submitted.first;
}

static void ask_disk(struct persist *persist)
{
    persist_unlock(persist);
    if (retained_lost(&persist->retained, false))
        persist_notify(persist);
    persist_lock(persist);
}

/* ---- The thread ---- */

void *persist_thread(void *argument)
{
    struct persist *persist = (struct persist *)argument;
    enum work work = WORK_NONE;

    persist_lock(persist);
    while (work != WORK_END) {
        work = choose_work(persist, persist_now_ns());
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
    persist_unlock(persist);
    if (retained_lost(&persist->retained, true))
        persist_notify(persist);
    return NULL;
}
