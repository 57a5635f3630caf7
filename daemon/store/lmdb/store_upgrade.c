/* SPDX-License-Identifier: Apache-2.0 */
/*
 * State formats. A format is a number in the meta record, in front of everything that may differ; STORE_FORMAT is the one that
 * is written. A newer one is refused. Of an older one a step of the table below says what can be kept.
 *
 * Until now that is the identity of the state, the meta record: which run was the last (no LSN is used twice), for how long its
 * front ends may trust it, how long its guards linger. The database itself is set aside, whole and unread, so that the former
 * release can have it back; the start is cold. Where a format changes so that its content can be kept, its step
 * rewrites the records in the transaction of open_tables(), and store_check.c has to know the format, or a damaged database of it
 * meets the daemon unchecked.
 *
 * To change the format: STORE_FORMAT + 1, a step here, and a state that the former release made in tests/cases/states.
 */
#include "store_record.h"

#define META_1_BYTES 121 /* up to the durability; format 2 goes on behind it */
#define META_2_BYTES 130 /* as in the formats since */

struct upgrade {
    uint32_t from;
    /* What its meta record says, in terms of this format. */
    int (*identity)(const struct store *store, MDB_txn *txn, struct store_meta *out);
};

static int identity_of(const struct store *store, MDB_txn *txn, size_t bytes,
                       struct store_meta *out)
{
    etag_str record;
    const int error = stored_get(store, txn, TABLE_META,
                                 val_of(STORED_META_KEY, strlen(STORED_META_KEY)), &record);
    if (error)
        return error;
    if (record.len != bytes)
        return STORE_E_DAMAGED;
    stored_meta_unpack_part(out, record);
    return 0;
}

/* Format 1 had no guards and no journal; records of entries and events were others. */
static int identity_of_1(const struct store *store, MDB_txn *txn, struct store_meta *out)
{
    return identity_of(store, txn, META_1_BYTES, out);
}

/* Format 2 did not say whether an entry's date is strong. */
static int identity_of_2(const struct store *store, MDB_txn *txn, struct store_meta *out)
{
    return identity_of(store, txn, META_2_BYTES, out);
}

/* In format 3 no mutation raised a group of surrogate keys (rule GROUPS), and names had other clocks. */
static int identity_of_3(const struct store *store, MDB_txn *txn, struct store_meta *out)
{
    return identity_of(store, txn, META_2_BYTES, out);
}

static const struct upgrade upgrades[] = {
    {1, identity_of_1}, {2, identity_of_2}, {3, identity_of_3}};

int stored_upgrade(struct store *store, MDB_txn *txn)
{
    const uint32_t format = stored_format(store, txn);
    for (size_t i = 0; i < sizeof(upgrades) / sizeof(upgrades[0]); i++) {
        if (upgrades[i].from != format)
            continue;
        struct store_meta meta = {0};
        const int error = upgrades[i].identity(store, txn, &meta);
        if (error)
            return error;
        store->former = meta;
    }
    return STORE_E_OLDER;
}
