/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a turn of the loop may do for peers: three kinds of work, in this order, each with a bound
 * of frames and of time, and a share for each peer. What is over the bound stays buffered, and the
 * lease is kept in between.
 */
#ifndef ETAGD_BUDGET_H
#define ETAGD_BUDGET_H

#include "cleanup.h"
#include "message.h"

enum work {
    /* somebody waits for it, and it is short: mutations, guards, pings, hellos */
    WORK_URGENT,
    /* many, and nobody waits */
    WORK_FILL,
    /* what people ask; one may take a millisecond */
    WORK_ASKED,
};
#define WORK_KINDS 3

enum work work_of(enum request_kind kind);

/* How many frames in a row are one peer's. */
uint32_t work_share(enum work work);

struct budget {
    uint64_t until_ns;
    uint32_t frames_left;
    bool used;
};

/* now_ns: CLOCK_MONOTONIC. */
struct budget budget_begin(enum work work, uint64_t now_ns);

/* Whether there is a frame left. */
bool budget_left(const struct budget *budget, uint64_t now_ns);
/* Takes a frame from the budget. False: there is none left. The first one is always there: a clock
 * that jumps stops nobody. */
MUST_USE bool budget_take(struct budget *budget, uint64_t now_ns);

#endif
