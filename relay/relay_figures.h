/* SPDX-License-Identifier: Apache-2.0 */
/* What the relay counts, and how it says it: a file in the form that Prometheus reads. */
#ifndef ETAG_RELAY_RELAY_FIGURES_H
#define ETAG_RELAY_RELAY_FIGURES_H

#include "histogram.h"
#include "relay.h"

/* Counters: name, help. */
#define FIGURES_COUNTERS(X)                                                                        \
    X(polls, "Polls that were answered")                                                           \
    X(polls_not_counted, "Polls that showed no member, or unsound settings")                       \
    X(polls_of_standby, "Polls that a standby answered")                                           \
    X(rows, "Mutations read")                                                                      \
    X(own_rows, "Mutations read that were published for this host, and left out")                  \
    X(batches, "Batches that the daemon has settled")                                              \
    X(published, "Mutations of this host put into the outbox")                                     \
    X(refused, "Mutations of this host that the database refused")                                 \
    X(acknowledged, "Acknowledgements given")                                                      \
    X(everywhere_acknowledged, "Mutations of this host that all members acknowledged")             \
    X(everywhere_by_time, "Mutations of this host that time proved everywhere")                    \
    X(wakes, "Wake-ups sent")                                                                      \
    X(woken, "Wake-ups received")                                                                  \
    X(trimmed, "Rows removed by retention")                                                        \
    X(engine_opened, "Connections to the database begun")                                          \
    X(engine_failed, "Connections to the database that failed or were given up")                   \
    X(daemon_lost, "Connections to the daemon that ended")

#define BATCH_SIZES 8 /* the last but one: 4096 rows, ENGINE_ROWS_MAX */

struct figures {
#define FIGURES_MEMBER(name, help) uint64_t name;
    FIGURES_COUNTERS(FIGURES_MEMBER)
#undef FIGURES_MEMBER
    uint64_t everything[RELAY_REASON_COUNT];
    /* coarse clock: t0 of the last batch that counts and is settled; 0: none */
    uint64_t fresh_ns;
    /* what was left of L_net at the next such batch; UINT64_MAX: none yet */
    uint64_t margin_min_ns;
    uint32_t lease_ms;
    bool engine_ready, daemon_ready, member, watch_broken;
    size_t publications;
    /* start to answer */
    struct histogram poll_ns;
    /* batch sent to receipt */
    struct histogram settle_ns;
    /* handed over to proved by acknowledgements */
    struct histogram everywhere_ns;
    /* poll begun to its acknowledgement sent */
    struct histogram acknowledge_ns;
    /* how many batches had at most 1, 4, 16, ... rows; the last: more */
    uint64_t batch_sizes[BATCH_SIZES];
    uint64_t batch_rows;
};

void figures_init(struct figures *figures);

/* A batch that counts is settled: it was read at t0_ns. */
void figures_fresh(struct figures *figures, uint64_t t0_ns, uint64_t now_ns);

/* A batch with so many rows goes to the daemon. */
void figures_batch(struct figures *figures, size_t rows);

void figures_print(const struct figures *figures, uint64_t now_ns, FILE *out);

/* Replaces the file, so that a reader sees a whole one. 0 or negative errno. */
MUST_USE int figures_write(const struct figures *figures, uint64_t now_ns, const char *path);

#endif
