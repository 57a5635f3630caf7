/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The queue of this host's events that go into the relay's log, and of the writers that wait until
 * their event is in the log, or on all hosts. The queue is in memory only; the events are durable
 * in the store, which keeps them until a mark says that the log has them (relay_mark).
 *
 * The queue is bounded. Events that find no room become one "everything", which covers all that
 * they named. A waiting writer gives way to an event: writers may give up without telling the
 * daemon, and without a relay their waits would fill the queue. So when a place is needed, the
 * oldest wait ends. Loop thread only.
 */
#ifndef ETAGD_OUTGOING_H
#define ETAGD_OUTGOING_H

#include "message.h"

enum outgoing_kind {
    /* has to be put into the log */
    OUTGOING_EVENT,
    /* is in the log at a known position: the relay has to poll now, or a writer waits */
    OUTGOING_POKE,
    /* its event was dropped; its writer waits for "everything" */
    OUTGOING_COVERED,
};

struct outgoing_entry {
    struct outgoing_entry *next, *previous;
    enum outgoing_kind kind;
    /* the event's LSN */
    uint64_t token;
    /* the event's position in the relay's log; 0: not known */
    uint64_t position;
    /* what its writer waits for: LOG or EVERYWHERE; HOST: a poke for which no writer waits */
    etag_reach reach;
    /* the writer that waits; 0: none */
    uint64_t peer_id;
    uint64_t request_id;
    /* sent to the present relay */
    bool sent;
    /* EVENT: is in the log; its writer waits for all hosts */
    bool logged;
    /* EVENT */
    uint32_t hold_ms;
    uint8_t *record;
    size_t len;
};

struct outgoing {
    struct outgoing_entry *first, *last;
    /* the first entry that was not sent; NULL: none */
    struct outgoing_entry *unsent;
    size_t count, bytes;
    /* sent, and not in the log yet */
    size_t in_flight, in_flight_bytes;
    /* "everything" has to go into the log in place of dropped events */
    bool everything_due;
    bool everything_sent, everything_logged, everything_refused;
    /* "everything" covers the events up to this LSN, and is held as long as any of them */
    uint64_t everything_token;
    uint32_t everything_hold_ms;
    /* how often events became "everything" */
    uint64_t collapsed;
};

void outgoing_deinit(struct outgoing *outgoing);

struct outgoing_new {
    uint64_t token;
    /* 0: the event has to be put into the log */
    uint64_t position;
    etag_reach reach;
    /* 0: no writer waits */
    uint64_t peer_id, request_id;
    /* how long what it names stays unknown on each host; 0: no hold */
    uint32_t hold_ms;
    /* the event's record, copied; used only without a position */
    etag_str record;
};

/* Called for each writer whose wait ends, while its entry still exists. RELAY_UNSAID: the wait
 * ended because its place was needed. */
typedef void outgoing_answer(void *ctx, const struct outgoing_entry *entry,
                             enum relay_outcome outcome);

/* Adds an event or a poke; tokens have to ascend. Never fails: an event without room makes
 * "everything" due, a poke without room is left out (the relay polls anyway). Returns true if
 * "everything" became due, which a mark has to record. */
bool outgoing_add(struct outgoing *outgoing, const struct outgoing_new *added,
                  outgoing_answer *answer, void *ctx);

/* Rule QUEUE_FULL_IS_EVERYTHING: drops the events that the log does not have, and makes one
 * "everything" due that covers all up to this LSN. */
void outgoing_collapse(struct outgoing *outgoing, uint64_t lsn);

/* A new relay has connected: makes all entries unsent, so that they are sent to it. */
void outgoing_unsend(struct outgoing *outgoing);

/* Returns the next entry to send, in order; NULL: none, or it is an event and the window is
 * full. */
MUST_USE struct outgoing_entry *outgoing_next(const struct outgoing *outgoing);
/* Marks the entry as sent. May free it. */
void outgoing_sent(struct outgoing *outgoing, struct outgoing_entry *entry);
/* Whether "everything" has to be sent now, and the reach that its writers asked for. */
MUST_USE bool outgoing_everything_next(const struct outgoing *outgoing);
MUST_USE etag_reach outgoing_everything_reach(const struct outgoing *outgoing);
void outgoing_everything_sent(struct outgoing *outgoing);

struct outgoing_done {
    uint64_t token;
    enum relay_outcome outcome;
    uint64_t position;
    /* the last LSN given out */
    uint64_t lsn;
};

/* Handles the relay's report about a token. Ignores an unknown token: its event was dropped.
 * Returns true if "everything" became due, which a mark has to record. */
bool outgoing_done(struct outgoing *outgoing, const struct outgoing_done *done,
                   outgoing_answer *answer, void *ctx);

/* Returns the LSN up to which every event is in the log, or covered by a due "everything". lsn: the
 * last one given out. */
MUST_USE uint64_t outgoing_published(const struct outgoing *outgoing, uint64_t lsn);

#endif
