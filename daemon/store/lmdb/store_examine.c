/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every record of every table, once: its checksum, its place (an entry has its name, a name its entry), and what its judge
 * says. One transaction, read-only and without LMDB's lock file; the caller holds the state's lock, or there is none.
 */
#include "store_examine.h"

#include "bounds.h"
#include "store_check.h"
#include "store_record.h"

#include <errno.h>

#define MAP_BYTES_ALIGN (UINT64_C(1) << 16)

struct examining {
    struct store *store;
    MDB_txn *txn;
    const struct store_judges *judges;
    struct store_examination *out;
};

static void found(struct store_found *found, const char *wrong)
{
    if (!wrong)
        return;
    if (found->damaged++ == 0)
        (void)snprintf(found->first, sizeof(found->first), "%s", wrong);
}

/* ---- A record of each table: NULL, or what is wrong ---- */

static const char *judge_entry(const struct examining *at, MDB_val key, etag_str value)
{
    struct name_key name_key;
    etag_str name;
    etag_str record;
    MDB_val nothing;
    if (key.mv_size != FINGERPRINT_BYTES || stored_entry_split(value, &name, &record))
        return "an entry is no entry";
    stored_name_key(&name_key, name, fingerprint_at(key.mv_data));
    MDB_val name_val = val_of(name_key.bytes, name_key.len);
    if (mdb_get(at->txn, at->store->tables[TABLE_NAMES], &name_val, &nothing))
        return "an entry is missing in the ordered index: it is not listed";
    return at->judges->entry(at->judges->ctx, fingerprint_at(key.mv_data), name, record);
}

static const char *judge_name(const struct examining *at, MDB_val key)
{
    etag_str name;
    etag_str record;
    if (key.mv_size < 1 + FINGERPRINT_BYTES)
        return "a name in the ordered index is too short";
    const etag_str text = {(const char *)key.mv_data, key.mv_size - 1 - FINGERPRINT_BYTES};
    const struct hash128 fingerprint = fingerprint_at(text.data + text.len + 1);
    const int error = stored_entry(at->store, at->txn, val_of(&fingerprint, FINGERPRINT_BYTES),
                                   &name, &record);
    if (error == STORE_E_NOT_FOUND)
        return "a name in the ordered index has no entry";
    if (error) /* told of the entry */
        return NULL;
    return str_equal(name, text) ? NULL : "a name in the ordered index is not its entry's";
}

static const char *judge_event(const struct examining *at, MDB_val key, etag_str value)
{
    if (key.mv_size != sizeof(uint64_t))
        return "an event has no LSN";
    const uint64_t lsn = be64toh(load_u64(key.mv_data));
    if (lsn <= at->out->last_event_lsn)
        return "the LSNs of the events do not ascend";
    at->out->last_event_lsn = lsn;
    return at->judges->event(at->judges->ctx, lsn, value);
}

static const char *judge_guard(const struct examining *at, MDB_val key, etag_str value)
{
    if (key.mv_size != sizeof(struct guard_key) || value.len < sizeof(uint64_t))
        return "a guard is no guard";
    const struct guard_id id = {be64toh(load_u64(key.mv_data)),
                                be64toh(load_u64((const uint8_t *)key.mv_data + sizeof(uint64_t)))};
    return at->judges->guard(at->judges->ctx, id, load_u64(value.data),
                             str_skip(value, sizeof(uint64_t)));
}

static const char *judge_chunk(const struct examining *at, MDB_val key, etag_str value)
{
    uint64_t words[CLOCK_CHUNK_WORDS];
    if (key.mv_size != sizeof(uint32_t) || value.len == 0 || value.len > sizeof(words) ||
        value.len % sizeof(*words) != 0)
        return "a chunk of the clocks is no chunk";
    memcpy(words, value.data, value.len);
    return at->judges->chunk(at->judges->ctx, be32toh(load_u32(key.mv_data)), words,
                             value.len / sizeof(*words));
}

static const char *judge_record(const struct examining *at, enum table table, MDB_val key,
                                MDB_val value)
{
    etag_str record;
    if (table == TABLE_NAMES)
        return judge_name(at, key);
    if (stored_check(at->store, table, key, value, &record))
        return "the checksum of a record is wrong";
    switch (table) {
    case TABLE_ENTRIES:
        return judge_entry(at, key, record);
    case TABLE_EVENTS:
        return judge_event(at, key, record);
    case TABLE_CLOCKS:
        return judge_chunk(at, key, record);
    case TABLE_GUARDS:
        return judge_guard(at, key, record);
    default:
        return NULL;
    }
}

/* ---- Tables ---- */

static struct store_found *found_of(struct store_examination *out, enum table table)
{
    switch (table) {
    case TABLE_ENTRIES:
        return &out->entries;
    case TABLE_NAMES:
        return &out->names;
    case TABLE_EVENTS:
        return &out->events;
    case TABLE_CLOCKS:
        return &out->clocks;
    case TABLE_GUARDS:
        return &out->guards;
    default:
        return &out->others;
    }
}

static int examine_table(const struct examining *at, enum table table)
{
    MDB_cursor *cursor CLEANUP(stored_cursor_cleanup) = NULL;
    struct store_found *sum = found_of(at->out, table);
    MDB_val key;
    MDB_val value;
    int code = mdb_cursor_open(at->txn, at->store->tables[table], &cursor);
    while (!code && !(code = mdb_cursor_get(cursor, &key, &value, MDB_NEXT))) {
        sum->count++;
        found(sum,
              key.mv_size > KEY_MAX ? "a key is too long" : judge_record(at, table, key, value));
    }
    return code == MDB_NOTFOUND ? 0 : stored_error(code);
}

static int examine_meta(const struct examining *at)
{
    struct store *store = at->store;
    const int error = stored_meta_get(store, at->txn, &at->out->meta);
    at->out->format = stored_format(store, at->txn);
    at->out->exists = error != STORE_E_NOT_FOUND;
    store->has_key = error == 0;
    if (error == 0)
        memcpy(store->hash_key, at->out->meta.hash_key, SIPHASH_KEY_BYTES);
    if (error == STORE_E_DAMAGED)
        found(&at->out->structure, "the checksum of the meta record is wrong");
    return error;
}

static int examine_tables(const struct examining *at)
{
    bool absent[TABLE_COUNT] = {false};
    for (int table = 0; table < TABLE_COUNT; table++) {
        const int code = mdb_dbi_open(at->txn, stored_table_names[table], 0,
                                      &at->store->tables[table]);
        if (code && code != MDB_NOTFOUND)
            return stored_error(code);
        absent[table] = code != 0;
    }
    if (absent[TABLE_META] || examine_meta(at))
        return 0;
    if (absent[TABLE_ENTRIES] != absent[TABLE_NAMES]) {
        found(&at->out->structure, "one of the tables of entries and names is missing");
        return 0;
    }
    int error = 0;
    for (int table = TABLE_META + 1; !error && table < TABLE_COUNT; table++)
        if (!absent[table])
            error = examine_table(at, (enum table)table);
    return error;
}

static int examine_environment(struct store *store, const char *path,
                               const struct store_judges *judges, struct store_examination *out)
{
    MDB_txn *txn CLEANUP(stored_txn_cleanup) = NULL;
    int code = stored_env_open(store, path, MDB_NOSUBDIR | MDB_RDONLY | MDB_NOLOCK);
    if (!code)
        code = mdb_txn_begin(store->env, NULL, MDB_RDONLY, &txn);
    if (code)
        return stored_error(code);
    out->used_bytes = store_used_bytes(store);
    const struct examining at = {store, txn, judges, out};
    return examine_tables(&at);
}

int store_examine(const char *directory, const struct store_judges *judges,
                  struct store_examination *out)
{
    struct store store = {.dir = {.fd = -1, .lock_fd = -1}};
    struct stat status;
    char path[PATH_BYTES_MAX];
    (void)snprintf(store.dir.path, sizeof(store.dir.path), "%s", directory);
    state_dir_path(&store.dir, DATA_NAME, path);
    if (stat(path, &status) < 0)
        return errno == ENOENT ? 0 : -errno;
    if (status.st_size == 0)
        return 0;
    if (access(path, R_OK) < 0)
        return -errno;
    /* The structure first: what does not stand on it may lead LMDB astray. */
    store.map_bytes = ((uint64_t)status.st_size / MAP_BYTES_ALIGN + 1) * MAP_BYTES_ALIGN;
    const int structure = store_check_read(&store);
    if (structure)
        found(&out->structure, "pages, free list, order or checksums of the records");
    const int error = examine_environment(&store, path, judges, out);
    if (store.env)
        mdb_env_close(store.env);
    return error;
}
