/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The engine on etcd. Its revision is a total order of all that was ever written, and a transaction
 * that only reads is linearizable, so a snapshot is a revision: all below it is visible, and the
 * poll is one transaction. Compaction takes nothing from it: rows are keys that are there, not a
 * history.
 *
 * What is lost when a cluster is restored from a backup, or made again from one member, is what the
 * witness is for. It says in which cluster it counts and from which election term on; terms never
 * fall in a history, and a restored one begins low. Where neither shows it (the same cluster id,
 * few elections), a host whose cursor is beyond the revision does: it puts another witness in its
 * place, which all others see.
 *
 * There are no leases of etcd here: who may hold a lease of ours goes by rule LEAVING_WAIT, and not
 * because a server's timer ran out.
 */
#include "engine_etcd.h"

#include "bytes.h"
#include "clocktime.h"
#include "numbers.h"
#include "text.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>

#define HELLO_BYTES_MAX 65536
#define POLL_RESULTS 5 /* and one of rows */
#define PATIENCE_MS_MIN 1000

/* ---- Open, close ----------------------------------------------------------------------------- */

static struct engine *close_etcd(struct engine *engine)
{
    struct engine_etcd *const closed = etcd_engine_of(engine);

    if (!engine)
        return NULL;
    (void)etcd_close(closed->etcd);
    free(closed->publication.rows.bytes);
    arena_deinit(&closed->arena);
    free(closed);
    return NULL;
}

static int hello_ask(struct engine_etcd *engine, struct why *why)
{
    struct etcd_txn txn = {0};

    etcd_get_one(engine, &txn, ETCD_THEN, "setting");
    return etcd_ask(engine->etcd, &txn, why);
}

static int open_etcd(struct engine **out, const struct engine_options *options, struct why *why)
{
    struct engine_etcd *const made = calloc(1, sizeof(*made));
    const struct etcd_options given = {
        .endpoints = options->connection,
        .user = options->user,
        .password_file = options->password_file,
        .tls = {options->ca_file, options->cert_file, options->key_file},
        .first = load_u16(options->nonce.bytes),
    };

    *out = NULL;
    if (!made)
        return -ENOMEM;
    made->engine.kind = &engine_etcd;
    arena_init(&made->arena, HELLO_BYTES_MAX);
    made->host = (etag_str){made->host_bytes, min_of(options->host.len, ENGINE_HOST_BYTES_MAX)};
    copy_bytes(made->host_bytes, options->host.data, made->host.len);
    (void)snprintf(made->prefix, sizeof(made->prefix), "%s", options->prefix);
    made->nonce = options->nonce;
    int r = etcd_open(&made->etcd, &given, why);
    if (r == 0)
        r = hello_ask(made, why);
    if (r == 0)
        *out = &made->engine;
    else
        (void)close_etcd(&made->engine);
    return r;
}

static const struct engine_etcd *etcd_engine_in(const struct engine *engine)
{
    return (const struct engine_etcd *)engine;
}

static int fd_etcd(const struct engine *engine)
{
    return etcd_fd(etcd_engine_in(engine)->etcd);
}

static short events_etcd(const struct engine *engine)
{
    (void)engine;
    return POLLIN;
}

static int timeout_etcd(const struct engine *engine)
{
    return etcd_timeout_ms(etcd_engine_in(engine)->etcd);
}

static bool ready_etcd(const struct engine *engine)
{
    return etcd_engine_in(engine)->ready && etcd_engine_in(engine)->op == ENGINE_NONE;
}

static bool woken_etcd(struct engine *engine)
{
    return etcd_woken(etcd_engine_of(engine)->etcd);
}

/* ---- What is read of several operations ------------------------------------------------------ */

/* A host whose row a restored backup does not have may hold the rest of a lease: rule ACK_EPOCH
 * needs a witness that is older than the wait. There is no clock but ours. */
static bool witness_is_settled(const struct engine_etcd *engine, uint32_t wait_ms)
{
    return time_ns_of(CLOCK_MONOTONIC) - engine->witness_since_ns >= wait_ms * NS_PER_MS;
}

static void setting_take(struct engine_etcd *engine, const struct etcd_setting *setting)
{
    etcd_set_patience(engine->etcd, (uint32_t)max_of(setting->lease_ms, PATIENCE_MS_MIN));
}

static enum engine_membership membership_of(const struct etcd_result *result,
                                            const struct engine_nonce *nonce)
{
    const struct etcd_kv *const kv = etcd_one(result);
    struct etcd_host host;

    return kv && etcd_host_read(&host, kv->value) && nonce_equal(&host.nonce, nonce)
               ? host.membership
               : ENGINE_NO_MEMBER;
}

/* ---- Ready ----------------------------------------------------------------------------------- */

static int hello_take(struct engine_etcd *engine, struct why *why)
{
    struct etcd_reply reply;
    struct etcd_setting setting;
    int r = etcd_take(engine->etcd, &engine->arena, &reply, why);

    if (r == ETCD_E_AGAIN)
        return 0;
    if (r > 0)
        return -EPROTO;
    if (r == 0)
        r = etcd_setting_get(&setting, &reply, 1, engine, why);
    if (r != 0)
        return r;
    setting_take(engine, &setting);
    const struct etcd_key outbox = etcd_key_of(engine->prefix, "outbox/");
    const struct etcd_key after = etcd_key_after_folder(outbox);
    etcd_watch(engine->etcd, etcd_key_str(&outbox), etcd_key_str(&after));
    engine->ready = true;
    return 0;
}

static int dispatch_etcd(struct engine *engine, struct why *why)
{
    struct engine_etcd *const etcd = etcd_engine_of(engine);

    etcd_dispatch(etcd->etcd);
    return etcd->ready ? 0 : hello_take(etcd, why);
}

/* ---- Poll ------------------------------------------------------------------------------------ */

/* All that is covered is older. */
static uint64_t first_uncovered(const struct engine_snapshot *cursor)
{
    return cursor->running_count > 0 ? cursor->running[0] : cursor->next;
}

/* What is newer than the cursor is in no epoch that had ended when the last poll was answered, if
 * the cursor is not older than that. */
static void rows_get(struct engine_etcd *engine, struct etcd_txn *txn,
                     const struct engine_snapshot *cursor)
{
    const uint64_t from = first_uncovered(cursor);
    const bool known = engine->polled_revision > 0 && from > engine->polled_revision;

    engine->poll_from_epoch = known ? engine->polled_epoch : 0;
    const struct etcd_key first = etcd_key_of_epoch(engine->prefix, "outbox/",
                                                    engine->poll_from_epoch);
    const struct etcd_key after = etcd_key_after_folder(etcd_key_of(engine->prefix, "outbox/"));
    etcd_txn_get(txn, ETCD_THEN,
                 &(struct etcd_get){.from = etcd_key_str(&first),
                                    .to = etcd_key_str(&after),
                                    .min_mod_revision = from,
                                    .limit = ENGINE_ROWS_MAX + 1});
}

static int poll_ask(struct engine_etcd *engine, struct why *why)
{
    const struct engine_snapshot *const cursor = engine->request.poll.cursor;
    struct etcd_txn txn = {0};

    etcd_get_one(engine, &txn, ETCD_THEN, "setting");
    etcd_get_one(engine, &txn, ETCD_THEN, "witness");
    etcd_get_one(engine, &txn, ETCD_THEN, "trimmed");
    etcd_get_host(engine, &txn, engine->host);
    etcd_get_one(engine, &txn, ETCD_THEN, "epoch");
    if (cursor && !engine->poll_without_rows)
        rows_get(engine, &txn, cursor);
    const int r = etcd_ask(engine->etcd, &txn, why);
    return r == 0 ? ETCD_E_AGAIN : r;
}

static int row_take(struct engine_poll *poll, const struct etcd_kv *kv, struct arena *arena)
{
    struct engine_row *const row = &poll->rows[poll->row_count];
    int r = 0;

    row->position = kv->mod_revision;
    if (kv->value.len == 0 || (uint8_t)kv->value.data[0] > 1) {
        ETAG_INIT(&row->targets);
        row->writer = (etag_str){0};
        row->unreadable = "the row does not begin with the byte 0 or 1";
    } else {
        poll->asked |= kv->value.data[0] == 1;
        row->unreadable = outbox_row_decode(&row->targets, &row->writer, arena,
                                            str_skip(kv->value, 1), &r);
    }
    if (row->unreadable || !outbox_row_is_empty(&row->targets))
        poll->row_count++;
    return r;
}

static bool rows_are_too_many(const struct etcd_result *result)
{
    size_t bytes = 0;

    for (size_t i = 0; i < result->kv_count; i++)
        bytes += result->kvs[i].value.len;
    return result->more || result->kv_count > ENGINE_ROWS_MAX || bytes > ENGINE_TARGETS_BYTES_MAX;
}

static int rows_take(struct engine_poll *poll, const struct etcd_result *result,
                     struct arena *arena)
{
    int r = 0;

    poll->rows_cut = rows_are_too_many(result);
    if (poll->rows_cut)
        return 0;
    poll->rows = arena_array(arena, result->kv_count, sizeof(*poll->rows));
    if (!poll->rows)
        return -ENOMEM;
    for (size_t i = 0; i < result->kv_count && r == 0; i++)
        r = row_take(poll, &result->kvs[i], arena);
    return r;
}

/* This host has read, or written, more than is there: history was lost, and the others have to hear
 * of it. */
static void doubt(struct engine_etcd *engine, const struct engine_poll *poll)
{
    const struct engine_snapshot *const cursor = engine->request.poll.cursor;
    const bool less = (cursor && cursor->next > poll->snapshot.next) ||
                      engine->request.poll.written >= poll->snapshot.next;

    if (!less || !poll->witnessed)
        return;
    engine->doubts = true;
    engine->doubted = poll->witness;
}

/* Rows would be missed below where we read if somebody took the key away: it never falls. */
static void epoch_take(struct engine_etcd *engine, struct engine_poll *poll,
                       const struct etcd_reply *reply)
{
    const uint64_t epoch = etcd_mod_revision(etcd_one(&reply->results[4]));

    poll->rows_cut |= epoch < engine->poll_from_epoch;
    engine->polled_revision = reply->revision;
    engine->polled_epoch = engine->epoch = epoch;
}

static int poll_take(struct engine_etcd *engine, struct arena *arena,
                     const struct etcd_reply *reply, struct engine_poll *poll, struct why *why)
{
    const bool with_rows = engine->request.poll.cursor && !engine->poll_without_rows;
    struct etcd_setting setting;
    struct etcd_witness witness;
    int r = etcd_setting_get(&setting, reply, POLL_RESULTS + with_rows, engine, why);

    if (r != 0)
        return r;
    setting_take(engine, &setting);
    poll->origin.system = reply->cluster_id;
    poll->lease_ms = setting.lease_ms;
    poll->wait_ms = setting.wait_ms;
    poll->witnessed = etcd_witness_get(engine, &witness, &reply->results[1], reply);
    if (poll->witnessed)
        poll->witness = witness.nonce;
    const struct etcd_kv *const trimmed = etcd_one(&reply->results[2]);
    if (trimmed && !etcd_number_read("revision", &poll->trimmed, trimmed->value))
        poll->trimmed = reply->revision; /* unreadable: no older cursor is good enough */
    poll->membership = membership_of(&reply->results[3], &engine->nonce);
    poll->snapshot.next = poll->unassigned = reply->revision + 1;
    poll->asked = !with_rows; /* one too many does no harm */
    if (with_rows)
        r = rows_take(poll, &reply->results[POLL_RESULTS], arena);
    else
        poll->rows_cut = engine->request.poll.cursor != NULL;
    poll->asked |= poll->rows_cut;
    epoch_take(engine, poll, reply);
    doubt(engine, poll);
    if (r != 0)
        (void)why_set(why, "no memory for the answer of etcd");
    return r;
}

static int step_poll(struct engine_etcd *engine, struct arena *arena,
                     const struct etcd_reply *reply, struct engine_answer *answer, struct why *why)
{
    return reply ? poll_take(engine, arena, reply, &answer->poll, why) : poll_ask(engine, why);
}

/* ---- Members --------------------------------------------------------------------------------- */

static void folder_get(struct engine_etcd *engine, struct etcd_txn *txn, const char *folder)
{
    const struct etcd_key first = etcd_key_of(engine->prefix, folder);
    const struct etcd_key after = etcd_key_after_folder(first);

    etcd_txn_get(txn, ETCD_THEN,
                 &(struct etcd_get){.from = etcd_key_str(&first),
                                    .to = etcd_key_str(&after),
                                    .limit = ENGINE_MEMBERS_MAX + 1});
}

static int members_ask(struct engine_etcd *engine, struct why *why)
{
    struct etcd_txn txn = {0};

    etcd_get_one(engine, &txn, ETCD_THEN, "setting");
    etcd_get_one(engine, &txn, ETCD_THEN, "witness");
    folder_get(engine, &txn, "host/");
    folder_get(engine, &txn, "ack/");
    const int r = etcd_ask(engine->etcd, &txn, why);
    return r == 0 ? ETCD_E_AGAIN : r;
}

/* Of this registration; lists are ordered by name, but nothing here depends on it. */
static void ack_find(struct engine_member *member, const struct etcd_host *host,
                     const struct etcd_result *acks, etag_str folder)
{
    struct etcd_ack ack;

    for (size_t i = 0; i < acks->kv_count; i++) {
        if (!str_equal(etcd_key_name(acks->kvs[i].key, folder), member->host))
            continue;
        if (!etcd_ack_read(&ack, acks->kvs[i].value) || !nonce_equal(&ack.nonce, &host->nonce))
            return;
        member->acknowledged = true;
        member->witness = ack.witness;
        member->snapshot.next = ack.revision + 1;
        return;
    }
}

/* A row that cannot be read is one of a member that has not acknowledged. */
static void member_take(struct engine_etcd *engine, struct engine_member *member,
                        const struct etcd_kv *kv, const struct etcd_result *acks)
{
    const struct etcd_key hosts = etcd_key_of(engine->prefix, "host/");
    const struct etcd_key folder = etcd_key_of(engine->prefix, "ack/");
    struct etcd_host host;

    member->host = etcd_key_name(kv->key, etcd_key_str(&hosts));
    member->membership = ENGINE_MEMBER;
    if (!etcd_host_read(&host, kv->value))
        return;
    member->membership = host.membership;
    member->own = nonce_equal(&host.nonce, &engine->nonce) && str_equal(member->host, engine->host);
    ack_find(member, &host, acks, etcd_key_str(&folder));
}

static int members_take(struct engine_etcd *engine, struct arena *arena,
                        const struct etcd_reply *reply, struct engine_members *members,
                        struct why *why)
{
    struct etcd_setting setting;
    struct etcd_witness witness;
    const int r = etcd_setting_get(&setting, reply, 4, engine, why);

    if (r != 0)
        return r;
    const struct etcd_result *const hosts = &reply->results[2], *const acks = &reply->results[3];
    members->origin.system = reply->cluster_id;
    members->wait_ms = setting.wait_ms;
    members->witnessed = etcd_witness_get(engine, &witness, &reply->results[1], reply) &&
                         witness_is_settled(engine, setting.wait_ms);
    members->witness = engine->witness;
    members->members_cut = hosts->more || acks->more || hosts->kv_count > ENGINE_MEMBERS_MAX;
    members->member_count = min_of(hosts->kv_count, ENGINE_MEMBERS_MAX);
    members->members = arena_array(arena, members->member_count, sizeof(*members->members));
    if (!members->members)
        return why_set(why, "no memory for the answer of etcd"), -ENOMEM;
    for (size_t i = 0; i < members->member_count; i++)
        member_take(engine, &members->members[i], &hosts->kvs[i], acks);
    return 0;
}

static int step_members(struct engine_etcd *engine, struct arena *arena,
                        const struct etcd_reply *reply, struct engine_answer *answer,
                        struct why *why)
{
    return reply ? members_take(engine, arena, reply, &answer->members, why)
                 : members_ask(engine, why);
}

/* ---- Ask ------------------------------------------------------------------------------------- */

/* Rows that were written at the position. */
static int look_ask(struct engine_etcd *engine, struct why *why)
{
    const struct etcd_key rows = etcd_key_of(engine->prefix, "outbox/");
    const struct etcd_key after = etcd_key_after_folder(rows);
    struct etcd_txn txn = {0};

    etcd_txn_get(&txn, ETCD_THEN,
                 &(struct etcd_get){.from = etcd_key_str(&rows),
                                    .to = etcd_key_str(&after),
                                    .min_mod_revision = engine->request.ask.position,
                                    .max_mod_revision = engine->request.ask.position,
                                    .limit = 1,
                                    .keys_only = true});
    const int r = etcd_ask(engine->etcd, &txn, why);
    return r == 0 ? ETCD_E_AGAIN : r;
}

/* Rule POSITION_SEEN: a revision that no row has is no event. */
static int look_take(struct engine_etcd *engine, const struct etcd_reply *reply,
                     struct engine_answer *answer, struct why *why)
{
    const int r = etcd_results_check(reply, 1, why);

    if (r == 0 && reply->results[0].kv_count == 0)
        answer->ask.missing = "the outbox in etcd has no event of this revision: it was not "
                              "written there, or is older than the retention";
    return r;
}

/* Looks for the event, if its position is known, then writes a row that asks. */
static int step_ask(struct engine_etcd *engine, struct arena *arena, const struct etcd_reply *reply,
                    struct engine_answer *answer, struct why *why)
{
    if (!reply && engine->request.ask.position != 0)
        return look_ask(engine, why);
    if (engine->step == 0 && reply) {
        const int r = look_take(engine, reply, answer, why);
        if (r != 0 || answer->ask.missing || engine->request.ask.look_only)
            return r;
        reply = NULL;
    }
    engine->step = 1;
    return etcd_publish(engine, arena, reply, answer, why);
}

/* ---- All operations -------------------------------------------------------------------------- */

/* Rows wake by being written: each host watches the outbox. */
static int step_wake(struct engine_etcd *engine, struct arena *arena,
                     const struct etcd_reply *reply, struct engine_answer *answer, struct why *why)
{
    (void)engine;
    (void)arena;
    (void)reply;
    (void)answer;
    (void)why;
    return 0;
}

static etcd_step_function *const steps[] = {
    [ENGINE_POLL] = step_poll,
    [ENGINE_JOIN] = etcd_join,
    [ENGINE_PUBLISH] = etcd_publish,
    [ENGINE_WAKE] = step_wake,
    [ENGINE_ASK] = step_ask,
    [ENGINE_MEMBERS] = step_members,
    [ENGINE_ACKNOWLEDGE] = etcd_acknowledge,
    [ENGINE_TRIM] = etcd_trim,
    [ENGINE_LEAVE] = etcd_leave,
    [ENGINE_GONE] = etcd_gone,
};

static int start_etcd(struct engine *engine, const struct engine_request *request, struct why *why)
{
    struct engine_etcd *const etcd = etcd_engine_of(engine);

    etcd->request = *request;
    etcd->op = request->op;
    etcd->step = etcd->tries = 0;
    etcd->poll_without_rows = false;
    etcd->poll_from_epoch = 0;
    if (request->op == ENGINE_WAKE)
        return 0;
    const int r = steps[request->op](etcd, NULL, NULL, NULL, why);
    if (r == ETCD_E_AGAIN)
        return 0;
    etcd->op = ENGINE_NONE;
    return r;
}

/* Rule ROWS_BOUND: what is too large to be read is everything, and is asked for without rows. */
static int too_large(struct engine_etcd *engine, struct why *why)
{
    if (engine->op != ENGINE_POLL || engine->poll_without_rows)
        return -EMSGSIZE;
    engine->poll_without_rows = true;
    return poll_ask(engine, why);
}

static int finish_etcd(struct engine *engine, struct arena *arena, struct engine_answer *answer,
                       struct why *why)
{
    struct engine_etcd *const etcd = etcd_engine_of(engine);
    struct etcd_reply reply = {0};
    int r = etcd->op == ENGINE_WAKE ? 0 : etcd_take(etcd->etcd, arena, &reply, why);

    if (r == ETCD_E_TOO_LARGE)
        r = too_large(etcd, why);
    else if (r == 0) {
        *answer = (struct engine_answer){.op = etcd->op};
        r = steps[etcd->op](etcd, arena, &reply, answer, why);
    }
    if (r == ETCD_E_AGAIN)
        return ENGINE_E_AGAIN;
    etcd->op = ENGINE_NONE;
    return r;
}

_Static_assert(ETCD_E_AGAIN == ENGINE_E_AGAIN, "they are passed on");

const struct engine_kind engine_etcd = {
    .name = "etcd",
    .open = open_etcd,
    .close = close_etcd,
    .fd = fd_etcd,
    .events = events_etcd,
    .timeout_ms = timeout_etcd,
    .dispatch = dispatch_etcd,
    .ready = ready_etcd,
    .start = start_etcd,
    .finish = finish_etcd,
    .woken = woken_etcd,
};
