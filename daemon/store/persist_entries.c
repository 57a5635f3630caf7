/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Entries that wait for the store: a chained hash table (fingerprints are hashes already) whose
 * entries are also in a queue. A taken entry leaves the queue and stays in its bucket, after any
 * later entry of the same fingerprint. So a search always finds the newest, and the writer reads a
 * taken entry's bytes without a lock.
 */
#include "persist_internal.h"

#include "index.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define BUCKET_COUNT (DIRTY_ENTRIES_MAX * 2)
_Static_assert((BUCKET_COUNT & (BUCKET_COUNT - 1)) == 0, "a mask");

static struct dirty_entry **bucket_of(const struct dirty *dirty, struct hash128 fingerprint)
{
    return &dirty->buckets[fingerprint.low & (BUCKET_COUNT - 1)];
}

static size_t cost_of(const struct dirty_entry *entry)
{
    return sizeof(*entry) + entry->name_len + entry->record_len;
}

int dirty_init(struct dirty *dirty)
{
    *dirty = (struct dirty){.buckets = calloc(BUCKET_COUNT, sizeof(struct dirty_entry *))};
    return dirty->buckets ? 0 : -ENOMEM;
}

static void entry_free(struct dirty_entry *entry)
{
    free(entry->bytes);
    free(entry);
}

void dirty_deinit(struct dirty *dirty)
{
    for (size_t i = 0; dirty->buckets && i < BUCKET_COUNT; i++) {
        struct dirty_entry *entry = dirty->buckets[i];
        while (entry) {
            struct dirty_entry *next = entry->next_in_bucket;
            entry_free(entry);
            entry = next;
        }
    }
    free(dirty->buckets);
    *dirty = (struct dirty){0};
}

/* Returns the newest one of this fingerprint, taken or not; NULL: none. */
static struct dirty_entry *dirty_find(const struct dirty *dirty, struct hash128 fingerprint)
{
    struct dirty_entry *entry = *bucket_of(dirty, fingerprint);

    while (entry && !hash128_equal(entry->fingerprint, fingerprint))
        entry = entry->next_in_bucket;
    return entry;
}

static void line_push_back(struct dirty *dirty, struct dirty_entry *entry)
{
    entry->next_in_line = NULL;
    if (dirty->last)
        dirty->last->next_in_line = entry;
    else
        dirty->first = entry;
    dirty->last = entry;
    dirty->line_count++;
}

static void line_push_front(struct dirty *dirty, struct dirty_entry *entry)
{
    entry->next_in_line = dirty->first;
    dirty->first = entry;
    if (!dirty->last)
        dirty->last = entry;
    dirty->line_count++;
}

/* The entry of this fingerprint in the queue, made if there is none. */
static int line_entry(struct dirty *dirty, struct hash128 fingerprint, struct dirty_entry **out)
{
    struct dirty_entry *entry = dirty_find(dirty, fingerprint);

    *out = entry;
    if (entry && !entry->taken)
        return 0;
    if (dirty->count == DIRTY_ENTRIES_MAX || dirty->bytes + sizeof(*entry) > DIRTY_BYTES_MAX)
        return -ENOSPC;
    entry = malloc(sizeof(*entry));
    if (!entry)
        return -ENOMEM;
    struct dirty_entry **bucket = bucket_of(dirty, fingerprint);
    *entry = (struct dirty_entry){
        .fingerprint = fingerprint,
        .sequence = ++dirty->last_sequence,
        .erase = true, /* until there is a record */
        .next_in_bucket = *bucket,
    };
    *bucket = entry;
    line_push_back(dirty, entry);
    dirty->count++;
    dirty->bytes += cost_of(entry);
    *out = entry;
    return 0;
}

/* Adds an entry (copied). Returns 0, -ENOMEM, or -ENOSPC: DIRTY_ENTRIES_MAX or DIRTY_BYTES_MAX
 * would be exceeded. On an error what waited before still waits. */
static int dirty_put(struct dirty *dirty, struct hash128 fingerprint, etag_str name,
                     etag_str record)
{
    struct dirty_entry *entry;
    const size_t len = name.len + record.len;

    if (dirty->bytes + sizeof(*entry) + len > DIRTY_BYTES_MAX)
        return -ENOSPC;
    char *bytes = malloc(len);
    if (!bytes)
        return -ENOMEM;
    const int r = line_entry(dirty, fingerprint, &entry);
    if (r) {
        free(bytes);
        return r;
    }
    if (name.len > 0)
        memcpy(bytes, name.data, name.len);
    if (record.len > 0)
        memcpy(bytes + name.len, record.data, record.len);

    dirty->bytes -= cost_of(entry);
    free(entry->bytes);
    entry->bytes = bytes;
    entry->name_len = name.len;
    entry->record_len = record.len;
    entry->erase = false;
    dirty->bytes += cost_of(entry);
    return 0;
}

/* The same for a removal. */
static int dirty_erase(struct dirty *dirty, struct hash128 fingerprint)
{
    struct dirty_entry *entry;
    const int r = line_entry(dirty, fingerprint, &entry);

    if (r)
        return r;
    dirty->bytes -= entry->name_len + entry->record_len;
    free(entry->bytes);
    entry->bytes = NULL;
    entry->name_len = entry->record_len = 0;
    entry->erase = true;
    return 0;
}

size_t dirty_take(struct dirty *dirty, struct dirty_entry **chunk, size_t max, bool removals_only)
{
    struct dirty_entry **link = &dirty->first;
    struct dirty_entry *former = NULL;
    size_t count = 0;

    while (*link && count < max) {
        struct dirty_entry *entry = *link;
        if (removals_only && !entry->erase) {
            former = entry;
            link = &entry->next_in_line;
            continue;
        }
        *link = entry->next_in_line;
        if (dirty->last == entry)
            dirty->last = former;
        dirty->line_count--;
        entry->next_in_line = NULL;
        entry->taken = true;
        chunk[count++] = entry;
    }
    return count;
}

static void drop(struct dirty *dirty, struct dirty_entry *entry)
{
    struct dirty_entry **link = bucket_of(dirty, entry->fingerprint);

    while (*link != entry)
        link = &(*link)->next_in_bucket;
    *link = entry->next_in_bucket;
    dirty->count--;
    dirty->bytes -= cost_of(entry);
    entry_free(entry);
}

void dirty_done(struct dirty *dirty, struct dirty_entry **chunk, size_t count)
{
    for (size_t i = 0; i < count; i++)
        drop(dirty, chunk[i]);
}

void dirty_put_back(struct dirty *dirty, struct dirty_entry **chunk, size_t count)
{
    while (count-- > 0) {
        struct dirty_entry *entry = chunk[count];
        if (dirty_find(dirty, entry->fingerprint) != entry) {
            drop(dirty, entry);
            continue;
        }
        entry->taken = false;
        line_push_front(dirty, entry);
    }
}

/* ---- The loop thread queues, and looks ---- */

/* The thread has to learn of the first that waits (it then waits for more), and of a full chunk. */
static void wake_for_entries(struct persist *persist, size_t line_count_before)
{
    if (line_count_before == 0)
        persist->dirty_since_ns = persist_now_ns();
    if (line_count_before == 0 || persist->dirty.line_count == PERSIST_CHUNK_MAX)
        pthread_cond_signal(&persist->wake);
    persist_waiting_publish(persist);
}

int persist_entry(struct persist *persist, struct hash128 fingerprint, etag_str resource_text,
                  etag_str record)
{
    persist_lock(persist);
    const size_t before = persist->dirty.line_count;
    const int r = dirty_put(&persist->dirty, fingerprint, resource_text, record);
    if (!r)
        wake_for_entries(persist, before);
    persist_unlock(persist);
    return r;
}

int persist_erase(struct persist *persist, struct hash128 fingerprint)
{
    persist_lock(persist);
    const size_t before = persist->dirty.line_count;
    const int r = dirty_erase(&persist->dirty, fingerprint);
    if (!r)
        wake_for_entries(persist, before);
    persist_unlock(persist);
    return r;
}

int persist_find(struct persist *persist, struct hash128 fingerprint,
                 int (*found)(void *ctx, struct hash128 fingerprint, etag_str record), void *ctx)
{
    int r = STORE_E_NOT_FOUND;

    persist_lock(persist);
    const struct dirty_entry *entry = dirty_find(&persist->dirty, fingerprint);
    if (entry)
        r = entry->erase ? PERSIST_E_ERASED
            : found      ? found(ctx, fingerprint, dirty_record(entry))
                         : 0;
    persist_unlock(persist);
    return r;
}

uint64_t persist_waiting(const struct persist *persist)
{
    return __atomic_load_n(&persist->waiting, __ATOMIC_ACQUIRE);
}

bool persist_crowded(const struct persist *persist)
{
    return __atomic_load_n(&persist->crowded, __ATOMIC_RELAXED);
}

uint64_t persist_entry_commits(const struct persist *persist)
{
    return __atomic_load_n(&persist->entry_commits, __ATOMIC_ACQUIRE);
}

/* ---- Unstored ---- */

/* Itself, what came into the index for it, and what either of them evicts. */
#define PER_FILL_MAX (2 * (INDEX_EVICTED_MAX + 1))

bool unstored_waits(struct persist *persist, struct hash128 fingerprint)
{
    return persist_waiting(persist) > 0 &&
           persist_find(persist, fingerprint, NULL, NULL) != STORE_E_NOT_FOUND;
}

void unstored_settle(struct unstored *unstored, struct persist *persist)
{
    size_t kept = 0;

    for (size_t i = 0; i < unstored->count; i++) {
        if (!unstored->stuck[i] && !unstored_waits(persist, unstored->fingerprints[i]))
            continue;
        unstored->fingerprints[kept] = unstored->fingerprints[i];
        unstored->stuck[kept++] = unstored->stuck[i];
    }
    unstored->count = kept;
}

bool unstored_has_room(struct unstored *unstored, struct persist *persist)
{
    if (unstored->count + PER_FILL_MAX > UNSTORED_MAX)
        unstored_settle(unstored, persist);
    return unstored->count + PER_FILL_MAX <= UNSTORED_MAX;
}

void unstored_add(struct unstored *unstored, struct hash128 fingerprint, bool stuck)
{
    assert(unstored->count < UNSTORED_MAX);
    unstored->fingerprints[unstored->count] = fingerprint;
    unstored->stuck[unstored->count++] = stuck;
}
