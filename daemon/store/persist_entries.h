/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Entries that wait for the store: found by fingerprint, written in the order in which they came.
 * An entry that comes again while it waits replaces the waiting one. Private to persist*.c; the
 * caller holds the persister's lock.
 */
#ifndef ETAGD_PERSIST_ENTRIES_H
#define ETAGD_PERSIST_ENTRIES_H

#include "cleanup.h"
#include "siphash.h"

#include <etag/etag.h>

struct dirty_entry {
    struct hash128 fingerprint;
    /* ascends along the queue */
    uint64_t sequence;
    /* a removal waits; there is no name and no record */
    bool erase;
    /* the thread writes it, so it does not change any more */
    bool taken;
    size_t name_len, record_len;
    /* name, record */
    char *bytes;
    struct dirty_entry *next_in_bucket;
    /* next in the queue; not used while taken */
    struct dirty_entry *next_in_line;
};

struct dirty {
    struct dirty_entry **buckets;
    /* the queue: entries that are not taken */
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

/* Takes up to max entries, or only removals, from the front of the queue. They are still found.
 * Returns how many. */
size_t dirty_take(struct dirty *dirty, struct dirty_entry **chunk, size_t max, bool removals_only);
/* Frees taken entries, which are written. */
void dirty_done(struct dirty *dirty, struct dirty_entry **chunk, size_t count);
/* Puts taken entries, which could not be written, back to the front of the queue; frees those that
 * newer entries replace. */
void dirty_put_back(struct dirty *dirty, struct dirty_entry **chunk, size_t count);

#endif
