/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The daemon: one struct owns everything by value. It handles a turn of the loop as a group: the
 * requests that the turn's budget allows, then one submit to the persister, then the answers whose
 * events are safe.
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
    /* for log lines that peers can cause */
    struct log_limit log_limit;
    struct supervisor supervisor;
    struct endpoint endpoint;
    struct store *store;
    struct index *index;
    struct cache cache;
    struct persist *persist;
    struct unstored unstored;
    /* NULL: there is none, so answers wait for the store */
    struct journal *journal;
    /* NULL: all entries of the former run are loaded */
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
    /* the time of some guards and holds is over, and this turn had no room to end them */
    bool expire_more;
    /* answers that wait until their event is safe in the store */
    struct pending mutations;
    struct pending syncs;
    /* durations of peers' mutations: from the arrival of the last byte to the answer */
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
    /* events that were in the former run's journal and not in its store */
    uint64_t journaled;
    /* NULL: off, or not started yet */
    struct huge_pages *huge_pages;
    /* error of the last renewal, so that the same one is logged once */
    int lease_error;
    bool serving;
    bool stopping;
    /* another daemon took our place, or the LSNs are used up: exit with an error */
    bool lost;
};

/* Starts: locks, recovery, index, socket. signal_fd: consumed. Returns 0 or -1 (logged). The struct
 * is too large for a stack. */
MUST_USE int server_init(struct server *server, const struct config *config, int signal_fd);
/* Serves until SIGTERM or SIGINT. Returns 0, or -1 if an error ended it (logged). */
MUST_USE int server_run(struct server *server);
/* Stops: revokes the lease, persists what is left. Safe after a failed server_init(). */
void server_deinit(struct server *server);

#endif
