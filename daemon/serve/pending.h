/* SPDX-License-Identifier: Apache-2.0 */
/* Answers that wait for the persister: a queue in the order of their tickets. */
#ifndef ETAGD_PENDING_H
#define ETAGD_PENDING_H

#include "cleanup.h"
#include "spool.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct pending_answer {
    /* 0: not yet known (the turn's submit fills it in) */
    uint64_t ticket;
    enum { ANSWER_PEER, ANSWER_SPOOL, ANSWER_RELAY, ANSWER_NOBODY } to;
    uint64_t peer_id;
    uint64_t request_id;
    struct spool_slot spool;
    uint64_t lsn;
    /* of ANSWER_PEER, CLOCK_MONOTONIC */
    uint64_t arrived_ns;
    /* of ANSWER_PEER: the relay has to say more */
    bool more;
};

struct pending {
    struct pending_answer *ring;
    /* capacity: a power of two */
    size_t capacity, head, count;
    /* at the tail */
    size_t without_ticket;
};

void pending_deinit(struct pending *pending);
/* 0 or -ENOMEM. */
MUST_USE int pending_reserve(struct pending *pending);
/* After pending_reserve. */
void pending_add(struct pending *pending, struct pending_answer answer);
/* Every event below this LSN is safe; lsn: the last one given out. */
uint64_t pending_safe_below(const struct pending *pending, uint64_t lsn);
/* Gives the answers that have none the ticket. */
void pending_ticket(struct pending *pending, uint64_t ticket);
/* Takes the first answer whose ticket is at most 'done'. */
MUST_USE bool pending_take(struct pending *pending, uint64_t done, struct pending_answer *out);

#endif
