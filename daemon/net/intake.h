/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From bytes to frames, and which frame is handled next. The loop brings bytes at any time; they
 * are only kept. Afterwards, once a turn, intake_serve() handles what the turn's budget allows:
 * first what is urgent, of all peers, then fills, then what people ask.
 *
 * A peer whose next frame is whole stands in one of three lines, by the kind of that frame, so its
 * own frames stay in order. A peer that has not read its answers stands aside until it does, and
 * nothing more is read of it.
 */
#ifndef ETAGD_INTAKE_H
#define ETAGD_INTAKE_H

#include "peer.h"

/* ---- What a turn may do ---- */

/* Three kinds of work, in this order, each with a bound of frames and of time, and a share for each
 * peer. What is over the bound stays buffered, and the lease is kept in between. */
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

/* ---- Intake ---- */

struct line {
    struct peer *first, *last;
    size_t count;
};

/* What is done with a frame whose turn has come. payload: borrowed for the call. */
typedef void intake_handler(void *ctx, struct peer *peer, etag_str payload);

struct intake {
    struct peers *peers;
    intake_handler *handle;
    /* of handle */
    void *ctx;
    struct line lines[WORK_KINDS];
    /* with unread answers */
    struct line aside;
    /* fills and questions were put off for the answers of the last turn */
    bool put_off;
    /* the most that one turn handled, since the start */
    uint64_t frames_max;
    uint64_t frames;
};

/* All borrowed. */
void intake_init(struct intake *intake, struct peers *peers, intake_handler *handle, void *ctx);

/* Bytes of a peer. They are copied. */
void intake_received(struct intake *intake, struct peer *peer, etag_str bytes);

/* The peer will send nothing more. It is closed when everything that it sent before is handled. */
void intake_ended(struct intake *intake, struct peer *peer);

/* Handles a turn's share. True: more could be handled at once. */
MUST_USE bool intake_serve(struct intake *intake);

#endif
