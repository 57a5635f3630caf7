/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The index's writer. Hopscotch hashing: an entry lies within HOP_WINDOW slots of its home, so a
 * reader loads one hop word and then only slots of its own home. The writer pays for it: if the
 * window is full, it moves entries of other homes towards the free slot, a bounded number of them,
 * or else evicts.
 *
 * A reader may read at any moment. So the order is always: write pool records to which no slot
 * refers yet, change the slot (its sequence moves on), change hop words, and only then give the
 * former records back to the pool. A reader in between gets a miss or tries again, never another
 * entry's bytes.
 */
#include "index.h"

#include "numbers.h"
#include "owners.h"
#include "pool.h"
#include "pool_hand.h"
#include "slot_use.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif

#define NO_SLOT UINT64_MAX
#define EMPTY_SEARCH_MAX 512u /* slots looked at for an empty one, from home */

/* The pool's memory is taken in steps, each when the former ones are full. A machine that refuses
 * one is asked again later. */
#define POOL_STEP_BYTES (UINT64_C(1) << 20)
#define POOL_STEP_PAUSE 1024u /* records that are made room for by evicting meanwhile */

struct index {
    int fd;
    void *base;
    size_t bytes;
    struct shm_view view;
    struct pool *pool;
    struct owners *owners;
    struct pool_hand hand;
    /* of the memory, from its beginning */
    uint64_t taken_bytes;
    uint32_t step_pause;
    uint64_t capacity;
    uint64_t count;
    struct index_stats stats;
};

/* ---- Opening --------------------------------------------------------------------------------- */

static int make_memfd(void)
{
    const unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
    int fd = memfd_create("etagd-index", flags | MFD_NOEXEC_SEAL);

    if (fd < 0 && errno == EINVAL) /* before Linux 6.3 */
        fd = memfd_create("etagd-index", flags);
    return fd < 0 ? -errno : fd;
}

/* Takes the pages of a part now, so that no later access to it can fail for want of memory. */
static int take_pages(int fd, uint64_t from, uint64_t to)
{
    while (fallocate(fd, 0, (off_t)from, (off_t)(to - from)) < 0)
        if (errno != EINTR)
            return -errno;
    return 0;
}

/* The memory up to so many bytes of the pool, and a page: a reader that follows a length which is
 * being changed may run on for a record's size, and must not meet a page that is not there. */
static uint64_t end_with_pool(const struct index *index, uint64_t pool_bytes)
{
    const uint64_t end = index->view.header->pool_offset + pool_bytes + LAYOUT_SECTION_ALIGN;

    return min_of(end, index->bytes);
}

/* Lets the pool have its units up to unit_count, and their memory. */
static int pool_extend_to(struct index *index, uint32_t unit_count)
{
    const uint64_t end = end_with_pool(index, (uint64_t)unit_count * POOL_UNIT_BYTES);
    const int r = end > index->taken_bytes ? take_pages(index->fd, index->taken_bytes, end) : 0;

    if (r)
        return r;
    index->taken_bytes = end;
    pool_grow(index->pool, unit_count);
    return 0;
}

/* False: the pool has all its memory, or the machine has none to give, which is the same as
 * full. */
static bool pool_extend(struct index *index)
{
    const uint32_t units = pool_unit_count(index->pool), all = index->view.pool_units;
    const uint32_t step = POOL_STEP_BYTES / POOL_UNIT_BYTES;

    if (units == all)
        return false;
    if (index->step_pause > 0) {
        index->step_pause--;
        return false;
    }
    if (pool_extend_to(index, all - units > step ? units + step : all) == 0)
        return true;
    index->step_pause = POOL_STEP_PAUSE;
    index->stats.pool_not_extended++;
    return false;
}

/* Maps the memory for writing, once, and seals it: from here on no other process can get a writable
 * mapping. */
static int map_and_seal(struct index *index)
{
    const int r = shm_map(&index->base, index->fd, index->bytes, PROT_READ | PROT_WRITE);

    if (r)
        return r;
    const int seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL;
    return fcntl(index->fd, F_ADD_SEALS, seals) < 0 ? -errno : 0;
}

/* Everything that can fail. What it made before a failure is index_close's to undo. */
static int index_init(struct index *index, const struct index_options *options)
{
    struct layout_header header = {
        .incarnation = options->incarnation,
        .incarnation_id = options->incarnation_id,
        .lease_ns = options->lease_ns,
    };

    memcpy(header.hash_key, options->hash_key, sizeof(header.hash_key));
    layout_init(&header, &options->plan);
    index->bytes = header.total_bytes;
    index->capacity = options->plan.capacity;

    index->fd = make_memfd();
    if (index->fd < 0)
        return index->fd;
    /* What every index uses is taken now; of the pool as much as shared header fields want. */
    index->taken_bytes = header.pool_offset;
    int r = ftruncate(index->fd, (off_t)header.total_bytes) < 0 ? -errno : 0;
    if (!r)
        r = take_pages(index->fd, 0, index->taken_bytes);
    if (!r)
        r = map_and_seal(index);
    if (r)
        return r;
    memcpy(index->base, &header, sizeof(header)); /* no other process has the descriptor yet */
    index->view = shm_view_of(index->base, &header);

    r = pool_open(&index->pool, index->view.pool_units);
    if (!r)
        r = pool_extend_to(index, layout_pool_units_at_start(&options->plan));
    if (!r)
        r = owners_open(&index->owners, &index->view, index->pool);
    index->hand = (struct pool_hand){
        .view = &index->view, .pool = index->pool, .owners = index->owners};
    return r;
}

int index_open(struct index **out, const struct index_options *options)
{
    struct index *const index = calloc(1, sizeof(*index));

    if (!index)
        return -ENOMEM;
    const int r = index_init(index, options);
    if (r)
        index_close(index);
    else
        *out = index;
    return r;
}

struct index *index_close(struct index *index)
{
    if (index) {
        owners_close(index->owners);
        pool_close(index->pool);
        if (index->base)
            munmap(index->base, index->bytes);
        if (index->fd >= 0)
            close(index->fd);
        free(index);
    }
    return NULL;
}

struct shm_view *index_view(struct index *index)
{
    return &index->view;
}

int index_fd(const struct index *index)
{
    return index->fd;
}

uint64_t index_bytes(const struct index *index)
{
    return index->bytes;
}

uint64_t index_taken_bytes(const struct index *index)
{
    return index->taken_bytes;
}

uint64_t index_count(const struct index *index)
{
    return index->count;
}

uint64_t index_capacity(const struct index *index)
{
    return index->capacity;
}

uint32_t index_pool_used_units(const struct index *index)
{
    return pool_used_units(index->pool);
}

uint64_t index_fieldset_count(const struct index *index)
{
    return owners_fieldset_count(index->owners);
}

/* ---- Slots ----------------------------------------------------------------------------------- */

static bool is_empty(const struct index *index, uint64_t slot)
{
    const struct hash128 fingerprint = shm_fingerprint_at(&index->view, slot);

    return hash128_is_zero(fingerprint);
}

static uint64_t home_of(const struct index *index, struct hash128 fingerprint)
{
    return layout_home(index->view.home_count, fingerprint);
}

static void hop_set(struct index *index, uint64_t home, uint64_t slot)
{
    const uint32_t hop = shm_hop_load(&index->view, home);

    shm_hop_store(&index->view, home, hop | 1u << (slot - home));
}

static void hop_clear(struct index *index, uint64_t home, uint64_t slot)
{
    const uint32_t hop = shm_hop_load(&index->view, home);

    shm_hop_store(&index->view, home, hop & ~(1u << (slot - home)));
}

static uint64_t locate(const struct index *index, struct hash128 fingerprint)
{
    const uint64_t home = home_of(index, fingerprint);

    for (uint32_t hop = shm_hop_load(&index->view, home); hop != 0; hop &= hop - 1) {
        const uint64_t slot = home + (unsigned)__builtin_ctz(hop);
        const struct hash128 seen = shm_fingerprint_at(&index->view, slot);
        if (hash128_equal(seen, fingerprint))
            return slot;
    }
    return NO_SLOT;
}

static struct pool_refs refs_at(const struct index *index, uint64_t slot)
{
    struct pool_refs refs;

    shm_refs_at(&index->view, slot, &refs.fieldset, &refs.overflow);
    return refs;
}

static void remove_at(struct index *index, uint64_t slot)
{
    const struct pool_refs refs = refs_at(index, slot);

    hop_clear(index, home_of(index, shm_fingerprint_at(&index->view, slot)), slot);
    shm_erase(&index->view, slot);
    owners_remove(index->owners, slot, refs);
    index->count--;
}

/* ---- Making room ----------------------------------------------------------------------------- */

/* Removes the entry for another one, and counts it by what it was. *current: the counter of those
 * that were of use. */
static void evict(struct index *index, uint64_t slot, enum slot_use use, uint64_t *current,
                  struct index_evicted *evicted)
{
    assert(evicted->count < INDEX_EVICTED_MAX);
    evicted->fingerprints[evicted->count++] = shm_fingerprint_at(&index->view, slot);
    index->stats.evicted_stale += use == SLOT_STALE;
    index->stats.evicted_expired += use == SLOT_EXPIRED;
    *current += use == SLOT_CURRENT;
    remove_at(index, slot);
}

struct victim {
    /* NO_SLOT: the window is empty */
    uint64_t slot;
    enum slot_use use;
};

/* The victim in a home's window: the first stale entry, else the first expired one, else the one
 * with the oldest fill LSN. */
static struct victim choose_victim(const struct index *index, uint64_t home, uint64_t now_ns)
{
    struct victim expired = {NO_SLOT, SLOT_EXPIRED};
    struct victim oldest = {NO_SLOT, SLOT_CURRENT};
    uint64_t oldest_lsn = UINT64_MAX;

    for (uint64_t slot = home; slot < home + HOP_WINDOW; slot++) {
        if (is_empty(index, slot))
            continue;
        const enum slot_use use = slot_use(&index->view, slot, now_ns);
        if (use == SLOT_STALE)
            return (struct victim){slot, use};
        if (expired.slot == NO_SLOT && use == SLOT_EXPIRED)
            expired.slot = slot;
        const uint64_t fill_lsn = shm_fill_lsn_at(&index->view, slot);
        if (oldest.slot == NO_SLOT || fill_lsn < oldest_lsn) {
            oldest.slot = slot;
            oldest_lsn = fill_lsn;
        }
    }
    return expired.slot != NO_SLOT ? expired : oldest;
}

/* Frees a slot of the window; NO_SLOT if all of it is empty. */
static uint64_t evict_one(struct index *index, uint64_t home, uint64_t now_ns,
                          struct index_evicted *evicted)
{
    const struct victim victim = choose_victim(index, home, now_ns);

    if (victim.slot != NO_SLOT)
        evict(index, victim.slot, victim.use, &index->stats.evicted_oldest, evicted);
    return victim.slot;
}

static uint64_t search_empty(const struct index *index, uint64_t home)
{
    const uint64_t left = index->view.slot_count - home;
    const uint64_t end = home + min_of(left, EMPTY_SEARCH_MAX);

    for (uint64_t slot = home; slot < end; slot++)
        if (is_empty(index, slot))
            return slot;
    return NO_SLOT;
}

/* Moves an entry from before the empty slot into it, the farthest that may lie there. Returns the
 * slot that became empty, NO_SLOT if no entry can move. Both copies are the same entry, so a reader
 * may take either. */
static uint64_t move_into(struct index *index, uint64_t empty)
{
    for (uint64_t home = empty - (HOP_WINDOW - 1); home < empty; home++) {
        const uint32_t before_empty = (1u << (empty - home)) - 1;
        const uint32_t movable = shm_hop_load(&index->view, home) & before_empty;
        if (movable == 0)
            continue;
        const uint64_t from = home + (unsigned)__builtin_ctz(movable);
        const struct pool_refs refs = refs_at(index, from);
        shm_copy(&index->view, from, empty);
        hop_set(index, home, empty);
        hop_clear(index, home, from);
        shm_erase(&index->view, from);
        owners_move(index->owners, from, empty, refs);
        index->stats.moved++;
        return from;
    }
    return NO_SLOT;
}

/* An empty slot in the window of 'home': found, moved there, or evicted. Each move brings it
 * nearer, so there are fewer than EMPTY_SEARCH_MAX. */
static uint64_t make_room(struct index *index, uint64_t home, uint64_t now_ns,
                          struct index_evicted *evicted)
{
    if (index->count >= index->capacity) {
        const uint64_t slot = evict_one(index, home, now_ns, evicted);
        if (slot != NO_SLOT)
            return slot;
    }
    uint64_t slot = search_empty(index, home);
    while (slot != NO_SLOT && slot - home >= HOP_WINDOW)
        slot = move_into(index, slot);
    return slot != NO_SLOT ? slot : evict_one(index, home, now_ns, evicted);
}

/* What a put is about, besides its entry. */
struct put {
    uint64_t now_ns;
    /* its former records, and those that it has taken already */
    struct pool_pins pins;
    struct index_evicted *evicted;
};

/* The pool has no record of so many bytes: more memory for it, or the entries go that are in the
 * way. False: it is as full as before. A removed entry's slot has changed before its records are
 * reused, as everywhere. */
static bool make_pool_room(struct index *index, size_t bytes, const struct put *put)
{
    uint64_t slots[POOL_EVICTED_MAX];

    if (pool_extend(index))
        return true;
    const size_t count = pool_hand_choose(&index->hand, bytes, &put->pins, put->now_ns, slots);
    for (size_t i = 0; i < count; i++)
        evict(index, slots[i], slot_use(&index->view, slots[i], put->now_ns),
              &index->stats.evicted_pool, put->evicted);
    return count > 0;
}

/* ---- Entries --------------------------------------------------------------------------------- */

/* Interns the field set of an entry. *unit: 0 if it has none. False: no room. */
static bool take_fieldset(struct index *index, etag_str set, const struct put *put, uint32_t *unit)
{
    assert(set.len <= FIELDSET_BYTES_MAX);
    *unit = 0;
    if (set.len == 0)
        return true;
    *unit = owners_fieldset(index->owners, set.data, set.len);
    if (*unit == 0 && make_pool_room(index, set.len, put))
        *unit = owners_fieldset(index->owners, set.data, set.len);
    return *unit != 0;
}

/* Writes the overflow record of an entry. *unit: 0 if it needs none. False: no room. */
static bool take_overflow(struct index *index, const struct shm_record *record,
                          etag_str content_location, const struct put *put, uint32_t *unit)
{
    uint8_t bytes[POOL_RECORD_BYTES_MAX];
    const size_t len = shm_overflow_pack(bytes, record, content_location);

    *unit = 0;
    if (len == 0)
        return true;
    *unit = pool_take(index->pool, len);
    if (*unit == 0 && make_pool_room(index, len, put))
        *unit = pool_take(index->pool, len);
    if (*unit == 0)
        return false;
    shm_pool_write(&index->view, *unit, bytes, len);
    return true;
}

/* Every entry depends on the floor, so naming it would only cost a place. */
static size_t drop_floor(uint32_t *out, const struct index_entry *entry)
{
    size_t count = 0;

    for (size_t i = 0; i < entry->clock_count; i++) {
        if (entry->clocks[i] == CLOCK_FLOOR)
            continue;
        assert(count < CLOCKS_PER_ENTRY_MAX);
        out[count++] = entry->clocks[i];
    }
    return count;
}

/* Takes from the pool what the record refers to. False: no room, and nothing was taken. former:
 * what the entry of this key has. */
static bool take_refs(struct index *index, const struct index_entry *entry, struct pool_refs former,
                      struct put *put, struct shm_record *record)
{
    put->pins = (struct pool_pins){{former.fieldset, former.overflow}};
    if (!take_fieldset(index, entry->fieldset, put, &record->fieldset))
        return false;
    put->pins.units[2] = record->fieldset;
    if (take_overflow(index, record, entry->content_location, put, &record->overflow))
        return true;
    owners_give(index->owners, (struct pool_refs){.fieldset = record->fieldset});
    return false;
}

enum index_put index_put(struct index *index, const struct index_entry *entry, uint64_t now_ns,
                         struct index_evicted *evicted)
{
    assert(entry->fingerprint.low != 0 || entry->fingerprint.high != 0);
    evicted->count = 0;
    uint64_t slot = locate(index, entry->fingerprint);
    if (slot != NO_SLOT && shm_fill_lsn_at(&index->view, slot) > entry->fill_lsn)
        return INDEX_OLDER;

    uint32_t clocks[CLOCKS_PER_ENTRY_MAX];
    struct shm_record record = {
        .fingerprint = entry->fingerprint,
        .fill_lsn = entry->fill_lsn,
        .expires_ns = entry->expires_ns,
        .last_modified = entry->last_modified,
        .last_modified_is_strong = entry->last_modified_is_strong,
        .etag = entry->etag,
        .clocks = clocks,
        .clock_count = drop_floor(clocks, entry),
    };
    /* The entry of this key stays where it is meanwhile: its records are pinned. */
    const struct pool_refs former = slot == NO_SLOT ? (struct pool_refs){0} : refs_at(index, slot);
    struct put put = {.now_ns = now_ns, .evicted = evicted};
    if (!take_refs(index, entry, former, &put, &record))
        return INDEX_NO_ROOM;
    const struct pool_refs refs = {record.fieldset, record.overflow};

    if (slot != NO_SLOT) {
        shm_write(&index->view, slot, &record);
        owners_remove(index->owners, slot, former);
        owners_add(index->owners, slot, refs);
        return INDEX_STORED;
    }
    const uint64_t home = home_of(index, entry->fingerprint);
    slot = make_room(index, home, now_ns, evicted);
    shm_write(&index->view, slot, &record);
    owners_add(index->owners, slot, refs);
    hop_set(index, home, slot);
    index->count++;
    return INDEX_STORED;
}

bool index_find(struct index *index, struct hash128 fingerprint, struct shm_entry *out)
{
    const uint64_t slot = locate(index, fingerprint);

    if (slot == NO_SLOT)
        return false;
    shm_read_at(&index->view, slot, out);
    return true;
}

bool index_find_clocks(struct index *index, struct hash128 fingerprint, struct shm_entry *out)
{
    const uint64_t slot = locate(index, fingerprint);

    if (slot == NO_SLOT)
        return false;
    shm_clocks_at(&index->view, slot, out);
    return true;
}

bool index_remove(struct index *index, struct hash128 fingerprint)
{
    const uint64_t slot = locate(index, fingerprint);

    if (slot == NO_SLOT)
        return false;
    remove_at(index, slot);
    return true;
}

const struct index_stats *index_stats(const struct index *index)
{
    return &index->stats;
}
