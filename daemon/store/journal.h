/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The journal: the events of this run that the store may not have yet, in a file beside the socket
 * that is mapped shared. A store into that memory is all it takes: the page cache outlives a killed
 * daemon, so an event is safe (with durability "process") once journal_append() has returned, and
 * its writer can be answered in the same turn. LMDB follows lazily, in the persister.
 *
 * Two halves of fixed size, used in turn. Rule RECYCLE_AFTER_STORE: a half is used again only after
 * the store has all its events. So store and journal together hold every event, whenever the daemon
 * is killed.
 *
 * It proves more than it has: one that is missing, of another run, a copy or damaged anywhere is
 * not used at all, and the start is cold. Loop thread only; nothing here blocks but journal_open()
 * and journal_replay().
 */
#ifndef ETAGD_JOURNAL_H
#define ETAGD_JOURNAL_H

#include "bounds.h"
#include "cleanup.h"

#include <etag/etag.h>

#include <stdbool.h>
#include <stdint.h>

#define JOURNAL_NONCE_BYTES 16 /* of the run, as in store and witness */
#define JOURNAL_FILE_BYTES (2 * (size_t)JOURNAL_HALF_BYTES)

enum {
    /* both halves hold events that the store does not have, or the record is too long */
    JOURNAL_E_FULL = 1,
    /* there is no journal of that run */
    JOURNAL_E_MISSING = 2,
    JOURNAL_E_DAMAGED = 3,
};

struct journal;

/* Begins the journal of this run at "<socket path>.journal", with both halves empty: what a former
 * run left there has to be in the store by now. 0 or a negative errno; -EPERM: there is something
 * at the path that is not ours alone (a link, a FIFO, another user's file); -EOPNOTSUPP: a file
 * system on which allocated space may be missing later. */
MUST_USE int journal_open(struct journal **out, const char *socket_path,
                          const uint8_t nonce[JOURNAL_NONCE_BYTES]);
/* Leaves the file. Returns NULL. */
struct journal *journal_close(struct journal *journal);

/* The record is copied. LSNs grow. 0: it survives this daemon. JOURNAL_E_FULL: it is not in the
 * journal. */
MUST_USE int journal_append(struct journal *journal, uint64_t lsn, etag_str record);

/* The record of an event that is still in it; absent: it is not. Borrowed until the next append.
 * For people's questions: it looks through all of them. */
etag_str journal_find(const struct journal *journal, uint64_t lsn);

/* Those that are still in it, in the order of their LSNs, from one LSN on. A non-zero return ends
 * the walk and is returned. */
MUST_USE int journal_each(const struct journal *journal, uint64_t from_lsn,
                          int (*each)(void *ctx, uint64_t lsn, etag_str record), void *ctx);

/* The store has every event up to lsn. */
void journal_stored(struct journal *journal, uint64_t lsn);

/* The events of the run with that nonce, in the order of their LSNs. The whole journal is checked
 * before the first is handed out; each may be NULL: only check. What the callback gets is borrowed;
 * a non-zero return ends the walk and is returned. 0, JOURNAL_E_MISSING, JOURNAL_E_DAMAGED or a
 * negative errno. */
MUST_USE int journal_replay(const char *socket_path, const uint8_t nonce[JOURNAL_NONCE_BYTES],
                            int (*each)(void *ctx, uint64_t lsn, etag_str record), void *ctx);

/* The same of a journal's bytes: JOURNAL_FILE_BYTES, of a file with that inode. JOURNAL_E_* or what
 * the callback returned. */
MUST_USE int journal_replay_bytes(const uint8_t *bytes, const uint8_t nonce[JOURNAL_NONCE_BYTES],
                                  uint64_t inode,
                                  int (*each)(void *ctx, uint64_t lsn, etag_str record), void *ctx);

/* There is something at the journal's path: a daemon ran here. */
MUST_USE bool journal_exists(const char *socket_path);

#endif
