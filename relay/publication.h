/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Mutations of this host on their way to the others: the daemon hands them over with a token, and
 * keeps each until it hears what became of it. So this table may forget: after a lost connection
 * the daemon hands them over again.
 */
#ifndef ETAG_RELAY_PUBLICATION_H
#define ETAG_RELAY_PUBLICATION_H

#include "bounds.h"
#include "message.h"

/* As many as the daemon keeps, and those that are on their way. */
#define PUBLICATIONS_MAX (RELAY_QUEUE_MAX + RELAY_WINDOW_MAX)

enum publication_step {
    PUBLICATION_FREE,
    /* is to be put into the outbox */
    PUBLICATION_TO_LOG,
    /* is there, says its writer: that is to be seen, and the members to be asked to acknowledge */
    PUBLICATION_TO_ASK,
    /* until it is everywhere */
    PUBLICATION_WAITING
};

struct publication {
    enum publication_step step;
    /* number: they go in this order */
    uint64_t token, number;
    /* borrows from bytes and arena */
    etag_targets targets;
    struct buffer bytes;
    struct arena arena;
    bool everywhere;
    /* this host has applied all that is at the position: rule OWN_IS_APPLIED */
    bool here;
    uint64_t position;
    /* coarse clock: when it came */
    uint64_t begun_ns;
    /* coarse clock: read after COMMIT had returned */
    uint64_t t_ns;
    /* fine clock, read with it: members are to be read after it */
    uint64_t t_fine_ns;
    /* grows */
    uint64_t look_every_ns;
    /* fine clock */
    uint64_t look_due_ns;
};

struct publications {
    struct publication table[PUBLICATIONS_MAX];
    size_t count;
    uint64_t last_number;
};

void publications_deinit(struct publications *publications);

/* Targets are copied. NULL: full, or no memory. */
MUST_USE struct publication *publication_new(struct publications *publications, uint64_t token,
                                             const etag_targets *targets);
void publication_free(struct publications *publications, struct publication *publication);

/* The oldest one of this step; NULL: none. */
struct publication *publication_first(struct publications *publications,
                                      enum publication_step step);

#endif
