/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The store: LMDB, and nothing above it. Only its own files, store*.c, include lmdb.h. Bytes in,
 * bytes out: what they mean is record.h's matter; when they are written is persist.h's.
 *
 * Databases: meta (one record, and the relay's mark), entries (fingerprint -> record), names
 * (canonical resource text, cut, + fingerprint -> nothing: the ordered index for listing), events
 * (LSN, big-endian -> record), clocks (chunk number -> words), guards (id, big-endian -> LSN,
 * record: the guards and holds that are open, exactly). Every record carries a keyed checksum
 * (SipHash of key and value with the store's own hash key); a record that does not check is
 * reported as STORE_E_DAMAGED and never handed out.
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

#define STORE_FORMAT 2u /* of what LMDB holds; a state of another one is set aside unread */

enum {
    STORE_E_NOT_FOUND = 1,
    /* a checksum or LMDB itself says so */
    STORE_E_DAMAGED = 2,
    /* a state of another format */
    STORE_E_FORMAT = 3,
    /* not ours: another uid owns it */
    STORE_E_OWNER = 4,
    /* another daemon holds the lock */
    STORE_E_IN_USE = 5,
    /* of a walk: its callback has had enough */
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

/* Takes the state lock (state_dir/lock, OFD lock), checks owner and format, lets a child read the
 * whole database (store_check.c), opens LMDB. On an error *why says what is wrong and what to do,
 * with the path. On STORE_E_DAMAGED and STORE_E_FORMAT *out is a store that holds the lock and
 * takes store_set_aside() and store_close() only; on any other error it is NULL. */
MUST_USE int store_open(struct store **out, const struct store_options *options, struct why *why);
struct store *store_close(struct store *store); /* returns NULL */

/* Is the locked file still the one at its path, and the data file the one that was opened? 0 or
 * -ESTALE. */
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
    /* clocks in the database are complete up to it */
    uint64_t checkpoint_lsn;
    /* of that run; the witness beside its socket says the same */
    uint8_t nonce[STORE_NONCE_BYTES];
    /* of the data file, as that run found it */
    uint64_t data_inode, data_birth_ns;
    /* durability of that run: every commit was fsynced */
    bool power;
    /* of that run: the store may lack events that its journal has */
    bool journal;
};

/* What tells this data file from a copy of it. */
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
/* In a transaction of its own, fsynced whatever the durability: an incarnation is durable before it
 * is used. The first one makes the other tables usable (their checksums need the hash key); another
 * hash key wants a store_clear() first. */
MUST_USE int store_meta_write(struct store *store, const struct store_meta *meta);

/* Without a sync per commit nobody hears when the kernel fails to write what it took, some time
 * later. Both say so, once each time; with durability power, or of a store that is not open, they
 * do nothing. 0, or -EIO, -ENOSPC, -EDQUOT: what is on the disk is not known.
 * store_heard: of what was tried until now. Waits for nothing, begins nothing.
 * store_flush: everything is on the disk. Waits for it. */
MUST_USE int store_heard(struct store *store);
MUST_USE int store_flush(struct store *store);

/* The warm mark: a file whose removal, which needs no disk space, marks the state as not to be
 * trusted. */
MUST_USE int store_warm_mark_set(struct store *store);
MUST_USE int store_warm_mark_clear(struct store *store);
MUST_USE bool store_warm_mark(const struct store *store);
/* In its place the mark of a disk that failed: the data file is not to be used any more. Where it
 * can't be made, the warm mark is removed. store_set_aside() removes it. */
MUST_USE int store_lost_mark_set(struct store *store);
MUST_USE bool store_lost_mark(const struct store *store);

/* Is there so much room in the map that so many bytes of entries may be written? Below it what is
 * left is for events, removals and checkpoints: LMDB needs pages even to delete. Of a large free
 * list that is nearly used up it takes a walk. */
MUST_USE bool store_has_entry_room(struct store *store, size_t bytes);

/* ---- Writing (one transaction at a time) ---- */

struct store_txn;

MUST_USE int store_begin(struct store *store, struct store_txn **out);
MUST_USE int store_commit(struct store_txn *txn); /* consumes it, even on error */
void store_abort(struct store_txn *txn);
/* Commits where error is 0, else aborts and returns it. */
MUST_USE int store_end(struct store_txn *txn, int error);

MUST_USE int store_put_entry(struct store_txn *txn, struct hash128 fingerprint,
                             etag_str resource_text, etag_str record);
MUST_USE int store_erase_entry(struct store_txn *txn, struct hash128 fingerprint); /* absent is 0 */
MUST_USE int store_put_event(struct store_txn *txn, uint64_t lsn, etag_str record);
/* The guard or hold is open as of the event with that LSN; it may have been before. */
MUST_USE int store_put_guard(struct store_txn *txn, struct guard_id id, uint64_t lsn,
                             etag_str record);
MUST_USE int store_erase_guard(struct store_txn *txn, struct guard_id id); /* absent is 0 */
/* Cuts the log at its front, as long as an event is below below_lsn and the log is over one of its
 * bounds. */
struct store_trim {
    uint64_t below_lsn;
    /* events that stay at least */
    size_t keep;
    /* of the pages that they take; 0: no bound */
    uint64_t bytes;
    /* that are cut at once: a transaction is not to take long */
    size_t most;
    /* Is it too old? Asked of the oldest, whatever the other bounds say. NULL: no bound of age. */
    bool (*expired)(void *ctx, etag_str record);
    void *ctx;
};
/* *cut: how many went. 0 or an error, of LMDB only: a damaged record is cut like an old one. */
MUST_USE int store_trim_events(struct store_txn *txn, const struct store_trim *trim, size_t *cut);
MUST_USE int store_put_clocks(struct store_txn *txn, uint32_t chunk, const uint64_t *words,
                              size_t count);
MUST_USE int store_put_checkpoint_lsn(struct store_txn *txn, uint64_t lsn);
/* The relay's mark (record.h), in place of the one before. */
MUST_USE int store_put_relay(struct store_txn *txn, etag_str mark);
/* It as the transaction sees it, borrowed until the next write. STORE_E_NOT_FOUND: there is
 * none. */
MUST_USE int store_relay_of(struct store_txn *txn, etag_str *mark);
/* Everything but meta goes: a cold start. In transactions of its own. */
MUST_USE int store_clear(struct store *store);

/* ---- Reading. What a callback gets is borrowed during the call; a non-zero return ends the wal */

MUST_USE int store_get_entry(struct store *store, struct hash128 fingerprint,
                             int (*found)(void *ctx, struct hash128 fingerprint, etag_str record),
                             void *ctx);
MUST_USE int store_get_event(struct store *store, uint64_t lsn,
                             int (*found)(void *ctx, uint64_t lsn, etag_str record), void *ctx);
/* In the order of the fingerprints' bytes, from that one on. A damaged entry comes too, with an
 * empty record, so that it can be erased. */
MUST_USE int store_each_entry(struct store *store, struct hash128 from,
                              int (*each)(void *ctx, struct hash128 fingerprint, etag_str record),
                              void *ctx);
MUST_USE int store_each_event(struct store *store, uint64_t from_lsn,
                              int (*each)(void *ctx, uint64_t lsn, etag_str record), void *ctx);
/* The same from until_lsn down to the oldest. */
MUST_USE int store_each_event_back(struct store *store, uint64_t until_lsn,
                                   int (*each)(void *ctx, uint64_t lsn, etag_str record),
                                   void *ctx);
/* The store has every event up to this LSN; 0: none. */
MUST_USE int store_last_lsn(struct store *store, uint64_t *lsn);
MUST_USE int store_each_guard(struct store *store,
                              int (*each)(void *ctx, struct guard_id id, uint64_t lsn,
                                          etag_str record),
                              void *ctx);
MUST_USE int store_each_clock_chunk(struct store *store,
                                    int (*each)(void *ctx, uint32_t chunk, const uint64_t *words,
                                                size_t count),
                                    void *ctx);
/* Entries whose resource text begins with prefix, in the order of the text, from the start or
 * behind the cursor 'after' (any bytes; empty: from the start). The callback gets the cursor of
 * each entry: valid whatever comes and goes. Of a text only its first 494 bytes count, in prefix
 * too: beyond them it is the callback's to look at the record. */
MUST_USE int store_list(struct store *store, etag_str prefix, etag_str after,
                        int (*each)(void *ctx, etag_str cursor, struct hash128 fingerprint,
                                    etag_str record),
                        void *ctx);

/* The relay's mark. STORE_E_NOT_FOUND: there is none. */
MUST_USE int store_get_relay(struct store *store, int (*found)(void *ctx, etag_str mark),
                             void *ctx);

uint64_t store_entry_count(struct store *store);
uint64_t store_used_bytes(struct store *store);

#endif
