/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The daemon: one struct owns everything by value. A turn of the loop is handled as a group: the
 * requests that its budget allows, then one submit to the persister, then the answers whose events
 * are safe.
 */
#ifndef ETAGD_SERVER_H
#define ETAGD_SERVER_H

#include "cache.h"
#include "endpoint.h"
#include "entry_loader.h"
#include "histogram.h"
#include "huge_pages.h"
#include "intake.h"
#include "journal.h"
#include "lease.h"
#include "peer.h"
#include "pending.h"
#include "persist.h"
#include "relay_link.h"
#include "spool.h"
#include "supervisor.h"

struct server {
    struct config config;
    struct log log;
    /* of what peers can cause */
    struct log_limit log_limit;
    struct supervisor supervisor;
    struct endpoint endpoint;
    struct store *store;
    struct index *index;
    struct cache cache;
    struct persist *persist;
    struct unstored unstored;
    /* NULL: answers wait for the store */
    struct journal *journal;
    /* NULL: all entries of the former run are there */
    struct entry_loader *loader;
    struct lease lease;
    struct relay_link relay;
    struct spool spool;
    struct loop *loop;
    /* errno with which the kernel refused io_uring; 0: it did not */
    int loop_refused;
    struct peers peers;
    struct intake intake;
    struct strangers *strangers;
    /* guards and holds are over whose turn did not come */
    bool expire_more;
    /* answers that wait for their event to be persisted */
    struct pending mutations;
    struct pending syncs;
    /* of peers: from the last byte's arrival to the answer */
    struct histogram mutation_times;
    /* of the request being handled */
    struct arena arena;
    /* a record being packed */
    struct buffer scratch;
    /* of the request being handled */
    struct key key;
    int signal_fd;
    uint64_t started_wall_ms;
    uint64_t incarnation;
    bool warm;
    /* events that the former run's journal had, and its store had not */
    uint64_t journaled;
    /* NULL: not, or not yet */
    struct huge_pages *huge_pages;
    /* of the last renewal: said once */
    int lease_error;
    bool serving;
    bool stopping;
    /* our place was taken or our numbers are used up: exit with an error */
    bool lost;
};

/* Starts: locks, recovery, index, socket. signal_fd: consumed. 0 or -1 (logged). The struct is
 * large: not on a stack. */
MUST_USE int server_init(struct server *server, const struct config *config, int signal_fd);
/* Serves until SIGTERM or SIGINT. 0, or -1 where it ended by an error (logged). */
MUST_USE int server_run(struct server *server);
/* Stops: revokes the lease, persists what is left. Safe after a failed init. */
void server_deinit(struct server *server);

#endif
