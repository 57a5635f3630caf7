/* SPDX-License-Identifier: Apache-2.0 */
#include "peers.h"

#include "cpus.h"
#include "figures.h"

#include <ck_ht.h>
#include <errno.h>
#include <hiredis/hiredis.h>
#include <libmemcached/memcached.h>
#include <lmdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void sample_of(struct sample *out, uint64_t number)
{
    world_texts(&out->texts, number);
    out->key_len = (uint16_t)snprintf(out->key, sizeof(out->key), "%s" WORLD_HOST "%s",
                                      out->texts.scope, out->texts.target);
    out->etag_len = (uint16_t)strlen(out->texts.etag);
}

static unsigned differs(const struct sample *sample, const void *etag, size_t len)
{
    return len != sample->etag_len || memcmp(sample->texts.etag, etag, len) != 0;
}

/* ---- Concurrency Kit's hash table, in our process ---- */

struct ck_entry {
    char key[PEER_KEY_BYTES];
    char etag[20];
    uint32_t etag_len;
};

static void *ck_take(size_t bytes)
{
    return malloc(bytes);
}

static void ck_give(void *p, size_t bytes, bool defer)
{
    (void)bytes;
    (void)defer;
    free(p);
}

static struct ck_malloc ck_memory = {.malloc = ck_take, .free = ck_give};

static unsigned ck_get(void *state, const struct sample *sample)
{
    ck_ht_hash_t hash;
    ck_ht_entry_t entry;

    ck_ht_hash(&hash, state, sample->key, sample->key_len);
    ck_ht_entry_key_set(&entry, sample->key, sample->key_len);
    if (!ck_ht_get_spmc(state, hash, &entry))
        return 1;
    const struct ck_entry *found = ck_ht_entry_value(&entry);
    return differs(sample, found->etag, found->etag_len);
}

struct peer peer_ck(uint64_t count)
{
    ck_ht_t *table = memory_new(1, sizeof(*table));
    struct ck_entry *entries = memory_new(count, sizeof(*entries));

    if (!ck_ht_init(table, CK_HT_MODE_BYTESTRING, NULL, &ck_memory, count * 2, 6602834))
        bench_die("ck_ht", "no memory");
    for (uint64_t i = 0; i < count; i++) {
        struct sample sample;
        ck_ht_hash_t hash;
        ck_ht_entry_t entry;
        sample_of(&sample, i);
        memcpy(entries[i].key, sample.key, sample.key_len);
        memcpy(entries[i].etag, sample.texts.etag, sample.etag_len);
        entries[i].etag_len = sample.etag_len;
        ck_ht_hash(&hash, table, entries[i].key, sample.key_len);
        ck_ht_entry_set(&entry, hash, entries[i].key, sample.key_len, &entries[i]);
        if (!ck_ht_put_spmc(table, hash, &entry))
            bench_die("ck_ht", "no room");
    }
    return (struct peer){.name = "ck_ht + memcmp", .state = table, .get = ck_get};
}

/* ---- LMDB, in our process ---- */

struct lmdb {
    MDB_txn *txn;
    MDB_dbi dbi;
};

static void lmdb_must(int rc, const char *doing)
{
    if (rc != MDB_SUCCESS)
        bench_die(doing, mdb_strerror(rc));
}

static unsigned lmdb_get(void *state, const struct sample *sample)
{
    struct lmdb *lmdb = state;
    MDB_val key = {sample->key_len, (void *)(uintptr_t)sample->key}, value;

    /* A snapshot of its own each time, as a server would take. */
    lmdb_must(mdb_txn_renew(lmdb->txn), "mdb_txn_renew");
    const unsigned wrong = mdb_get(lmdb->txn, lmdb->dbi, &key, &value) != MDB_SUCCESS ||
                           differs(sample, value.mv_data, value.mv_size);
    mdb_txn_reset(lmdb->txn);
    return wrong;
}

struct peer peer_lmdb(const char *directory, uint64_t count)
{
    struct lmdb *lmdb = memory_new(1, sizeof(*lmdb));
    MDB_env *env;

    lmdb_must(mdb_env_create(&env), "mdb_env_create");
    lmdb_must(mdb_env_set_mapsize(env, (size_t)4 << 30), "mdb_env_set_mapsize");
    lmdb_must(mdb_env_open(env, directory, MDB_NOSYNC | MDB_WRITEMAP, 0600), directory);
    lmdb_must(mdb_txn_begin(env, NULL, 0, &lmdb->txn), "mdb_txn_begin");
    lmdb_must(mdb_dbi_open(lmdb->txn, NULL, 0, &lmdb->dbi), "mdb_dbi_open");
    for (uint64_t i = 0; i < count; i++) {
        struct sample sample;
        sample_of(&sample, i);
        MDB_val key = {sample.key_len, sample.key}, value = {sample.etag_len, sample.texts.etag};
        lmdb_must(mdb_put(lmdb->txn, lmdb->dbi, &key, &value, 0), "mdb_put");
    }
    lmdb_must(mdb_txn_commit(lmdb->txn), "mdb_txn_commit");
    lmdb_must(mdb_txn_begin(env, NULL, MDB_RDONLY, &lmdb->txn), "mdb_txn_begin");
    mdb_txn_reset(lmdb->txn);
    return (struct peer){.name = "LMDB mdb_get", .state = lmdb, .get = lmdb_get};
}

/* ---- Redis, over its Unix socket ---- */

static redisReply *redis_reply(redisContext *redis)
{
    void *reply = NULL;

    if (redisGetReply(redis, &reply) != REDIS_OK || !reply)
        bench_die("redis", redis->errstr);
    return reply;
}

static unsigned redis_get(void *state, const struct sample *sample)
{
    redisReply *reply = redisCommand(state, "GET %b", sample->key, (size_t)sample->key_len);

    if (!reply)
        bench_die("redis GET", ((redisContext *)state)->errstr);
    const unsigned wrong = reply->type != REDIS_REPLY_STRING ||
                           differs(sample, reply->str, reply->len);
    freeReplyObject(reply);
    return wrong;
}

static unsigned redis_get_batch(void *state, const struct sample *samples)
{
    const char *words[1 + PEER_BATCH] = {"MGET"};
    size_t lens[1 + PEER_BATCH] = {4};
    unsigned wrong = 0;

    for (size_t i = 0; i < PEER_BATCH; i++) {
        words[1 + i] = samples[i].key;
        lens[1 + i] = samples[i].key_len;
    }
    redisReply *reply = redisCommandArgv(state, 1 + PEER_BATCH, words, lens);
    if (!reply || reply->type != REDIS_REPLY_ARRAY || reply->elements != PEER_BATCH)
        bench_die("redis MGET", ((redisContext *)state)->errstr);
    for (size_t i = 0; i < PEER_BATCH; i++)
        wrong |= reply->element[i]->type != REDIS_REPLY_STRING ||
                 differs(&samples[i], reply->element[i]->str, reply->element[i]->len);
    freeReplyObject(reply);
    return wrong;
}

struct peer peer_redis(const char *socket_path, uint64_t count)
{
    redisContext *redis = redisConnectUnix(socket_path);

    if (!redis || redis->err)
        bench_die("redis", redis ? redis->errstr : "no memory");
    for (uint64_t i = 0; i < count; i++) {
        struct sample sample;
        sample_of(&sample, i);
        redisAppendCommand(redis, "SET %b %b", sample.key, (size_t)sample.key_len,
                           sample.texts.etag, (size_t)sample.etag_len);
        if ((i + 1) % 1000 == 0 || i + 1 == count)
            for (uint64_t n = i % 1000 + 1; n > 0; n--)
                freeReplyObject(redis_reply(redis));
    }
    return (struct peer){.name = "Redis GET",
                         .state = redis,
                         .get = redis_get,
                         .get_batch = redis_get_batch,
                         .pid = cpus_server_of(redis->fd)};
}

/* ---- memcached, over its Unix socket ---- */

static void memcached_must(memcached_st *m, memcached_return_t rc, const char *doing)
{
    if (memcached_failed(rc))
        bench_die(doing, memcached_last_error_message(m) ? memcached_last_error_message(m)
                                                         : memcached_strerror(m, rc));
}

static unsigned memcached_get_one(void *state, const struct sample *sample)
{
    size_t len = 0;
    uint32_t flags;
    memcached_return_t rc;
    char *value = memcached_get(state, sample->key, sample->key_len, &len, &flags, &rc);
    const unsigned wrong = !value || differs(sample, value, len);

    free(value);
    return wrong;
}

static unsigned memcached_get_batch(void *state, const struct sample *samples)
{
    memcached_st *m = state;
    const char *keys[PEER_BATCH];
    size_t lens[PEER_BATCH], found = 0;
    memcached_result_st result;
    memcached_return_t rc;

    for (size_t i = 0; i < PEER_BATCH; i++) {
        keys[i] = samples[i].key;
        lens[i] = samples[i].key_len;
    }
    memcached_must(m, memcached_mget(m, keys, lens, PEER_BATCH), "memcached_mget");
    memcached_result_create(m, &result);
    while (memcached_fetch_result(m, &result, &rc))
        found += memcached_result_length(&result) == samples[0].etag_len;
    memcached_result_free(&result);
    /* Keys that came twice are answered once. */
    return found == 0;
}

struct peer peer_memcached(const char *socket_path, pid_t pid, uint64_t count)
{
    memcached_st *m = memcached_create(NULL);

    if (!m)
        bench_die("memcached", "no memory");
    memcached_must(m, memcached_server_add_unix_socket(m, socket_path), "memcached_server_add");
    memcached_must(m, memcached_behavior_set(m, MEMCACHED_BEHAVIOR_NOREPLY, 1), "noreply");
    for (uint64_t i = 0; i < count; i++) {
        struct sample sample;
        sample_of(&sample, i);
        memcached_must(
            m,
            memcached_set(m, sample.key, sample.key_len, sample.texts.etag, sample.etag_len, 0, 0),
            "memcached_set");
    }
    memcached_must(m, memcached_behavior_set(m, MEMCACHED_BEHAVIOR_NOREPLY, 0), "noreply");
    memcached_must(m, memcached_version(m), "memcached_version"); /* after all of them */
    return (struct peer){.name = "memcached get",
                         .state = m,
                         .get = memcached_get_one,
                         .get_batch = memcached_get_batch,
                         .pid = pid};
}
