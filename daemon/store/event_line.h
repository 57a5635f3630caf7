/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Events that wait for the store, in the order of their LSNs, and what each of them means for it.
 * Part of the persister, which locks.
 */
#ifndef ETAGD_EVENT_LINE_H
#define ETAGD_EVENT_LINE_H

#include "store.h"

/* What the store has to know of an event besides its record. */
struct persist_event {
    uint64_t lsn;
    enum event_kind kind;
    /* GUARD_* */
    struct guard_id guard;
    /* a mutation or a commit with hold_ms > 0: a hold is open after it */
    bool hold;
};

struct queued_event {
    struct queued_event *next;
    struct persist_event event;
    size_t len;
    char record[];
};

struct event_line {
    struct queued_event *first, *last;
    size_t count;
    /* that they take */
    size_t bytes;
};

/* The record is copied. 0 or -ENOMEM. */
MUST_USE int event_line_add(struct event_line *line, const struct persist_event *event,
                            etag_str record);
/* Everything of 'from' goes behind what is in 'to'. */
void event_line_move(struct event_line *to, struct event_line *from);
void event_line_free(struct event_line *line);

/* Writes them all in one transaction; they stay in the line. 0 or the store's error, and then the
 * store has none. */
MUST_USE int event_line_store(const struct event_line *line, struct store *store);

#endif
