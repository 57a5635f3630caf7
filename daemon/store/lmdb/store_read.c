/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading: each call is a transaction of its own, so a reader sees one state of the store and never
 * keeps another from being written for long.
 */
#include "store_record.h"

#include "bounds.h"
#include "numbers.h"

/* ---- Reading ---- */

int store_get_entry(struct store *store, struct hash128 fingerprint,
                    int (*found)(void *ctx, struct hash128 fingerprint, etag_str record), void *ctx)
{
    CLEANUP(stored_txn_cleanup) MDB_txn *txn = NULL;
    etag_str name;
    etag_str record;
    const int code = mdb_txn_begin(store->env, NULL, MDB_RDONLY, &txn);

    if (code)
        return stored_error(code);
    const int r = stored_entry(store, txn, val_of(&fingerprint, FINGERPRINT_BYTES), &name, &record);
    return r ? r : found(ctx, fingerprint, record);
}

int store_get_event(struct store *store, uint64_t lsn,
                    int (*found)(void *ctx, uint64_t lsn, etag_str record), void *ctx)
{
    CLEANUP(stored_txn_cleanup) MDB_txn *txn = NULL;
    const uint64_t key = htobe64(lsn);
    etag_str record;
    const int code = mdb_txn_begin(store->env, NULL, MDB_RDONLY, &txn);

    if (code)
        return stored_error(code);
    const int r = stored_get(store, txn, TABLE_EVENTS, val_of(&key, sizeof(key)), &record);
    return r ? r : found(ctx, lsn, record);
}

int store_get_relay(struct store *store, int (*found)(void *ctx, etag_str mark), void *ctx)
{
    CLEANUP(stored_txn_cleanup) MDB_txn *txn = NULL;
    etag_str mark;
    const int code = mdb_txn_begin(store->env, NULL, MDB_RDONLY, &txn);

    if (code)
        return stored_error(code);
    const int r = stored_get(store, txn, TABLE_META,
                             val_of(STORED_RELAY_KEY, strlen(STORED_RELAY_KEY)), &mark);
    return r ? r : found(ctx, mark);
}

/* The log is cut at its front only, and a checkpoint covers events that may all be cut. */
int store_last_lsn(struct store *store, uint64_t *lsn)
{
    CLEANUP(stored_txn_cleanup) MDB_txn *txn = NULL;
    CLEANUP(stored_cursor_cleanup) MDB_cursor *cursor = NULL;
    struct store_meta meta;
    MDB_val key;
    int code = mdb_txn_begin(store->env, NULL, MDB_RDONLY, &txn);

    if (!code)
        code = mdb_cursor_open(txn, store->tables[TABLE_EVENTS], &cursor);
    if (code)
        return stored_error(code);
    const int r = stored_meta_get(store, txn, &meta);
    *lsn = r ? 0 : meta.checkpoint_lsn;
    if (r)
        return r == STORE_E_NOT_FOUND ? 0 : r;
    code = mdb_cursor_get(cursor, &key, NULL, MDB_LAST);
    if (!code && key.mv_size != sizeof(uint64_t))
        return STORE_E_DAMAGED;
    if (!code && be64toh(load_u64(key.mv_data)) > *lsn)
        *lsn = be64toh(load_u64(key.mv_data));
    return code == MDB_NOTFOUND ? 0 : stored_error(code);
}

/* What the walks below have in common: from which key, and what one record's key and bytes
 * become. */
struct walk {
    enum table table;
    /* empty: from the start */
    MDB_val first;
    size_t key_bytes;
    /* from the last that is not above 'first' on */
    bool backwards;
    /* a record that does not check is visited, as an empty one */
    bool shows_damage;
    int (*visit)(const struct walk *walk, const void *key, etag_str record);
    union {
        int (*entry)(void *ctx, struct hash128 fingerprint, etag_str record);
        int (*event)(void *ctx, uint64_t lsn, etag_str record);
        int (*guard)(void *ctx, struct guard_id id, uint64_t lsn, etag_str record);
        int (*chunk)(void *ctx, uint32_t chunk, const uint64_t *words, size_t count);
    } each;
    void *ctx;
};

/* The first record of the walk. */
static int walk_begin(MDB_cursor *cursor, const struct walk *walk, MDB_val *key, MDB_val *value)
{
    *key = walk->first;
    int code = mdb_cursor_get(cursor, key, value, key->mv_size ? MDB_SET_RANGE : MDB_FIRST);
    if (!walk->backwards)
        return code;
    if (code == MDB_NOTFOUND)
        return mdb_cursor_get(cursor, key, value, MDB_LAST);
    const bool above = !code && (key->mv_size != walk->first.mv_size ||
                                 memcmp(key->mv_data, walk->first.mv_data, key->mv_size) != 0);
    return above ? mdb_cursor_get(cursor, key, value, MDB_PREV) : code;
}

static int walk_table(struct store *store, const struct walk *walk)
{
    CLEANUP(stored_txn_cleanup) MDB_txn *txn = NULL;
    CLEANUP(stored_cursor_cleanup) MDB_cursor *cursor = NULL;
    const MDB_cursor_op next = walk->backwards ? MDB_PREV : MDB_NEXT;
    MDB_val key;
    MDB_val value;
    etag_str record;
    int code = mdb_txn_begin(store->env, NULL, MDB_RDONLY, &txn);

    if (!code)
        code = mdb_cursor_open(txn, store->tables[walk->table], &cursor);
    if (!code)
        code = walk_begin(cursor, walk, &key, &value);
    for (; !code; code = mdb_cursor_get(cursor, &key, &value, next)) {
        if (key.mv_size != walk->key_bytes)
            return STORE_E_DAMAGED;
        int r = stored_check(store, walk->table, key, value, &record);
        if (r && walk->shows_damage) {
            record = (etag_str){0};
            r = 0;
        }
        if (!r)
            r = walk->visit(walk, key.mv_data, record);
        if (r)
            return r;
    }
    return code == MDB_NOTFOUND ? 0 : stored_error(code);
}

static int visit_entry(const struct walk *walk, const void *key, etag_str value)
{
    etag_str name;
    etag_str record;

    if (stored_entry_split(value, &name, &record))
        record = (etag_str){0};
    return walk->each.entry(walk->ctx, fingerprint_at(key), record);
}

int store_each_entry(struct store *store, struct hash128 from,
                     int (*each)(void *ctx, struct hash128 fingerprint, etag_str record), void *ctx)
{
    return walk_table(store, &(struct walk){.table = TABLE_ENTRIES,
                                            .first = val_of(&from, FINGERPRINT_BYTES),
                                            .key_bytes = FINGERPRINT_BYTES,
                                            .shows_damage = true,
                                            .visit = visit_entry,
                                            .each.entry = each,
                                            .ctx = ctx});
}

static int visit_event(const struct walk *walk, const void *key, etag_str record)
{
    return walk->each.event(walk->ctx, be64toh(load_u64(key)), record);
}

int store_each_event(struct store *store, uint64_t from_lsn,
                     int (*each)(void *ctx, uint64_t lsn, etag_str record), void *ctx)
{
    const uint64_t first = htobe64(from_lsn);

    return walk_table(store, &(struct walk){.table = TABLE_EVENTS,
                                            .first = val_of(&first, sizeof(first)),
                                            .key_bytes = sizeof(uint64_t),
                                            .visit = visit_event,
                                            .each.event = each,
                                            .ctx = ctx});
}

int store_each_event_back(struct store *store, uint64_t until_lsn,
                          int (*each)(void *ctx, uint64_t lsn, etag_str record), void *ctx)
{
    const uint64_t last = htobe64(until_lsn);

    return walk_table(store, &(struct walk){.table = TABLE_EVENTS,
                                            .first = val_of(&last, sizeof(last)),
                                            .key_bytes = sizeof(uint64_t),
                                            .backwards = true,
                                            .visit = visit_event,
                                            .each.event = each,
                                            .ctx = ctx});
}

static int visit_guard(const struct walk *walk, const void *key, etag_str value)
{
    if (value.len < sizeof(uint64_t))
        return STORE_E_DAMAGED;
    const struct guard_id id = {be64toh(load_u64(key)),
                                be64toh(load_u64((const uint8_t *)key + sizeof(uint64_t)))};
    return walk->each.guard(walk->ctx, id, load_u64(value.data), str_skip(value, sizeof(uint64_t)));
}

int store_each_guard(struct store *store,
                     int (*each)(void *ctx, struct guard_id id, uint64_t lsn, etag_str record),
                     void *ctx)
{
    return walk_table(store, &(struct walk){.table = TABLE_GUARDS,
                                            .key_bytes = sizeof(struct guard_key),
                                            .visit = visit_guard,
                                            .each.guard = each,
                                            .ctx = ctx});
}

static int visit_chunk(const struct walk *walk, const void *key, etag_str record)
{
    uint64_t words[CLOCK_CHUNK_WORDS]; /* LMDB aligns to 2 bytes only */

    if (record.len > sizeof(words) || record.len % sizeof(*words) != 0)
        return STORE_E_DAMAGED;
    memcpy(words, record.data, record.len);
    return walk->each.chunk(walk->ctx, be32toh(load_u32(key)), words, record.len / sizeof(*words));
}

int store_each_clock_chunk(struct store *store,
                           int (*each)(void *ctx, uint32_t chunk, const uint64_t *words,
                                       size_t count),
                           void *ctx)
{
    return walk_table(store, &(struct walk){.table = TABLE_CLOCKS,
                                            .key_bytes = sizeof(uint32_t),
                                            .visit = visit_chunk,
                                            .each.chunk = each,
                                            .ctx = ctx});
}

/* ---- Listing ---- */

struct listing {
    etag_str prefix;
    int (*each)(void *ctx, etag_str cursor, struct hash128 fingerprint, etag_str record);
    void *ctx;
};

/* A name whose entry is gone is skipped; one that its entry does not bear is damage. */
static int list_name(const struct store *store, MDB_txn *txn, const struct listing *listing,
                     etag_str key)
{
    if (key.len < 1 + FINGERPRINT_BYTES)
        return STORE_E_DAMAGED;
    const etag_str text = {key.data, key.len - 1 - FINGERPRINT_BYTES};
    const struct hash128 fingerprint = fingerprint_at(key.data + text.len + 1);
    etag_str name;
    etag_str record;
    if (text.len < listing->prefix.len)
        return 0;
    const int r = stored_entry(store, txn, val_of(&fingerprint, FINGERPRINT_BYTES), &name, &record);
    if (r)
        return r == STORE_E_NOT_FOUND ? 0 : r;
    if (!str_equal(name, text))
        return STORE_E_DAMAGED;
    return listing->each(listing->ctx, key, fingerprint, record);
}

int store_list(struct store *store, etag_str prefix, etag_str after,
               int (*each)(void *ctx, etag_str cursor, struct hash128 fingerprint, etag_str record),
               void *ctx)
{
    CLEANUP(stored_txn_cleanup) MDB_txn *txn = NULL;
    CLEANUP(stored_cursor_cleanup) MDB_cursor *cursor = NULL;
    const struct listing listing = {stored_name_cut(prefix), each, ctx};
    const etag_str start = after.len > 0 ? after : listing.prefix;
    MDB_val key = val_of(start.data, min_of(start.len, KEY_MAX));
    int code = mdb_txn_begin(store->env, NULL, MDB_RDONLY, &txn);

    if (!code)
        code = mdb_cursor_open(txn, store->tables[TABLE_NAMES], &cursor);
    if (!code)
        code = mdb_cursor_get(cursor, &key, NULL, key.mv_size ? MDB_SET_RANGE : MDB_FIRST);
    if (!code && after.len > 0 && str_equal(str_of_val(key), after))
        code = mdb_cursor_get(cursor, &key, NULL, MDB_NEXT);
    for (; !code; code = mdb_cursor_get(cursor, &key, NULL, MDB_NEXT)) {
        if (!str_starts_with(str_of_val(key), listing.prefix))
            return 0;
        const int r = list_name(store, txn, &listing, str_of_val(key));
        if (r)
            return r;
    }
    return code == MDB_NOTFOUND ? 0 : stored_error(code);
}

uint64_t store_entry_count(struct store *store)
{
    CLEANUP(stored_txn_cleanup) MDB_txn *txn = NULL;
    MDB_stat stat;

    if (mdb_txn_begin(store->env, NULL, MDB_RDONLY, &txn) ||
        mdb_stat(txn, store->tables[TABLE_ENTRIES], &stat))
        return 0;
    return stat.ms_entries;
}

uint64_t store_used_bytes(struct store *store)
{
    MDB_envinfo info;
    MDB_stat stat;

    if (mdb_env_info(store->env, &info) || mdb_env_stat(store->env, &stat))
        return 0;
    return (info.me_last_pgno + 1) * stat.ms_psize;
}
