/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opening, closing and writing the store. store_record.c has the layout of records in LMDB,
 * store_read.c the reading.
 *
 * Durability "process" is MDB_NOSYNC: the page cache outlives a killed daemon. No MDB_WRITEMAP: a
 * full disk is then an error of write(2), not a SIGBUS. Readers have slots by transaction, not by
 * thread (MDB_NOTLS).
 */
#include "store_record.h"

#include "bounds.h"
#include "clocktime.h"
#include "store_check.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>

#define DATA_LOCK_NAME "data.mdb-lock" /* LMDB's own */
#define MAP_BYTES_DEFAULT (UINT64_C(1) << 30)
#define MAP_BYTES_ALIGN (UINT64_C(1) << 16)
#define HEADROOM_BYTES_MIN (UINT64_C(4) << 20)
#define HEADROOM_BYTES_MAX (UINT64_C(64) << 20)

/* ---- Open, close, set aside ---- */

static void database_close(struct store *store)
{
    if (store->env)
        mdb_env_close(store->env);
    store->env = NULL;
    store->has_key = false;
}

static int open_tables(struct store *store)
{
    CLEANUP(stored_txn_cleanup) MDB_txn *txn = NULL;
    struct store_meta meta;
    int code = mdb_txn_begin(store->env, NULL, 0, &txn);

    for (int table = 0; !code && table < TABLE_COUNT; table++)
        code = mdb_dbi_open(txn, stored_table_names[table], MDB_CREATE, &store->tables[table]);
    if (code)
        return stored_error(code);

    const int r = stored_meta_get(store, txn, &meta);
    if (r && r != STORE_E_NOT_FOUND)
        return r;
    if (!r) {
        memcpy(store->hash_key, meta.hash_key, SIPHASH_KEY_BYTES);
        store->has_key = true;
    }
    return stored_error(mdb_txn_commit(take_ptr(txn)));
}

static int open_environment(struct store *store, const char *path)
{
    const unsigned flags = MDB_NOSUBDIR | MDB_NOTLS | (store->dir.sync ? 0 : MDB_NOSYNC);
    int dead_readers;
    int code = stored_env_open(store, path, flags);

    if (!code)
        code = mdb_reader_check(store->env, &dead_readers);
    return stored_error(code);
}

static int database_open(struct store *store, struct why *why)
{
    char path[PATH_BYTES_MAX];
    char found[128] = "LMDB or a checksum says so";

    state_dir_path(&store->dir, DATA_NAME, path);
    int r = store_check(store, found, sizeof(found));
    if (!r)
        r = open_environment(store, path);
    if (!r)
        r = open_tables(store);
    if (!r)
        return 0;
    database_close(store);
    if (r == STORE_E_FORMAT)
        why_set(why,
                "%s is of another version of etagd (this one reads format %u) and is "
                "set aside",
                path, STORE_FORMAT);
    else if (r == STORE_E_DAMAGED)
        why_set(why, "%s is damaged (%s) and is set aside", path, found);
    else
        why_set(why, "%s: cannot be opened: %s", path, strerrordesc_np(r < 0 ? -r : EIO));
    return r;
}

int store_open(struct store **out, const struct store_options *options, struct why *why)
{
    const uint64_t map_bytes = options->map_bytes ? options->map_bytes : MAP_BYTES_DEFAULT;

    *out = NULL;
    why->text[0] = '\0';
    struct store *store = calloc(1, sizeof(*store));
    if (!store)
        return -ENOMEM;
    store->map_bytes = (map_bytes + MAP_BYTES_ALIGN - 1) / MAP_BYTES_ALIGN * MAP_BYTES_ALIGN;
    int r = state_dir_open(&store->dir, options, why);
    if (!r)
        r = database_open(store, why);
    if (r && r != STORE_E_DAMAGED && r != STORE_E_FORMAT)
        store = store_close(store);
    *out = store;
    return r;
}

struct store *store_close(struct store *store)
{
    if (!store)
        return NULL;
    database_close(store);
    state_dir_deinit(&store->dir);
    free(store);
    return NULL;
}

int store_still_owned(const struct store *store)
{
    int data_fd = -1;

    if (!state_dir_is_same(&store->dir, STATE_LOCK_NAME, store->dir.lock_fd))
        return -ESTALE;
    if (mdb_env_get_fd(store->env, &data_fd) || !state_dir_is_same(&store->dir, DATA_NAME, data_fd))
        return -ESTALE;
    return 0;
}

/* The mark goes first: whatever happens next, nothing of this state is trusted. */
static int move_database(const struct store *store)
{
    char name[64];
    uint64_t number = time_wall_ms();
    const int r = state_dir_warm_clear(&store->dir);

    if (r)
        return r;
    do
        (void)snprintf(name, sizeof(name), "damaged-%llu.mdb", (unsigned long long)number++);
    while (faccessat(store->dir.fd, name, F_OK, 0) == 0);
    if (renameat(store->dir.fd, DATA_NAME, store->dir.fd, name) < 0 && errno != ENOENT)
        return -errno;
    if (unlinkat(store->dir.fd, DATA_LOCK_NAME, 0) < 0 && errno != ENOENT)
        return -errno;
    const int cleared = state_dir_lost_clear(&store->dir);
    return cleared ? cleared : state_dir_sync(&store->dir);
}

int store_set_aside(struct store *store, struct why *why)
{
    database_close(store);
    const int r = move_database(store);
    if (!r)
        return database_open(store, why);
    why_set(why, "%s: the damaged database cannot be set aside: %s", store->dir.path,
            strerrordesc_np(-r));
    return r;
}

int store_identify(const struct store *store, struct store_identity *out)
{
    return state_dir_identify(&store->dir, DATA_NAME, out);
}

/* ---- Meta ---- */

int store_meta_read(struct store *store, struct store_meta *out)
{
    CLEANUP(stored_txn_cleanup) MDB_txn *txn = NULL;
    const int code = mdb_txn_begin(store->env, NULL, MDB_RDONLY, &txn);

    return code ? stored_error(code) : stored_meta_get(store, txn, out);
}

int store_meta_write(struct store *store, const struct store_meta *meta)
{
    struct store_txn *txn = NULL;
    int r = store_begin(store, &txn);

    if (r)
        return r;
    r = stored_meta_put(txn, meta);
    if (r) {
        store_abort(txn);
        return r;
    }
    r = store_commit(txn);
    if (!r)
        r = stored_error(mdb_env_sync(store->env, 1));
    if (!r)
        r = state_dir_sync(&store->dir);
    if (r)
        return r;
    memcpy(store->hash_key, meta->hash_key, SIPHASH_KEY_BYTES);
    store->has_key = true;
    return 0;
}

/* The descriptor that LMDB writes with. -1: there is nothing to ask. */
static int lazy_fd(struct store *store)
{
    mdb_filehandle_t fd;

    return store->dir.sync || !store->env || mdb_env_get_fd(store->env, &fd) ? -1 : fd;
}

/* Anything else says that this file system or kernel cannot be asked, not that it lost
 * something. */
static int loss_of(int r)
{
    return r < 0 && (errno == EIO || errno == ENOSPC || errno == EDQUOT) ? -errno : 0;
}

/* Whatever the range, the file's errors are reported; where it has no pages there are none to wait
 * for. */
int store_heard(struct store *store)
{
    static const off64_t beyond = (off64_t)1 << 62;
    const int fd = lazy_fd(store);

    return fd < 0 ? 0 : loss_of(sync_file_range(fd, beyond, 1, SYNC_FILE_RANGE_WAIT_BEFORE));
}

int store_flush(struct store *store)
{
    const int fd = lazy_fd(store);

    return fd < 0 ? 0 : loss_of(fdatasync(fd));
}

int store_warm_mark_set(struct store *store)
{
    return state_dir_warm_set(&store->dir);
}

int store_warm_mark_clear(struct store *store)
{
    return state_dir_warm_clear(&store->dir);
}

bool store_warm_mark(const struct store *store)
{
    return state_dir_warm(&store->dir);
}

int store_lost_mark_set(struct store *store)
{
    return state_dir_lost_set(&store->dir);
}

bool store_lost_mark(const struct store *store)
{
    return state_dir_lost(&store->dir);
}

/* ---- Room ---- */

static uint64_t headroom_bytes(uint64_t map_bytes)
{
    uint64_t bytes = map_bytes / 16;

    if (bytes < HEADROOM_BYTES_MIN)
        bytes = HEADROOM_BYTES_MIN;
    if (bytes > HEADROOM_BYTES_MAX)
        bytes = HEADROOM_BYTES_MAX;
    return bytes < map_bytes / 4 ? bytes : map_bytes / 4;
}

bool store_has_entry_room(struct store *store, size_t bytes)
{
    CLEANUP(stored_txn_cleanup) MDB_txn *txn = NULL;
    MDB_envinfo info;
    MDB_stat stat;
    size_t free_pages = 0;

    if (mdb_env_info(store->env, &info) || mdb_env_stat(store->env, &stat))
        return false;
    const uint64_t wanted = (headroom_bytes(info.me_mapsize) + bytes) / stat.ms_psize;
    const uint64_t unused = info.me_mapsize / stat.ms_psize - (info.me_last_pgno + 1);
    if (unused >= wanted)
        return true;
    return !mdb_txn_begin(store->env, NULL, MDB_RDONLY, &txn) &&
           !stored_free_pages(txn, info.me_last_pgno, NULL, &free_pages) &&
           unused + free_pages >= wanted;
}

/* ---- Writing ---- */

int store_begin(struct store *store, struct store_txn **out)
{
    MDB_txn *lmdb;
    const int code = mdb_txn_begin(store->env, NULL, 0, &lmdb);

    if (code)
        return stored_error(code);
    store->writing = (struct store_txn){store, lmdb};
    *out = &store->writing;
    return 0;
}

int store_commit(struct store_txn *txn)
{
    assert(txn);
    return stored_error(mdb_txn_commit(take_ptr(txn->lmdb)));
}

void store_abort(struct store_txn *txn)
{
    assert(txn);
    mdb_txn_abort(take_ptr(txn->lmdb));
}

int store_end(struct store_txn *txn, int error)
{
    if (!error)
        return store_commit(txn);
    store_abort(txn);
    return error;
}

/* A damaged entry has no name that could be trusted: its name stays, and leads nowhere or to the
 * entry's successor. */
static int erase_name_of(struct store_txn *txn, struct hash128 fingerprint)
{
    const MDB_val key = val_of(&fingerprint, FINGERPRINT_BYTES);
    struct name_key name_key;
    etag_str name;
    etag_str record;
    const int r = stored_entry(txn->store, txn->lmdb, key, &name, &record);

    if (r)
        return r == STORE_E_DAMAGED || r == STORE_E_NOT_FOUND ? 0 : r;
    stored_name_key(&name_key, name, fingerprint);
    MDB_val name_val = val_of(name_key.bytes, name_key.len);
    const int code = mdb_del(txn->lmdb, txn->store->tables[TABLE_NAMES], &name_val, NULL);
    return code == MDB_NOTFOUND ? 0 : stored_error(code);
}

static int put_name(struct store_txn *txn, etag_str cut, struct hash128 fingerprint)
{
    struct name_key name_key;
    MDB_val empty = {0};

    stored_name_key(&name_key, cut, fingerprint);
    MDB_val key = val_of(name_key.bytes, name_key.len);
    return stored_error(mdb_put(txn->lmdb, txn->store->tables[TABLE_NAMES], &key, &empty, 0));
}

int store_put_entry(struct store_txn *txn, struct hash128 fingerprint, etag_str resource_text,
                    etag_str record)
{
    const etag_str cut = stored_name_cut(resource_text);
    char head[sizeof(uint16_t) + NAME_TEXT_MAX];

    store_u16(head, (uint16_t)cut.len);
    if (cut.len > 0)
        memcpy(head + sizeof(uint16_t), cut.data, cut.len);

    int r = erase_name_of(txn, fingerprint);
    if (!r)
        r = put_name(txn, cut, fingerprint);
    if (!r)
        r = stored_put(txn, TABLE_ENTRIES, val_of(&fingerprint, FINGERPRINT_BYTES),
                       (etag_str){head, sizeof(uint16_t) + cut.len}, record);
    return r;
}

int store_erase_entry(struct store_txn *txn, struct hash128 fingerprint)
{
    MDB_val key = val_of(&fingerprint, FINGERPRINT_BYTES);
    const int r = erase_name_of(txn, fingerprint);

    if (r)
        return r;
    const int code = mdb_del(txn->lmdb, txn->store->tables[TABLE_ENTRIES], &key, NULL);
    return code == MDB_NOTFOUND ? 0 : stored_error(code);
}

int store_put_event(struct store_txn *txn, uint64_t lsn, etag_str record)
{
    const uint64_t key = htobe64(lsn);

    return stored_put(txn, TABLE_EVENTS, val_of(&key, sizeof(key)), (etag_str){0}, record);
}

int store_put_guard(struct store_txn *txn, struct guard_id id, uint64_t lsn, etag_str record)
{
    const struct guard_key key = guard_key_of(id);

    return stored_put(txn, TABLE_GUARDS, val_of(&key, sizeof(key)),
                      (etag_str){(const char *)&lsn, sizeof(lsn)}, record);
}

int store_erase_guard(struct store_txn *txn, struct guard_id id)
{
    const struct guard_key guard_key = guard_key_of(id);
    MDB_val key = val_of(&guard_key, sizeof(guard_key));
    const int code = mdb_del(txn->lmdb, txn->store->tables[TABLE_GUARDS], &key, NULL);

    return code == MDB_NOTFOUND ? 0 : stored_error(code);
}

int store_put_relay(struct store_txn *txn, etag_str mark)
{
    return stored_put(txn, TABLE_META, val_of(STORED_RELAY_KEY, strlen(STORED_RELAY_KEY)),
                      (etag_str){0}, mark);
}

int store_relay_of(struct store_txn *txn, etag_str *mark)
{
    return stored_get(txn->store, txn->lmdb, TABLE_META,
                      val_of(STORED_RELAY_KEY, strlen(STORED_RELAY_KEY)), mark);
}

static int relay_erase(struct store_txn *txn)
{
    MDB_val key = val_of(STORED_RELAY_KEY, strlen(STORED_RELAY_KEY));
    const int code = mdb_del(txn->lmdb, txn->store->tables[TABLE_META], &key, NULL);

    return code == MDB_NOTFOUND ? 0 : stored_error(code);
}

/* Is the log with this event as its oldest one over a bound? */
static bool trim_wants(const struct store_txn *txn, const struct store_trim *trim, MDB_val key,
                       MDB_val value)
{
    const MDB_dbi events = txn->store->tables[TABLE_EVENTS];
    MDB_stat stat;
    etag_str record;

    if (stored_check(txn->store, TABLE_EVENTS, key, value, &record))
        return true;
    const bool expired = trim->expired && trim->expired(trim->ctx, record);
    if (mdb_stat(txn->lmdb, events, &stat))
        return false;
    const size_t pages = stat.ms_branch_pages + stat.ms_leaf_pages + stat.ms_overflow_pages;
    return expired || stat.ms_entries > trim->keep ||
           (trim->bytes > 0 && (uint64_t)pages * stat.ms_psize > trim->bytes);
}

int store_trim_events(struct store_txn *txn, const struct store_trim *trim, size_t *cut)
{
    CLEANUP(stored_cursor_cleanup) MDB_cursor *cursor = NULL;
    MDB_val key;
    MDB_val value;
    int code = mdb_cursor_open(txn->lmdb, txn->store->tables[TABLE_EVENTS], &cursor);

    for (*cut = 0; !code && *cut < trim->most; ++*cut) {
        code = mdb_cursor_get(cursor, &key, &value, MDB_FIRST);
        if (code || key.mv_size != sizeof(uint64_t) ||
            be64toh(load_u64(key.mv_data)) >= trim->below_lsn || !trim_wants(txn, trim, key, value))
            break;
        code = mdb_cursor_del(cursor, 0);
    }
    return code == MDB_NOTFOUND ? 0 : stored_error(code);
}

int store_put_clocks(struct store_txn *txn, uint32_t chunk, const uint64_t *words, size_t count)
{
    const uint32_t key = htobe32(chunk);

    assert(count <= CLOCK_CHUNK_WORDS);
    return stored_put(txn, TABLE_CLOCKS, val_of(&key, sizeof(key)), (etag_str){0},
                      (etag_str){(const char *)words, count * sizeof(*words)});
}

int store_put_checkpoint_lsn(struct store_txn *txn, uint64_t lsn)
{
    struct store_meta meta;
    const int r = stored_meta_get(txn->store, txn->lmdb, &meta);

    if (r)
        return r;
    meta.checkpoint_lsn = lsn;
    return stored_meta_put(txn, &meta);
}

static int clear_tables(struct store *store, const enum table *tables, size_t count)
{
    struct store_txn *txn = NULL;
    int r = store_begin(store, &txn);

    if (r)
        return r;
    assert(txn);
    for (size_t i = 0; !r && i < count; i++)
        r = stored_error(mdb_drop(txn->lmdb, store->tables[tables[i]], 0));
    if (!r)
        r = relay_erase(txn);
    if (!r)
        r = store_put_checkpoint_lsn(txn, 0);
    if (r && r != STORE_E_NOT_FOUND) {
        store_abort(txn);
        return r;
    }
    return store_commit(txn);
}

/* Entries first: entries without the events that made them stale must never be left, nor a cursor
 * that says that they were applied. */
int store_clear(struct store *store)
{
    const int r = clear_tables(store, (enum table[]){TABLE_NAMES, TABLE_ENTRIES}, 2);

    return r ? r : clear_tables(store, (enum table[]){TABLE_EVENTS, TABLE_CLOCKS, TABLE_GUARDS}, 3);
}
