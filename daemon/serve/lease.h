/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The lease: the daemon's promise, as a deadline in shared memory, that the memory is current
 * (rules in docs/consistency.md, "Lease and start"). Each rule is one function that names it. Only
 * this module writes the lease word. Times are CLOCK_MONOTONIC_COARSE, in ns. Loop thread only.
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
    /* L, the length of a lease */
    uint64_t length_ns;
    /* when this daemon took its locks */
    uint64_t locked_ns;
    /* rule START_WAIT: how long after locked_ns the daemon answers no request */
    uint64_t wait_ns;
    /* when the next renewal is due */
    uint64_t next_ns;
    /* the deadline that was published last */
    uint64_t deadline_ns;
    /* that deadline as it would be without the relay's bound */
    uint64_t own_ns;
    /* L is recorded beside the lock */
    bool recorded;
    bool paused;
    char pause_path[PATH_BYTES_MAX + 16];
    /* borrowed, as the pointers below */
    struct endpoint *endpoint;
    const struct store *store;
    const struct freshness *freshness;
    struct shm_view *view;
    struct spool_dir *spool;
    /* Rule SCAN_AT_RENEWAL: applies every spool file to the clocks, and raises the floor if the
     * machine was suspended since the last renewal. Returns 0, or a negative errno if it did not
     * apply everything: then the lease must not be renewed. */
    int (*settle)(void *ctx, bool suspended);
    void *ctx;
    /* CLOCK_BOOTTIME minus CLOCK_MONOTONIC at the last renewal, which grows when the machine
     * sleeps; 0: no renewal yet */
    uint64_t suspended_ns;
    /* the start's wait is over, and the spool's mark has our own L */
    bool settled;
    /* time left of the lease at each renewal; 0: it was over */
    struct histogram margins;
    /* the smallest of them; UINT64_MAX: none yet */
    uint64_t margin_min_ns;
};

/* given: copied; the caller sets length_ns, locked_ns (the clock, read after the locks were taken),
 * settle, ctx and the borrowed members. former_lease_ns: the longest lease that a former daemon may
 * have given. state_dir: has the file that marks a pause. */
void lease_init(struct lease *lease, const struct lease *given, uint64_t former_lease_ns,
                const char *state_dir);

/* Rule START_WAIT: returns how long this daemon still has to wait before it answers a request; 0:
 * the wait is over. */
uint64_t lease_start_wait_ns(const struct lease *lease);

/* Rule CLOCK_BEFORE_SCAN: renews the lease; nothing else does. Returns 0: renewed, or paused;
 * LEASE_E_LOST: socket, state or spool are no longer ours, so the daemon has to exit; negative:
 * could not renew this time. */
#define LEASE_E_LOST 1
MUST_USE int lease_renew(struct lease *lease);

/* Returns how long until the next renewal is due; 0: now. */
uint64_t lease_due_in_ns(const struct lease *lease);

/* Ends the lease at once, for a pause or the daemon's stop. */
void lease_revoke(struct lease *lease);

/* The kill switch: no lease until lease_resume(), also after a restart, by a file in the state
 * directory. Returns 0 or a negative errno: the file could not be written (or removed).
 * lease_pause() pauses this run all the same. */
MUST_USE int lease_pause(struct lease *lease);
MUST_USE int lease_resume(struct lease *lease);

#endif
