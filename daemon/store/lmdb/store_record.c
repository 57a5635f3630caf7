/* SPDX-License-Identifier: Apache-2.0 */
/*
 * LMDB, six tables of one file. A value begins with its checksum: SipHash under a key that is
 * itself the keyed hash of table and key, so that a record which LMDB hands out under another key,
 * or from before, does not check.
 *
 *   meta     "meta"                               checksum (all-zero key), struct store_meta flat
 *   entries  fingerprint                          checksum, u16 length of the cut name, cut name,
 *                                                 record
 *   names    cut resource text, 0, fingerprint    nothing: it is derived, and checked against the
 *                                                 entry
 *   events   LSN, big-endian                      checksum, record
 *   clocks   chunk number, big-endian             checksum, words
 *   guards   id, big-endian                       checksum, u64 LSN, record
 */
#include "store_record.h"

#include "bounds.h"
#include "numbers.h"

#include <assert.h>
#include <errno.h>

#define FREE_LIST                                                                                  \
    0 /* LMDB's table of free pages: by transaction, a count and as many page numbers */

const char *const stored_table_names[TABLE_COUNT] = {"meta",   "entries", "names",
                                                     "events", "clocks",  "guards"};

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

int stored_error(int code)
{
    const int r = code ? error_of_failure(code) : 0;

    assert(!code || r);
    return r;
}

/* ---- Names ---- */

etag_str stored_name_cut(etag_str resource_text)
{
    return (etag_str){resource_text.data, min_of(resource_text.len, NAME_TEXT_MAX)};
}

/* The zero byte, which no resource contains, puts "/a" before "/ab" whatever the fingerprints
 * are. */
void stored_name_key(struct name_key *out, etag_str cut, struct hash128 fingerprint)
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

int stored_check(const struct store *store, enum table table, MDB_val key, MDB_val value,
                 etag_str *record)
{
    if (value.mv_size < CHECKSUM_BYTES || key.mv_size > KEY_MAX)
        return STORE_E_DAMAGED;
    *record = str_skip(str_of_val(value), CHECKSUM_BYTES);
    return load_u64(value.mv_data) == checksum(store, table, key, *record) ? 0 : STORE_E_DAMAGED;
}

int stored_get(const struct store *store, MDB_txn *txn, enum table table, MDB_val key,
               etag_str *record)
{
    MDB_val value;
    const int code = mdb_get(txn, store->tables[table], &key, &value);

    return code ? stored_error(code) : stored_check(store, table, key, value, record);
}

int stored_put(struct store_txn *txn, enum table table, MDB_val key, etag_str head, etag_str body)
{
    struct store *store = txn->store;
    MDB_val value = {.mv_size = CHECKSUM_BYTES + head.len + body.len};
    const int code = mdb_put(txn->lmdb, store->tables[table], &key, &value, MDB_RESERVE);

    if (code)
        return stored_error(code);
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

#define META_BYTES (4 + 8 + SIPHASH_KEY_BYTES + 4 + 8 + 40 + 8 + STORE_NONCE_BYTES + 8 + 8 + 2 + 8)

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
    out[121] = meta->journal;
    store_u64(out + 122, meta->linger_ns);
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
    out->journal = bytes[121] != 0;
    out->linger_ns = load_u64(bytes + 122);
}

/* The format is a number in front of everything that may differ, and is looked at before the
 * checksum: another format may have another one. A state of another format is set aside, whole and
 * unread, and the start is cold: it is a cache, and the release that wrote it can have it back.
 * What has to survive that (for how long front ends trust the former memory, how long its guards
 * linger) the spool's mark says (spool_format.h), and the number of the run the witness. */
int stored_meta_get(const struct store *store, MDB_txn *txn, struct store_meta *out)
{
    MDB_val key = val_of(STORED_META_KEY, strlen(STORED_META_KEY));
    MDB_val value;
    etag_str record;
    const int code = mdb_get(txn, store->tables[TABLE_META], &key, &value);

    if (code)
        return stored_error(code);
    if (value.mv_size < CHECKSUM_BYTES + sizeof(uint32_t))
        return STORE_E_DAMAGED;
    if (load_u32((const uint8_t *)value.mv_data + CHECKSUM_BYTES) != STORE_FORMAT)
        return STORE_E_FORMAT;
    if (stored_check(store, TABLE_META, key, value, &record) || record.len != META_BYTES)
        return STORE_E_DAMAGED;
    meta_unpack(out, (const uint8_t *)record.data);
    return 0;
}

int stored_meta_put(struct store_txn *txn, const struct store_meta *meta)
{
    uint8_t bytes[META_BYTES];

    meta_pack(bytes, meta);
    return stored_put(txn, TABLE_META, val_of(STORED_META_KEY, strlen(STORED_META_KEY)),
                      (etag_str){(const char *)bytes, sizeof(bytes)}, (etag_str){0});
}

/* ---- Entries ---- */

/* Splits an entry's value after its checksum. */
int stored_entry_split(etag_str value, etag_str *name, etag_str *record)
{
    if (value.len < sizeof(uint16_t))
        return STORE_E_DAMAGED;
    *name = (etag_str){value.data + sizeof(uint16_t), load_u16(value.data)};
    if (name->len > NAME_TEXT_MAX || name->len > value.len - sizeof(uint16_t))
        return STORE_E_DAMAGED;
    *record = str_skip(value, sizeof(uint16_t) + name->len);
    return 0;
}

int stored_entry(const struct store *store, MDB_txn *txn, MDB_val key, etag_str *name,
                 etag_str *record)
{
    etag_str value;
    const int r = stored_get(store, txn, TABLE_ENTRIES, key, &value);

    return r ? r : stored_entry_split(value, name, record);
}

/* ---- Free pages ---- */

/* Pages that the free list names: each must exist and be in it in order. *count: how many. */
int stored_free_pages(MDB_txn *txn, size_t last_page, struct store_pages *pages, size_t *count)
{
    CLEANUP(stored_cursor_cleanup) MDB_cursor *cursor = NULL;
    MDB_val key;
    MDB_val value;
    int code = mdb_cursor_open(txn, FREE_LIST, &cursor);

    for (*count = 0; !code && !(code = mdb_cursor_get(cursor, &key, &value, MDB_NEXT));) {
        const size_t listed = value.mv_size < sizeof(size_t) ? 0 : load_u64(value.mv_data);
        size_t former = last_page + 1;
        if (value.mv_size / sizeof(size_t) < 1 || listed > value.mv_size / sizeof(size_t) - 1)
            return STORE_E_DAMAGED;
        for (size_t i = 1; i <= listed; i++) {
            const size_t page = load_u64((const uint8_t *)value.mv_data + i * sizeof(size_t));
            if (page >= former || page < META_PAGES || (pages && !store_pages_free(pages, page)))
                return STORE_E_DAMAGED;
            former = page;
        }
        *count += listed;
    }
    return code == MDB_NOTFOUND ? 0 : stored_error(code);
}

/* ---- The environment ---- */

int stored_env_open(struct store *store, const char *path, unsigned flags)
{
    int code = mdb_env_create(&store->env);

    if (!code)
        code = mdb_env_set_mapsize(store->env, store->map_bytes);
    if (!code)
        code = mdb_env_set_maxdbs(store->env, TABLE_COUNT);
    return code ? code : mdb_env_open(store->env, path, flags, 0600);
}
