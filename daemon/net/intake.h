/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Splits bytes into frames, and decides which frame is handled next. The loop brings bytes at any
 * time; intake_received() only stores them. Afterwards, once a turn, intake_serve() handles as much
 * as the turn's budget allows: first the urgent requests of all peers, then fills, then people's
 * requests. Loop thread only.
 *
 * A peer whose next frame is complete is in one of three queues, by the kind of that frame, so its
 * own frames stay in order. A peer that has not read its answers is set aside until it has, and the
 * daemon reads nothing more from it.
 */
#ifndef ETAGD_INTAKE_H
#define ETAGD_INTAKE_H

#include "peer.h"

/* ---- What a turn may do ---- */

/* Three kinds of work, in this order, each with a bound of frames and of time, and a share for each
 * peer. Frames over the bound stay buffered, so that the lease can be renewed between turns. */
enum work {
    /* a peer waits for it, and it is short: mutations, guards, pings, hellos */
    WORK_URGENT,
    /* fills: many, and no peer waits for them */
    WORK_FILL,
    /* people's requests; one may take a millisecond */
    WORK_ASKED,
};
#define WORK_KINDS 3

enum work work_of(enum request_kind kind);

/* Returns how many frames in a row may be one peer's. */
uint32_t work_share(enum work work);

struct budget {
    uint64_t until_ns;
    uint32_t frames_left;
    bool used;
};

/* now_ns: CLOCK_MONOTONIC. */
struct budget budget_begin(enum work work, uint64_t now_ns);

/* Returns whether the budget has a frame left. */
bool budget_left(const struct budget *budget, uint64_t now_ns);
/* Takes a frame from the budget. Returns false if none is left. The first one is always granted, so
 * that work goes on even if the clock jumps. */
MUST_USE bool budget_take(struct budget *budget, uint64_t now_ns);

/* ---- Intake ---- */

struct line {
    struct peer *first, *last;
    size_t count;
};

/* Handles a frame. payload: borrowed for the call. */
typedef void intake_handler(void *ctx, struct peer *peer, etag_str payload);

struct intake {
    struct peers *peers;
    intake_handler *handle;
    /* passed to handle() */
    void *ctx;
    struct line lines[WORK_KINDS];
    /* peers with unread answers */
    struct line aside;
    /* the last turn ended before fills and people's requests, so that its answers could be sent */
    bool put_off;
    /* the largest number of frames in one turn since the start */
    uint64_t frames_max;
    uint64_t frames;
};

/* All borrowed. */
void intake_init(struct intake *intake, struct peers *peers, intake_handler *handle, void *ctx);

/* Stores bytes of a peer (copied). */
void intake_received(struct intake *intake, struct peer *peer, etag_str bytes);

/* The peer will send nothing more: closes it when everything that it sent before is handled. */
void intake_ended(struct intake *intake, struct peer *peer);

/* Handles a turn's share. Returns true if more frames wait, so that the loop should not sleep. */
MUST_USE bool intake_serve(struct intake *intake);

#endif
