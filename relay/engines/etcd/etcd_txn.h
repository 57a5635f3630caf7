/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A transaction of etcd as its JSON gateway takes it, written piece by piece: conditions, what is
 * done where all of them hold, and what else. Without conditions the first is done.
 *
 * Transactions that only read are linearizable as long as none of their ranges says "serializable":
 * none here can.
 */
#ifndef ETAG_RELAY_ETCD_TXN_H
#define ETAG_RELAY_ETCD_TXN_H

#include "cleanup.h"

#include <etag/etag.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Of the three lists. They are written in this order; each may be left out. */
enum etcd_part { ETCD_IF, ETCD_THEN, ETCD_ELSE };

struct etcd_txn {
    /* the caller's, freed with etcd_txn_free() */
    char *text;
    size_t len, capacity;
    enum etcd_part part;
    bool begun, some;
    /* what it holds is not whole */
    bool no_memory;
};

/* What of a range is wanted. */
struct etcd_get {
    etag_str from;
    /* absent: one key. Else up to it, without it */
    etag_str to;
    /* keys that were written at it or later; 0: all */
    uint64_t min_mod_revision;
    /* ... or sooner; 0: all */
    uint64_t max_mod_revision;
    /* 0: all */
    uint64_t limit;
    bool count_only, keys_only;
};

void etcd_txn_free(struct etcd_txn *txn);

/* The key was last written at this revision; 0: there is none. */
void etcd_txn_if(struct etcd_txn *txn, etag_str key, uint64_t mod_revision);
void etcd_txn_get(struct etcd_txn *txn, enum etcd_part part, const struct etcd_get *get);
void etcd_txn_put(struct etcd_txn *txn, etag_str key, etag_str value);
/* to absent: one key */
void etcd_txn_delete(struct etcd_txn *txn, etag_str from, etag_str to);

/* The text, borrowed; absent: no memory. Nothing may be added afterwards. */
etag_str etcd_txn_end(struct etcd_txn *txn);

#endif
