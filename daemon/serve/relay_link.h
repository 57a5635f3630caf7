/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The relay as the daemon knows it: what is settled of its log, how fresh that is, what it is given
 * for the log. The events that it brings go through mutation.c like any others; relay_serve.c takes
 * its messages.
 */
#ifndef ETAGD_RELAY_LINK_H
#define ETAGD_RELAY_LINK_H

#include "freshness.h"
#include "outgoing.h"
#include "peer.h"
#include "record.h"

/* A place in the relay's log; both empty: none. */
struct relay_place {
    struct buffer cursor, log_id;
};

struct relay_link {
    struct freshness freshness;
    struct outgoing outgoing;
    /* of the relay that said hello last; 0: none is there */
    uint64_t peer_id;
    char engine[RELAY_ENGINE_BYTES_MAX + 1];
    uint32_t l_net_ms;
    /* what a relay is told, which trusts no other */
    struct relay_place settled;
    /* Of the batch that is being recorded: settled when that is done. */
    bool recording;
    /* of a batch are here, and its last one is not */
    bool parts;
    /* one of them was: so are the others */
    bool part_refused;
    struct relay_place next;
    struct freshness_proof proof;
    /* The mark that was recorded last says this of outgoing. */
    uint64_t marked_ns, marked_published_lsn;
    /* it says too much: a new one has to be recorded */
    bool mark_due;
    /* it says too little, which costs a warm start some rows */
    bool cursor_moved;
    uint64_t batches, batch_events, everything, refused, published;
    /* of the last batch that was settled; 0: none in this run */
    uint64_t batch_ns;
    /* as it was said last */
    bool was_fresh;
};

static inline etag_str relay_str(const struct buffer *buffer)
{
    return (etag_str){(const char *)buffer->bytes, buffer->len};
}

/* 0 or -ENOMEM; the place is as before then. */
MUST_USE int relay_place_set(struct relay_place *place, etag_str cursor, etag_str log_id);

/* At the start, once the cache is loaded: what a former run knew of the log, and its events that
 * the log may lack. forgotten: events of a former run may be lost with its state. 0 or a negative
 * errno: the state cannot be used. */
MUST_USE int relay_link_load(struct server *server, bool forgotten);
void relay_link_deinit(struct relay_link *link);

/* An event of this host is recorded, or on its way to the store: the log is to have it. peer: its
 * writer, if it waits for more than this host; NULL. */
void relay_link_take(struct server *server, const struct event *event, etag_str record,
                     const struct peer *peer, uint64_t request_id);

/* Rule APPLY_FIRST: the batch and its cursor are recorded, so now the cursor is ours, and the lease
 * may go on. failed: they may be lost, and nothing moves. */
void relay_link_settle(struct server *server, uint64_t peer_id, uint64_t request_id, uint64_t lsn,
                       bool failed);

/* End of a turn: gives the relay what is safe here; notices that a relay is gone, and that
 * freshness is over or there again. */
void relay_link_turn_end(struct server *server);

/* The mark as it has to be recorded now, with this place. */
struct relay_mark relay_link_mark(const struct server *server, const struct relay_place *place);

/* Of outgoing_answer: what its writer is told. text: why it was refused, or NULL. */
struct relay_telling {
    struct server *server;
    const char *text;
};
void relay_link_tell(void *telling, const struct outgoing_entry *entry, enum relay_outcome outcome);

/* What a mutation has to reach: what it asks for, or what is the default here. */
etag_reach relay_link_reach(const struct server *server, etag_reach asked);

#endif
