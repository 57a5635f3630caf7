/* SPDX-License-Identifier: Apache-2.0 */
/* Answers that wait for the persister: a queue in the order of the persister's tickets. Loop thread
 * only. */
#ifndef ETAGD_PENDING_H
#define ETAGD_PENDING_H

#include "cleanup.h"
#include "spool.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct pending_answer {
    /* 0: not known before the turn's submit (pending_ticket()) */
    uint64_t ticket;
    enum { ANSWER_PEER, ANSWER_SPOOL, ANSWER_RELAY, ANSWER_NOBODY } to;
    uint64_t peer_id;
    uint64_t request_id;
    struct spool_slot spool;
    uint64_t lsn;
    /* ANSWER_PEER: when its request arrived, CLOCK_MONOTONIC */
    uint64_t arrived_ns;
    /* ANSWER_PEER: another answer follows, when the relay has reported */
    bool more;
};

struct pending {
    struct pending_answer *ring;
    /* capacity: a power of two */
    size_t capacity, head, count;
    /* answers at the tail that have no ticket yet */
    size_t without_ticket;
};

void pending_deinit(struct pending *pending);
/* Makes room for one more answer, before its event is applied. Returns 0 or -ENOMEM. */
MUST_USE int pending_reserve(struct pending *pending);
/* Adds an answer; cannot fail after pending_reserve(). */
void pending_add(struct pending *pending, struct pending_answer answer);
/* Returns the LSN below which every event is safe. lsn: the last one given out. */
uint64_t pending_safe_below(const struct pending *pending, uint64_t lsn);
/* Gives the ticket to all answers that have none. */
void pending_ticket(struct pending *pending, uint64_t ticket);
/* Takes the first answer if its ticket is at most 'done'. Returns false if there is none. */
MUST_USE bool pending_take(struct pending *pending, uint64_t done, struct pending_answer *out);

#endif
