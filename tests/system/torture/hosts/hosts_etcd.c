/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writers whose log is etcd, which knows nothing of their transactions: the truth is that of one
 * host, a file that all processes map. After COMMIT they call etag_invalidate(), under a guard or
 * not, and what it answered OK is due.
 *
 * Some say it twice: with a hold before COMMIT, and again after it. Of those some say nothing
 * after COMMIT, as if they had died there, or they do die. What they committed is due all the same,
 * from the moment by which each host has applied the first event: until its hold is over the host
 * answers nothing, and later what it fills is as new as the COMMIT. But only where COMMIT was
 * within the hold, counted from before the first call: a host may have applied it as early as that.
 */
#include "hosts_write.h"

#define HOLD_MS_MIN 300
#define HOLD_MS_MAX 2000 /* at most HOSTS_LINGER_MS of etcd_hosts.py: a cold start forgets holds */
#define HOLD_MARGIN_NS (50 * NS_PER_MS) /* coarse clocks lag */

struct hold {
    /* 0: none */
    uint64_t answered_ns, until_ns;
};

/* ---- Before COMMIT ---- */

/* Nothing is changed before it is in the log. */
static bool hold_begin(struct worker *w, struct write *write, struct hold *hold)
{
    const uint64_t begin_ns = now_ns();
    etag_receipt receipt;

    ETAG_INIT(&receipt);
    write->targets.hold_ms = HOLD_MS_MIN + (uint32_t)random_below(w, HOLD_MS_MAX - HOLD_MS_MIN);
    write->targets.reach = ETAG_REACH_LOG;
    const etag_status status = etag_invalidate(w->client, &write->targets, &receipt);
    *hold = (struct hold){.answered_ns = now_ns(),
                          .until_ns = begin_ns + write->targets.hold_ms * NS_PER_MS};
    write->targets.hold_ms = 0;
    if (status == ETAG_OK)
        return true;
    HOSTS_COUNT(w, holds_failed);
    sleep_ns(20 * NS_PER_MS);
    return false;
}

static void guard_begin(struct worker *w, struct write *write)
{
    if (etag_guard_begin(w->client, &write->targets, &write->guard) != ETAG_OK)
        HOSTS_COUNT(w, unguarded);
}

/* ---- COMMIT ---- */

static bool committed(struct worker *w, struct write *write)
{
    if (!txn_begin(w, write->key, 1))
        return false;
    write->version = w->slot->versions[0];
    if (one_in(w, 16))
        sleep_ns(random_below(w, 20 * NS_PER_MS));
    else if (one_in(w, 40))
        sleep_ns(random_below(w, 1500 * NS_PER_MS));
    if (write->guard && etag_guard_confirm(write->guard) != ETAG_OK) {
        txn_rollback(w);
        return false;
    }
    txn_commit_now(w);
    write->committed_ns = now_ns();
    return true;
}

static void due_by_hold(struct worker *w, const struct write *write, const struct hold *hold)
{
    const uint64_t applied_ns = hold->answered_ns + w->follow_ns;

    if (write->committed_ns + HOLD_MARGIN_NS > hold->until_ns) {
        HOSTS_COUNT(w, holds_late);
        return;
    }
    HOSTS_COUNT(w, holds_kept);
    write_due(w, write, applied_ns > write->committed_ns ? applied_ns : write->committed_ns,
              ETAG_PROOF_LOGGED, 0);
}

/* ---- After it ---- */

/* True: its writer says nothing any more. */
static bool falls_silent(struct worker *w)
{
    if (!one_in(w, 3))
        return false;
    HOSTS_COUNT(w, writes_silent);
    if (one_in(w, 6))
        worker_vanish();
    return true;
}

void hosts_etcd_step(struct worker *w)
{
    struct write write;
    struct hold hold = {0};
    const uint64_t way = random_below(w, 3);

    write_pick(w, &write);
    if (way == 2 && !hold_begin(w, &write, &hold))
        return;
    write.targets.reach = write.everywhere ? ETAG_REACH_EVERYWHERE : ETAG_REACH_LOG;
    if (way == 1)
        guard_begin(w, &write);
    if (!committed(w, &write)) {
        (void)etag_guard_forget(write.guard);
        HOSTS_COUNT(w, writes_failed);
        return;
    }
    if (way == 2) {
        HOSTS_COUNT(w, writes_twice);
        due_by_hold(w, &write, &hold);
        if (falls_silent(w))
            return;
    } else if (write.guard) {
        HOSTS_COUNT(w, writes_guarded);
    } else {
        HOSTS_COUNT(w, writes_plain);
    }
    write_announce(w, &write);
    sleep_ns(random_below(w, 50 * NS_PER_MS));
}
