/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The one path by which state changes while the daemon serves, for all sources: a peer, a file of
 * the spool, a guard whose time is over, the relay, the daemon itself. An event is applied
 * (cache_apply), recorded (journal or store), answered, always in this order. Loop thread only.
 */
#ifndef ETAGD_MUTATION_H
#define ETAGD_MUTATION_H

#include "peer.h"
#include "pending.h"
#include "record.h"

/* The source of a mutation, which gets the answer when the event is safe. */
struct mutation_from {
    /* NULL: not a peer */
    struct peer *peer;
    uint64_t request_id;
    /* generation 0: not a file of the spool */
    struct spool_slot spool;
    /* owner of the file */
    uint32_t uid;
    /* the peer is the relay, and this is the last part of its batch: see relay_link_settle() */
    bool relay_batch;
};

/* Why a mutation was refused, or is not safe. error 0: it was applied, and its answer was sent or
 * will be. */
struct mutation_refusal {
    enum wire_error error;
    const char *text;
};

/* Handles an INVALIDATE or GUARD_* request. */
MUST_USE struct mutation_refusal mutation_request(struct server *server,
                                                  const struct request *request,
                                                  const struct mutation_from *from);

/* Applies, records and answers an event that is complete but for its LSN and its time. For
 * relay_serve.c. */
MUST_USE struct mutation_refusal mutation_event(struct server *server, struct event *event,
                                                const struct mutation_from *from);

/* Purges everything, as a mutation of the daemon itself. Returns false if it could not (logged). */
MUST_USE bool mutation_everything(struct server *server, const char *why);

/* Records an event that only carries server->unstored, when that has no room for more. Returns
 * false if it could not. */
MUST_USE bool mutation_carry(struct server *server);

/* Commits guards and holds whose time is over, as many as fit into a turn. Returns false if some
 * are left. */
bool mutation_expire_guards(struct server *server);

/* At the end of a turn: the first submits the turn's events to the persister together, the second
 * sends the answers whose events are safe. */
void mutation_turn_end(struct server *server);
void mutation_answers(struct server *server);

#endif
