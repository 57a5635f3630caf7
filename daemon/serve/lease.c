/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why a lease: a front end that reads the memory cannot know whether the daemon is still alive and
 * still applies every mutation. The deadline tells it how long it may believe what it reads. A
 * daemon that stalls stops renewing, and after one L no front end trusts the memory any more.
 *
 * The order inside lease_renew() is the proof: it reads the clock first, so everything that it
 * checks is checked later than the time from which the deadline counts.
 *
 * With a relay there is a second deadline, and the earlier one counts: freshness.h.
 */
#include "lease.h"

#include "clocktime.h"
#include "delay_point.h"
#include "numbers.h"

#include <errno.h>
#include <fcntl.h>

#define RENEWALS_PER_LEASE 5
#define SUSPEND_NS_MIN (100 * NS_PER_MS)

void lease_init(struct lease *lease, const struct lease *given, uint64_t former_lease_ns,
                const char *state_dir)
{
    *lease = *given;
    lease->margin_min_ns = UINT64_MAX;
    lease->wait_ns = max_of(former_lease_ns, lease->length_ns);
    snprintf(lease->pause_path, sizeof(lease->pause_path), "%s/paused", state_dir);
    lease->paused = access(lease->pause_path, F_OK) == 0;
}

uint64_t lease_start_wait_ns(const struct lease *lease)
{
    const uint64_t until = lease->locked_ns + lease->wait_ns;
    const uint64_t now = time_coarse_ns();

    return now < until ? until - now : 0;
}

/* Rule PLACE_IS_OURS: the state lock, the spool's lock, the socket's lock and the socket path are
 * still the ones that we took. A daemon whose place was taken must not go on promising. */
static bool lease_place_is_ours(const struct lease *lease)
{
    return store_still_owned(lease->store) == 0 && endpoint_still_owned(lease->endpoint) &&
           spool_dir_still_owned(lease->spool);
}

/* Rule RECORDED_LEASE, for the next daemon: L is beside the lock before a reader may trust a
 * deadline made of it. */
static int lease_record_length(struct lease *lease)
{
    if (lease->recorded)
        return 0;
    const int r = endpoint_record_lease(lease->endpoint, lease->length_ns);
    lease->recorded = r == 0;
    return r;
}

/* Rule MARK_KEPT_IN_WAIT: from the first renewal on no lease but ours can run, and the spool's mark
 * need not say more. */
static int lease_settle_mark(struct lease *lease)
{
    if (lease->settled)
        return 0;
    const int r = spool_dir_settle(lease->spool, lease->length_ns);
    lease->settled = r == 0;
    return r;
}

/* While a machine sleeps CLOCK_MONOTONIC does not run: entries would live longer than was said. */
static bool machine_was_suspended(struct lease *lease)
{
    const uint64_t monotonic_ns = time_ns_of(CLOCK_MONOTONIC);
    const uint64_t suspended_ns = time_ns_of(CLOCK_BOOTTIME) - monotonic_ns;
    const bool longer = lease->suspended_ns != 0 &&
                        suspended_ns > lease->suspended_ns + SUSPEND_NS_MIN;

    if (lease->suspended_ns == 0 || longer)
        lease->suspended_ns = suspended_ns;
    return longer;
}

/* For people. No deadline: the first renewal, or one after a pause. */
static void margin_note(struct lease *lease)
{
    const uint64_t now = time_coarse_ns();
    const uint64_t margin_ns = now < lease->own_ns ? lease->own_ns - now : 0;

    if (lease->own_ns == 0)
        return;
    histogram_add(&lease->margins, margin_ns);
    if (margin_ns < lease->margin_min_ns)
        lease->margin_min_ns = margin_ns;
}

/* The caller has just read the spool: the clock is read before everything that the
 * lease vouches for. */
int lease_renew(struct lease *lease)
{
    const uint64_t now = time_coarse_ns();

    lease->next_ns = now + lease->length_ns / RENEWALS_PER_LEASE;
    if (!lease_place_is_ours(lease))
        return LEASE_E_LOST;
    int r = lease_settle_mark(lease);
    DELAY_POINT("lease.clock_scan");
    if (r == 0)
        r = lease->settle(lease->ctx, machine_was_suspended(lease));
    if (r == 0)
        r = lease_record_length(lease);
    if (r < 0 || lease->paused)
        return r;
    margin_note(lease);
    DELAY_POINT("lease.scan_word");
    lease->own_ns = now + lease->length_ns;
    lease->deadline_ns = freshness_bound(lease->freshness, lease->own_ns);
    shm_lease_store(lease->view, lease->deadline_ns);
    DELAY_POINT("lease.word_told");
    return 0;
}

uint64_t lease_due_in_ns(const struct lease *lease)
{
    const uint64_t now = time_coarse_ns();

    return now < lease->next_ns ? lease->next_ns - now : 0;
}

void lease_revoke(struct lease *lease)
{
    lease->deadline_ns = lease->own_ns = 0;
    shm_lease_store(lease->view, 0);
}

int lease_pause(struct lease *lease)
{
    CLEANUP(cleanup_fd)
    int fd = open(lease->pause_path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    const int r = fd < 0 ? -errno : 0;

    /* Paused even where the mark cannot be written: the caller gets the error, and this run
     * obeys. */
    lease->paused = true;
    lease_revoke(lease);
    return r;
}

int lease_resume(struct lease *lease)
{
    if (unlink(lease->pause_path) < 0 && errno != ENOENT)
        return -errno;
    lease->paused = false;
    lease->next_ns = 0;
    return 0;
}
