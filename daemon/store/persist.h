/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The persister: a thread that does every write to the store while the daemon serves, so that a
 * slow disk delays neither lookups nor the lease nor the socket. Two kinds of work:
 *
 *   events    of one or several loop turns in one transaction (group commit): at once if a writer
 *             waits, else a few milliseconds later, together with later ones; an eventfd tells the
 *             loop thread that events are safe, and it then answers their writers
 *   entries   accepted fills and removals, one for each fingerprint, lazily, in chunks between the
 *             events, so that an event never waits for more than one chunk
 *
 * It also writes checkpoints of the clocks: after CHECKPOINT_EVENTS events, after as many bytes as
 * the log may keep, or when the log's oldest event is too old.
 *
 * Only the loop thread calls these functions. It also reads the store, which LMDB allows.
 *
 * A write that fails is tried again every second. Failed events are decided as soon as the warm
 * mark is cleared, because then the next start does not trust the state. They stay in memory, in
 * their order, up to RETAINED_EVENTS_MAX and RETAINED_BYTES_MAX; when all of them are in the store,
 * the mark is set again. Beyond these bounds the persister gives the store up until the daemon
 * ends. persist_failed() is true all that time.
 *
 * With durability process a write that the kernel accepted may fail later. Each second, and at its
 * end, the thread asks the kernel (disk.h); once something was lost, it gives the store up in the
 * same way until the daemon ends.
 */
#ifndef ETAGD_PERSIST_H
#define ETAGD_PERSIST_H

#include "checkpoint.h"
#include "event_queue.h"
#include "log.h"
#include "store.h"

#include "shm.h"

struct persist;

/* Starts the thread. store, view, log: borrowed until persist_close(). view: for checkpoints; its
 * clocks must have every event that is in the store. checkpoint_lsn: the store's. retention:
 * copied; NULL: the defaults of bounds.h. Returns 0 or a negative errno. */
MUST_USE int persist_open(struct persist **out, struct store *store, const struct shm_view *view,
                          const struct log *log, uint64_t checkpoint_lsn,
                          const struct retention *retention);

/* Sets the socket whose witness is removed if a failed disk's warm mark cannot be. Borrowed until
 * persist_close(). */
void persist_witness(struct persist *persist, const char *socket_path);

/* Writes what is left (events, entries, a checkpoint), waits until the disk has it, and ends the
 * thread. Returns NULL. */
struct persist *persist_close(struct persist *persist);

/* Returns an eventfd that is readable when persist_progress() moved or persist_failed() changed. */
int persist_fd(const struct persist *persist);

/* persist_event() queues an event (record copied; LSNs have to ascend) and returns 0 or -ENOMEM.
 * persist_submit() hands the queued events of a turn to the thread and returns their ticket, which
 * is one more than the last; 0: nothing was queued. urgent: a writer waits for the ticket, so the
 * thread writes at once, and persist_fd() reports when the ticket is decided. Else the thread
 * writes within some milliseconds (EVENTS_LAZY_NS) and does not report; see
 * persist_stored_lsn(). */
MUST_USE int persist_event(struct persist *persist, const struct persist_event *event,
                           etag_str record);
uint64_t persist_submit(struct persist *persist, bool urgent);

/* Returns the LSN up to which the store has every event that was queued here; 0: none yet. Cheap:
 * an atomic load. */
uint64_t persist_stored_lsn(const struct persist *persist);

/* Reads the eventfd empty and returns the progress. Every ticket up to 'done' is decided. Tickets
 * from failed_from to failed_to, if not 0, may be lost: they could not be written, and the state
 * could not be marked cold. (The two may leave out tickets that were done in an earlier call.) */
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

/* Queues an entry (copied), or its removal, in place of one of the same fingerprint that still
 * waits. Returns 0, -ENOMEM, or -ENOSPC: DIRTY_ENTRIES_MAX or DIRTY_BYTES_MAX are waiting, so it is
 * not persisted (an entry stays in the index). */
MUST_USE int persist_entry(struct persist *persist, struct hash128 fingerprint,
                           etag_str resource_text, etag_str record);
MUST_USE int persist_erase(struct persist *persist, struct hash128 fingerprint);

/* Finds an entry that waits for the store and calls found() with its record, under the persister's
 * lock, so found() must be short; it may be NULL. Returns what found() returns, or 0;
 * STORE_E_NOT_FOUND: nothing waits; PERSIST_E_ERASED: its removal waits. */
#define PERSIST_E_ERASED 1000
MUST_USE int persist_find(struct persist *persist, struct hash128 fingerprint,
                          int (*found)(void *ctx, struct hash128 fingerprint, etag_str record),
                          void *ctx);

/* Returns a ticket: when persist_progress().synced reaches it, everything queued until now,
 * submitted or not, is persisted or has failed (see persist_failed()). Does not submit, so the
 * turn's persist_submit() must follow. */
uint64_t persist_sync(struct persist *persist);

/* Returns whether the last write of entries failed, or failed events wait to be written again: then
 * the daemon has to refuse fills. */
bool persist_failed(const struct persist *persist);
/* Returns how many entries and removals wait for the store. */
uint64_t persist_waiting(const struct persist *persist);
/* Returns whether so many wait that soon there is no room for removals either. */
bool persist_crowded(const struct persist *persist);
/* Returns how often the thread has committed entries and removals. If a reader takes this number,
 * reads an entry from the store, finds that nothing waits for the entry, and then gets the same
 * number, it has read the newest record. */
uint64_t persist_entry_commits(const struct persist *persist);

/* ---- Unstored ---- */

/*
 * Entries of which the store may still have a record that must not be loaded again: the entry that
 * replaced it depends on more (a surrogate key that the record lacks), or the persister had no room
 * for its removal. After a restart, an invalidation of such a key would not make the old record
 * stale. So the next event carries their fingerprints, and the store erases them in the transaction
 * of that event (event_queue_store). Thus the erasure is safe, in journal or store, whenever the
 * event is, before the event is answered. Until an event comes nothing has become stale, and an
 * entry that is stored before that is removed from this list. When the list is full, its entries
 * get an event of their own.
 */
struct unstored {
    struct hash128 fingerprints[UNSTORED_MAX];
    /* nothing waits in the persister that will replace the record */
    bool stuck[UNSTORED_MAX];
    size_t count;
};

/* Removes entries that the store has by now. */
void unstored_settle(struct unstored *unstored, struct persist *persist);

/* Returns whether there is room for what one fill or retire may add. False: the list needs an event
 * first (mutation_carry()). */
MUST_USE bool unstored_has_room(struct unstored *unstored, struct persist *persist);

/* Returns whether the entry or its removal waits in the persister, so that the store may have, or
 * get, an older record. Cheap if nothing waits. */
bool unstored_waits(struct persist *persist, struct hash128 fingerprint);

/* Adds an entry; it may be in the list twice. stuck: nothing waits in the persister that will
 * replace the record. */
void unstored_add(struct unstored *unstored, struct hash128 fingerprint, bool stuck);

#endif
