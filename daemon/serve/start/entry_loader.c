/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Each step is a read transaction of its own that begins after the last fingerprint. None stays
 * open between turns, because an open one keeps LMDB from reusing freed pages. Records are loaded
 * in groups, so that the cache misses in the index, one or two for each entry, overlap (1.24 M
 * entries: from 1.3 to 0.9 us each).
 *
 * The loader removes from the store each record that it does not load, since nothing else would
 * ever evict it. It leaves the record if the index has the key by now: then the store has, or gets,
 * what this run filled.
 */
#include "entry_loader.h"

#include "clocktime.h"
#include "record.h"

#include <errno.h>
#include <string.h>

#define GROUP_MAX 16
#define OWED_MAX                                                                                   \
    (GROUP_MAX * (1 + INDEX_EVICTED_MAX)) /* of each the entry itself, and those that went for it */
#define WAITING_MAX (DIRTY_ENTRIES_MAX / 4) /* the rest of that room is for fills */

/* The end of a step; no error. */

struct stored_entry {
    struct hash128 fingerprint;
    /* within the transaction */
    etag_str record;
};

struct entry_loader {
    struct store *store;
    struct cache *cache;
    struct persist *persist;
    /* visited; zero: none yet */
    struct hash128 last;
    uint64_t counted, visited, damaged;
    /* of this step */
    uint64_t until_ns;
    /* of entries, before its transaction began */
    uint64_t commits;
    /* a removal was lost: what is still to come may be what was removed */
    bool broken;
    struct stored_entry group[GROUP_MAX];
    size_t group_count, group_max;
    struct hash128 before_group;
    /* removals that the persister did not take yet */
    struct hash128 owed[OWED_MAX];
    size_t owed_count;
    struct key key;
    struct entry_record_parts parts;
};

struct entry_loader *entry_loader_new(struct store *store, struct cache *cache,
                                      struct persist *persist)
{
    struct entry_loader *loader = calloc(1, sizeof(*loader));

    if (!loader)
        return NULL;
    loader->store = store;
    loader->cache = cache;
    loader->persist = persist;
    loader->counted = store_entry_count(store);
    loader->group_max = GROUP_MAX;
    return loader;
}

struct entry_loader *entry_loader_free(struct entry_loader *loader)
{
    free(loader);
    return NULL;
}

/* ---- One entry ---- */

static bool index_has(const struct cache *cache, struct hash128 fingerprint)
{
    struct shm_entry shown;

    return index_find(cache->index, fingerprint, &shown);
}

static void removal_owe(struct entry_loader *loader, struct hash128 fingerprint)
{
    loader->owed[loader->owed_count++] = fingerprint;
}

/* This run removed it (evicted, retired), and the store does not know that yet. */
static bool removal_waits(const struct entry_loader *loader, struct hash128 fingerprint)
{
    return persist_waiting(loader->persist) > 0 &&
           persist_find(loader->persist, fingerprint, NULL, NULL) == PERSIST_E_ERASED;
}

/* Rule SNAPSHOT_IS_NEWEST: a removal that was stored after the step's transaction began is seen
 * neither by it nor among those that wait. To be asked after removal_waits(). */
static bool snapshot_is_old(const struct entry_loader *loader)
{
    return persist_entry_commits(loader->persist) != loader->commits;
}

static bool record_read(struct entry_loader *loader, etag_str bytes, struct entry_record *record)
{
    return entry_record_parse(bytes, record, &loader->parts) &&
           key_canonicalize(&loader->key, &record->entry.key) == NULL;
}

/* False: not with this transaction. */
static bool entry_load(struct entry_loader *loader, const struct stored_entry *stored)
{
    struct entry_record record;
    struct index_evicted evicted;

    /* Rule: what this run filled stays, whatever the store says, and so does what it removed. */
    if (index_has(loader->cache, stored->fingerprint) || removal_waits(loader, stored->fingerprint))
        return true;
    if (snapshot_is_old(loader))
        return false;
    if (!record_read(loader, stored->record, &record)) {
        loader->damaged++;
        removal_owe(loader, stored->fingerprint);
        return true;
    }
    if (cache_load(loader->cache, &loader->key, &record, &evicted) != ETAG_REASON_NONE)
        removal_owe(loader, stored->fingerprint);
    for (size_t i = 0; i < evicted.count; i++)
        removal_owe(loader, evicted.fingerprints[i]);
    return true;
}

/* False: not all of them yet. */
static bool removals_pay(struct entry_loader *loader)
{
    while (loader->owed_count > 0) {
        const struct hash128 fingerprint = loader->owed[loader->owed_count - 1];
        if (!index_has(loader->cache, fingerprint) &&
            persist_erase(loader->persist, fingerprint) < 0)
            return false;
        loader->owed_count--;
    }
    return true;
}

/* ---- A step ---- */

/* What is left of the group comes again with the next transaction. */
static void group_repeat(struct entry_loader *loader, size_t done)
{
    loader->last = done > 0 ? loader->group[done - 1].fingerprint : loader->before_group;
    loader->visited -= loader->group_count - done;
    loader->group_count = 0;
}

/* False: not all of it. */
static bool group_load(struct entry_loader *loader)
{
    for (size_t i = 0; i < loader->group_count; i++)
        shm_prefetch(loader->cache->view, loader->group[i].fingerprint);
    for (size_t i = 0; i < loader->group_count; i++)
        if (!entry_load(loader, &loader->group[i])) {
            group_repeat(loader, i);
            return false;
        }
    loader->group_count = 0;
    return true;
}

/* The order of the table. */
static bool is_behind(struct hash128 a, struct hash128 b)
{
    return memcmp(&a, &b, sizeof(a)) > 0;
}

static int entry_visit(void *ctx, struct hash128 fingerprint, etag_str record)
{
    struct entry_loader *loader = ctx;

    if (loader->visited > 0 && !is_behind(fingerprint, loader->last))
        return memcmp(&fingerprint, &loader->last, sizeof(fingerprint)) == 0 ? 0 : STORE_E_DAMAGED;
    if (loader->group_count == 0)
        loader->before_group = loader->last;
    loader->last = fingerprint;
    loader->visited++;
    loader->group[loader->group_count++] = (struct stored_entry){fingerprint, record};
    if (loader->group_count < loader->group_max)
        return 0;
    return !group_load(loader) || loader->owed_count > 0 ||
                   time_ns_of(CLOCK_MONOTONIC) >= loader->until_ns
               ? STORE_E_STOPPED
               : 0;
}

/* The table ended within a group, and its transaction with it: once more, one by one. */
static void last_group_repeat(struct entry_loader *loader)
{
    group_repeat(loader, 0);
    loader->group_max = 1;
}

int entry_loader_step(struct entry_loader *loader, uint64_t ns)
{
    if (loader->broken)
        return -ENOBUFS;
    if (!removals_pay(loader) || persist_waiting(loader->persist) > WAITING_MAX)
        return ENTRY_LOADER_E_LATER;
    loader->until_ns = time_ns_of(CLOCK_MONOTONIC) + ns;
    loader->commits = persist_entry_commits(loader->persist);
    const int r = store_each_entry(loader->store, loader->last, entry_visit, loader);
    if (r == STORE_E_STOPPED)
        return ENTRY_LOADER_E_MORE;
    if (r == 0 && loader->group_count > 0) {
        last_group_repeat(loader);
        return ENTRY_LOADER_E_MORE;
    }
    return r == 0 && loader->owed_count > 0 ? ENTRY_LOADER_E_MORE : r;
}

/* ---- One entry before its turn ---- */

static bool was_visited(const struct entry_loader *loader, struct hash128 fingerprint)
{
    return loader->visited > 0 && !is_behind(fingerprint, loader->last);
}

static bool is_owed(const struct entry_loader *loader, struct hash128 fingerprint)
{
    for (size_t i = 0; i < loader->owed_count; i++)
        if (memcmp(&loader->owed[i], &fingerprint, sizeof(fingerprint)) == 0)
            return true;
    return false;
}

struct loading_now {
    struct entry_loader *loader;
    struct index_evicted *evicted;
    etag_reason reason;
};

static int record_load(void *ctx, struct hash128 fingerprint, etag_str bytes)
{
    struct loading_now *now = ctx;
    struct entry_record record;

    (void)fingerprint;
    if (record_read(now->loader, bytes, &record))
        now->reason = cache_load(now->loader->cache, &now->loader->key, &record, now->evicted);
    return 0;
}

/* No snapshot can be too old here: the transaction begins after the look at what waits. */
bool entry_loader_fetch(struct entry_loader *loader, struct hash128 fingerprint,
                        struct index_evicted *evicted)
{
    struct loading_now now = {loader, evicted, ETAG_REASON_NO_ENTRY};

    evicted->count = 0;
    if (index_has(loader->cache, fingerprint))
        return false;
    if (was_visited(loader, fingerprint))
        return is_owed(loader, fingerprint);
    if (removal_waits(loader, fingerprint))
        return true;
    const int r = store_get_entry(loader->store, fingerprint, record_load, &now);
    return r == 0 ? now.reason != ETAG_REASON_NONE && now.reason != ETAG_REASON_TOKEN_STALE
                  : r != STORE_E_NOT_FOUND;
}

void entry_loader_break(struct entry_loader *loader)
{
    loader->broken = true;
}

struct entry_loader_progress entry_loader_progress(const struct entry_loader *loader)
{
    return (struct entry_loader_progress){
        .left = loader->counted > loader->visited ? loader->counted - loader->visited : 0,
        .damaged = loader->damaged,
    };
}
