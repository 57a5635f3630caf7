/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writers of many hosts. The version of a row is drawn while its lock is held, from a counter that
 * no promotion sets back, so that no number is ever given twice.
 *
 * What was answered OK for "everywhere" is due at once. What is in the log is due when the other
 * hosts must have followed: a while after its COMMIT.
 */
#include "hosts_worker.h"

#include <inttypes.h>
#include <stdio.h>

struct write {
    uint32_t key;
    uint64_t version;
    bool everywhere;
    etag_resource resource;
    etag_str surrogate;
    etag_targets targets;
    /* the same for SQL */
    char event[128], name[2 * NAME_BYTES];
    uint64_t position, committed_ns;
    /* NULL: none */
    etag_guard *guard;
};

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

static void write_pick(struct worker *w, struct write *write)
{
    *write = (struct write){.key = key_pick(w), .everywhere = one_in(w, 3)};
    write_name(w, write);
}

/* ---- The transaction ---- */

static bool row_write(struct worker *w, struct write *write, bool event)
{
    struct row *row = &w->truth->rows[write->key];

    if (!rows_lock(w->rows, write->key))
        return false;
    write->version = atomic_fetch_add(&row->next_version, 1) + 1;
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
    write->committed_ns = now_ns();
    raise_to(&row->visible, write->version);
    const struct record record = {.kind = RECORD_COMMIT,
                                  .outcome = event ? OUTCOME_LOGGED : OUTCOME_COMMITTED,
                                  .slot = (uint8_t)w->number,
                                  .key = write->key,
                                  .version = write->version,
                                  .begin_ns = write->committed_ns,
                                  .end_ns = write->committed_ns};
    worker_record(w, &record);
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

static void due(struct worker *w, const struct write *write, uint64_t at_ns, etag_proof proof,
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

static void due_everywhere(struct worker *w, const struct write *write, bool acknowledged)
{
    const uint64_t at_ns = now_ns();

    if (acknowledged)
        HOSTS_COUNT(w, everywhere_acknowledged);
    else
        HOSTS_COUNT(w, everywhere_time);
    due(w, write, at_ns, acknowledged ? ETAG_PROOF_ACKNOWLEDGED : ETAG_PROOF_TIME,
        at_ns - write->committed_ns);
}

/* ---- By SQL alone ---- */

void hosts_sql_step(struct worker *w)
{
    struct write write;
    bool acknowledged;

    write_pick(w, &write);
    if (written(w, &write, true)) {
        HOSTS_COUNT(w, writes_sql);
        due(w, &write, write.committed_ns + w->follow_ns, ETAG_PROOF_LOGGED, 0);
        if (!write.everywhere)
            HOSTS_COUNT(w, log_ok);
        else if (rows_wait(w->rows, write.position, &acknowledged))
            due_everywhere(w, &write, acknowledged);
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
        due_everywhere(w, write, receipt->proof == ETAG_PROOF_ACKNOWLEDGED);
        return true;
    }
    HOSTS_COUNT(w, log_ok);
    due(w, write, at_ns + w->follow_ns, ETAG_PROOF_LOGGED, at_ns - asked_ns);
    return true;
}

static etag_guard *take_guard(struct write *write)
{
    etag_guard *guard = write->guard;

    write->guard = NULL;
    return guard;
}

/* Until it is answered OK. */
static void announce(struct worker *w, struct write *write)
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
        if (way == 0) {
            HOSTS_COUNT(w, writes_position);
            due(w, &write, write.committed_ns + w->follow_ns, ETAG_PROOF_LOGGED, 0);
        } else if (write.guard) {
            HOSTS_COUNT(w, writes_guarded);
        } else {
            HOSTS_COUNT(w, writes_plain);
        }
        announce(w, &write);
    }
    sleep_ns(random_below(w, 50 * NS_PER_MS));
}
