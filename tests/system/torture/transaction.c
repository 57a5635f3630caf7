/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Both sides of a transaction. A client opens it, which locks its rows, and then either commits at
 * once or posts it. From there on it is the database's: the client may be killed, and the commit
 * happens all the same, or not, until its deadline. Locks of a client that died go with the
 * process; the database sees to that.
 */
#include "worker.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

/* A commit is not begun to be made visible so shortly before its deadline: this process may be
 * scheduled late. */
#define DATABASE_SLACK_NS (30 * NS_PER_MS)

void rows_unlock(struct truth *truth, uint32_t slot)
{
    for (uint32_t i = 0; i < TRUTH_KEYS; i++) {
        uint32_t mine = slot + 1;
        atomic_compare_exchange_strong(&truth->rows[i].locked_by, &mine, 0);
    }
}

static void txn_unlock(struct truth *truth, struct slot *slot)
{
    for (uint32_t i = 0; i < slot->key_count; i++)
        atomic_store(&truth->rows[slot->keys[i]].locked_by, 0);
}

/* ---- The client's side ---- */

bool txn_begin(struct worker *w, uint32_t first_key, uint32_t key_count)
{
    struct slot *slot = w->slot;

    slot->key_count = 0;
    slot->begin_ns = 0;
    atomic_store(&slot->state, SLOT_OPEN);
    for (uint32_t i = 0; i < key_count; i++) {
        struct row *row = &w->truth->rows[first_key + i];
        uint32_t nobody = 0;
        if (!atomic_compare_exchange_strong(&row->locked_by, &nobody, w->number + 1)) {
            txn_rollback(w);
            return false;
        }
        slot->keys[slot->key_count] = first_key + i;
        slot->versions[slot->key_count++] = atomic_fetch_add(&row->next_version, 1) + 1;
    }
    return true;
}

static struct record commit_record(const struct slot *slot, uint32_t i, uint64_t begin_ns,
                                   uint64_t end_ns)
{
    return (struct record){.kind = RECORD_COMMIT,
                           .key = slot->keys[i],
                           .version = slot->versions[i],
                           .begin_ns = begin_ns,
                           .end_ns = end_ns,
                           .outcome = OUTCOME_COMMITTED};
}

void txn_commit_now(struct worker *w)
{
    struct slot *slot = w->slot;

    for (uint32_t i = 0; i < slot->key_count; i++) {
        const uint64_t begin_ns = now_ns();
        atomic_store(&w->truth->rows[slot->keys[i]].visible, slot->versions[i]);
        const struct record record = commit_record(slot, i, begin_ns, now_ns());
        worker_record(w, &record);
    }
    COUNT(w, commits_plain);
    txn_unlock(w->truth, slot);
    atomic_store(&slot->state, SLOT_IDLE);
}

void txn_post(struct worker *w, uint64_t delay_ns, uint64_t deadline_ns)
{
    w->slot->due_ns = now_ns() + delay_ns;
    w->slot->deadline_ns = deadline_ns;
    atomic_store(&w->slot->state, SLOT_POSTED);
    atomic_store(&w->truth->posted, 1);
    word_wake(&w->truth->posted);
}

bool txn_wait(struct worker *w)
{
    uint32_t state;

    while ((state = atomic_load(&w->slot->state)) == SLOT_POSTED)
        word_wait(&w->slot->state, SLOT_POSTED, 10 * NS_PER_MS);
    return state == SLOT_COMMITTED;
}

void txn_rollback(struct worker *w)
{
    txn_unlock(w->truth, w->slot);
    txn_end(w);
}

void txn_end(struct worker *w)
{
    atomic_store(&w->slot->state, SLOT_IDLE);
}

/* ---- The database's side ---- */

/* From here on the former version must not be answered. */
static void commit_begin(struct worker *w, struct slot *slot)
{
    for (uint32_t i = 0; i < slot->key_count; i++) {
        struct row *row = &w->truth->rows[slot->keys[i]];
        slot->former_begun[i] = atomic_load(&row->begun);
        row_outcome_set(row, slot->versions[i], OUTCOME_BEGUN);
    }
    slot->begin_ns = now_ns();
    for (uint32_t i = 0; i < slot->key_count; i++)
        atomic_store(&w->truth->rows[slot->keys[i]].begun, slot->versions[i]);
}

static void commit_end(struct worker *w, struct slot *slot, bool committed)
{
    for (uint32_t i = 0; i < slot->key_count; i++) {
        struct row *row = &w->truth->rows[slot->keys[i]];
        struct record record = commit_record(slot, i, slot->begin_ns, 0);
        record.guarded = 1;
        if (committed)
            atomic_store(&row->visible, slot->versions[i]);
        record.end_ns = now_ns();
        const bool late = committed && record.end_ns > slot->deadline_ns;
        record.outcome = late ? OUTCOME_LATE : committed ? OUTCOME_COMMITTED : OUTCOME_ROLLED_BACK;
        row_outcome_set(row, slot->versions[i], (enum outcome)record.outcome);
        if (!committed)
            atomic_store(&row->begun, slot->former_begun[i]);
        if (late)
            COUNT(w, commits_late);
        worker_record(w, &record);
    }
    if (committed)
        COUNT(w, commits_guarded);
    else
        COUNT(w, rollbacks);
    txn_unlock(w->truth, slot);
    atomic_store(&slot->state, committed ? SLOT_COMMITTED : SLOT_ROLLED_BACK);
    word_wake(&slot->state);
}

/* It came too late: its client was stopped on the way. It never begins. */
static void commit_refuse(struct worker *w, struct slot *slot)
{
    COUNT(w, rollbacks);
    txn_unlock(w->truth, slot);
    atomic_store(&slot->state, SLOT_ROLLED_BACK);
    word_wake(&slot->state);
}

/* False: nothing of it is open. */
static bool posted_step(struct worker *w, struct slot *slot)
{
    if (atomic_load(&slot->state) != SLOT_POSTED)
        return false;
    const uint64_t now = now_ns();
    const bool too_late = now + DATABASE_SLACK_NS >= slot->deadline_ns;
    if (slot->begin_ns == 0 && !too_late)
        commit_begin(w, slot);
    if (slot->begin_ns == 0)
        commit_refuse(w, slot);
    else if (too_late)
        commit_end(w, slot, false);
    else if (now >= slot->due_ns)
        commit_end(w, slot, true);
    return atomic_load(&slot->state) == SLOT_POSTED;
}

/* A client that died: what was not posted is rolled back, and the slot is free. */
static void dead_client_step(struct truth *truth, uint32_t number)
{
    struct slot *slot = &truth->slots[number];
    const int32_t pid = atomic_load(&slot->pid);

    if (pid == 0 || atomic_load(&slot->state) == SLOT_POSTED || kill(pid, 0) == 0 || errno != ESRCH)
        return;
    /* It may have posted right before it died. */
    if (atomic_load(&slot->state) == SLOT_POSTED)
        return;
    rows_unlock(truth, number);
    atomic_store(&slot->state, SLOT_IDLE);
    atomic_store(&slot->pid, 0);
}

static bool input_ended(void)
{
    struct pollfd in = {.fd = STDIN_FILENO, .events = POLLIN};
    char byte;

    return poll(&in, 1, 0) > 0 && read(STDIN_FILENO, &byte, 1) <= 0;
}

int database_run(struct worker *w)
{
    uint64_t looked_ns = 0;

    (void)setpriority(PRIO_PROCESS, 0, -10);
    for (;;) {
        bool open = false;
        atomic_store(&w->truth->posted, 0);
        for (uint32_t i = 0; i < TRUTH_SLOTS; i++)
            open |= posted_step(w, &w->truth->slots[i]);
        if (now_ns() - looked_ns > 2 * NS_PER_MS) {
            for (uint32_t i = 0; i < TRUTH_SLOTS; i++)
                dead_client_step(w->truth, i);
            if (input_ended())
                return 0;
            looked_ns = now_ns();
        }
        word_wait(&w->truth->posted, 0, open ? NS_PER_MS / 4 : 2 * NS_PER_MS);
    }
}
