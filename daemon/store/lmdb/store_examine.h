/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Part of the store: a state looked at as a whole, without serving it and without writing a byte. What records mean is the
 * caller's to judge.
 */
#ifndef ETAGD_STORE_EXAMINE_H
#define ETAGD_STORE_EXAMINE_H

#include "store.h"

/* Each returns NULL, or what is wrong with the record (static text). What they get is borrowed during the call. */
struct store_judges {
    const char *(*entry)(void *ctx, struct hash128 fingerprint, etag_str name, etag_str record);
    const char *(*event)(void *ctx, uint64_t lsn, etag_str record);
    const char *(*guard)(void *ctx, struct guard_id id, uint64_t lsn, etag_str record);
    const char *(*chunk)(void *ctx, uint32_t chunk, const uint64_t *words, size_t count);
    void *ctx;
};

#define STORE_FOUND_BYTES 160

/* No pointers: it stands in memory that parent and child share. */
struct store_found {
    uint64_t count;                /* records read */
    uint64_t damaged;              /* of these */
    char first[STORE_FOUND_BYTES]; /* what is wrong with the first of them */
};

struct store_examination {
    bool exists;            /* there is a database, with a run's meta record */
    uint32_t format;        /* 0: not known */
    struct store_meta meta; /* where it is of this format */
    struct store_found entries, names, events, clocks, guards, others;
    struct store_found structure; /* pages, free list, order of the records, meta record */
    uint64_t last_event_lsn;
    uint64_t used_bytes;
};

/* In a child process (store_check_run). directory: of the state. 0: *out is complete, and says what is damaged; STORE_E_DAMAGED:
 * LMDB cannot read on; a negative errno: it cannot be opened. */
MUST_USE int store_examine(const char *directory, const struct store_judges *judges,
                           struct store_examination *out);

#endif
