/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rule ONE_TRANSACTION: an event and what it does to the table of open guards are written together.
 * If the store had the event of a commit but still the guard, the next start would put clocks in
 * flux again; if it had the guard's begin only in its log, it would lose the guard when the log is
 * trimmed. The same transaction erases the unstored entries that an event carries (persist.h).
 */
#include "event_queue.h"

#include "record.h"

#include <errno.h>

int event_queue_add(struct event_queue *queue, const struct persist_event *event, etag_str record)
{
    struct queued_event *queued = malloc(sizeof(*queued) + record.len);

    if (!queued)
        return -ENOMEM;
    *queued = (struct queued_event){.event = *event, .len = record.len};
    if (record.len > 0)
        memcpy(queued->record, record.data, record.len);
    event_queue_move(queue, &(struct event_queue){queued, queued, 1, sizeof(*queued) + record.len});
    return 0;
}

void event_queue_move(struct event_queue *to, struct event_queue *from)
{
    if (!from->first)
        return;
    if (to->last)
        to->last->next = from->first;
    else
        to->first = from->first;
    to->last = from->last;
    to->count += from->count;
    to->bytes += from->bytes;
    *from = (struct event_queue){0};
}

void event_queue_free(struct event_queue *queue)
{
    while (queue->first) {
        struct queued_event *event = queue->first;
        queue->first = event->next;
        free(event);
    }
    *queue = (struct event_queue){0};
}

/* The id of the guard or hold: a hold of a mutation is named by its LSN. */
static struct guard_id guard_of(const struct persist_event *event)
{
    return event->kind == EVENT_MUTATION ? (struct guard_id){0, event->lsn} : event->guard;
}

static int guard_store(struct store_txn *txn, const struct persist_event *event, etag_str record)
{
    switch (event->kind) {
    case EVENT_GUARD_BEGIN:
        return store_put_guard(txn, guard_of(event), event->lsn, record);
    case EVENT_MUTATION:
        return event->hold ? store_put_guard(txn, guard_of(event), event->lsn, record) : 0;
    case EVENT_GUARD_COMMIT:
    case EVENT_GUARD_EXPIRED:
        if (event->hold)
            return store_put_guard(txn, guard_of(event), event->lsn, record);
        return store_erase_guard(txn, guard_of(event));
    case EVENT_GUARD_ABORT:
        return store_erase_guard(txn, guard_of(event));
    }
    return -EINVAL;
}

static int unstored_erase(struct store_txn *txn, etag_str record)
{
    const size_t count = event_record_unstored_count(record);
    int r = 0;

    for (size_t i = 0; i < count && !r; i++)
        r = store_erase_entry(txn, event_record_unstored(record, i));
    return r;
}

/* Rule CURSOR_WITH_EVENTS. */
static int mark_store(struct store_txn *txn, etag_str record)
{
    const etag_str mark = event_record_mark(record);

    return mark.data ? store_put_relay(txn, mark) : 0;
}

int event_queue_store(const struct event_queue *queue, struct store *store)
{
    struct store_txn *txn;

    if (!queue->first)
        return 0;
    int r = store_begin(store, &txn);
    if (r)
        return r;
    for (const struct queued_event *at = queue->first; at && !r; at = at->next) {
        const etag_str record = {at->record, at->len};
        r = store_put_event(txn, at->event.lsn, record);
        if (!r)
            r = guard_store(txn, &at->event, record);
        if (!r)
            r = unstored_erase(txn, record);
        if (!r)
            r = mark_store(txn, record);
    }
    return store_end(txn, r);
}
