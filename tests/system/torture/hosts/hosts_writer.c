/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writers of many hosts. The version of a row is drawn while its lock is held, from a counter that
 * no promotion sets back, so that no number is ever given twice.
 *
 * What was answered OK for "everywhere" is due at once. What is in the log is due when the other
 * hosts must have followed: a while after its COMMIT.
 */
#include "hosts_write.h"

#include <inttypes.h>
#include <stdio.h>

/* ---- What is changed, and how it is named ---- */

static void write_event(struct write *write, const char *kind)
{
    (void)snprintf(write->event, sizeof(write->event),
                   "etagd.invalidate(%s => ARRAY[name], ask => %s)", kind,
                   write->everywhere ? "true" : "false");
}

static void write_name(struct worker *w, struct write *write)
{
    const uint64_t way = random_below(w, 16);
    const bool prefix = way == 0;

    ETAG_INIT(&write->targets);
    if (way > 4) {
        write->surrogate = etag_str_of(w->names.surrogate);
        write->targets.surrogates = &write->surrogate;
        write->targets.surrogate_count = 1;
        (void)snprintf(write->name, sizeof(write->name), "%s", w->names.surrogate);
        write_event(write, "surrogates");
        return;
    }
    const char *path = prefix ? w->names.prefix : w->names.path;
    write->resource = (etag_resource){ETAG_LIT("torture.example"), etag_str_of(path)};
    (void)snprintf(write->name, sizeof(write->name), "//torture.example%s", path);
    write_event(write, prefix ? "prefixes" : "resources");
    if (prefix) {
        write->targets.prefixes = &write->resource;
        write->targets.prefix_count = 1;
    } else {
        write->targets.resources = &write->resource;
        write->targets.resource_count = 1;
    }
}

void write_pick(struct worker *w, struct write *write)
{
    *write = (struct write){.key = key_pick(w), .everywhere = one_in(w, 3)};
    write_name(w, write);
}

/* ---- What is due ---- */

void write_draw(struct worker *w, struct write *write)
{
    write->version = atomic_fetch_add(&w->truth->rows[write->key].next_version, 1) + 1;
}

static void commit_record(struct worker *w, const struct write *write, enum outcome outcome,
                          uint64_t at_ns)
{
    const struct record record = {.kind = RECORD_COMMIT,
                                  .outcome = (uint8_t)outcome,
                                  .slot = (uint8_t)w->number,
                                  .key = write->key,
                                  .version = write->version,
                                  .begin_ns = at_ns,
                                  .end_ns = at_ns};

    worker_record(w, &record);
}

void write_committed(struct worker *w, struct write *write, bool logged)
{
    write->committed_ns = now_ns();
    raise_to(&w->truth->rows[write->key].visible, write->version);
    commit_record(w, write, logged ? OUTCOME_LOGGED : OUTCOME_COMMITTED, write->committed_ns);
    if (logged)
        write_due(w, write, write->committed_ns + w->follow_ns, ETAG_PROOF_LOGGED, 0);
}

void write_due(struct worker *w, const struct write *write, uint64_t at_ns, etag_proof proof,
               uint64_t took_ns)
{
    const struct record record = {.kind = RECORD_ANSWERED,
                                  .outcome = (uint8_t)proof,
                                  .slot = (uint8_t)w->number,
                                  .key = write->key,
                                  .version = write->version,
                                  .begin_ns = at_ns,
                                  .end_ns = at_ns,
                                  .lsn = took_ns};

    worker_record(w, &record);
}

void write_due_everywhere(struct worker *w, const struct write *write, bool acknowledged)
{
    const uint64_t at_ns = now_ns();

    if (acknowledged)
        HOSTS_COUNT(w, everywhere_acknowledged);
    else
        HOSTS_COUNT(w, everywhere_time);
    write_due(w, write, at_ns, acknowledged ? ETAG_PROOF_ACKNOWLEDGED : ETAG_PROOF_TIME,
              at_ns - write->committed_ns);
}

/* ---- The transaction ---- */

static bool row_write(struct worker *w, struct write *write, bool event)
{
    if (!rows_lock(w->rows, write->key))
        return false;
    write_draw(w, write);
    const struct row_change change = {.key = write->key,
                                      .version = write->version,
                                      .event = event ? write->event : "0::int8",
                                      .name = write->name};
    if (!rows_change(w->rows, &change, &write->position))
        return false;
    /* Others commit meanwhile, and are read before it. */
    if (one_in(w, 16))
        sleep_ns(random_below(w, 20 * NS_PER_MS));
    else if (one_in(w, 200))
        sleep_ns(random_below(w, 1500 * NS_PER_MS));
    if (write->guard && etag_guard_confirm(write->guard) != ETAG_OK)
        return false;
    if (!rows_commit(w->rows))
        return false;
    /* The trigger of a watched table puts it there in any case. */
    write_committed(w, write, event || w->watched);
    return true;
}

static bool written(struct worker *w, struct write *write, bool event)
{
    if (row_write(w, write, event))
        return true;
    /* A transaction that was begun ends with its connection, and it may have been committed. */
    rows_close(w->rows);
    write->guard = etag_guard_forget(write->guard);
    HOSTS_COUNT(w, writes_failed);
    sleep_ns(20 * NS_PER_MS);
    return false;
}

/* ---- By SQL alone ---- */

void hosts_sql_step(struct worker *w)
{
    struct write write;
    bool acknowledged;

    write_pick(w, &write);
    if (written(w, &write, true)) {
        HOSTS_COUNT(w, writes_sql);
        if (!write.everywhere)
            HOSTS_COUNT(w, log_ok);
        else if (rows_wait(w->rows, write.position, &acknowledged))
            write_due_everywhere(w, &write, acknowledged);
        else
            HOSTS_COUNT(w, everywhere_failed);
    }
    sleep_ns(random_below(w, 50 * NS_PER_MS));
}

/* ---- By the library ---- */

static bool answer_take(struct worker *w, const struct write *write, etag_status status,
                        const etag_receipt *receipt, uint64_t asked_ns)
{
    const uint64_t at_ns = now_ns();

    if (status != ETAG_OK) {
        if (status == ETAG_PENDING)
            HOSTS_COUNT(w, answers_pending);
        else
            HOSTS_COUNT(w, answers_failed);
        return false;
    }
    if (receipt->reach == ETAG_REACH_EVERYWHERE) {
        write_due_everywhere(w, write, receipt->proof == ETAG_PROOF_ACKNOWLEDGED);
        return true;
    }
    HOSTS_COUNT(w, log_ok);
    if (!w->rows) /* only now is its event in the log */
        commit_record(w, write, OUTCOME_LOGGED, at_ns);
    write_due(w, write, at_ns + w->follow_ns, ETAG_PROOF_LOGGED, at_ns - asked_ns);
    return true;
}

static etag_guard *take_guard(struct write *write)
{
    etag_guard *guard = write->guard;

    write->guard = NULL;
    return guard;
}

void write_announce(struct worker *w, struct write *write)
{
    etag_receipt receipt;

    write->targets.position = write->position;
    while (!run_is_over(w)) {
        const uint64_t asked_ns = now_ns();
        ETAG_INIT(&receipt);
        const etag_status status = write->guard
                                       ? etag_guard_commit(take_guard(write), &receipt)
                                       : etag_invalidate(w->client, &write->targets, &receipt);
        if (answer_take(w, write, status, &receipt, asked_ns))
            return;
        sleep_ns(5 * NS_PER_MS);
    }
    write->guard = etag_guard_forget(write->guard);
}

/* With the event in the transaction, or not; or under a guard. */
void hosts_library_step(struct worker *w)
{
    struct write write;
    const uint64_t way = random_below(w, 3);

    write_pick(w, &write);
    write.targets.reach = write.everywhere ? ETAG_REACH_EVERYWHERE : ETAG_REACH_LOG;
    if (way == 2 && etag_guard_begin(w->client, &write.targets, &write.guard) != ETAG_OK)
        HOSTS_COUNT(w, unguarded);
    if (written(w, &write, way == 0)) {
        if (way == 0)
            HOSTS_COUNT(w, writes_position);
        else if (write.guard)
            HOSTS_COUNT(w, writes_guarded);
        else
            HOSTS_COUNT(w, writes_plain);
        write_announce(w, &write);
    }
    sleep_ns(random_below(w, 50 * NS_PER_MS));
}
