/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The daemon's view of the relay: how far its log is applied and recorded here, how fresh that is,
 * and which events wait for the log. The relay's events go through mutation.c like any others;
 * relay_serve.c handles its messages. Loop thread only.
 */
#ifndef ETAGD_RELAY_LINK_H
#define ETAGD_RELAY_LINK_H

#include "freshness.h"
#include "outgoing.h"
#include "peer.h"
#include "record.h"

/* A position in the relay's log; both empty: none. */
struct relay_place {
    struct buffer cursor, log_id;
};

struct relay_link {
    struct freshness freshness;
    struct outgoing outgoing;
    /* the relay that said hello last; 0: none is connected */
    uint64_t peer_id;
    char engine[RELAY_ENGINE_BYTES_MAX + 1];
    uint32_t l_net_ms;
    /* applied and recorded up to here; the hello to a relay says this position */
    struct relay_place settled;
    /* the position of the batch that is being recorded; becomes 'settled' when it is safe */
    bool recording;
    /* parts of a batch have come, its last one has not */
    bool parts;
    /* one of these parts was refused, so the others are refused too */
    bool part_refused;
    struct relay_place next;
    struct freshness_proof proof;
    /* when the last mark was recorded, and the published LSN in it */
    uint64_t marked_ns, marked_published_lsn;
    /* the last mark claims too much, so a new one has to be recorded */
    bool mark_due;
    /* the last mark has an older cursor, so a warm start would ask the relay for some rows again */
    bool cursor_moved;
    uint64_t batches, batch_events, everything, refused, published;
    /* when the last batch was settled; 0: none in this run */
    uint64_t batch_ns;
    /* whether this host was fresh at the last log line about it */
    bool was_fresh;
};

static inline etag_str relay_str(const struct buffer *buffer)
{
    return (etag_str){(const char *)buffer->bytes, buffer->len};
}

/* Copies both. Returns 0, or -ENOMEM: the place is unchanged. */
MUST_USE int relay_place_set(struct relay_place *place, etag_str cursor, etag_str log_id);

/* At the start, after the cache was loaded: loads the former run's position in the log and its
 * events that the log may lack. forgotten: events of a former run may be lost with its state.
 * Returns 0, or a negative errno: the state cannot be used. */
MUST_USE int relay_link_load(struct server *server, bool forgotten);
void relay_link_deinit(struct relay_link *link);

/* Queues an event of this host, which is recorded or on its way to the store, for the relay's log.
 * peer: its writer, if that waits for more than this host; else NULL. */
void relay_link_take(struct server *server, const struct event *event, etag_str record,
                     const struct peer *peer, uint64_t request_id);

/* Rule APPLY_FIRST: the batch and its cursor are recorded, so now the cursor counts, freshness
 * moves on, and the relay gets its receipt. failed: the record may be lost, so nothing moves. */
void relay_link_settle(struct server *server, uint64_t peer_id, uint64_t request_id, uint64_t lsn,
                       bool failed);

/* At the end of a turn: sends safe events to the relay; notices that the relay has gone, and that
 * freshness has ended or begun. */
void relay_link_turn_end(struct server *server);

/* Returns the mark that has to be recorded now, with this position. */
struct relay_mark relay_link_mark(const struct server *server, const struct relay_place *place);

/* The ctx of relay_link_tell(), an outgoing_answer that sends the outcome to the writer. text: why
 * the relay refused, or NULL. */
struct relay_telling {
    struct server *server;
    const char *text;
};
void relay_link_tell(void *telling, const struct outgoing_entry *entry, enum relay_outcome outcome);

/* Returns the reach that a mutation asks for, or else the default of this daemon. */
etag_reach relay_link_reach(const struct server *server, etag_reach asked);

#endif
