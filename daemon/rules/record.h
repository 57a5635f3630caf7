/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The records of the store: an entry and an event as flat bytes. record.c has both halves of each
 * format, packing and parsing. The first byte is the version; parsed structs point into the bytes.
 */
#ifndef ETAGD_RECORD_H
#define ETAGD_RECORD_H

#include "entry.h"
#include "message.h"
#include "targets.h"

/* An entry as the store keeps it: the entry, its fill LSN and its expiry. */
struct entry_record {
    /* canonical, see key.h */
    etag_str key_bytes;
    /* .key is not used by pack; parse fills it from key_bytes */
    struct entry entry;
    uint64_t fill_lsn;
    /* 0: never */
    uint64_t expires_wall_ms;
    /* the same in CLOCK_MONOTONIC, which is valid within one boot only */
    uint64_t expires_ns;
};

/* Memory for what a parsed record points to. */
struct entry_record_parts {
    struct kept_field fields[FIELDS_PER_ENTRY_MAX];
    etag_str surrogates[SURROGATES_PER_ENTRY_MAX];
    etag_field vary[VARY_COUNT_MAX];
};

/* Appends the record. Of the header fields it packs entry.fieldset. Returns 0 or -ENOMEM. */
MUST_USE int entry_record_pack(struct buffer *out, const struct entry_record *record);
/* Returns false if the bytes are damaged or no record of this version. */
MUST_USE bool entry_record_parse(etag_str bytes, struct entry_record *out,
                                 struct entry_record_parts *parts);

/* How far the daemon has applied the relay's log, and how far the log has this host's events. It is
 * recorded in an event's record, so that both are safe together. */
struct relay_mark {
    /* Everything in this log up to this snapshot is applied. Empty: not known, the relay has to
     * send everything. */
    etag_str cursor, log_id;
    /* The log has this host's own events up to this LSN. Instead of those that it lacks,
     * "everything" may be due. */
    uint64_t published_lsn;
    bool everything_due;
};

/* One mutation, or one step of a guard. Every change of state is an event: live, from the spool, by
 * a guard that lingered, at recovery (cache_apply). */
struct event {
    uint64_t lsn;
    uint64_t wall_ms;
    /* pid 0: the daemon itself, or a spool file of that uid */
    uint32_t peer_pid, peer_uid;
    enum event_kind kind;
    /* GUARD_*; else {0, 0} */
    struct guard_id guard;
    /* GUARD_BEGIN: a confirmation, whose writer believes that the guard is open. Not recorded. */
    bool confirms;
    /* with hold_ms and max_ms; may be empty in an abort */
    etag_targets targets;
    /* Entries that the store erases together with the event (persist.h). Parsing does not set
     * them. */
    const struct hash128 *unstored;
    size_t unstored_count;
    /* a change of this host that has to go into the relay's log */
    bool outgoing;
    /* the hold for the log; the one in the targets may have been folded */
    uint32_t outgoing_hold_ms;
    bool has_mark;
    struct relay_mark mark;
    /* the relay brought it: a mutation, or the end of its hold */
    bool relayed;
    struct relay_origin origin;
};

/* Returns whether the event changes no clock: it only carries unstored entries or a mark. */
static inline bool event_is_carrier(const struct event *event)
{
    const etag_targets *targets = &event->targets;

    return event->kind == EVENT_MUTATION && !targets->everything && targets_names(targets) == 0;
}

/* Checks an event before it is applied. Returns NULL, or what is wrong (static text). */
MUST_USE const char *event_check(const struct event *event);

/* Returns the event as people and watchers get it. Borrows from the event. */
struct event_view event_view_of(const struct event *event);

/* Appends the record, without the LSN, which is the record's key in the store. Returns 0 or
 * -ENOMEM. */
MUST_USE int event_record_pack(struct buffer *out, const struct event *event);
/* The number of entries that the store erases with the event, and the fingerprint of each. 0: none,
 * or not a record. */
MUST_USE size_t event_record_unstored_count(etag_str bytes);
MUST_USE struct hash128 event_record_unstored(etag_str bytes, size_t i);
/* Returns the mark in the event's record, as bytes for relay_mark_parse(); absent: none. */
etag_str event_record_mark(etag_str bytes);
/* *out borrows from bytes. */
MUST_USE bool relay_mark_parse(etag_str bytes, struct relay_mark *out);
/* Returns when the event happened, without parsing the rest; 0: not a record of this version. */
MUST_USE uint64_t event_record_wall_ms(etag_str bytes);
/* Parses a record; lsn: its key. Arrays of targets are allocated in the arena, texts borrow from
 * bytes. Returns false if it is damaged or of another version, or if the arena is full. */
MUST_USE bool event_record_parse(etag_str bytes, uint64_t lsn, struct event *out,
                                 struct arena *arena);

#endif
