/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Events that wait for the store, in LSN order, and what the store has to change for each. Part of
 * the persister, whose lock the caller holds.
 */
#ifndef ETAGD_EVENT_QUEUE_H
#define ETAGD_EVENT_QUEUE_H

#include "store.h"

/* What the store needs of an event besides its record. */
struct persist_event {
    uint64_t lsn;
    enum event_kind kind;
    /* GUARD_* */
    struct guard_id guard;
    /* a mutation or a commit with hold_ms > 0, after which a hold is open */
    bool hold;
};

struct queued_event {
    struct queued_event *next;
    struct persist_event event;
    size_t len;
    char record[];
};

struct event_queue {
    struct queued_event *first, *last;
    size_t count;
    /* memory that they take */
    size_t bytes;
};

/* Adds an event at the end. The record is copied. Returns 0 or -ENOMEM. */
MUST_USE int event_queue_add(struct event_queue *queue, const struct persist_event *event,
                             etag_str record);
/* Moves all events of 'from' to the end of 'to'. */
void event_queue_move(struct event_queue *to, struct event_queue *from);
void event_queue_free(struct event_queue *queue);

/* Writes all events in one transaction and leaves them in the queue. Returns 0, or the store's
 * error: then the store has none of them. */
MUST_USE int event_queue_store(const struct event_queue *queue, struct store *store);

#endif
