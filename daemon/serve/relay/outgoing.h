/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Events of this host on their way into the relay's log, and writers that wait until they are
 * there, or everywhere. The records are durable where events are: the store keeps them until a mark
 * says that the log has them (relay_mark). This is the memory of it.
 *
 * Bounded: what finds no room becomes one "everything", which reaches whatever those events named.
 * A writer's wait is worth less than a place: writers give up without a word, and while no relay is
 * there theirs would be all places. Where one is wanted the oldest wait ends.
 */
#ifndef ETAGD_OUTGOING_H
#define ETAGD_OUTGOING_H

#include "message.h"

enum outgoing_kind {
    /* the log has to have it */
    OUTGOING_EVENT,
    /* the log has it, at a position: the relay is to look now, or somebody waits */
    OUTGOING_POKE,
    /* its writer waits for "everything" */
    OUTGOING_COVERED,
};

struct outgoing_entry {
    struct outgoing_entry *next, *previous;
    enum outgoing_kind kind;
    /* the event's LSN */
    uint64_t token;
    /* in the relay's log; 0: not known */
    uint64_t position;
    /* LOG or EVERYWHERE; HOST: a poke for which nobody waits */
    etag_reach reach;
    /* of the writer that waits; 0: nobody does */
    uint64_t peer_id;
    uint64_t request_id;
    /* to the relay that is there */
    bool sent;
    /* EVENT: it is in the log; its writer waits for more */
    bool logged;
    uint8_t *record;
    size_t len;
};

struct outgoing {
    struct outgoing_entry *first, *last;
    /* the first that was not sent; NULL: none */
    struct outgoing_entry *unsent;
    size_t count, bytes;
    /* sent, and not in the log yet */
    size_t in_flight, in_flight_bytes;
    /* in place of events that were dropped */
    bool everything_due;
    bool everything_sent, everything_logged, everything_refused;
    /* it covers events up to this LSN */
    uint64_t everything_token;
    /* how often there was no room */
    uint64_t collapsed;
};

void outgoing_deinit(struct outgoing *outgoing);

struct outgoing_new {
    uint64_t token;
    /* 0: the event has to be put there */
    uint64_t position;
    etag_reach reach;
    /* 0: nobody waits */
    uint64_t peer_id, request_id;
    /* of the event, copied; only without a position */
    etag_str record;
};

/* Called for each writer whose waiting ends, while its entry is there. RELAY_UNSAID: its place was
 * wanted. */
typedef void outgoing_answer(void *ctx, const struct outgoing_entry *entry,
                             enum relay_outcome outcome);

/* Tokens grow. Never fails: an event without room makes "everything" due, a poke without room is
 * left out (the relay polls anyway). True: "everything" is due anew, and a mark has to say so. */
bool outgoing_add(struct outgoing *outgoing, const struct outgoing_new *added,
                  outgoing_answer *answer, void *ctx);

/* Rule QUEUE_FULL_IS_EVERYTHING: drops the events that the log does not have, for one "everything"
 * of all up to this LSN. */
void outgoing_collapse(struct outgoing *outgoing, uint64_t lsn);

/* The relay is another one: everything that it has to see through is sent again. */
void outgoing_unsend(struct outgoing *outgoing);

/* The next to send, in order; NULL: none, or so many are under way already. */
MUST_USE struct outgoing_entry *outgoing_next(const struct outgoing *outgoing);
/* The entry may be gone after it. */
void outgoing_sent(struct outgoing *outgoing, struct outgoing_entry *entry);
/* Whether "everything" is to be sent now, and how far it has to reach. */
MUST_USE bool outgoing_everything_next(const struct outgoing *outgoing);
MUST_USE etag_reach outgoing_everything_reach(const struct outgoing *outgoing);
void outgoing_everything_sent(struct outgoing *outgoing);

struct outgoing_done {
    uint64_t token;
    enum relay_outcome outcome;
    uint64_t position;
    /* the last one given out */
    uint64_t lsn;
};

/* What the relay says of a token. One that is not known is passed over: it was dropped. True:
 * "everything" is due anew, and a mark has to say so. */
bool outgoing_done(struct outgoing *outgoing, const struct outgoing_done *done,
                   outgoing_answer *answer, void *ctx);

/* Every event up to this LSN is in the log, or "everything" is due for it. lsn: the last one given
 * out. */
MUST_USE uint64_t outgoing_published(const struct outgoing *outgoing, uint64_t lsn);

#endif
