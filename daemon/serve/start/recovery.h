/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From what a former run left to an index that may be served: is the state to be trusted (warm) or
 * not (cold), the new incarnation, clocks, open guards, events of store and journal. Entries come
 * afterwards (loading.h).
 */
#ifndef ETAGD_RECOVERY_H
#define ETAGD_RECOVERY_H

#include "cache.h"
#include "journal.h"
#include "store.h"

struct recovery {
    bool warm;
    /* the data file is not to be used any more, whatever is in it */
    bool data_lost;
    /* NULL where warm; static text, or damage below */
    const char *cold_reason;
    /* of this run */
    struct store_meta meta;
    /* CLOCK_MONOTONIC_COARSE, just after the state lock was taken */
    uint64_t locked_ns;
    /* 0: no former run */
    uint64_t former_lease_ns;
    /* why the next start cannot be warm; 0: it can */
    int witness_error;
    /* There was a former run: its meta record, its witness, its journal, or a database that could
     * not be used. (The lease recorded beside the lock is a trace too: struct endpoint.) */
    bool had_former;
    /* at a cold start the floor is in flux for so long; 0: not at all */
    uint64_t cold_hold_ms;
    /* the longest that a writer of this or the former run was told */
    uint64_t linger_ns;
    /* the machine was not started anew since, as far as it is known */
    bool former_boot_same;
    /* zero where it is not known */
    struct store_meta former;
    /* that the store did not have */
    uint64_t journal_events;
    /* why this run has no journal; 0: it has, or needs none */
    int journal_error;
    /* borrowed: of the configuration */
    const char *socket_path;
    /* what is wrong with the former state */
    struct why damage;
};

/* What else is known of a former run, besides the state. */
struct recovery_traces {
    bool any;
    /* its guard_linger; 0: not known */
    uint64_t linger_ns;
    /* the mark of its spool is of another version */
    bool spool_other;
};

/* Opens the store (sets a damaged one aside), decides, makes the new incarnation durable. 0 or -1
 * with why. */
MUST_USE int recovery_open(struct recovery *recovery, struct store **store,
                           const struct config *config, const struct recovery_traces *traces,
                           struct why *why);

/* Loads clocks, open guards and events into the cache, where warm, and puts the journal's events
 * into the store. Where cold: only the hold that stands for forgotten guards. Returns 0, or a
 * negative errno: the state cannot be used; recovery_set_aside, a new cache, and again. */
MUST_USE int recovery_load(struct recovery *recovery, struct store *store, struct cache *cache);

/* Sets the stored state aside and begins a new one with this run's incarnation: the start is cold.
 * 0 or -1 with why. */
MUST_USE int recovery_set_aside(struct recovery *recovery, struct store *store, struct why *why);

/* Begins this run's journal, where its durability is "process"; after recovery_load, which needs
 * the former one. NULL: there is none (see journal_error), and every answer has to wait for the
 * store. */
struct journal *recovery_journal(struct recovery *recovery, struct store *store,
                                 const struct config *config);

#endif
