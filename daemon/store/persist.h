/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The persister: a thread that owns every write to the store while the daemon serves, so that a
 * slow disk stops neither lookups nor the lease nor the socket. Two kinds of work:
 *
 *   events    of one loop turn or several: one transaction (group commit), as soon as possible
 *             where somebody waits, else a few milliseconds later with what came meanwhile; the
 *             loop thread is told through an eventfd which events are safe, and answers its writers
 *             then
 *   entries   accepted fills and removals, coalesced by fingerprint, lazily, in chunks between the
 *             events, so that an event never waits for more than one chunk
 *
 * and checkpoints of the clocks, when CHECKPOINT_EVENTS came since the last one, or as many bytes
 * as the log may keep, or the log's oldest event is too old.
 *
 * All functions are called by the loop thread; the store is read by it too (LMDB allows that).
 *
 * A write that fails is tried again every second. Events that fail are decided at once, when the
 * warm mark is cleared (so the state is not trusted at the next start), and stay in memory, in
 * their order, RETAINED_EVENTS_MAX of them and RETAINED_BYTES_MAX; when all of them are in the
 * store the mark is set again. Beyond these bounds they are given up until the daemon ends.
 * persist_failed() is true all that time.
 *
 * With durability process a write that the kernel took may fail later. Each second, and at the end,
 * the thread asks (disk.h); once something was lost the store is given up in the same way, without
 * an end.
 */
#ifndef ETAGD_PERSIST_H
#define ETAGD_PERSIST_H

#include "checkpoint.h"
#include "event_line.h"
#include "log.h"
#include "store.h"

#include "shm.h"

struct persist;

/* Starts the thread. store, view, log: borrowed until persist_close. view: for checkpoints; its
 * clocks already hold every event that is in the store. checkpoint_lsn: the store's. retention:
 * copied; NULL: the defaults of bounds.h. 0 or a negative errno. */
MUST_USE int persist_open(struct persist **out, struct store *store, const struct shm_view *view,
                          const struct log *log, uint64_t checkpoint_lsn,
                          const struct retention *retention);

/* Where a disk fails whose warm mark cannot be removed, the witness beside this socket is. Borrowed
 * until persist_close. */
void persist_witness(struct persist *persist, const char *socket_path);

/* Writes what is left (events, entries, a checkpoint), waits until the disk has it, ends the
 * thread. Returns NULL. */
struct persist *persist_close(struct persist *persist);

/* Readable when something of persist_progress() moved or persist_failed() changed. */
int persist_fd(const struct persist *persist);

/* Queues an event (record copied). The events of a turn go with persist_submit(), which returns
 * their ticket: tickets grow by one; 0 if nothing was queued. LSNs grow. 0 or -ENOMEM.
 * urgent: somebody waits for the ticket, and persist_fd() tells when it is decided. Else the events
 * are written within some milliseconds (EVENTS_LAZY_NS) and nobody is told; look at
 * persist_stored_lsn(). */
MUST_USE int persist_event(struct persist *persist, const struct persist_event *event,
                           etag_str record);
uint64_t persist_submit(struct persist *persist, bool urgent);

/* The store has every event up to this LSN (of those queued here; 0: none yet). Cheap: an atomic
 * load. */
uint64_t persist_stored_lsn(const struct persist *persist);

/* Reads the eventfd empty. Every ticket up to *done is decided; those in failed_from ... failed_to,
 * if not 0, may be lost: they could not be written, and neither could the state be marked cold.
 * (Tickets that an earlier call called done may be left out of the two.) */
struct persist_progress {
    /* tickets decided */
    uint64_t done;
    uint64_t failed_from, failed_to;
    /* highest sync ticket reached */
    uint64_t synced;
    /* see persist_stored_lsn() */
    uint64_t stored_lsn;
};
struct persist_progress persist_progress(struct persist *persist);

/* Queues an entry (copied), coalesced with an earlier one of the same fingerprint. -ENOSPC:
 * DIRTY_ENTRIES_MAX or DIRTY_BYTES_MAX are waiting; the entry is not persisted (it stays in the
 * index). */
MUST_USE int persist_entry(struct persist *persist, struct hash128 fingerprint,
                           etag_str resource_text, etag_str record);
MUST_USE int persist_erase(struct persist *persist, struct hash128 fingerprint);

/* An entry that waits: 0 and its record in the callback (under the persister's lock: be short;
 * NULL: nobody wants it); STORE_E_NOT_FOUND: none waits; 1000: its removal waits. */
#define PERSIST_E_ERASED 1000
MUST_USE int persist_find(struct persist *persist, struct hash128 fingerprint,
                          int (*found)(void *ctx, struct hash128 fingerprint, etag_str record),
                          void *ctx);

/* Everything queued until now, submitted or not, is persisted (or has failed: see persist_failed)
 * when persist_progress().synced reaches the returned ticket. Does not submit: the turn's
 * persist_submit() must follow. */
uint64_t persist_sync(struct persist *persist);

/* The last write of entries failed, or events wait that could not be written: fills are to be
 * refused. */
bool persist_failed(const struct persist *persist);
/* Entries that wait. */
uint64_t persist_waiting(const struct persist *persist);
/* So many that soon there is no room for removals either. */
bool persist_crowded(const struct persist *persist);
/* How often the store has taken entries and removals. Who reads the store, finds that nothing waits
 * for an entry, and then sees the number that was there before he began to read, has read the
 * newest. */
uint64_t persist_entry_commits(const struct persist *persist);

/* ---- Unstored ---- */

/*
 * Entries of which the store may still have a record that must not come back: the entry that
 * replaced it depends on more (a surrogate key that the former one lacked), or its removal found no
 * room with the persister. An invalidation of what the record lacks would not make it stale after a
 * restart. So the next event takes them along, and the store erases them with it
 * (event_line_store): journal or transaction, whatever makes that event safe makes this safe,
 * before its answer. Without an event nothing has become stale, and what is stored in the meantime
 * is struck off; where there are too many they get an event of their own.
 */
struct unstored {
    struct hash128 fingerprints[UNSTORED_MAX];
    /* the persister knows nothing of it */
    bool stuck[UNSTORED_MAX];
    size_t count;
};

/* Strikes off what the store has by now. */
void unstored_settle(struct unstored *unstored, struct persist *persist);

/* For what a fill or a retire may add. False: they need an event first. */
MUST_USE bool unstored_has_room(struct unstored *unstored, struct persist *persist);

/* Whether the persister has something of the entry that the store lacks: it may have, or get, an
 * older record. Cheap where nothing waits. */
bool unstored_waits(struct persist *persist, struct hash128 fingerprint);

/* One may be there twice. stuck: nothing waits for the store that will take the record's place. */
void unstored_add(struct unstored *unstored, struct hash128 fingerprint, bool stuck);

#endif
