/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Records in the store: an entry and an event as flat bytes. Both halves of each format stand in
 * record.c. A byte of version comes first; parsed structs point into the bytes.
 */
#ifndef ETAGD_RECORD_H
#define ETAGD_RECORD_H

#include "entry.h"
#include "message.h"
#include "targets.h"

/* An entry as it is kept: the entry, and what the cache decided about it. */
struct entry_record {
    /* canonical, see key.h */
    etag_str key_bytes;
    /* .key is not used by pack; parse fills it from key_bytes */
    struct entry entry;
    uint64_t fill_lsn;
    /* 0: never */
    uint64_t expires_wall_ms;
    /* the same in CLOCK_MONOTONIC, which means something within one boot */
    uint64_t expires_ns;
};

/* Memory for what a parsed record points to. */
struct entry_record_parts {
    struct kept_field fields[FIELDS_PER_ENTRY_MAX];
    etag_str surrogates[SURROGATES_PER_ENTRY_MAX];
    etag_field vary[VARY_COUNT_MAX];
};

/* Appends the record; of the fields, entry.fieldset. 0 or -ENOMEM. */
MUST_USE int entry_record_pack(struct buffer *out, const struct entry_record *record);
/* False: not a record of this version, or damaged. */
MUST_USE bool entry_record_parse(etag_str bytes, struct entry_record *out,
                                 struct entry_record_parts *parts);

/* What the daemon has of the relay's log, and the log of it. It goes with an event, so that the two
 * are recorded together. */
struct relay_mark {
    /* Everything of this log up to this snapshot is applied. Empty: nothing is known of it, ask for
     * everything. */
    etag_str cursor, log_id;
    /* Of this host's own events: the log has those up to this LSN; for those that it has not,
     * "everything" may be due instead. */
    uint64_t published_lsn;
    bool everything_due;
};

/* What happened: one mutation, or one step of a guard. Every change of state is one, live, from the
 * spool, from guards that linger, at recovery (cache_apply). */
struct event {
    uint64_t lsn;
    uint64_t wall_ms;
    /* pid 0: the daemon itself, or a spool file of that uid */
    uint32_t peer_pid, peer_uid;
    enum event_kind kind;
    /* GUARD_*; else {0, 0} */
    struct guard_id guard;
    /* GUARD_BEGIN: of a guard that its writer believes to be open. Not recorded. */
    bool confirms;
    /* with hold_ms and max_ms; of an abort: may be empty */
    etag_targets targets;
    /* Entries that the store erases with the event (persist.h); parsing leaves them out. */
    const struct hash128 *unstored;
    size_t unstored_count;
    /* a change of this host, which the relay's log is to have */
    bool outgoing;
    /* ... with this hold; that of the targets may have been folded */
    uint32_t outgoing_hold_ms;
    bool has_mark;
    struct relay_mark mark;
};

/* It changes no clock: it is there for what it takes along. */
static inline bool event_is_carrier(const struct event *event)
{
    const etag_targets *targets = &event->targets;

    return event->kind == EVENT_MUTATION && !targets->everything && targets_names(targets) == 0;
}

/* NULL, or what is wrong with an event that somebody wants (static text). */
MUST_USE const char *event_check(const struct event *event);

/* An event as people and watchers get it. Borrows from it. */
struct event_view event_view_of(const struct event *event);

/* Does not pack the LSN: it is the record's key in the store. */
MUST_USE int event_record_pack(struct buffer *out, const struct event *event);
/* How many entries the event takes along, and each of them. 0: none, or not a record. */
MUST_USE size_t event_record_unstored_count(etag_str bytes);
MUST_USE struct hash128 event_record_unstored(etag_str bytes, size_t i);
/* The mark that the event has along, as bytes for relay_mark_parse(); absent: none. */
etag_str event_record_mark(etag_str bytes);
/* What is parsed borrows from bytes. */
MUST_USE bool relay_mark_parse(etag_str bytes, struct relay_mark *out);
/* When it happened, without a look at the rest; 0: not a record of this version. */
MUST_USE uint64_t event_record_wall_ms(etag_str bytes);
/* Arrays of targets come from the arena. lsn: the record's key. */
MUST_USE bool event_record_parse(etag_str bytes, uint64_t lsn, struct event *out,
                                 struct arena *arena);

#endif
