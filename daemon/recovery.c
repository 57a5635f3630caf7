/* SPDX-License-Identifier: Apache-2.0 */
/*
 * State that can't be proven complete is not used: a cold start costs renders, a wrong warm start costs the promise.
 * Each warm condition is a function that says what is missing. The new incarnation is durable before its index is
 * published, so that no LSN is ever used twice, whatever was lost.
 */
#include "recovery.h"

#include "clocktime.h"
#include "text.h"
#include "witness.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

#define COLD_DAMAGED "the former state is damaged and was set aside"
#define COLD_OLDER "the former state is of an older version and was set aside"
#define DROPPED_CHUNK 4096 /* erased in one transaction */

/* ---- Warm or cold ---- */

static void boot_id_read(char out[40])
{
    CLEANUP(cleanup_file) FILE *f = fopen("/proc/sys/kernel/random/boot_id", "re");

    if (!f || fscanf(f, "%39s", out) != 1)
        out[0] = '\0';
}

struct warm_question {
    const struct config *config;
    const struct store *store;
    const struct store_meta *former;
    const char *boot_id;
    bool witnessed;
    struct witness witness;
    struct store_identity identity; /* of the data file now */
};

/* Without fsync a machine crash may have lost any commit. With it, it has lost none. */
static const char *cold_by_boot(const struct warm_question *q)
{
    if (q->former->power)
        return NULL;
    if (q->boot_id[0] == '\0')
        return "the boot id cannot be read";
    return strcmp(q->former->boot_id, q->boot_id) == 0
               ? NULL
               : "the machine was started anew since the state was written";
}

/* A copy, or a state restored from one, may be older than what was answered since. */
static const char *cold_by_file(const struct warm_question *q)
{
    if (!q->identity.local)
        return "the state is on a network or user-space file system";
    if (q->identity.birth_ns == 0)
        return "the file system does not tell when a file was made";
    return q->identity.inode == q->former->data_inode &&
                   q->identity.birth_ns == q->former->data_birth_ns
               ? NULL
               : "the data file is a copy, or was restored";
}

/* The witness lives where a machine crash removes it; after one, power durability has to do without. */
static const char *cold_by_witness(const struct warm_question *q)
{
    const bool same_boot = q->boot_id[0] != '\0' && strcmp(q->former->boot_id, q->boot_id) == 0;

    if (q->former->power && !same_boot)
        return NULL;
    return q->witnessed && memcmp(q->witness.nonce, q->former->nonce, sizeof(q->witness.nonce)) == 0
               ? NULL
               : "the witness beside the socket is missing or of another run";
}

/* Checkpoints are clocks by number: another count makes them mean other targets. */
static const char *cold_by_clocks(const struct warm_question *q)
{
    return q->former->clock_count == q->config->clock_count ? NULL
                                                            : "the number of clocks was changed";
}

/* A daemon whose store failed removes the mark. */
static const char *cold_by_mark(const struct warm_question *q)
{
    return store_warm_mark(q->store) ? NULL : "a store write of the former run failed";
}

/* NULL: everything that makes the state trustworthy was shown. */
static const char *cold_reason(const struct warm_question *q)
{
    static const char *(*const conditions[])(const struct warm_question *) = {
        cold_by_boot, cold_by_file, cold_by_witness, cold_by_clocks, cold_by_mark,
    };

    for (size_t i = 0; i < sizeof(conditions) / sizeof(conditions[0]); i++) {
        const char *reason = conditions[i](q);
        if (reason)
            return reason;
    }
    return NULL;
}

/* ---- Opening ---- */

static int random_bytes(void *out, size_t len)
{
    return getrandom(out, len, 0) == (ssize_t)len ? 0 : -EIO;
}

static int refuse(char why[512], const char *doing, int error)
{
    snprintf(why, 512, "cannot %s the state: %s", doing,
             error < 0 ? strerror(-error) : "it is damaged");
    return -1;
}

/* A state of nothing but the incarnation. */
static int state_begin(struct recovery *recovery, struct store *store)
{
    recovery->meta.checkpoint_lsn = 0;
    int r = store_clear(store);
    if (r == 0)
        r = store_meta_write(store, &recovery->meta);
    if (r == 0)
        r = store_warm_mark_set(store);
    return r;
}

int recovery_set_aside(struct recovery *recovery, struct store *store, char why[512])
{
    recovery->warm = false;
    recovery->cold_reason = COLD_DAMAGED;
    struct store_identity identity;
    if (store_set_aside(store, why) != 0)
        return -1;
    if (store_identify(store, &identity) < 0)
        return refuse(why, "look at", -EIO);
    recovery->meta.data_inode = identity.inode;
    recovery->meta.data_birth_ns = identity.birth_ns;
    const int r = state_begin(recovery, store);
    return r == 0 ? 0 : refuse(why, "write", r);
}

/* Reads what the former run left. */
static int former_read(struct recovery *recovery, struct store *store, struct store_meta *former,
                       char why[512])
{
    const int r = store_meta_read(store, former);

    if (r == 0)
        return 0;
    *former = (struct store_meta){0};
    if (r != STORE_E_NOT_FOUND)
        return refuse(why, "read", r);
    recovery->cold_reason = "there is no former state";
    return 0;
}

/* Decides, and makes what this run will record about itself. */
static int run_begin(struct recovery *recovery, struct store *store,
                     const struct store_meta *former, const struct config *config)
{
    struct store_meta *meta = &recovery->meta;
    struct warm_question question = {.config = config, .store = store, .former = former};

    *meta = *former;
    boot_id_read(meta->boot_id);
    question.boot_id = meta->boot_id;
    question.witnessed = witness_read(config->socket_path, &question.witness);
    if (store_identify(store, &question.identity) < 0)
        return -1;
    if (!recovery->cold_reason)
        recovery->cold_reason = cold_reason(&question);
    recovery->warm = recovery->cold_reason == NULL;

    /* Where the state was lost the witness may still know: an LSN is never used twice. */
    meta->incarnation = former->incarnation > question.witness.incarnation
                            ? former->incarnation + 1
                            : question.witness.incarnation + 1;
    meta->clock_count = config->clock_count;
    meta->lease_ns = config->lease_ns;
    meta->power = config->durability == DURABILITY_POWER;
    meta->data_inode = question.identity.inode;
    meta->data_birth_ns = question.identity.birth_ns;
    if (random_bytes(meta->nonce, sizeof(meta->nonce)) < 0)
        return -1;
    return recovery->warm ? 0 : random_bytes(meta->hash_key, sizeof(meta->hash_key));
}

int recovery_open(struct recovery *recovery, struct store **store, const struct config *config,
                  char why[512])
{
    struct store_meta former;
    const struct store_options options = {
        .state_dir = config->state_dir,
        .map_bytes = config->map_bytes,
        .sync = config->durability == DURABILITY_POWER,
    };

    *recovery = (struct recovery){0};
    const int opened = store_open(store, &options, why);
    const char *set_aside = opened == STORE_E_DAMAGED ? COLD_DAMAGED
                            : opened == STORE_E_OLDER ? COLD_OLDER
                                                      : NULL;
    if (opened != 0 && !set_aside)
        return -1;
    recovery->locked_ns = time_coarse_ns();
    if (set_aside && store_set_aside(*store, why) != 0)
        return -1;
    if (former_read(recovery, *store, &former, why) < 0)
        return -1;
    if (set_aside)
        recovery->cold_reason = set_aside;
    recovery->former_lease_ns = former.lease_ns;
    if (run_begin(recovery, *store, &former, config) != 0)
        return refuse(why, "begin a run in", -EIO);
    const int r = recovery->warm ? store_meta_write(*store, &recovery->meta)
                                 : state_begin(recovery, *store);
    if (r != 0)
        return refuse(why, "write", r);
    struct witness witness = {.incarnation = recovery->meta.incarnation};
    memcpy(witness.nonce, recovery->meta.nonce, sizeof(witness.nonce));
    recovery->witness_error = witness_write(config->socket_path, &witness);
    return 0;
}

/* ---- Loading ---- */

struct loading {
    struct recovery *recovery;
    struct cache *cache;
    struct arena arena;
    struct key *key;
    struct entry_record_parts parts;
    bool incomplete;
    /* Entries that are in the store and not in the index: nothing would ever evict them. */
    struct hash128 *dropped;
    size_t dropped_count, dropped_capacity;
};

static int dropped_add(struct loading *loading, struct hash128 fingerprint)
{
    if (loading->dropped_count == loading->dropped_capacity) {
        const size_t capacity = loading->dropped_capacity ? loading->dropped_capacity * 2 : 1024;
        struct hash128 *grown = realloc(loading->dropped, capacity * sizeof(loading->dropped[0]));
        if (!grown)
            return -ENOMEM;
        loading->dropped = grown;
        loading->dropped_capacity = capacity;
    }
    loading->dropped[loading->dropped_count++] = fingerprint;
    return 0;
}

static int dropped_erase(struct loading *loading, struct store *store)
{
    for (size_t i = 0; i < loading->dropped_count;) {
        const size_t end = i + DROPPED_CHUNK < loading->dropped_count ? i + DROPPED_CHUNK
                                                                      : loading->dropped_count;
        struct store_txn *txn;
        int r = store_begin(store, &txn);
        if (r != 0)
            return r;
        for (; i < end && r == 0; i++)
            r = store_erase_entry(txn, loading->dropped[i]);
        if (r != 0) {
            store_abort(txn);
            return r;
        }
        r = store_commit(txn);
        if (r != 0)
            return r;
    }
    return 0;
}

static int clocks_load(void *ctx, uint32_t chunk, const uint64_t *words, size_t count)
{
    struct loading *loading = ctx;
    struct shm_view *view = loading->cache->view;
    const uint64_t first = (uint64_t)chunk * CLOCK_CHUNK_WORDS;

    if (first + count > view->clock_count) {
        loading->incomplete = true;
        return 0;
    }
    for (size_t i = 0; i < count; i++)
        shm_clock_store(view, (uint32_t)(first + i), words[i] & CLOCK_LSN_MASK);
    return 0;
}

static int event_load(void *ctx, uint64_t lsn, etag_str record)
{
    struct loading *loading = ctx;
    struct event event;

    arena_reset(&loading->arena);
    if (!event_record_parse(record, lsn, &event, &loading->arena) || event_check(&event) != NULL) {
        /* An event that cannot be read may have been for anything. */
        loading->incomplete = true;
        return 0;
    }
    return cache_apply(loading->cache, &event);
}

static int entry_load(void *ctx, struct hash128 fingerprint, etag_str bytes)
{
    struct loading *loading = ctx;
    struct entry_record record;
    struct hash128 evicted = {0};

    if (!entry_record_parse(bytes, &record, &loading->parts) ||
        key_canonicalize(loading->key, &record.entry.key) != NULL ||
        entry_check(&record.entry) != NULL) {
        loading->recovery->damaged++;
        return dropped_add(loading, fingerprint);
    }
    const etag_reason reason = cache_load(loading->cache, loading->key, &record, &evicted);
    if (reason != ETAG_REASON_NONE)
        return dropped_add(loading, fingerprint);
    if (evicted.low != 0 || evicted.high != 0)
        return dropped_add(loading, evicted);
    return 0;
}

int recovery_load(struct recovery *recovery, struct store *store, struct cache *cache)
{
    CLEANUP(cleanup_free) struct loading *loading = calloc(1, sizeof(*loading));
    CLEANUP(cleanup_free) struct key *key = malloc(sizeof(*key));

    if (!recovery->warm)
        return 0;
    if (!loading || !key)
        return -ENOMEM;
    *loading = (struct loading){.recovery = recovery, .cache = cache, .key = key};
    arena_init(&loading->arena, ARENA_BYTES_MAX);
    /* Clocks and events first: entries are judged by them. */
    int r = store_each_clock_chunk(store, clocks_load, loading);
    if (r == 0)
        r = store_each_event(store, 0, event_load, loading);
    if (r == 0 && !loading->incomplete)
        r = store_each_entry(store, entry_load, loading);
    if (r == 0 && !loading->incomplete)
        r = dropped_erase(loading, store);
    arena_deinit(&loading->arena);
    free(loading->dropped);
    if (r > 0)
        r = -EUCLEAN;
    return loading->incomplete ? -EUCLEAN : r;
}
