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

#include "budget.h"
#include "peer.h"

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
