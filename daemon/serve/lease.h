/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The lease: the daemon's promise, as a deadline in shared memory, that what the memory says is
 * current (rules
 * of docs/consistency.md, "Lease and start"). Each rule is one named function. Nothing else writes
 * the lease word.
 */
#ifndef ETAGD_LEASE_H
#define ETAGD_LEASE_H

#include "endpoint.h"
#include "freshness.h"
#include "histogram.h"
#include "shm.h"
#include "spool_dir.h"
#include "store.h"

struct lease {
    /* L */
    uint64_t length_ns;
    /* when the locks were taken */
    uint64_t locked_ns;
    /* rule START_WAIT: before the first answer */
    uint64_t wait_ns;
    /* when the next renewal is due */
    uint64_t next_ns;
    /* the last one published */
    uint64_t deadline_ns;
    /* what it would have been without the relay */
    uint64_t own_ns;
    /* L stands beside the lock */
    bool recorded;
    bool paused;
    char pause_path[PATH_BYTES_MAX + 16];
    /* borrowed, as all below */
    struct endpoint *endpoint;
    const struct store *store;
    const struct freshness *freshness;
    struct shm_view *view;
    struct spool_dir *spool;
    /* Rule SCAN_AT_RENEWAL: applies every spool file to the clocks, and raises the floor where the
     * machine was suspended since the
     * last renewal. 0, or a negative errno: not everything was applied. */
    int (*settle)(void *ctx, bool suspended);
    void *ctx;
    /* CLOCK_BOOTTIME less CLOCK_MONOTONIC, at the last renewal; 0: none yet */
    uint64_t suspended_ns;
    /* the start's wait is over, and the spool's mark says so */
    bool settled;
    /* what was left of the lease at each renewal; 0: it was over */
    struct histogram margins;
    /* the smallest of them; UINT64_MAX: none yet */
    uint64_t margin_min_ns;
};

/* given: length, locked_ns (read after the locks were taken) and the borrowed parts.
 * former_lease_ns: the longest lease that a former daemon may have given. state_dir: where the mark
 * of a pause stands. */
void lease_init(struct lease *lease, const struct lease *given, uint64_t former_lease_ns,
                const char *state_dir);

/* Rule START_WAIT: how long this daemon still has to wait before it answers anything; 0: over. */
uint64_t lease_start_wait_ns(const struct lease *lease);

/* Rule CLOCK_BEFORE_SCAN: the only function that renews. 0: renewed, or paused. LEASE_E_LOST: the
 * place is no longer ours, the daemon has to exit. Negative: could not renew this time. */
#define LEASE_E_LOST 1
MUST_USE int lease_renew(struct lease *lease);

/* When the next renewal is due: 0 if now. */
uint64_t lease_due_in_ns(const struct lease *lease);

/* Takes the promise back at once: at a pause, at the end. */
void lease_revoke(struct lease *lease);

/* The kill switch: no lease until resume. It outlives the daemon (a mark in the state directory). 0
 * or negative errno. */
MUST_USE int lease_pause(struct lease *lease);
MUST_USE int lease_resume(struct lease *lease);

#endif
