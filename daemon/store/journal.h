/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The journal: the events of this run that the store may not have yet, in a shared mapping of a
 * file beside the socket. To record an event is to copy it into that memory: the page cache
 * outlives a killed daemon, so with durability "process" an event is safe once journal_append() has
 * returned, and the daemon can answer its writer in the same turn. The persister writes it to LMDB
 * later.
 *
 * Two halves of fixed size, used in turn. Rule RECYCLE_AFTER_STORE: a half is used again only after
 * the store has all its events. So store and journal together hold every event, whenever the daemon
 * is killed.
 *
 * If the former run had a journal, a start trusts the store only together with it: if the journal
 * is missing, of another run, a copy, or damaged anywhere, the start uses none of it and is cold.
 * Loop thread only; only journal_open() and journal_replay() block.
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
    /* there is no journal, or it is of another run */
    JOURNAL_E_MISSING = 2,
    JOURNAL_E_DAMAGED = 3,
};

struct journal;

/* Begins the journal of this run at "<socket path>.journal", with both halves empty, so the caller
 * must have stored the former run's events before. Returns 0 or a negative errno; -EPERM: the file
 * at the path is not ours alone (a link, a FIFO, another user's file); -EOPNOTSUPP: the file system
 * may lack allocated space later. */
MUST_USE int journal_open(struct journal **out, const char *socket_path,
                          const uint8_t nonce[JOURNAL_NONCE_BYTES]);
/* Closes the journal and leaves its file for the next start. Returns NULL. */
struct journal *journal_close(struct journal *journal);

/* Appends an event; LSNs have to ascend. The record is copied. Returns 0: the event survives this
 * daemon; JOURNAL_E_FULL: it is not in the journal. */
MUST_USE int journal_append(struct journal *journal, uint64_t lsn, etag_str record);

/* Returns the record of an event, borrowed until the next append; absent: it is not in the journal
 * any more. Searches the whole journal, so it is for people's requests only. */
etag_str journal_find(const struct journal *journal, uint64_t lsn);

/* Calls each() for the events from from_lsn on that are still in the journal, in LSN order. A
 * non-zero return of each() ends the walk and is returned. */
MUST_USE int journal_each(const struct journal *journal, uint64_t from_lsn,
                          int (*each)(void *ctx, uint64_t lsn, etag_str record), void *ctx);

/* Notes that the store has every event up to lsn, so that their half may be used again. */
void journal_stored(struct journal *journal, uint64_t lsn);

/* Calls each() for the events of the run with that nonce, in LSN order, after it has checked the
 * whole journal. each NULL: only checks. The record is borrowed during the call; a non-zero return
 * of each() ends the walk and is returned. Returns 0, JOURNAL_E_MISSING, JOURNAL_E_DAMAGED or a
 * negative errno. */
MUST_USE int journal_replay(const char *socket_path, const uint8_t nonce[JOURNAL_NONCE_BYTES],
                            int (*each)(void *ctx, uint64_t lsn, etag_str record), void *ctx);

/* The same for the bytes of a journal: JOURNAL_FILE_BYTES, from a file with that inode. Returns 0,
 * JOURNAL_E_*, or what the callback returned. */
MUST_USE int journal_replay_bytes(const uint8_t *bytes, const uint8_t nonce[JOURNAL_NONCE_BYTES],
                                  uint64_t inode,
                                  int (*each)(void *ctx, uint64_t lsn, etag_str record), void *ctx);

/* Returns whether there is a file at the journal's path: a daemon ran here. */
MUST_USE bool journal_exists(const char *socket_path);

#endif
