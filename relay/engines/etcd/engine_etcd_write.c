/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What writes. Each is a transaction whose conditions name the revisions of what was read, so it
 * may be sent twice (etcd.h), and two hosts cannot overwrite each other: whose conditions do not
 * hold reads again. A publication is known by its key, which no other can have made.
 */
#include "clocktime.h"
#include "engine_etcd.h"
#include "numbers.h"
#include "text.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <sys/random.h>

#define TRIES_MAX 16
#define ROWS_PER_TXN 64 /* etcd allows 128 operations, and 1.5 MiB */
#define MARKS_AT_ONCE (ENGINE_TRIM_ROWS_MAX / EPOCH_ROWS + 1)
#define MARKS_PER_RETENTION 8
#define RETENTION_MS_MIN 1000

_Static_assert(ROWS_PER_TXN *(OUTBOX_ROW_BYTES_MAX + 512) < 1024 * 1024, "etcd takes it");

static int asked(struct engine_etcd *engine, struct etcd_txn *txn, struct why *why)
{
    const int r = etcd_ask(engine->etcd, txn, why);

    return r == 0 ? ETCD_E_AGAIN : r;
}

/* Others were first: from the beginning. */
static int again(struct engine_etcd *engine, etcd_step_function *step, struct arena *arena,
                 struct engine_answer *answer, struct why *why)
{
    engine->step = 0;
    if (++engine->tries >= TRIES_MAX)
        return why_set(why, "others write the same keys of etcd all the time"), -EBUSY;
    return step(engine, arena, NULL, answer, why);
}

static int nonce_make(struct engine_nonce *nonce, struct why *why)
{
    if (getrandom(nonce->bytes, sizeof(nonce->bytes), 0) == (ssize_t)sizeof(nonce->bytes))
        return 0;
    return why_set(why, "no random bits"), -EIO;
}

static void put(struct etcd_txn *txn, const struct etcd_key *key, const struct etcd_value *value)
{
    etcd_txn_put(txn, etcd_key_str(key), str_of(value->text));
}

static void delete_folder(struct engine_etcd *engine, struct etcd_txn *txn, const char *folder)
{
    const struct etcd_key first = etcd_key_of(engine->prefix, folder);
    const struct etcd_key after = etcd_key_after_folder(first);

    etcd_txn_delete(txn, etcd_key_str(&first), etcd_key_str(&after));
}

/* ---- Join ------------------------------------------------------------------------------------ */

/* Whatever was seen before proves nothing under a new witness, and is raised by all: so what goes
 * with the former one goes too, rows of another cluster among it. */
static int witness_bear(struct engine_etcd *engine, struct etcd_txn *txn,
                        const struct etcd_reply *reply, struct why *why)
{
    const struct etcd_key witness = etcd_key_of(engine->prefix, "witness");
    const struct etcd_key trimmed = etcd_key_of(engine->prefix, "trimmed");
    struct etcd_witness made = {.cluster = reply->cluster_id, .term = reply->raft_term};
    const int r = nonce_make(&made.nonce, why);

    if (r != 0)
        return r;
    const struct etcd_value value = etcd_witness_write(&made);
    put(txn, &witness, &value);
    etcd_txn_delete(txn, etcd_key_str(&trimmed), (etag_str){0});
    delete_folder(engine, txn, "outbox/");
    delete_folder(engine, txn, "mark/");
    delete_folder(engine, txn, "ack/");
    return 0;
}

static int join_ask(struct engine_etcd *engine, struct why *why)
{
    struct etcd_txn txn = {0};

    engine->step = 1;
    etcd_get_one(engine, &txn, ETCD_THEN, "setting");
    etcd_get_one(engine, &txn, ETCD_THEN, "witness");
    etcd_get_host(engine, &txn, engine->host);
    return asked(engine, &txn, why);
}

/* What is missing, in one transaction. Nothing: the answer is complete. */
static int join_write(struct engine_etcd *engine, const struct etcd_reply *reply, bool member,
                      bool witnessed, struct why *why)
{
    const struct etcd_key host = etcd_key_of_host(engine->prefix, "host/", engine->host);
    const struct etcd_key witness = etcd_key_of(engine->prefix, "witness");
    const struct etcd_host mine = {engine->nonce, ENGINE_MEMBER};
    const struct etcd_value value = etcd_host_write(&mine);
    struct etcd_txn txn = {0};
    int r = 0;

    engine->step = 2;
    etcd_txn_if(&txn, etcd_key_str(&witness), etcd_mod_revision(etcd_one(&reply->results[1])));
    etcd_txn_if(&txn, etcd_key_str(&host), etcd_mod_revision(etcd_one(&reply->results[2])));
    if (!member)
        put(&txn, &host, &value);
    if (!witnessed)
        r = witness_bear(engine, &txn, reply, why);
    if (r == 0)
        return asked(engine, &txn, why);
    etcd_txn_free(&txn);
    return r;
}

static int join_read(struct engine_etcd *engine, const struct etcd_reply *reply,
                     struct engine_answer *answer, struct why *why)
{
    struct etcd_setting setting;
    struct etcd_witness witness;
    struct etcd_host host = {.membership = ENGINE_NO_MEMBER};
    const int r = etcd_setting_get(&setting, reply, 3, engine, why);

    if (r != 0)
        return r;
    answer->join.lease_ms = setting.lease_ms;
    answer->join.wait_ms = setting.wait_ms;
    const bool witnessed = etcd_witness_get(engine, &witness, &reply->results[1], reply);
    const struct etcd_kv *const kv = etcd_one(&reply->results[2]);
    const bool is_there = kv && etcd_host_read(&host, kv->value);
    answer->join.foreign = is_there && !nonce_equal(&host.nonce, &engine->nonce);
    answer->join.nonce = answer->join.foreign ? host.nonce : engine->nonce;
    answer->join.membership = answer->join.foreign ? host.membership : ENGINE_MEMBER;
    if (answer->join.foreign)
        return 0;
    const bool member = is_there && host.membership == ENGINE_MEMBER;
    return member && witnessed ? 0 : join_write(engine, reply, member, witnessed, why);
}

/* After it has written it reads again: the answer is what is there. */
int etcd_join(struct engine_etcd *engine, struct arena *arena, const struct etcd_reply *reply,
              struct engine_answer *answer, struct why *why)
{
    if (!reply)
        return join_ask(engine, why);
    return engine->step == 1 ? join_read(engine, reply, answer, why)
                             : again(engine, etcd_join, arena, answer, why);
}

/* ---- Publish --------------------------------------------------------------------------------- */

static uint32_t row_len(const struct etcd_publication *publication)
{
    uint32_t len;

    memcpy(&len, publication->rows.bytes + publication->at, sizeof(len));
    return be32toh(len);
}

/* The rows of this transaction; the place after them becomes theirs once it is done. */
static void rows_put(struct engine_etcd *engine, struct etcd_txn *txn)
{
    struct etcd_publication publication = engine->publication;
    char value[1 + OUTBOX_ROW_BYTES_MAX];

    for (unsigned i = 0; i < ROWS_PER_TXN && publication.at < publication.rows.len; i++) {
        const uint32_t len = row_len(&publication);
        const struct etcd_key key = etcd_key_of_row(engine->prefix, engine->epoch,
                                                    &publication.nonce, publication.number + i);
        assert(len <= OUTBOX_ROW_BYTES_MAX);
        value[0] = (char)publication.ask;
        memcpy(value + 1, publication.rows.bytes + publication.at + sizeof(len), len);
        etcd_txn_put(txn, etcd_key_str(&key), (etag_str){value, 1 + len});
        publication.at += sizeof(len) + len;
    }
}

static void rows_written(struct etcd_publication *publication)
{
    for (unsigned i = 0; i < ROWS_PER_TXN && publication->at < publication->rows.len; i++) {
        publication->at += sizeof(uint32_t) + row_len(publication);
        publication->number++;
    }
}

/* The epoch's end, in the transaction that writes its last rows. The mark's revision is the next
 * epoch's name. */
static void epoch_end(struct engine_etcd *engine, struct etcd_txn *txn)
{
    const struct etcd_key mark = etcd_key_of_epoch(engine->prefix, "mark/", engine->epoch);
    const struct etcd_key epoch = etcd_key_of(engine->prefix, "epoch");
    const struct etcd_value now = etcd_number_write("at", time_ns_of(CLOCK_REALTIME) / NS_PER_MS);

    put(txn, &mark, &now);
    put(txn, &epoch, &now);
}

/* Rule EPOCH_IN_TXN: a row is written only while its epoch is the present one. */
static int rows_ask(struct engine_etcd *engine, struct why *why)
{
    struct etcd_publication *const publication = &engine->publication;
    const struct etcd_key epoch = etcd_key_of(engine->prefix, "epoch");
    const struct etcd_key first = etcd_key_of_row(engine->prefix, engine->epoch,
                                                  &publication->nonce, publication->number);
    struct etcd_key rows = etcd_key_of_epoch(engine->prefix, "outbox/", engine->epoch);
    struct etcd_txn txn = {0};

    rows.bytes[rows.len++] = '/';
    const struct etcd_key after = etcd_key_after_folder(rows);
    publication->ends_epoch = engine->epoch_is_full;
    etcd_txn_if(&txn, etcd_key_str(&epoch), engine->epoch);
    etcd_txn_if(&txn, etcd_key_str(&first), 0);
    rows_put(engine, &txn);
    if (publication->ends_epoch)
        epoch_end(engine, &txn);
    etcd_txn_get(&txn, ETCD_THEN,
                 &(struct etcd_get){
                     .from = etcd_key_str(&rows), .to = etcd_key_str(&after), .count_only = true});
    etcd_get_one(engine, &txn, ETCD_ELSE, "epoch");
    etcd_txn_get(&txn, ETCD_ELSE, &(struct etcd_get){.from = etcd_key_str(&first)});
    return asked(engine, &txn, why);
}

static int publish_begin(struct engine_etcd *engine, struct why *why)
{
    struct etcd_publication *const publication = &engine->publication;
    etag_targets nothing;
    const etag_targets *targets = &nothing;

    ETAG_INIT(&nothing);
    free(publication->rows.bytes);
    *publication = (struct etcd_publication){.ask = true};
    if (engine->op == ENGINE_PUBLISH) {
        targets = engine->request.publish.targets;
        publication->ask = engine->request.publish.ask;
        if (outbox_row_is_empty(targets))
            return why_set(why, "no target is named"), ENGINE_E_REFUSED;
    }
    int r = outbox_rows_encode(&publication->rows, targets, engine->host);
    if (r == -EINVAL)
        return why_set(why, "the targets are not well-formed"), ENGINE_E_REFUSED;
    if (r == 0)
        r = nonce_make(&publication->nonce, why);
    return r == 0 ? rows_ask(engine, why) : r;
}

/* More of them, or all are there. */
static int rows_go_on(struct engine_etcd *engine, uint64_t position, struct engine_answer *answer,
                      struct why *why)
{
    struct etcd_publication *const publication = &engine->publication;

    rows_written(publication);
    if (publication->at < publication->rows.len)
        return rows_ask(engine, why);
    if (engine->op == ENGINE_PUBLISH)
        answer->publish.position = position;
    return 0;
}

static int rows_refused(struct engine_etcd *engine, const struct etcd_reply *reply,
                        struct engine_answer *answer, struct why *why)
{
    int r = etcd_results_check(reply, 2, why);

    if (r != 0)
        return r;
    const struct etcd_kv *const row = etcd_one(&reply->results[1]);
    engine->epoch_is_full = false;
    /* They were written already, and the answer was lost. */
    if (row)
        return rows_go_on(engine, row->mod_revision, answer, why);
    engine->epoch = etcd_mod_revision(etcd_one(&reply->results[0]));
    if (++engine->tries >= TRIES_MAX)
        return why_set(why, "the epoch of the outbox in etcd changes all the time"), -EBUSY;
    return rows_ask(engine, why);
}

int etcd_publish(struct engine_etcd *engine, struct arena *arena, const struct etcd_reply *reply,
                 struct engine_answer *answer, struct why *why)
{
    (void)arena;
    if (!reply)
        return publish_begin(engine, why);
    if (!reply->succeeded)
        return rows_refused(engine, reply, answer, why);
    if (reply->result_count == 0)
        return why_set(why, "etcd answered no operation"), -EPROTO;
    const bool ended = engine->publication.ends_epoch;
    engine->epoch_is_full = !ended && reply->results[reply->result_count - 1].count >= EPOCH_ROWS;
    if (ended)
        engine->epoch = reply->revision;
    return rows_go_on(engine, reply->revision, answer, why);
}

/* ---- Acknowledge ----------------------------------------------------------------------------- */

int etcd_acknowledge(struct engine_etcd *engine, struct arena *arena,
                     const struct etcd_reply *reply, struct engine_answer *answer, struct why *why)
{
    const struct engine_snapshot *const snapshot = engine->request.acknowledge.snapshot;
    const struct etcd_key key = etcd_key_of_host(engine->prefix, "ack/", engine->host);
    struct etcd_txn txn = {0};

    (void)arena;
    (void)answer;
    if (reply)
        return etcd_results_check(reply, 1, why);
    if (snapshot->running_count > 0 || snapshot->next == 0)
        return why_set(why, "the snapshot is not one of etcd"), ENGINE_E_REFUSED;
    const struct etcd_ack ack = {engine->nonce, engine->request.acknowledge.witness,
                                 snapshot->next - 1};
    const struct etcd_value value = etcd_ack_write(&ack);
    put(&txn, &key, &value);
    return asked(engine, &txn, why);
}

/* ---- Trim ------------------------------------------------------------------------------------ */

static int trim_ask(struct engine_etcd *engine, struct why *why)
{
    const struct etcd_key marks = etcd_key_of(engine->prefix, "mark/");
    const struct etcd_key after_marks = etcd_key_after_folder(marks);
    struct etcd_key rows = etcd_key_of_epoch(engine->prefix, "outbox/", engine->epoch);
    struct etcd_txn txn = {0};

    rows.bytes[rows.len++] = '/';
    const struct etcd_key after_rows = etcd_key_after_folder(rows);
    engine->step = 1;
    etcd_get_one(engine, &txn, ETCD_THEN, "witness");
    etcd_get_one(engine, &txn, ETCD_THEN, "epoch");
    etcd_txn_get(&txn, ETCD_THEN,
                 &(struct etcd_get){.from = etcd_key_str(&marks),
                                    .to = etcd_key_str(&after_marks),
                                    .limit = MARKS_AT_ONCE});
    etcd_txn_get(&txn, ETCD_THEN,
                 &(struct etcd_get){.from = etcd_key_str(&rows),
                                    .to = etcd_key_str(&after_rows),
                                    .count_only = true});
    return asked(engine, &txn, why);
}

/* The wall clock says what is old, and no more than that: a row that goes too early makes hosts
 * raise everything, by rule TRIM_CHECK. */
static bool is_older(const struct etcd_kv *kv, uint64_t ms)
{
    const uint64_t now_ms = time_ns_of(CLOCK_REALTIME) / NS_PER_MS;
    uint64_t at_ms;

    return !kv || !etcd_number_read("at", &at_ms, kv->value) ||
           (at_ms <= now_ms && now_ms - at_ms >= ms);
}

/* Of epochs that ended long ago; NULL: none did. */
static const struct etcd_kv *mark_choose(const struct etcd_result *marks, uint64_t retention_ms)
{
    const struct etcd_kv *chosen = NULL;

    for (size_t i = 0; i < marks->kv_count; i++)
        if (is_older(&marks->kvs[i], retention_ms))
            chosen = &marks->kvs[i];
    return chosen;
}

/* Rule TRIMMED_WITH_ROWS: in one transaction. Rows of the epochs up to this mark were written
 * before it, or with it. */
static void mark_trim(struct engine_etcd *engine, struct etcd_txn *txn, const struct etcd_kv *mark)
{
    const struct etcd_key trimmed = etcd_key_of(engine->prefix, "trimmed");
    const struct etcd_value value = etcd_number_write("revision", mark->mod_revision);
    const struct etcd_key first = etcd_key_of(engine->prefix, "outbox/");
    const struct etcd_key first_mark = etcd_key_of(engine->prefix, "mark/");
    const struct etcd_key until = etcd_key_of_epoch(engine->prefix, "outbox/", mark->mod_revision);
    const struct etcd_key until_mark = etcd_key_of_epoch(engine->prefix, "mark/",
                                                         mark->mod_revision);

    put(txn, &trimmed, &value);
    etcd_txn_delete(txn, etcd_key_str(&first), etcd_key_str(&until));
    etcd_txn_delete(txn, etcd_key_str(&first_mark), etcd_key_str(&until_mark));
}

/* So that a restored history differs from this one. */
static void term_raise(struct engine_etcd *engine, struct etcd_txn *txn,
                       const struct etcd_witness *witness, uint64_t term)
{
    const struct etcd_key key = etcd_key_of(engine->prefix, "witness");
    const struct etcd_witness raised = {witness->nonce, witness->cluster, term};
    const struct etcd_value value = etcd_witness_write(&raised);

    put(txn, &key, &value);
}

static int trim_read(struct engine_etcd *engine, const struct etcd_reply *reply, struct why *why)
{
    const uint64_t retention_ms = max_of(engine->request.trim.retention_ms, RETENTION_MS_MIN);
    const struct etcd_key witness_key = etcd_key_of(engine->prefix, "witness");
    const struct etcd_key epoch_key = etcd_key_of(engine->prefix, "epoch");
    struct etcd_witness witness;
    struct etcd_txn txn = {0};
    const int r = etcd_results_check(reply, 4, why);

    if (r != 0 || !etcd_witness_get(engine, &witness, &reply->results[0], reply))
        return r;
    const struct etcd_kv *const epoch = etcd_one(&reply->results[1]);
    const struct etcd_kv *const mark = mark_choose(&reply->results[2], retention_ms);
    const bool ends = etcd_mod_revision(epoch) == engine->epoch && reply->results[3].count > 0 &&
                      is_older(epoch, retention_ms / MARKS_PER_RETENTION);
    engine->epoch = etcd_mod_revision(epoch);
    if (!mark && !ends && witness.term == reply->raft_term)
        return 0;
    engine->step = 2;
    etcd_txn_if(&txn, etcd_key_str(&witness_key), etcd_mod_revision(etcd_one(&reply->results[0])));
    etcd_txn_if(&txn, etcd_key_str(&epoch_key), engine->epoch);
    if (mark)
        etcd_txn_if(&txn, mark->key, mark->mod_revision);
    if (mark)
        mark_trim(engine, &txn, mark);
    if (ends)
        epoch_end(engine, &txn);
    if (witness.term != reply->raft_term)
        term_raise(engine, &txn, &witness, reply->raft_term);
    return asked(engine, &txn, why);
}

/* Whose conditions do not hold has nothing to do: somebody else trims. */
int etcd_trim(struct engine_etcd *engine, struct arena *arena, const struct etcd_reply *reply,
              struct engine_answer *answer, struct why *why)
{
    (void)arena;
    if (!reply)
        return trim_ask(engine, why);
    if (engine->step == 1)
        return trim_read(engine, reply, why);
    if (reply->succeeded && reply->result_count > 1)
        answer->trim.removed = reply->results[1].count; /* after "trimmed" */
    return 0;
}

/* ---- Leave, gone ----------------------------------------------------------------------------- */

static int host_ask(struct engine_etcd *engine, struct why *why)
{
    struct etcd_txn txn = {0};

    engine->step = 1;
    etcd_get_one(engine, &txn, ETCD_THEN, "setting");
    etcd_get_host(engine, &txn, engine->request.leave.host);
    return asked(engine, &txn, why);
}

/* *kv NULL: there is no such row, or none of ours. */
static int host_read(struct engine_etcd *engine, const struct etcd_reply *reply,
                     struct etcd_host *host, const struct etcd_kv **kv,
                     struct engine_answer *answer, struct why *why)
{
    struct etcd_setting setting;
    const int r = etcd_setting_get(&setting, reply, 2, engine, why);

    *kv = NULL;
    if (r != 0)
        return r;
    answer->leave.lease_ms = setting.lease_ms;
    answer->leave.wait_ms = setting.wait_ms;
    *kv = etcd_one(&reply->results[1]);
    if (*kv && !etcd_host_read(host, (*kv)->value)) /* no member's, and waited for nevertheless */
        *host = (struct etcd_host){.membership = ENGINE_MEMBER};
    answer->leave.found = *kv != NULL;
    if (*kv)
        answer->leave.nonce = host->nonce;
    return 0;
}

int etcd_leave(struct engine_etcd *engine, struct arena *arena, const struct etcd_reply *reply,
               struct engine_answer *answer, struct why *why)
{
    const struct etcd_key key = etcd_key_of_host(engine->prefix, "host/",
                                                 engine->request.leave.host);
    struct etcd_host host;
    const struct etcd_kv *kv;
    struct etcd_txn txn = {0};

    if (!reply)
        return host_ask(engine, why);
    if (engine->step == 2) /* what is there now is read again, and is the answer */
        return again(engine, etcd_leave, arena, answer, why);
    const int r = host_read(engine, reply, &host, &kv, answer, why);
    if (r != 0 || !kv || host.membership == ENGINE_LEAVING)
        return r;
    host.membership = ENGINE_LEAVING;
    const struct etcd_value value = etcd_host_write(&host);
    engine->step = 2;
    etcd_txn_if(&txn, etcd_key_str(&key), kv->mod_revision);
    put(&txn, &key, &value);
    return asked(engine, &txn, why);
}

/* found: it is out. Not: another registration is there, or it has joined again. */
int etcd_gone(struct engine_etcd *engine, struct arena *arena, const struct etcd_reply *reply,
              struct engine_answer *answer, struct why *why)
{
    const struct etcd_key key = etcd_key_of_host(engine->prefix, "host/",
                                                 engine->request.leave.host);
    const struct etcd_key ack = etcd_key_of_host(engine->prefix, "ack/",
                                                 engine->request.leave.host);
    struct etcd_host host;
    const struct etcd_kv *kv;
    struct etcd_txn txn = {0};

    if (!reply)
        return host_ask(engine, why);
    if (engine->step == 2)
        return again(engine, etcd_gone, arena, answer, why);
    const int r = host_read(engine, reply, &host, &kv, answer, why);
    /* On the second look its own deletion. */
    answer->leave.found = !kv && engine->tries > 0;
    if (r != 0 || !kv || host.membership != ENGINE_LEAVING ||
        !nonce_equal(&host.nonce, &engine->request.leave.nonce))
        return r;
    engine->step = 2;
    etcd_txn_if(&txn, etcd_key_str(&key), kv->mod_revision);
    etcd_txn_delete(&txn, etcd_key_str(&key), (etag_str){0});
    etcd_txn_delete(&txn, etcd_key_str(&ack), (etag_str){0});
    return asked(engine, &txn, why);
}
