/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How state changes while the daemon serves, whoever wants it: a peer, a file of the spool, a guard
 * whose time is over, the daemon itself. The life of an event is applied (cache_apply), recorded
 * (journal or store), answered, always in this order.
 */
#ifndef ETAGD_MUTATION_H
#define ETAGD_MUTATION_H

#include "peer.h"
#include "pending.h"
#include "record.h"

/* Who wants it, and is told when the event is safe. */
struct mutation_from {
    /* NULL: not a peer */
    struct peer *peer;
    uint64_t request_id;
    /* generation 0: not a file of the spool */
    struct spool_slot spool;
    /* of the file's owner */
    uint32_t uid;
    /* the last part of a batch of the relay, which the peer is: see relay_link_settle() */
    bool relay_batch;
};

/* Why it was not done, or is not safe. error 0: it was done, and the answer comes, or has gone
 * already. */
struct mutation_refusal {
    enum wire_error error;
    const char *text;
};

/* An INVALIDATE or GUARD_* request. */
MUST_USE struct mutation_refusal mutation_request(struct server *server,
                                                  const struct request *request,
                                                  const struct mutation_from *from);

/* An event that has everything but its LSN and its time: applied, recorded, answered. For the
 * relay's. */
MUST_USE struct mutation_refusal mutation_event(struct server *server, struct event *event,
                                                const struct mutation_from *from);

/* Purges everything, on the daemon's own account. False: not done (logged). */
MUST_USE bool mutation_everything(struct server *server, const char *why);

/* An event for nothing but server->unstored, which has no room for more. False: not done. */
MUST_USE bool mutation_carry(struct server *server);

/* Guards and holds whose time is over count as committed, as many as fit into a turn. False: not
 * all of them, so far. */
bool mutation_expire_guards(struct server *server);

/* End of a turn: its events go to the store together; answers whose events are safe leave. */
void mutation_turn_end(struct server *server);
void mutation_answers(struct server *server);

#endif
