/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the store's files have in common: LMDB, its tables, and the layout of records in them. Only
 * store*.c include it.
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

/* The checksum of a record covers the number of its table, so these numbers must not change. */
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
    /* the hash key is known; if not, there is no meta record and the store is empty */
    bool has_key;
    uint8_t hash_key[SIPHASH_KEY_BYTES];
    /* used only by the thread that holds LMDB's writer lock */
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

/* Converts LMDB's code to 0, a negative errno or a STORE_E_*. */
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

/* Cuts a resource text to the part that is a name, and makes the key of a name. */
etag_str stored_name_cut(etag_str resource_text);
void stored_name_key(struct name_key *out, etag_str cut, struct hash128 fingerprint);

struct guard_key {
    /* big-endian, so that holds, whose high half is 0, come first */
    uint64_t high, low;
};

static inline struct guard_key guard_key_of(struct guard_id id)
{
    return (struct guard_key){htobe64(id.high), htobe64(id.low)};
}

/* Checks a value's checksum and gets the bytes after it. Returns 0 or STORE_E_DAMAGED. */
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

/* Splits an entry's checked bytes into their two parts. */
MUST_USE int stored_entry_split(etag_str value, etag_str *name, etag_str *record);
MUST_USE int stored_entry(const struct store *store, MDB_txn *txn, MDB_val key, etag_str *name,
                          etag_str *record);

/* Counts the pages in LMDB's free list, and marks them in 'pages' if that is not NULL. txn: a read
 * transaction. Returns STORE_E_DAMAGED if the list has an impossible page. */
MUST_USE int stored_free_pages(MDB_txn *txn, size_t last_page, struct store_pages *pages,
                               size_t *count);

/* Opens LMDB into store->env, which the caller closes, on an error too. Returns LMDB's code. */
MUST_USE int stored_env_open(struct store *store, const char *path, unsigned flags);

#endif
