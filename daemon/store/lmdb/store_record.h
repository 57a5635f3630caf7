/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the store's files have in common: LMDB, its tables, and how a record stands in them. Nobody
 * else includes it.
 */
#ifndef ETAGD_STORE_RECORD_H
#define ETAGD_STORE_RECORD_H

#include "bytes.h"
#include "state_dir.h"
#include "store.h"
#include "store_pages.h"
#include "text.h"

#include <endian.h>
#include <lmdb.h>

#define CHECKSUM_BYTES sizeof(uint64_t)
#define FINGERPRINT_BYTES sizeof(struct hash128)
#define KEY_MAX 511 /* LMDB's, as compiled by Debian */
#define NAME_TEXT_MAX (KEY_MAX - 1 - FINGERPRINT_BYTES)
#define DATA_NAME "data.mdb"

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

extern const char *const stored_table_names[TABLE_COUNT];

struct store_txn {
    struct store *store;
    MDB_txn *lmdb;
};

struct store {
    struct state_dir dir;
    uint64_t map_bytes;
    /* NULL: could not be opened; the store can only be set aside or closed */
    MDB_env *env;
    MDB_dbi tables[TABLE_COUNT];
    /* else there is no meta record, and nothing else either */
    bool has_key;
    uint8_t hash_key[SIPHASH_KEY_BYTES];
    /* touched only by whoever holds LMDB's writer lock */
    struct store_txn writing;
};

static inline void stored_txn_cleanup(MDB_txn **txn)
{
    if (*txn)
        mdb_txn_abort(*txn);
}

static inline void stored_cursor_cleanup(MDB_cursor **cursor)
{
    if (*cursor)
        mdb_cursor_close(*cursor);
}

/* 0, a negative errno or a STORE_E_* of LMDB's code. */
MUST_USE int stored_error(int code);

static inline MDB_val val_of(const void *bytes, size_t len)
{
    return (MDB_val){.mv_size = len, .mv_data = (void *)(uintptr_t)bytes};
}

static inline etag_str str_of_val(MDB_val val)
{
    return (etag_str){(const char *)val.mv_data, val.mv_size};
}

static inline struct hash128 fingerprint_at(const void *bytes)
{
    return (struct hash128){load_u64(bytes), load_u64((const uint8_t *)bytes + 8)};
}

struct name_key {
    size_t len;
    char bytes[KEY_MAX];
};

/* The part of a resource text that is a name, and the key of it. */
etag_str stored_name_cut(etag_str resource_text);
void stored_name_key(struct name_key *out, etag_str cut, struct hash128 fingerprint);

struct guard_key {
    /* big-endian: holds, whose high half is 0, stand first */
    uint64_t high, low;
};

static inline struct guard_key guard_key_of(struct guard_id id)
{
    return (struct guard_key){htobe64(id.high), htobe64(id.low)};
}

/* The bytes behind a value's checksum, if it is right: 0 or STORE_E_DAMAGED. */
MUST_USE int stored_check(const struct store *store, enum table table, MDB_val key, MDB_val value,
                          etag_str *record);
MUST_USE int stored_get(const struct store *store, MDB_txn *txn, enum table table, MDB_val key,
                        etag_str *record);
MUST_USE int stored_put(struct store_txn *txn, enum table table, MDB_val key, etag_str head,
                        etag_str body);

#define STORED_META_KEY "meta"
#define STORED_RELAY_KEY "relay"
MUST_USE int stored_meta_get(const struct store *store, MDB_txn *txn, struct store_meta *out);
MUST_USE int stored_meta_put(struct store_txn *txn, const struct store_meta *meta);

/* The two parts of an entry's checked bytes. */
MUST_USE int stored_entry_split(etag_str value, etag_str *name, etag_str *record);
MUST_USE int stored_entry(const struct store *store, MDB_txn *txn, MDB_val key, etag_str *name,
                          etag_str *record);

/* Pages that LMDB's free list names, marked in 'pages' if it is not NULL. txn: a reading one.
 * STORE_E_DAMAGED: a page that cannot be. */
MUST_USE int stored_free_pages(MDB_txn *txn, size_t last_page, struct store_pages *pages,
                               size_t *count);

/* Into store->env, which is the caller's to close on an error too. LMDB's code. */
MUST_USE int stored_env_open(struct store *store, const char *path, unsigned flags);

#endif
