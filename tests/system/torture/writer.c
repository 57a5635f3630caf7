/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A writer does what etag.h says that a write path has to do, and nothing more. Sometimes it dies
 * in the middle.
 *
 * Its calls are bounded: what one takes beyond the client's timeout is measured, unless the nemesis
 * had this process stopped meanwhile.
 */
#include "worker.h"

#include <stdio.h>

struct mutation {
    uint32_t first_key, key_count;
    struct names names[TXN_KEYS_MAX];
    etag_resource resources[TXN_KEYS_MAX], prefix;
    etag_str surrogates[TXN_KEYS_MAX], family;
    etag_targets targets;
    bool
        /* its guard may be over before it is confirmed, and its commit takes a while */
        long_lived;
};

/* ---- The time that calls take ---- */

struct call {
    uint64_t began_ns, stops;
};

static struct call call_begin(struct worker *w)
{
    return (struct call){now_ns(), atomic_load(&w->truth->stops[w->number])};
}

static void call_end(struct worker *w, struct call call, const char *what)
{
    const uint64_t took_ns = now_ns() - call.began_ns;
    const uint64_t own_ns = w->timeout_ms * NS_PER_MS;
    const uint64_t over_ns = took_ns > own_ns ? took_ns - own_ns : 0;

    if (call.stops % 2 != 0 || call.stops != atomic_load(&w->truth->stops[w->number]))
        return;
    raise_to(&w->truth->longest_call_ns, over_ns);
    raise_to(&w->truth->longest_wait_ns, took_ns);
    if (over_ns > w->bound_ns) {
        COUNT(w, violations_bound);
        (void)fprintf(stderr, "violation: %s took %.3f s with a timeout of %u ms\n", what,
                      (double)took_ns / 1e9, w->timeout_ms);
    }
}

/* ---- What is changed, and how it is named ---- */

/* A write to a path with dot segments reaches all that it may lead to. */
static void resource_dot(struct worker *w, struct mutation *m, uint32_t i)
{
    if (!one_in(w, 8))
        return;
    COUNT(w, dotted_mutations);
    names_dotted(&m->names[i], m->first_key + i, random_below(w, 64));
    m->resources[i].target = etag_str_of(m->names[i].dotted);
}

static void mutation_name(struct worker *w, struct mutation *m, uint64_t way)
{
    etag_targets *targets = &m->targets;

    for (uint32_t i = 0; i < m->key_count; i++) {
        names_of(&m->names[i], m->first_key + i);
        m->resources[i] = (etag_resource){.host = ETAG_LIT("torture.example"),
                                          .target = etag_str_of(m->names[i].path)};
        m->surrogates[i] = etag_str_of(m->names[i].surrogate);
    }
    ETAG_INIT(targets);
    if (way < 1) {
        targets->everything = true;
    } else if (way < 10) {
        m->prefix = (etag_resource){.host = ETAG_LIT("torture.example"),
                                    .target = etag_str_of(m->names[0].prefix)};
        targets->prefixes = &m->prefix;
        targets->prefix_count = 1;
    } else if (way < 20) {
        m->family = etag_str_of(m->names[0].family);
        targets->families = &m->family;
        targets->family_count = 1;
    } else if (way < 30) {
        m->surrogates[0] = etag_str_of(m->names[0].group);
        targets->surrogates = m->surrogates;
        targets->surrogate_count = 1;
    } else if (way < 500) {
        for (uint32_t i = 0; i < m->key_count; i++)
            resource_dot(w, m, i);
        targets->resources = m->resources;
        targets->resource_count = m->key_count;
    } else {
        targets->surrogates = m->surrogates;
        targets->surrogate_count = m->key_count;
    }
    if (one_in(w, 200)) {
        targets->hold_ms = 20 + (uint32_t)random_below(w, 200);
        COUNT(w, holds);
    }
}

/* One row, or a few of a group. */
static void mutation_pick(struct worker *w, struct mutation *m)
{
    m->first_key = key_pick(w);
    m->key_count = 1;
    if (one_in(w, 5)) {
        const uint32_t left = TRUTH_GROUP_KEYS - m->first_key % TRUTH_GROUP_KEYS;
        m->key_count += (uint32_t)random_below(w, TXN_KEYS_MAX);
        if (m->key_count > left)
            m->key_count = left;
    }
    mutation_name(w, m, random_below(w, 1000));
}

/* ---- Answered ---- */

static void publish(struct worker *w, const struct mutation *m, const uint64_t *versions)
{
    const uint64_t answered_ns = now_ns();

    for (uint32_t i = 0; i < m->key_count; i++) {
        const struct record record = {.kind = RECORD_ANSWERED,
                                      .slot = (uint8_t)w->number,
                                      .key = m->first_key + i,
                                      .version = versions[i],
                                      .begin_ns = answered_ns,
                                      .end_ns = answered_ns};
        worker_record(w, &record);
        raise_to(&w->truth->rows[m->first_key + i].published, versions[i]);
    }
}

static void answer_count(struct worker *w, etag_status status, const etag_receipt *receipt)
{
    if (status == ETAG_OK) {
        COUNT(w, invalidations);
        if (receipt->lsn == 0)
            COUNT(w, invalidations_spooled);
    } else if (status == ETAG_PENDING) {
        COUNT(w, invalidations_pending);
    } else {
        COUNT(w, invalidations_failed);
    }
}

/* Until it is answered OK: PENDING and errors promise nothing. */
static void invalidate(struct worker *w, const struct mutation *m, const uint64_t *versions)
{
    etag_receipt receipt;

    ETAG_INIT(&receipt);
    if (w->wrong && one_in(w, 50)) {
        publish(w, m, versions);
        return;
    }
    while (!run_is_over(w)) {
        const struct call call = call_begin(w);
        const etag_status status = etag_invalidate(w->client, &m->targets, &receipt);
        call_end(w, call, "etag_invalidate()");
        answer_count(w, status, &receipt);
        if (status == ETAG_OK) {
            publish(w, m, versions);
            return;
        }
        if (one_in(w, 100))
            worker_vanish();
        sleep_ns(2 * NS_PER_MS);
    }
}

/* ---- Without a guard ---- */

static void versions_copy(struct worker *w, uint64_t versions[TXN_KEYS_MAX])
{
    for (uint32_t i = 0; i < w->slot->key_count; i++)
        versions[i] = w->slot->versions[i];
}

static void write_plainly(struct worker *w, struct mutation *m)
{
    uint64_t versions[TXN_KEYS_MAX];

    if (!txn_begin(w, m->first_key, m->key_count))
        return;
    versions_copy(w, versions);
    txn_commit_now(w);
    if (one_in(w, 2000))
        worker_vanish();
    invalidate(w, m, versions);
}

/* ---- With a guard ---- */

static void vanish_sometimes(struct worker *w)
{
    if (!one_in(w, 400))
        return;
    COUNT(w, guards_abandoned);
    worker_vanish();
}

static etag_guard *guard_begin(struct worker *w, const struct mutation *m)
{
    etag_guard *guard = NULL;
    const struct call call = call_begin(w);
    const etag_status status = etag_guard_begin(w->client, &m->targets, &guard);

    call_end(w, call, "etag_guard_begin()");
    if (status == ETAG_OK)
        COUNT(w, guards_begun);
    else
        COUNT(w, guards_not_begun);
    return status == ETAG_OK ? guard : NULL;
}

static void guard_abort(struct worker *w, etag_guard *guard)
{
    const struct call call = call_begin(w);

    const etag_status status = etag_guard_abort(guard);
    call_end(w, call, "etag_guard_abort()");
    if (status == ETAG_OK)
        COUNT(w, guards_aborted);
    else if (status == ETAG_PENDING)
        COUNT(w, guards_abort_pending);
    else
        COUNT(w, guards_abort_failed); /* it lingers */
}

/* The deadline of COMMIT; 0: it must not be tried. */
static uint64_t guard_confirm(struct worker *w, etag_guard *guard, const struct mutation *m)
{
    const struct call call = call_begin(w);
    const etag_status status = etag_guard_confirm(guard);

    call_end(w, call, "etag_guard_confirm()");
    if (status != ETAG_OK) {
        COUNT(w, guards_not_confirmed);
        return 0;
    }
    COUNT(w, guards_confirmed);
    vanish_sometimes(w);
    if (m->long_lived && one_in(w, 2))
        sleep_ns(random_below(w, 900 * NS_PER_MS));
    /* The clock first: a process may be stopped in between. */
    const uint64_t now = now_ns();
    const uint32_t left_ms = etag_guard_time_left_ms(guard);
    if (left_ms == 0)
        COUNT(w, guards_without_time);
    return left_ms == 0 ? 0 : now + left_ms * NS_PER_MS;
}

static void guard_commit(struct worker *w, etag_guard *guard, const struct mutation *m,
                         const uint64_t *versions)
{
    etag_receipt receipt;

    ETAG_INIT(&receipt);
    const struct call call = call_begin(w);
    const etag_status status = etag_guard_commit(guard, &receipt);
    call_end(w, call, "etag_guard_commit()");
    answer_count(w, status, &receipt);
    if (status == ETAG_OK) {
        COUNT(w, guards_committed);
        publish(w, m, versions);
        return;
    }
    COUNT(w, guards_commit_failed);
    invalidate(w, m, versions);
}

/* Mostly at once; sometimes slow; rarely so slow that the bound has to stop it. */
static uint64_t commit_delay_ns(struct worker *w, const struct mutation *m)
{
    const uint64_t way = random_below(w, 256);

    if (m->long_lived)
        return random_below(w, 150 * NS_PER_MS);
    if (way < 1)
        return random_below(w, 1500 * NS_PER_MS);
    if (way < 6)
        return random_below(w, 150 * NS_PER_MS);
    return way < 24 ? random_below(w, 5 * NS_PER_MS) : 0;
}

static void transaction_under(struct worker *w, etag_guard *guard, const struct mutation *m)
{
    uint64_t versions[TXN_KEYS_MAX];

    if (!txn_begin(w, m->first_key, m->key_count)) {
        guard_abort(w, guard);
        return;
    }
    versions_copy(w, versions);
    if (m->long_lived && one_in(w, 2))
        sleep_ns(random_below(w, 1500 * NS_PER_MS));
    else if (one_in(w, 16))
        sleep_ns(random_below(w, 30 * NS_PER_MS));
    const uint64_t deadline_ns = guard_confirm(w, guard, m);
    if (deadline_ns == 0 || one_in(w, 20)) {
        txn_rollback(w);
        guard_abort(w, guard);
        return;
    }
    txn_post(w, commit_delay_ns(w, m), deadline_ns);
    vanish_sometimes(w);
    const bool forgets = one_in(w, 200);
    if (forgets) {
        COUNT(w, guards_forgotten);
        guard = etag_guard_forget(guard);
    }
    const bool committed = txn_wait(w);
    txn_end(w);
    if (forgets)
        return;
    vanish_sometimes(w);
    if (committed)
        guard_commit(w, guard, m, versions);
    else
        guard_abort(w, guard);
}

static void write_guarded(struct worker *w, struct mutation *m)
{
    m->long_lived = one_in(w, 200);
    if (m->long_lived || one_in(w, 8))
        m->targets.max_ms = 50 + (uint32_t)random_below(w, m->long_lived ? 100 : 500);
    etag_guard *guard = guard_begin(w, m);
    if (!guard) {
        sleep_ns(NS_PER_MS);
        return;
    }
    vanish_sometimes(w);
    transaction_under(w, guard, m);
}

void writer_step(struct worker *w)
{
    struct mutation m;

    mutation_pick(w, &m);
    if (w->guards && one_in(w, 2))
        write_guarded(w, &m);
    else
        write_plainly(w, &m);
    sleep_ns(random_below(w, 2 * NS_PER_MS));
}
