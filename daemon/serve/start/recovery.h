/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Makes an index that may be served from what a former run left: decides whether the state can be
 * trusted (warm) or not (cold), makes the new incarnation durable, and loads clocks, open guards,
 * and the events of store and journal. Entries are loaded afterwards (entry_loader.h).
 */
#ifndef ETAGD_RECOVERY_H
#define ETAGD_RECOVERY_H

#include "cache.h"
#include "journal.h"
#include "store.h"

struct recovery {
    bool warm;
    /* the data file must not be used any more, whatever is in it */
    bool data_lost;
    /* NULL if warm; else static text, or the text in 'damage' */
    const char *cold_reason;
    /* the meta record of this run */
    struct store_meta meta;
    /* when the state lock was taken, CLOCK_MONOTONIC_COARSE */
    uint64_t locked_ns;
    /* the former run's L; 0: no former run */
    uint64_t former_lease_ns;
    /* errno of the witness, for which the next start cannot be warm; 0: none */
    int witness_error;
    /* there was a former run: its meta record, witness or journal was found, or a database that
     * could not be used. (The lease recorded beside the lock is a trace too: struct endpoint.) */
    bool had_former;
    /* for how long a cold start keeps the floor in flux, for guards that were lost; 0: not at
     * all */
    uint64_t cold_hold_ms;
    /* the longest guard_linger that a writer of this or the former run got in its hello */
    uint64_t linger_ns;
    /* as far as is known, the machine was not restarted since the former run */
    bool former_boot_same;
    /* the former run's meta record; zeros if not known */
    struct store_meta former;
    /* events of the journal that the store did not have */
    uint64_t journal_events;
    /* errno for which this run has no journal; 0: it has one, or needs none */
    int journal_error;
    /* borrowed from the configuration */
    const char *socket_path;
    /* what is wrong with the former state */
    struct why damage;
};

/* Traces of a former run outside its state directory. */
struct recovery_traces {
    bool any;
    /* the former run's guard_linger; 0: not known */
    uint64_t linger_ns;
    /* the mark of the former run's spool has another version */
    bool spool_other;
};

/* Opens the store (sets a damaged one aside), decides between warm and cold, makes the new
 * incarnation durable. Returns 0, or -1 with why. */
MUST_USE int recovery_open(struct recovery *recovery, struct store **store,
                           const struct config *config, const struct recovery_traces *traces,
                           struct why *why);

/* If warm: loads clocks, open guards and events into the cache, and puts the journal's events into
 * the store. If cold: only opens the hold for guards that were lost (cold_hold_ms). Returns 0, or a
 * negative errno: the state cannot be used. Then the caller calls recovery_set_aside(), makes a new
 * cache, and calls this again. */
MUST_USE int recovery_load(struct recovery *recovery, struct store *store, struct cache *cache);

/* Sets the stored state aside and begins a new one with this run's incarnation: the start is cold.
 * Returns 0, or -1 with why. */
MUST_USE int recovery_set_aside(struct recovery *recovery, struct store *store, struct why *why);

/* Begins this run's journal if the durability is "process". Call it after recovery_load(), which
 * needs the former journal. Returns NULL if there is none (see journal_error): then every answer
 * has to wait for the store. */
struct journal *recovery_journal(struct recovery *recovery, struct store *store,
                                 const struct config *config);

#endif
