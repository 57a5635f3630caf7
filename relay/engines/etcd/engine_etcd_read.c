/* SPDX-License-Identifier: Apache-2.0 */
/* What both operations that only read and those that write ask first. */
#include "clocktime.h"
#include "engine_etcd.h"

#include <errno.h>

void etcd_get_one(struct engine_etcd *engine, struct etcd_txn *txn, enum etcd_part part,
                  const char *name)
{
    const struct etcd_key key = etcd_key_of(engine->prefix, name);

    etcd_txn_get(txn, part, &(struct etcd_get){.from = etcd_key_str(&key)});
}

void etcd_get_host(struct engine_etcd *engine, struct etcd_txn *txn, etag_str host)
{
    const struct etcd_key key = etcd_key_of_host(engine->prefix, "host/", host);

    etcd_txn_get(txn, ETCD_THEN, &(struct etcd_get){.from = etcd_key_str(&key)});
}

int etcd_results_check(const struct etcd_reply *reply, size_t count, struct why *why)
{
    if (reply->result_count == count)
        return 0;
    return why_set(why, "etcd answered %zu operations of %zu", reply->result_count, count), -EPROTO;
}

int etcd_setting_get(struct etcd_setting *out, const struct etcd_reply *reply, size_t count,
                     const struct engine_etcd *engine, struct why *why)
{
    const int r = etcd_results_check(reply, count, why);

    if (r != 0)
        return r;
    const struct etcd_kv *const kv = etcd_one(&reply->results[0]);
    if (!kv)
        return why_set(why,
                       "etcd has no key %ssetting: run etag-relay setup, or name the prefix that "
                       "it was run with",
                       engine->prefix),
               -EPROTO;
    if (!etcd_setting_read(out, kv->value))
        return why_set(why, "etcd's key %ssetting is not of etag-relay: run etag-relay setup",
                       engine->prefix),
               -EPROTO;
    if (out->version != ETCD_SETTING_VERSION)
        return why_set(why,
                       "etcd's key %ssetting has version %llu, this etag-relay works with %d: "
                       "install the release that set it up",
                       engine->prefix, (unsigned long long)out->version, ETCD_SETTING_VERSION),
               -EPROTO;
    return 0;
}

/* Rule WITNESS: of this cluster; of a history whose elections have come as far as when it was
 * written; and no host here has seen more than is there now. */
bool etcd_witness_get(struct engine_etcd *engine, struct etcd_witness *out,
                      const struct etcd_result *result, const struct etcd_reply *reply)
{
    const struct etcd_kv *const kv = etcd_one(result);

    if (!kv || !etcd_witness_read(out, kv->value) || out->cluster != reply->cluster_id ||
        out->term > reply->raft_term)
        return false;
    if (engine->doubts && nonce_equal(&out->nonce, &engine->doubted))
        return false;
    engine->doubts = false;
    if (engine->witness_since_ns == 0 || !nonce_equal(&out->nonce, &engine->witness)) {
        engine->witness = out->nonce;
        engine->witness_since_ns = time_ns_of(CLOCK_MONOTONIC);
    }
    return true;
}
