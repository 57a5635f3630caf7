/* SPDX-License-Identifier: Apache-2.0 */
/*
 * LMDB, six tables of one file. A value begins with its checksum: SipHash under a key that is itself the keyed hash of
 * table and key, so that a record which LMDB hands out under another key, or from before, does not check.
 *
 *   meta     "meta"                               checksum (all-zero key), struct store_meta flat
 *   entries  fingerprint                          checksum, u16 length of the cut name, cut name, record
 *   names    cut resource text, 0, fingerprint    nothing: it is derived, and checked against the entry
 *   events   LSN, big-endian                      checksum, record
 *   clocks   chunk number, big-endian             checksum, words
 *   guards   id, big-endian                       checksum, u64 LSN, record
 *
 * Durability "process" is MDB_NOSYNC: the page cache outlives a killed daemon. No MDB_WRITEMAP: a full disk is then an
 * error of write(2), not a SIGBUS. Readers have slots by transaction, not by thread (MDB_NOTLS).
 */
#include "store.h"

#include "bounds.h"
#include "bytes.h"
#include "clocktime.h"
#include "state_dir.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <lmdb.h>

#define DATA_NAME "data.mdb"
#define DATA_LOCK_NAME "data.mdb-lock" /* LMDB's own */
#define CHECKSUM_BYTES sizeof(uint64_t)
#define FINGERPRINT_BYTES sizeof(struct hash128)
#define KEY_MAX 511 /* LMDB's, as compiled by Debian */
#define NAME_TEXT_MAX (KEY_MAX - 1 - FINGERPRINT_BYTES)
#define MAP_BYTES_DEFAULT (UINT64_C(1) << 30)
#define MAP_BYTES_ALIGN (UINT64_C(1) << 16)

/* A record's checksum has its table's number in it. */
enum table {
    TABLE_META,
    TABLE_ENTRIES,
    TABLE_NAMES,
    TABLE_EVENTS,
    TABLE_CLOCKS,
    TABLE_GUARDS,
    TABLE_COUNT
};

static const char *const table_names[TABLE_COUNT] = {"meta",   "entries", "names",
                                                     "events", "clocks",  "guards"};

struct store_txn {
    struct store *store;
    MDB_txn *lmdb;
};

struct store {
    struct state_dir dir;
    uint64_t map_bytes;
    MDB_env *env; /* NULL: could not be opened; the store can only be set aside or closed */
    MDB_dbi tables[TABLE_COUNT];
    bool has_key; /* else there is no meta record, and nothing else either */
    uint8_t hash_key[SIPHASH_KEY_BYTES];
    struct store_txn writing; /* touched only by whoever holds LMDB's writer lock */
};

static void cleanup_txn(MDB_txn **txn)
{
    if (*txn)
        mdb_txn_abort(*txn);
}

static void cleanup_cursor(MDB_cursor **cursor)
{
    if (*cursor)
        mdb_cursor_close(*cursor);
}

static int error_of_failure(int code)
{
    switch (code) {
    case MDB_NOTFOUND:
        return STORE_E_NOT_FOUND;
    case MDB_CORRUPTED:
    case MDB_PAGE_NOTFOUND:
    case MDB_INVALID:
    case MDB_VERSION_MISMATCH:
        return STORE_E_DAMAGED;
    case MDB_MAP_FULL:
    case EDQUOT:
        return -ENOSPC;
    default:
        return code < 0 ? -EIO : -code;
    }
}

static int error_of(int code)
{
    const int error = code ? error_of_failure(code) : 0;
    assert(!code || error);
    return error;
}

static MDB_val val_of(const void *bytes, size_t len)
{
    return (MDB_val){.mv_size = len, .mv_data = (void *)(uintptr_t)bytes};
}

static etag_str str_of_val(MDB_val val)
{
    return (etag_str){(const char *)val.mv_data, val.mv_size};
}

/* ---- Keys ---- */

static struct hash128 fingerprint_at(const void *bytes)
{
    return (struct hash128){load_u64(bytes), load_u64((const uint8_t *)bytes + 8)};
}

struct name_key {
    size_t len;
    char bytes[KEY_MAX];
};

static etag_str name_cut(etag_str resource_text)
{
    return (etag_str){resource_text.data,
                      resource_text.len < NAME_TEXT_MAX ? resource_text.len : NAME_TEXT_MAX};
}

/* The zero byte, which no resource contains, puts "/a" before "/ab" whatever the fingerprints are. */
static void name_key_make(struct name_key *out, etag_str cut, struct hash128 fingerprint)
{
    if (cut.len > 0)
        memcpy(out->bytes, cut.data, cut.len);
    out->bytes[cut.len] = '\0';
    memcpy(out->bytes + cut.len + 1, &fingerprint, FINGERPRINT_BYTES);
    out->len = cut.len + 1 + FINGERPRINT_BYTES;
}

/* ---- Checked records ---- */

static uint64_t checksum(const struct store *store, enum table table, MDB_val key, etag_str bytes)
{
    static const uint8_t zero_key[SIPHASH_KEY_BYTES];
    uint8_t place[1 + KEY_MAX] = {(uint8_t)table};
    assert(table == TABLE_META || store->has_key);
    assert(key.mv_size <= KEY_MAX);
    memcpy(place + 1, key.mv_data, key.mv_size);
    const struct hash128 subkey = siphash13_128(table == TABLE_META ? zero_key : store->hash_key,
                                                place, 1 + key.mv_size);
    uint8_t subkey_bytes[SIPHASH_KEY_BYTES];
    memcpy(subkey_bytes, &subkey, sizeof(subkey_bytes));
    return siphash13_64(subkey_bytes, bytes.data, bytes.len);
}

static int check_record(const struct store *store, enum table table, MDB_val key, MDB_val value,
                        etag_str *record)
{
    if (value.mv_size < CHECKSUM_BYTES || key.mv_size > KEY_MAX)
        return STORE_E_DAMAGED;
    *record = str_skip(str_of_val(value), CHECKSUM_BYTES);
    return load_u64(value.mv_data) == checksum(store, table, key, *record) ? 0 : STORE_E_DAMAGED;
}

static int get_record(const struct store *store, MDB_txn *txn, enum table table, MDB_val key,
                      etag_str *record)
{
    MDB_val value;
    const int code = mdb_get(txn, store->tables[table], &key, &value);
    return code ? error_of(code) : check_record(store, table, key, value, record);
}

static int put_record(struct store_txn *txn, enum table table, MDB_val key, etag_str head,
                      etag_str body)
{
    struct store *store = txn->store;
    MDB_val value = {.mv_size = CHECKSUM_BYTES + head.len + body.len};
    const int code = mdb_put(txn->lmdb, store->tables[table], &key, &value, MDB_RESERVE);
    if (code)
        return error_of(code);
    uint8_t *bytes = (uint8_t *)value.mv_data + CHECKSUM_BYTES;
    if (head.len > 0)
        memcpy(bytes, head.data, head.len);
    if (body.len > 0)
        memcpy(bytes + head.len, body.data, body.len);
    store_u64(value.mv_data,
              checksum(store, table, key, (etag_str){(const char *)bytes, head.len + body.len}));
    return 0;
}

/* ---- The meta record ---- */

#define META_KEY "meta"
#define META_BYTES (4 + 8 + SIPHASH_KEY_BYTES + 4 + 8 + 40 + 8 + STORE_NONCE_BYTES + 8 + 8 + 1)

_Static_assert(sizeof(((struct store_meta *)0)->boot_id) == 40, "part of the format");

static void meta_pack(uint8_t out[META_BYTES], const struct store_meta *meta)
{
    store_u32(out, STORE_FORMAT);
    store_u64(out + 4, meta->incarnation);
    memcpy(out + 12, meta->hash_key, SIPHASH_KEY_BYTES);
    store_u32(out + 28, meta->clock_count);
    store_u64(out + 32, meta->lease_ns);
    memcpy(out + 40, meta->boot_id, 40);
    store_u64(out + 80, meta->checkpoint_lsn);
    memcpy(out + 88, meta->nonce, STORE_NONCE_BYTES);
    store_u64(out + 104, meta->data_inode);
    store_u64(out + 112, meta->data_birth_ns);
    out[120] = meta->power;
}

static void meta_unpack(struct store_meta *out, const uint8_t *bytes)
{
    out->incarnation = load_u64(bytes + 4);
    memcpy(out->hash_key, bytes + 12, SIPHASH_KEY_BYTES);
    out->clock_count = load_u32(bytes + 28);
    out->lease_ns = load_u64(bytes + 32);
    memcpy(out->boot_id, bytes + 40, 40);
    out->boot_id[39] = '\0';
    out->checkpoint_lsn = load_u64(bytes + 80);
    memcpy(out->nonce, bytes + 88, STORE_NONCE_BYTES);
    out->data_inode = load_u64(bytes + 104);
    out->data_birth_ns = load_u64(bytes + 112);
    out->power = bytes[120] != 0;
}

/* Another format is told before the checksum is: it may have another checksum. */
static int meta_get(const struct store *store, MDB_txn *txn, struct store_meta *out)
{
    MDB_val key = val_of(META_KEY, strlen(META_KEY));
    MDB_val value;
    etag_str record;
    const int code = mdb_get(txn, store->tables[TABLE_META], &key, &value);
    if (code)
        return error_of(code);
    if (value.mv_size < CHECKSUM_BYTES + sizeof(uint32_t))
        return STORE_E_DAMAGED;
    const uint32_t format = load_u32((const uint8_t *)value.mv_data + CHECKSUM_BYTES);
    if (format != STORE_FORMAT)
        return format < STORE_FORMAT ? STORE_E_OLDER : STORE_E_FORMAT;
    if (check_record(store, TABLE_META, key, value, &record) || record.len != META_BYTES)
        return STORE_E_DAMAGED;
    meta_unpack(out, (const uint8_t *)record.data);
    return 0;
}

static int meta_put(struct store_txn *txn, const struct store_meta *meta)
{
    uint8_t bytes[META_BYTES];
    meta_pack(bytes, meta);
    return put_record(txn, TABLE_META, val_of(META_KEY, strlen(META_KEY)),
                      (etag_str){(const char *)bytes, sizeof(bytes)}, (etag_str){0});
}

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
    MDB_txn *txn CLEANUP(cleanup_txn) = NULL;
    struct store_meta meta;
    int code = mdb_txn_begin(store->env, NULL, 0, &txn);
    for (int table = 0; !code && table < TABLE_COUNT; table++)
        code = mdb_dbi_open(txn, table_names[table], MDB_CREATE, &store->tables[table]);
    if (code)
        return error_of(code);

    const int error = meta_get(store, txn, &meta);
    if (error && error != STORE_E_NOT_FOUND)
        return error;
    if (!error) {
        memcpy(store->hash_key, meta.hash_key, SIPHASH_KEY_BYTES);
        store->has_key = true;
    }
    return error_of(mdb_txn_commit(take_ptr(txn)));
}

static int open_environment(struct store *store, const char *path)
{
    const unsigned flags = MDB_NOSUBDIR | MDB_NOTLS | (store->dir.sync ? 0 : MDB_NOSYNC);
    int dead_readers;
    int code = mdb_env_create(&store->env);
    if (!code)
        code = mdb_env_set_mapsize(store->env, store->map_bytes);
    if (!code)
        code = mdb_env_set_maxdbs(store->env, TABLE_COUNT);
    if (!code)
        code = mdb_env_open(store->env, path, flags, 0600);
    if (!code)
        code = mdb_reader_check(store->env, &dead_readers);
    return error_of(code);
}

static int database_open(struct store *store, char *why)
{
    char path[PATH_BYTES_MAX];
    state_dir_path(&store->dir, DATA_NAME, path);
    int error = open_environment(store, path);
    if (!error)
        error = open_tables(store);
    if (!error)
        return 0;
    database_close(store);
    if (error == STORE_E_FORMAT)
        (void)snprintf(why, STORE_WHY_BYTES,
                       "%.300s is of another version of etagd (this one writes format %u): "
                       "start that version, or move the file away",
                       path, STORE_FORMAT);
    else if (error == STORE_E_OLDER)
        (void)snprintf(why, STORE_WHY_BYTES,
                       "%.300s is of an older version of etagd (this one writes format %u): it "
                       "must be set aside, and the start is cold",
                       path, STORE_FORMAT);
    else if (error == STORE_E_DAMAGED)
        (void)snprintf(why, STORE_WHY_BYTES,
                       "%.300s is damaged: it must be set aside, and the start is cold", path);
    else
        (void)snprintf(why, STORE_WHY_BYTES, "%.300s: cannot be opened: %s", path,
                       strerrordesc_np(error < 0 ? -error : EIO));
    return error;
}

int store_open(struct store **out, const struct store_options *options, char why[512])
{
    const uint64_t map_bytes = options->map_bytes ? options->map_bytes : MAP_BYTES_DEFAULT;
    *out = NULL;
    why[0] = '\0';
    struct store *store = (struct store *)calloc(1, sizeof(*store));
    if (!store)
        return -ENOMEM;
    store->map_bytes = (map_bytes + MAP_BYTES_ALIGN - 1) / MAP_BYTES_ALIGN * MAP_BYTES_ALIGN;
    int error = state_dir_open(&store->dir, options, why);
    if (!error)
        error = database_open(store, why);
    if (error && error != STORE_E_DAMAGED && error != STORE_E_FORMAT && error != STORE_E_OLDER)
        store = store_close(store);
    *out = store;
    return error;
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
    const int error = state_dir_warm_clear(&store->dir);
    if (error)
        return error;
    do
        (void)snprintf(name, sizeof(name), "damaged-%llu.mdb", (unsigned long long)number++);
    while (faccessat(store->dir.fd, name, F_OK, 0) == 0);
    if (renameat(store->dir.fd, DATA_NAME, store->dir.fd, name) < 0 && errno != ENOENT)
        return -errno;
    if (unlinkat(store->dir.fd, DATA_LOCK_NAME, 0) < 0 && errno != ENOENT)
        return -errno;
    return state_dir_sync(&store->dir);
}

int store_set_aside(struct store *store, char why[512])
{
    database_close(store);
    const int error = move_database(store);
    if (!error)
        return database_open(store, why);
    (void)snprintf(why, STORE_WHY_BYTES, "%.300s: the damaged database cannot be set aside: %s",
                   store->dir.path, strerrordesc_np(-error));
    return error;
}

int store_identify(const struct store *store, struct store_identity *out)
{
    return state_dir_identify(&store->dir, DATA_NAME, out);
}

/* ---- Meta ---- */

int store_meta_read(struct store *store, struct store_meta *out)
{
    MDB_txn *txn CLEANUP(cleanup_txn) = NULL;
    const int code = mdb_txn_begin(store->env, NULL, MDB_RDONLY, &txn);
    return code ? error_of(code) : meta_get(store, txn, out);
}

int store_meta_write(struct store *store, const struct store_meta *meta)
{
    struct store_txn *txn = NULL;
    int error = store_begin(store, &txn);
    if (error)
        return error;
    error = meta_put(txn, meta);
    if (error) {
        store_abort(txn);
        return error;
    }
    error = store_commit(txn);
    if (!error)
        error = error_of(mdb_env_sync(store->env, 1));
    if (!error)
        error = state_dir_sync(&store->dir);
    if (error)
        return error;
    memcpy(store->hash_key, meta->hash_key, SIPHASH_KEY_BYTES);
    store->has_key = true;
    return 0;
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

/* ---- Writing ---- */

int store_begin(struct store *store, struct store_txn **out)
{
    MDB_txn *lmdb;
    const int code = mdb_txn_begin(store->env, NULL, 0, &lmdb);
    if (code)
        return error_of(code);
    store->writing = (struct store_txn){store, lmdb};
    *out = &store->writing;
    return 0;
}

int store_commit(struct store_txn *txn)
{
    return error_of(mdb_txn_commit(take_ptr(txn->lmdb)));
}

void store_abort(struct store_txn *txn)
{
    mdb_txn_abort(take_ptr(txn->lmdb));
}

/* Splits an entry's value behind its checksum. */
static int entry_split(etag_str value, etag_str *name, etag_str *record)
{
    if (value.len < sizeof(uint16_t))
        return STORE_E_DAMAGED;
    *name = (etag_str){value.data + sizeof(uint16_t), load_u16(value.data)};
    if (name->len > NAME_TEXT_MAX || name->len > value.len - sizeof(uint16_t))
        return STORE_E_DAMAGED;
    *record = str_skip(value, sizeof(uint16_t) + name->len);
    return 0;
}

static int get_entry(const struct store *store, MDB_txn *txn, MDB_val key, etag_str *name,
                     etag_str *record)
{
    etag_str value;
    const int error = get_record(store, txn, TABLE_ENTRIES, key, &value);
    return error ? error : entry_split(value, name, record);
}

/* A damaged entry has no name that could be trusted: its name stays, and leads nowhere or to the entry's successor. */
static int erase_name_of(struct store_txn *txn, struct hash128 fingerprint)
{
    const MDB_val key = val_of(&fingerprint, FINGERPRINT_BYTES);
    struct name_key name_key;
    etag_str name;
    etag_str record;
    const int error = get_entry(txn->store, txn->lmdb, key, &name, &record);
    if (error)
        return error == STORE_E_DAMAGED || error == STORE_E_NOT_FOUND ? 0 : error;
    name_key_make(&name_key, name, fingerprint);
    MDB_val name_val = val_of(name_key.bytes, name_key.len);
    const int code = mdb_del(txn->lmdb, txn->store->tables[TABLE_NAMES], &name_val, NULL);
    return code == MDB_NOTFOUND ? 0 : error_of(code);
}

static int put_name(struct store_txn *txn, etag_str cut, struct hash128 fingerprint)
{
    struct name_key name_key;
    MDB_val empty = {0};
    name_key_make(&name_key, cut, fingerprint);
    MDB_val key = val_of(name_key.bytes, name_key.len);
    return error_of(mdb_put(txn->lmdb, txn->store->tables[TABLE_NAMES], &key, &empty, 0));
}

int store_put_entry(struct store_txn *txn, struct hash128 fingerprint, etag_str resource_text,
                    etag_str record)
{
    const etag_str cut = name_cut(resource_text);
    char head[sizeof(uint16_t) + NAME_TEXT_MAX];
    store_u16(head, (uint16_t)cut.len);
    if (cut.len > 0)
        memcpy(head + sizeof(uint16_t), cut.data, cut.len);

    int error = erase_name_of(txn, fingerprint);
    if (!error)
        error = put_name(txn, cut, fingerprint);
    if (!error)
        error = put_record(txn, TABLE_ENTRIES, val_of(&fingerprint, FINGERPRINT_BYTES),
                           (etag_str){head, sizeof(uint16_t) + cut.len}, record);
    return error;
}

int store_erase_entry(struct store_txn *txn, struct hash128 fingerprint)
{
    MDB_val key = val_of(&fingerprint, FINGERPRINT_BYTES);
    const int error = erase_name_of(txn, fingerprint);
    if (error)
        return error;
    const int code = mdb_del(txn->lmdb, txn->store->tables[TABLE_ENTRIES], &key, NULL);
    return code == MDB_NOTFOUND ? 0 : error_of(code);
}

int store_put_event(struct store_txn *txn, uint64_t lsn, etag_str record)
{
    const uint64_t key = htobe64(lsn);
    return put_record(txn, TABLE_EVENTS, val_of(&key, sizeof(key)), (etag_str){0}, record);
}

struct guard_key {
    uint64_t high, low; /* big-endian: holds, whose high half is 0, stand first */
};

static struct guard_key guard_key_of(struct guard_id id)
{
    return (struct guard_key){htobe64(id.high), htobe64(id.low)};
}

int store_put_guard(struct store_txn *txn, struct guard_id id, uint64_t lsn, etag_str record)
{
    const struct guard_key key = guard_key_of(id);
    return put_record(txn, TABLE_GUARDS, val_of(&key, sizeof(key)),
                      (etag_str){(const char *)&lsn, sizeof(lsn)}, record);
}

int store_erase_guard(struct store_txn *txn, struct guard_id id)
{
    const struct guard_key guard_key = guard_key_of(id);
    MDB_val key = val_of(&guard_key, sizeof(guard_key));
    const int code = mdb_del(txn->lmdb, txn->store->tables[TABLE_GUARDS], &key, NULL);
    return code == MDB_NOTFOUND ? 0 : error_of(code);
}

int store_trim_events(struct store_txn *txn, uint64_t below_lsn, size_t keep)
{
    MDB_cursor *cursor CLEANUP(cleanup_cursor) = NULL;
    const MDB_dbi events = txn->store->tables[TABLE_EVENTS];
    MDB_stat stat;
    MDB_val key;
    int code = mdb_stat(txn->lmdb, events, &stat);
    if (!code)
        code = mdb_cursor_open(txn->lmdb, events, &cursor);
    for (size_t left = stat.ms_entries; !code && left > keep; left--) {
        code = mdb_cursor_get(cursor, &key, NULL, MDB_FIRST);
        if (code || key.mv_size != sizeof(uint64_t) || be64toh(load_u64(key.mv_data)) >= below_lsn)
            break;
        code = mdb_cursor_del(cursor, 0);
    }
    return code == MDB_NOTFOUND ? 0 : error_of(code);
}

int store_put_clocks(struct store_txn *txn, uint32_t chunk, const uint64_t *words, size_t count)
{
    const uint32_t key = htobe32(chunk);
    assert(count <= CLOCK_CHUNK_WORDS);
    return put_record(txn, TABLE_CLOCKS, val_of(&key, sizeof(key)), (etag_str){0},
                      (etag_str){(const char *)words, count * sizeof(*words)});
}

int store_put_checkpoint_lsn(struct store_txn *txn, uint64_t lsn)
{
    struct store_meta meta;
    const int error = meta_get(txn->store, txn->lmdb, &meta);
    if (error)
        return error;
    meta.checkpoint_lsn = lsn;
    return meta_put(txn, &meta);
}

static int clear_tables(struct store *store, const enum table *tables, size_t count)
{
    struct store_txn *txn = NULL;
    int error = store_begin(store, &txn);
    if (error)
        return error;
    for (size_t i = 0; !error && i < count; i++)
        error = error_of(mdb_drop(txn->lmdb, store->tables[tables[i]], 0));
    if (!error)
        error = store_put_checkpoint_lsn(txn, 0);
    if (error && error != STORE_E_NOT_FOUND) {
        store_abort(txn);
        return error;
    }
    return store_commit(txn);
}

/* Entries first: entries without the events that made them stale must never be left. */
int store_clear(struct store *store)
{
    const int error = clear_tables(store, (enum table[]){TABLE_NAMES, TABLE_ENTRIES}, 2);
    return error ? error
                 : clear_tables(store, (enum table[]){TABLE_EVENTS, TABLE_CLOCKS, TABLE_GUARDS}, 3);
}

/* ---- Reading ---- */

int store_get_entry(struct store *store, struct hash128 fingerprint,
                    int (*found)(void *ctx, struct hash128 fingerprint, etag_str record), void *ctx)
{
    MDB_txn *txn CLEANUP(cleanup_txn) = NULL;
    etag_str name;
    etag_str record;
    const int code = mdb_txn_begin(store->env, NULL, MDB_RDONLY, &txn);
    if (code)
        return error_of(code);
    const int error = get_entry(store, txn, val_of(&fingerprint, FINGERPRINT_BYTES), &name,
                                &record);
    return error ? error : found(ctx, fingerprint, record);
}

int store_get_event(struct store *store, uint64_t lsn,
                    int (*found)(void *ctx, uint64_t lsn, etag_str record), void *ctx)
{
    MDB_txn *txn CLEANUP(cleanup_txn) = NULL;
    const uint64_t key = htobe64(lsn);
    etag_str record;
    const int code = mdb_txn_begin(store->env, NULL, MDB_RDONLY, &txn);
    if (code)
        return error_of(code);
    const int error = get_record(store, txn, TABLE_EVENTS, val_of(&key, sizeof(key)), &record);
    return error ? error : found(ctx, lsn, record);
}

/* What the walks below have in common: from which key, and what one record's key and bytes become. */
struct walk {
    enum table table;
    MDB_val first; /* empty: from the start */
    size_t key_bytes;
    int (*visit)(const struct walk *walk, const void *key, etag_str record);
    union {
        int (*entry)(void *ctx, struct hash128 fingerprint, etag_str record);
        int (*event)(void *ctx, uint64_t lsn, etag_str record);
        int (*guard)(void *ctx, struct guard_id id, uint64_t lsn, etag_str record);
        int (*chunk)(void *ctx, uint32_t chunk, const uint64_t *words, size_t count);
    } each;
    void *ctx;
};

static int walk_table(struct store *store, const struct walk *walk)
{
    MDB_txn *txn CLEANUP(cleanup_txn) = NULL;
    MDB_cursor *cursor CLEANUP(cleanup_cursor) = NULL;
    MDB_val key = walk->first;
    MDB_val value;
    etag_str record;
    int code = mdb_txn_begin(store->env, NULL, MDB_RDONLY, &txn);
    if (!code)
        code = mdb_cursor_open(txn, store->tables[walk->table], &cursor);
    if (!code)
        code = mdb_cursor_get(cursor, &key, &value, key.mv_size ? MDB_SET_RANGE : MDB_FIRST);
    for (; !code; code = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) {
        if (key.mv_size != walk->key_bytes)
            return STORE_E_DAMAGED;
        int result = check_record(store, walk->table, key, value, &record);
        if (!result)
            result = walk->visit(walk, key.mv_data, record);
        if (result)
            return result;
    }
    return code == MDB_NOTFOUND ? 0 : error_of(code);
}

static int visit_entry(const struct walk *walk, const void *key, etag_str value)
{
    etag_str name;
    etag_str record;
    const int error = entry_split(value, &name, &record);
    return error ? error : walk->each.entry(walk->ctx, fingerprint_at(key), record);
}

int store_each_entry(struct store *store,
                     int (*each)(void *ctx, struct hash128 fingerprint, etag_str record), void *ctx)
{
    return walk_table(store, &(struct walk){.table = TABLE_ENTRIES,
                                            .key_bytes = FINGERPRINT_BYTES,
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
    const int error = get_entry(store, txn, val_of(&fingerprint, FINGERPRINT_BYTES), &name,
                                &record);
    if (error)
        return error == STORE_E_NOT_FOUND ? 0 : error;
    if (!str_equal(name, text))
        return STORE_E_DAMAGED;
    return listing->each(listing->ctx, key, fingerprint, record);
}

int store_list(struct store *store, etag_str prefix, etag_str after,
               int (*each)(void *ctx, etag_str cursor, struct hash128 fingerprint, etag_str record),
               void *ctx)
{
    MDB_txn *txn CLEANUP(cleanup_txn) = NULL;
    MDB_cursor *cursor CLEANUP(cleanup_cursor) = NULL;
    const struct listing listing = {name_cut(prefix), each, ctx};
    const etag_str start = after.len > 0 ? after : listing.prefix;
    MDB_val key = val_of(start.data, start.len < KEY_MAX ? start.len : KEY_MAX);
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
        const int result = list_name(store, txn, &listing, str_of_val(key));
        if (result)
            return result;
    }
    return code == MDB_NOTFOUND ? 0 : error_of(code);
}

uint64_t store_entry_count(struct store *store)
{
    MDB_txn *txn CLEANUP(cleanup_txn) = NULL;
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
