/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From what a former run left to a served index: is the state to be trusted (warm) or not (cold), the new incarnation,
 * clocks, events, entries.
 */
#ifndef ETAGD_RECOVERY_H
#define ETAGD_RECOVERY_H

#include "cache.h"
#include "store.h"

struct recovery {
    bool warm;
    const char *cold_reason;  /* static text, NULL where warm */
    struct store_meta meta;   /* of this run */
    uint64_t locked_ns;       /* CLOCK_MONOTONIC_COARSE, just after the state lock was taken */
    uint64_t former_lease_ns; /* 0: no former run */
    int witness_error;        /* why the next start cannot be warm; 0: it can */
    uint64_t damaged;         /* records that were not used */
};

/* Opens the store (sets a damaged one aside), decides, makes the new incarnation durable. 0 or -1 with why[512]. */
MUST_USE int recovery_open(struct recovery *recovery, struct store **store,
                           const struct config *config, char why[512]);

/* Loads clocks, events and entries into the cache, where warm. Returns 0, or a negative errno: the state cannot be used;
 * recovery_set_aside and start again cold. */
MUST_USE int recovery_load(struct recovery *recovery, struct store *store, struct cache *cache);

/* Sets the stored state aside and begins a new one with this run's incarnation: the start is cold. 0 or -1 with why[512]. */
MUST_USE int recovery_set_aside(struct recovery *recovery, struct store *store, char why[512]);

#endif
