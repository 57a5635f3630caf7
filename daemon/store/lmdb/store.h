/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The store: LMDB, and nothing above it. Only its own files, store*.c, include lmdb.h. It takes and
 * returns bytes: record.h has their meaning, and persist.h decides when they are written.
 *
 * Databases: meta (one record, and the relay's mark), entries (fingerprint -> record), names
 * (canonical resource text, cut, + fingerprint -> nothing: the ordered index for listing), events
 * (LSN, big-endian -> record), clocks (chunk number -> words), guards (id, big-endian -> LSN,
 * record: the guards and holds that are open, exactly). Every record has a keyed checksum (SipHash
 * of key and value with the store's own hash key); if it is wrong, the call returns STORE_E_DAMAGED
 * and not the record.
 *
 * Errors: 0, negative errno (LMDB's own codes become -EIO, MAP_FULL and disk full -ENOSPC),
 * positive STORE_E_*. Threads: one writing transaction at a time (any one thread); reads from any
 * thread.
 */
#ifndef ETAGD_STORE_H
#define ETAGD_STORE_H

#include "config.h"
#include "message.h"
#include "siphash.h"
#include "why.h"

#define STORE_FORMAT 3u /* of what LMDB holds; a state of another one is set aside unread */

enum {
    STORE_E_NOT_FOUND = 1,
    /* a checksum is wrong, or LMDB reports damage */
    STORE_E_DAMAGED = 2,
    /* the state has another format */
    STORE_E_FORMAT = 3,
    /* not ours: another uid owns it */
    STORE_E_OWNER = 4,
    /* another daemon holds the lock */
    STORE_E_IN_USE = 5,
    /* a callback's return value, to end a walk */
    STORE_E_STOPPED = 6,
};

struct store;

struct store_options {
    /* made (0700) if missing; its parent must exist */
    const char *state_dir;
    uint64_t map_bytes;
    /* durability power: fsync per commit */
    bool sync;
};

/* Takes the state lock (state_dir/lock, OFD lock), checks owner and format, lets a child process
 * read the whole database (store_check.c), and opens LMDB. On an error *why says what is wrong and
 * what to do, with the path. On STORE_E_DAMAGED and STORE_E_FORMAT *out is a store that holds the
 * lock and takes store_set_aside() and store_close() only; on any other error it is NULL. */
MUST_USE int store_open(struct store **out, const struct store_options *options, struct why *why);
struct store *store_close(struct store *store); /* returns NULL */

/* Checks that the lock file at its path is still the locked one, and the data file the one that was
 * opened. Returns 0 or -ESTALE. */
MUST_USE int store_still_owned(const struct store *store);

/* Sets a damaged or foreign-format database aside (renames data.mdb to damaged-<wall ms>.mdb) and
 * opens an empty one. */
MUST_USE int store_set_aside(struct store *store, struct why *why);

/* ---- Meta ---- */

#define STORE_NONCE_BYTES 16

struct store_meta {
    /* of the last daemon that opened it; 0: never */
    uint64_t incarnation;
    uint8_t hash_key[SIPHASH_KEY_BYTES];
    uint32_t clock_count;
    /* L of that daemon */
    uint64_t lease_ns;
    /* its guard_linger */
    uint64_t linger_ns;
    /* /proc/sys/kernel/random/boot_id, "" unreadable */
    char boot_id[40];
    /* the clocks in the database are complete up to this LSN */
    uint64_t checkpoint_lsn;
    /* of that run; the witness beside its socket says the same */
    uint8_t nonce[STORE_NONCE_BYTES];
    /* inode and birth time of the data file, as that run found them */
    uint64_t data_inode, data_birth_ns;
    /* durability of that run: every commit was fsynced */
    bool power;
    /* that run had a journal, which may have events that the store lacks */
    bool journal;
};

/* What distinguishes this data file from a copy of it. */
struct store_identity {
    uint64_t inode;
    /* 0: the file system does not say */
    uint64_t birth_ns;
    /* not on a network or user-space file system */
    bool local;
};

/* 0 or negative errno. */
MUST_USE int store_identify(const struct store *store, struct store_identity *out);

MUST_USE int store_meta_read(struct store *store,
                             struct store_meta *out); /* STORE_E_NOT_FOUND: new */
/* Writes the meta record in a transaction of its own, with fsync at any durability, because an
 * incarnation must be durable before it is used. The first one makes the other tables usable, since
 * their checksums need the hash key; call store_clear() before a change of the hash key. */
MUST_USE int store_meta_write(struct store *store, const struct store_meta *meta);

/* Ask for writeback errors: without a sync per commit no call fails when the kernel cannot write
 * later what it accepted. Both report each error once; with durability power, or if the store is
 * not open, they do nothing. Return 0, or -EIO, -ENOSPC, -EDQUOT: it is not known what the disk
 * has. store_heard() reports errors of writeback until now and neither waits nor writes.
 * store_flush() waits until the disk has everything. */
MUST_USE int store_heard(struct store *store);
MUST_USE int store_flush(struct store *store);

/* The warm mark: a file whose absence means that the next start must not trust the state. To remove
 * it needs no disk space. */
MUST_USE int store_warm_mark_set(struct store *store);
MUST_USE int store_warm_mark_clear(struct store *store);
MUST_USE bool store_warm_mark(const struct store *store);
/* Replaces the warm mark by the lost mark of a failed disk: the data file must not be used any
 * more. If that can't be made, removes the warm mark. store_set_aside() removes the lost mark. */
MUST_USE int store_lost_mark_set(struct store *store);
MUST_USE bool store_lost_mark(const struct store *store);

/* Returns whether the map has room for this many bytes of entries, beyond the reserve for events,
 * removals and checkpoints (LMDB needs pages even to delete). Walks the free list if the map is
 * nearly used up, which takes long if the list is large. */
MUST_USE bool store_has_entry_room(struct store *store, size_t bytes);

/* ---- Writing (one transaction at a time) ---- */

struct store_txn;

MUST_USE int store_begin(struct store *store, struct store_txn **out);
MUST_USE int store_commit(struct store_txn *txn); /* consumes it, even on error */
void store_abort(struct store_txn *txn);
/* Commits if error is 0, else aborts and returns error. */
MUST_USE int store_end(struct store_txn *txn, int error);

MUST_USE int store_put_entry(struct store_txn *txn, struct hash128 fingerprint,
                             etag_str resource_text, etag_str record);
MUST_USE int store_erase_entry(struct store_txn *txn, struct hash128 fingerprint); /* absent is 0 */
MUST_USE int store_put_event(struct store_txn *txn, uint64_t lsn, etag_str record);
/* Records that the guard or hold is open since the event with that LSN, also if it was recorded
 * before. */
MUST_USE int store_put_guard(struct store_txn *txn, struct guard_id id, uint64_t lsn,
                             etag_str record);
MUST_USE int store_erase_guard(struct store_txn *txn, struct guard_id id); /* absent is 0 */
/* Which events store_trim_events() deletes: from the oldest on, while an event is below below_lsn
 * and the log is over one of its bounds. */
struct store_trim {
    uint64_t below_lsn;
    /* events that stay */
    size_t keep;
    /* bytes of pages that the log may take; 0: no bound */
    uint64_t bytes;
    /* events deleted in one call at most, so that the transaction is short */
    size_t most;
    /* returns whether an event is too old; called for the oldest, also within the other bounds.
     * NULL: no bound of age */
    bool (*expired)(void *ctx, etag_str record);
    void *ctx;
};
/* *cut: how many were deleted. Returns 0 or an error of LMDB; a damaged record is no error and is
 * deleted like an old one. */
MUST_USE int store_trim_events(struct store_txn *txn, const struct store_trim *trim, size_t *cut);
MUST_USE int store_put_clocks(struct store_txn *txn, uint32_t chunk, const uint64_t *words,
                              size_t count);
MUST_USE int store_put_checkpoint_lsn(struct store_txn *txn, uint64_t lsn);
/* Writes the relay's mark (record.h) in place of the former one. */
MUST_USE int store_put_relay(struct store_txn *txn, etag_str mark);
/* Gets the relay's mark as the transaction sees it, borrowed until the next write.
 * STORE_E_NOT_FOUND: there is none. */
MUST_USE int store_relay_of(struct store_txn *txn, etag_str *mark);
/* Deletes everything but meta, for a cold start, in transactions of its own. */
MUST_USE int store_clear(struct store *store);

/* ---- Reading: callbacks borrow; a non-zero return ends the walk and is returned ---- */

MUST_USE int store_get_entry(struct store *store, struct hash128 fingerprint,
                             int (*found)(void *ctx, struct hash128 fingerprint, etag_str record),
                             void *ctx);
MUST_USE int store_get_event(struct store *store, uint64_t lsn,
                             int (*found)(void *ctx, uint64_t lsn, etag_str record), void *ctx);
/* Calls each() for the entries from that fingerprint on, in byte order. Passes a damaged entry too,
 * with an empty record, so that the caller can erase it. */
MUST_USE int store_each_entry(struct store *store, struct hash128 from,
                              int (*each)(void *ctx, struct hash128 fingerprint, etag_str record),
                              void *ctx);
MUST_USE int store_each_event(struct store *store, uint64_t from_lsn,
                              int (*each)(void *ctx, uint64_t lsn, etag_str record), void *ctx);
/* The same, but from until_lsn down to the oldest. */
MUST_USE int store_each_event_back(struct store *store, uint64_t until_lsn,
                                   int (*each)(void *ctx, uint64_t lsn, etag_str record),
                                   void *ctx);
/* Gets the LSN up to which the store has every event; 0: none. */
MUST_USE int store_last_lsn(struct store *store, uint64_t *lsn);
MUST_USE int store_each_guard(struct store *store,
                              int (*each)(void *ctx, struct guard_id id, uint64_t lsn,
                                          etag_str record),
                              void *ctx);
MUST_USE int store_each_clock_chunk(struct store *store,
                                    int (*each)(void *ctx, uint32_t chunk, const uint64_t *words,
                                                size_t count),
                                    void *ctx);
/* Calls each() for the entries whose resource text begins with prefix, in the order of the text,
 * from the first after the cursor 'after' (any bytes; empty: from the start). each() gets the
 * cursor of its entry, which stays valid when entries are added and removed. Only the first 494
 * bytes of a text and of prefix are compared, so for a longer prefix each() has to check the
 * record. */
MUST_USE int store_list(struct store *store, etag_str prefix, etag_str after,
                        int (*each)(void *ctx, etag_str cursor, struct hash128 fingerprint,
                                    etag_str record),
                        void *ctx);

/* Calls found() with the relay's mark. STORE_E_NOT_FOUND: there is none. */
MUST_USE int store_get_relay(struct store *store, int (*found)(void *ctx, etag_str mark),
                             void *ctx);

uint64_t store_entry_count(struct store *store);
uint64_t store_used_bytes(struct store *store);

#endif
