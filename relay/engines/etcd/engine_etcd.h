/* SPDX-License-Identifier: Apache-2.0 */
/* The engine on etcd, between engine_etcd.c (the interface, what only reads),
 * engine_etcd_write.c and what both need, engine_etcd_read.c. */
#ifndef ETAG_RELAY_ENGINE_ETCD_H
#define ETAG_RELAY_ENGINE_ETCD_H

#include "etcd.h"
#include "etcd_keys.h"
#include "outbox_row.h"

#include <string.h>

#define EPOCH_ROWS 1024 /* then the next row begins another epoch: a poll reads one or two */

/* A mutation on its way into the outbox. */
struct etcd_publication {
    struct outbox_rows rows;
    /* of the rows that are not written yet */
    size_t at;
    unsigned number;
    struct engine_nonce nonce;
    bool ask;
    /* this transaction ends the epoch too */
    bool ends_epoch;
};

struct engine_etcd {
    struct engine engine;
    struct etcd *etcd;
    char prefix[ETCD_PREFIX_BYTES_MAX + 1];
    /* in host_bytes */
    etag_str host;
    char host_bytes[ENGINE_HOST_BYTES_MAX + 1];
    struct engine_nonce nonce;
    bool ready;
    /* what it says of itself until it is ready */
    struct arena arena;

    /* the operation under way, and how often it was begun again */
    struct engine_request request;
    enum engine_op op;
    unsigned step, tries;

    /* As the last poll saw it: rows that are newer than this revision are in this epoch, or in
     * later ones. 0: no poll yet. */
    uint64_t polled_revision, polled_epoch;
    /* from which epoch on the poll under way reads rows */
    uint64_t poll_from_epoch;
    bool poll_without_rows;

    /* as this host believes, when it writes; a condition of the transaction says when not */
    uint64_t epoch;
    bool epoch_is_full;
    struct etcd_publication publication;

    /* A poll found less than was there before: this witness does not count. */
    bool doubts;
    struct engine_nonce doubted;
    /* since when this engine sees this witness; 0: it saw none */
    uint64_t witness_since_ns;
    struct engine_nonce witness;
};

static inline struct engine_etcd *etcd_engine_of(struct engine *engine)
{
    return (struct engine_etcd *)engine;
}

static inline bool nonce_equal(const struct engine_nonce *a, const struct engine_nonce *b)
{
    return memcmp(a->bytes, b->bytes, ENGINE_NONCE_BYTES) == 0;
}

/* The only key of a range of one; NULL: it is not there. */
static inline const struct etcd_kv *etcd_one(const struct etcd_result *result)
{
    return result->kv_count > 0 ? &result->kvs[0] : NULL;
}

static inline uint64_t etcd_mod_revision(const struct etcd_kv *kv)
{
    return kv ? kv->mod_revision : 0;
}

/* Adds a question for one key. */
void etcd_get_one(struct engine_etcd *engine, struct etcd_txn *txn, enum etcd_part part,
                  const char *name);
void etcd_get_host(struct engine_etcd *engine, struct etcd_txn *txn, etag_str host);

/* Did it answer as many operations as were asked for? -EPROTO and why. */
MUST_USE int etcd_results_check(const struct etcd_reply *reply, size_t count, struct why *why);
/* Of an answer to a question of so many operations, the first of which asked for the setting. 0, or
 * -EPROTO and why: it has not as many, or setup has not been here, or of another release. */
MUST_USE int etcd_setting_get(struct etcd_setting *out, const struct etcd_reply *reply,
                              size_t count, const struct engine_etcd *engine, struct why *why);
/* Whether there is one that counts: of this cluster and its history, and not doubted. */
bool etcd_witness_get(struct engine_etcd *engine, struct etcd_witness *out,
                      const struct etcd_result *result, const struct etcd_reply *reply);

/* What is to be done for an operation: first (reply NULL), and after each answer. 0: *answer is
 * complete. ETCD_E_AGAIN: it has asked. REFUSED or negative: why. */
typedef int etcd_step_function(struct engine_etcd *engine, struct arena *arena,
                               const struct etcd_reply *reply, struct engine_answer *answer,
                               struct why *why);

etcd_step_function etcd_join, etcd_publish, etcd_acknowledge, etcd_trim, etcd_leave, etcd_gone;

#endif
