/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Entries that wait for the store: found by fingerprint, written in the order in which they came.
 * An entry that came again while it waits is one entry. Private to persist*.c; under the
 * persister's lock.
 */
#ifndef ETAGD_PERSIST_ENTRIES_H
#define ETAGD_PERSIST_ENTRIES_H

#include "cleanup.h"
#include "siphash.h"

#include <etag/etag.h>

struct dirty_entry {
    struct hash128 fingerprint;
    /* grows in the order of the line */
    uint64_t sequence;
    /* its removal waits; there is no name and no record */
    bool erase;
    /* being written: does not change any more */
    bool taken;
    size_t name_len, record_len;
    /* name, record */
    char *bytes;
    struct dirty_entry *next_in_bucket;
    /* not while taken */
    struct dirty_entry *next_in_line;
};

struct dirty {
    struct dirty_entry **buckets;
    /* the line: those not taken */
    struct dirty_entry *first, *last;
    /* taken ones included */
    size_t count;
    size_t line_count;
    size_t bytes;
    uint64_t last_sequence;
};

MUST_USE int dirty_init(struct dirty *dirty); /* 0 or -ENOMEM */
void dirty_deinit(struct dirty *dirty);

static inline etag_str dirty_name(const struct dirty_entry *entry)
{
    return (etag_str){entry->bytes, entry->name_len};
}

static inline etag_str dirty_record(const struct dirty_entry *entry)
{
    return (etag_str){entry->bytes + entry->name_len, entry->record_len};
}

/* An entry or a removal comes. Copies. 0, -ENOMEM, -ENOSPC: DIRTY_ENTRIES_MAX or DIRTY_BYTES_MAX
 * would be exceeded; on an error what waited before still waits. */
MUST_USE int dirty_put(struct dirty *dirty, struct hash128 fingerprint, etag_str name,
                       etag_str record);
MUST_USE int dirty_erase(struct dirty *dirty, struct hash128 fingerprint);

/* The newest of this fingerprint, taken or not; NULL: none. */
struct dirty_entry *dirty_find(const struct dirty *dirty, struct hash128 fingerprint);

/* Takes up to max entries from the front of the line, or of its removals only; they can still be
 * found. */
size_t dirty_take(struct dirty *dirty, struct dirty_entry **chunk, size_t max, bool removals_only);
/* What was taken is written: it goes. */
void dirty_done(struct dirty *dirty, struct dirty_entry **chunk, size_t count);
/* It could not be written: back to the front, but for what newer entries replace. */
void dirty_put_back(struct dirty *dirty, struct dirty_entry **chunk, size_t count);

#endif
