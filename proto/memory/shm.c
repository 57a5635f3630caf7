/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Both halves of the shared memory's contract, and all of its atomics.
 *
 * A slot is a seqlock with one writer. Every word that a reader may see while it is being written
 * is read and written as an atomic of its own size, relaxed; the order between them comes from the
 * sequence word and from fences:
 *
 *   writer                                   reader
 *     sequence := odd                          before := sequence     acquire (R1), pairs with W2
 *     release fence                (W1)        words                  relaxed
 *     words, relaxed                           acquire fence    (R2), pairs with W1 and W3
 *     sequence := even, release    (W2)        clocks                 relaxed
 *                                              acquire fence    (R3), as R2
 *                                              sequence == before ?
 *
 *   R1 sees W2: the words and the pool records written before it are complete.
 *   R2: a reader that saw any word written after W1 also sees the odd sequence or a later one, and
 *   retries. W3 is the release fence of shm_pool_write: a record is reused only after its former
 *   slot was changed, so a reader that slept in between and copies the new bytes also sees the new
 *   sequence of the former slot.
 *   R3: rule REREAD. The slot was the same before its words and after its clocks, so the clocks
 *   were this entry's while they were read, even if the reader slept between the two. (Who copies
 *   without judging, shm_find, reads no clocks and has R2 alone.) The reader's time, which it reads
 *   after R3, is later than its clocks.
 *
 * Until the reader has seen the same sequence twice, the copied bytes mean nothing: it checks
 * lengths, pool units and clock numbers against the view before it follows them, and what it
 * decodes is its own copy, which it forgets if the sequence has changed.
 */
#include "shm.h"

#include "bytes.h"
#include "delay_point.h"
#include "shm_words.h"

#include <assert.h>
#include <errno.h>
#include <sys/mman.h>

#define OVERFLOW_HEADER_BYTES 8u
#define FIELDSET_HEADER_BYTES 4u

/* Where the u16 length of a record is in its first word. */
#define OVERFLOW_LENGTH_SHIFT 48u
#define FIELDSET_LENGTH_SHIFT 0u

_Static_assert(OVERFLOW_HEADER_BYTES + (CLOCKS_PER_ENTRY_MAX - SLOT_CLOCKS) * 4 +
                       ENTITY_TAG_BYTES_MAX + CONTENT_LOCATION_BYTES_MAX <=
                   POOL_RECORD_BYTES_MAX,
               "an overflow record holds the largest entry");
_Static_assert(FIELDSET_BYTES_MAX <= POOL_RECORD_BYTES_MAX, "a record holds the largest field set");
_Static_assert(sizeof(((struct shm_entry *)0)->detail_words) == sizeof(struct layout_detail),
               "detail words");

/* ---- Atomic words ---------------------------------------------------------------------------- */

static void store_words(uint64_t *to, const uint64_t *from, size_t count)
{
    for (size_t i = 0; i < count; i++)
        __atomic_store_n(to + i, from[i], __ATOMIC_RELAXED);
}

static void spin_pause(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* ---- Mapping --------------------------------------------------------------------------------- */

int shm_map(void **out, int fd, size_t bytes, int prot)
{
    /* Reserve enough to find an aligned address in it, put the index there, return the rest. */
    const size_t reserved = bytes + LAYOUT_ALIGN;
    uint8_t *const start = mmap(NULL, reserved, PROT_NONE,
                                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (start == MAP_FAILED)
        return -errno;
    const size_t before = -(uintptr_t)start & (LAYOUT_ALIGN - 1);
    uint8_t *const base = start + before;
    if (mmap(base, bytes, prot, MAP_SHARED | MAP_FIXED, fd, 0) == MAP_FAILED) {
        const int r = -errno;
        munmap(start, reserved);
        return r;
    }

    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    uint8_t *const end = base + (bytes + page - 1) / page * page;
    if (before > 0)
        munmap(start, before);
    if (end < start + reserved)
        munmap(end, (size_t)(start + reserved - end));
    *out = base;
    return 0;
}

struct shm_view shm_view_of(void *base, const struct layout_header *geometry)
{
    uint8_t *const bytes = base;

    return (struct shm_view){
        .header = base,
        .slots = (struct layout_slot *)(bytes + geometry->slots_offset),
        .details = (struct layout_detail *)(bytes + geometry->details_offset),
        .clocks = (uint64_t *)(bytes + geometry->clocks_offset),
        .pool = bytes + geometry->pool_offset,
        .home_count = geometry->home_count,
        .slot_count = geometry->home_count + HOP_WINDOW - 1,
        .clock_count = geometry->clock_count,
        .pool_units = geometry->pool_units,
    };
}

/* ---- Words: lease, LSN, clocks --------------------------------------------------------------- */

uint64_t shm_lease_load(const struct shm_view *view)
{
    /* Pairs with shm_lease_store: the clocks set before that renewal are seen by whoever sees its
     * deadline. */
    return __atomic_load_n(&view->header->lease_deadline_ns, __ATOMIC_ACQUIRE);
}

void shm_lease_store(struct shm_view *view, uint64_t deadline_ns)
{
    __atomic_store_n(&view->header->lease_deadline_ns, deadline_ns, __ATOMIC_RELEASE);
}

uint64_t shm_lsn_load(const struct shm_view *view)
{
    /* Pairs with shm_lsn_store: the clocks of that mutation are seen by whoever sees its LSN. */
    return __atomic_load_n(&view->header->lsn, __ATOMIC_ACQUIRE);
}

void shm_lsn_store(struct shm_view *view, uint64_t lsn)
{
    __atomic_store_n(&view->header->lsn, lsn, __ATOMIC_RELEASE);
}

uint64_t shm_clock_load(const struct shm_view *view, uint32_t clock)
{
    /* Pairs with shm_clock_store. */
    return __atomic_load_n(&view->clocks[clock], __ATOMIC_ACQUIRE);
}

void shm_clock_store(struct shm_view *view, uint32_t clock, uint64_t value)
{
    __atomic_store_n(&view->clocks[clock], value, __ATOMIC_RELEASE);
}

/* ---- Copying an entry ------------------------------------------------------------------------ */

/* Copies the record at 'unit' and returns its length, 0 if there is no such record within the
 * pool. */
static size_t copy_record(const struct shm_view *view, uint32_t unit, unsigned length_shift,
                          uint64_t *to)
{
    if (unit == 0 || unit >= view->pool_units)
        return 0;
    const uint64_t *const from = pool_words(view, unit);
    to[0] = load_word(from);
    const size_t len = (to[0] >> length_shift) & UINT16_MAX;
    const size_t room = (size_t)(view->pool_units - unit) * POOL_UNIT_BYTES;
    if (len > POOL_RECORD_BYTES_MAX || len > room)
        return 0;
    const size_t words = (len + sizeof(uint64_t) - 1) / sizeof(uint64_t);
    for (size_t i = 1; i < words; i++)
        to[i] = load_word(from + i);
    return len;
}

/* Copies what the slot's own cache line says. */
static void copy_slot(const struct shm_view *view, uint64_t slot, struct shm_entry *out)
{
    uint64_t words[SLOT_WORDS];

    load_words(words + 1, slot_words(view, slot) + 1, SLOT_WORDS - 1);
    out->slot = slot;
    out->fingerprint = (struct hash128){.low = words[1], .high = words[2]};
    out->fill_lsn = words[3];
    out->expires_ns = words[4];
    unpack_inline_clocks(words, out->clocks);
    out->clock_count = SLOT_CLOCKS;
}

/* They are wanted once detail and records have been copied and decoded: on their way meanwhile. */
static void fetch_inline_clocks(const struct shm_view *view, const struct shm_entry *entry)
{
#pragma GCC unroll 8
    for (unsigned i = 0; i < SLOT_CLOCKS; i++)
        __builtin_prefetch(&view->clocks[entry->clocks[i]]);
}

/* Copies the detail and the overflow record. Returns the record's length. */
static size_t copy_detail(const struct shm_view *view, uint64_t slot, struct shm_entry *out)
{
    load_words(out->detail_words, detail_words(view, slot), DETAIL_WORDS);
    struct layout_detail detail;
    memcpy(&detail, out->detail_words, sizeof(detail));
    out->last_modified = detail.last_modified;
    out->fieldset = detail.fieldset;
    out->overflow = detail.overflow;
    out->etag_len = detail.etag_len;
    out->last_modified_is_strong = detail.flags & DETAIL_DATE_STRONG;
    return detail.overflow == 0
               ? 0
               : copy_record(view, detail.overflow, OVERFLOW_LENGTH_SHIFT, out->overflow_words);
}

/* ---- Decoding what was copied ---------------------------------------------------------------- */

/* Appends the clocks of the overflow record and points at its texts. False: this is no overflow
 * record. */
static bool decode_overflow(struct shm_entry *out, size_t len)
{
    const char *const record = (const char *)out->overflow_words;

    if (len < OVERFLOW_HEADER_BYTES)
        return false;
    const size_t etag_len = load_u16(record), location_len = load_u16(record + 2);
    const size_t clock_count = load_u16(record + 4);
    if (clock_count > CLOCKS_PER_ENTRY_MAX ||
        len != OVERFLOW_HEADER_BYTES + clock_count * sizeof(uint32_t) + etag_len + location_len)
        return false;

    const char *const clocks = record + OVERFLOW_HEADER_BYTES;
    memcpy(out->clocks + SLOT_CLOCKS, clocks, clock_count * sizeof(uint32_t));
    out->clock_count = (uint16_t)(SLOT_CLOCKS + clock_count);
    const char *const etag = clocks + clock_count * sizeof(uint32_t);
    if (etag_len > 0)
        out->etag = (etag_str){etag, etag_len};
    if (location_len > 0)
        out->content_location = (etag_str){etag + etag_len, location_len};
    return true;
}

/* A clock number outside the array must not be skipped: the entry would look current. */
static bool clocks_exist(const struct shm_view *view, const struct shm_entry *entry)
{
    bool exist = true;

    for (size_t i = 0; i < entry->clock_count; i++)
        exist &= entry->clocks[i] < view->clock_count;
    return exist;
}

/* Sets etag, content_location and clocks from the copied words. False: the bytes are no entry. */
static bool decode_entry(const struct shm_view *view, struct shm_entry *out, size_t overflow_bytes)
{
    const char *const inline_etag = (const char *)out->detail_words +
                                    offsetof(struct layout_detail, etag);
    const bool is_inline = out->etag_len <= DETAIL_ETAG_BYTES;

    out->content_location = (etag_str){0};
    out->etag = is_inline ? (etag_str){inline_etag, out->etag_len} : (etag_str){0};
    if (out->overflow != 0 && !decode_overflow(out, overflow_bytes))
        return false;
    return out->etag.len == out->etag_len && (out->etag.data == inline_etag) == is_inline &&
           clocks_exist(view, out);
}

/* ---- Finding --------------------------------------------------------------------------------- */

/* The number and value of the entry's first clock above its fill LSN; value 0: none. */
struct newer {
    uint32_t clock;
    uint64_t value;
};

/* The clock numbers exist (clocks_exist()). */
INLINED struct newer newer_clock(const struct shm_view *view, const struct shm_entry *entry)
{
    /* All of them, without a decision in between, so that the loads overlap; from the last to the
     * first, so that the first newer one stays. */
    struct newer found = {0};

    for (size_t i = entry->clock_count; i-- > 0;) {
        const uint64_t now = load_word(&view->clocks[entry->clocks[i]]);
        const bool newer = now > entry->fill_lsn;
        found.clock = newer ? entry->clocks[i] : found.clock;
        found.value = newer ? now : found.value;
    }
    const uint64_t floor = load_word(&view->clocks[CLOCK_FLOOR]);
    return floor > entry->fill_lsn ? (struct newer){CLOCK_FLOOR, floor} : found;
}

bool shm_newer_clock(const struct shm_view *view, const struct shm_entry *entry, uint32_t *clock,
                     uint64_t *value)
{
    const struct newer found = newer_clock(view, entry);

    if (found.value == 0)
        return false;
    *clock = found.clock;
    *value = found.value;
    return true;
}

enum reading { READ_ENTRY, READ_ENTRY_AND_CLOCKS };

/* Copies the slot's entry if it is, whole and unchanged, the one of this fingerprint. reading: a
 * constant. */
INLINED enum shm_find read_slot(const struct shm_view *view, uint64_t slot,
                                struct hash128 fingerprint, struct shm_entry *out,
                                enum reading reading)
{
    const struct layout_slot *const shared = &view->slots[slot];

    for (unsigned attempt = 0; attempt < READ_RETRIES_MAX; attempt++) {
        /* R1: pairs with the release of write_end. */
        const uint32_t before = __atomic_load_n(&shared->sequence, __ATOMIC_ACQUIRE);
        if (before & 1) {
            spin_pause();
            continue;
        }
        copy_slot(view, slot, out);
        fetch_inline_clocks(view, out);
        const size_t overflow_bytes = copy_detail(view, slot, out);
        out->fieldset_bytes = out->fieldset == 0
                                  ? 0
                                  : copy_record(view, out->fieldset, FIELDSET_LENGTH_SHIFT,
                                                out->fieldset_words);
        const bool whole = decode_entry(view, out, overflow_bytes) &&
                           (out->fieldset == 0) == (out->fieldset_bytes < FIELDSET_HEADER_BYTES);
        /* R2: pairs with the release fences of write_begin and shm_pool_write. */
        __atomic_thread_fence(__ATOMIC_ACQUIRE);
        if (reading == READ_ENTRY_AND_CLOCKS && whole) {
            DELAY_POINT("lookup.slot_clocks");
            out->newer = newer_clock(view, out).value;
            /* R3. */
            __atomic_thread_fence(__ATOMIC_ACQUIRE);
            DELAY_POINT("lookup.clocks_sequence");
        }
        if (__atomic_load_n(&shared->sequence, __ATOMIC_RELAXED) != before)
            continue;

        if (out->fingerprint.low != fingerprint.low || out->fingerprint.high != fingerprint.high)
            return SHM_MISSING;
        return whole ? SHM_FOUND : SHM_TORN;
    }
    return SHM_TORN;
}

void shm_prefetch(const struct shm_view *view, struct hash128 fingerprint)
{
    fetch_home(view, layout_home(view->home_count, fingerprint));
}

/* reading: a constant. */
INLINED enum shm_find find(const struct shm_view *view, struct hash128 fingerprint,
                           struct shm_entry *out, enum reading reading)
{
    const uint64_t home = layout_home(view->home_count, fingerprint);

    fetch_home(view, home);
    for (uint32_t hop = hop_of(view, home); hop != 0; hop &= hop - 1) {
        const uint64_t slot = home + (unsigned)__builtin_ctz(hop);
        __builtin_prefetch(&view->details[slot]);
        /* A slot that says another fingerprint is passed over, whatever it is becoming; at worst
         * that is a miss. */
        if (!fingerprint_is(view, slot, fingerprint))
            continue;
        const enum shm_find found = read_slot(view, slot, fingerprint, out, reading);
        if (found != SHM_MISSING)
            return found;
    }
    return SHM_MISSING;
}

enum shm_find shm_find(const struct shm_view *view, struct hash128 fingerprint,
                       struct shm_entry *out)
{
    return find(view, fingerprint, out, READ_ENTRY);
}

enum shm_find shm_look(const struct shm_view *view, struct hash128 fingerprint,
                       struct shm_entry *out)
{
    return find(view, fingerprint, out, READ_ENTRY_AND_CLOCKS);
}

/* ---- Writing --------------------------------------------------------------------------------- */

/* W1. Returns the sequence for write_end. */
static uint32_t write_begin(struct layout_slot *slot)
{
    const uint32_t sequence = __atomic_load_n(&slot->sequence, __ATOMIC_RELAXED);

    assert((sequence & 1) == 0);
    __atomic_store_n(&slot->sequence, sequence + 1, __ATOMIC_RELAXED);
    __atomic_thread_fence(__ATOMIC_RELEASE);
    return sequence + 2;
}

/* W2. */
static void write_end(struct layout_slot *slot, uint32_t sequence)
{
    __atomic_store_n(&slot->sequence, sequence, __ATOMIC_RELEASE);
}

/* Everything of slot and detail but the first word: sequence and hop word are no part of the
 * entry. */
static void write_words(struct shm_view *view, uint64_t slot, const uint64_t words[SLOT_WORDS],
                        const uint64_t details[DETAIL_WORDS])
{
    const uint32_t sequence = write_begin(&view->slots[slot]);

    store_words(slot_words(view, slot) + 1, words + 1, SLOT_WORDS - 1);
    store_words(detail_words(view, slot), details, DETAIL_WORDS);
    write_end(&view->slots[slot], sequence);
}

void shm_write(struct shm_view *view, uint64_t slot, const struct shm_record *record)
{
    assert(slot < view->slot_count && record->etag.len <= ENTITY_TAG_BYTES_MAX);
    struct layout_slot first = {
        .fingerprint = record->fingerprint,
        .fill_lsn = record->fill_lsn,
        .expires_ns = record->expires_ns,
    };
    for (size_t i = 0; i < record->clock_count && i < SLOT_CLOCKS; i++) {
        assert(record->clocks[i] < view->clock_count);
        memcpy(first.clocks + i * (CLOCK_BITS / 8), &record->clocks[i], CLOCK_BITS / 8);
    }
    struct layout_detail second = {
        .last_modified = record->last_modified,
        .fieldset = record->fieldset,
        .overflow = record->overflow,
        .etag_len = (uint16_t)record->etag.len,
        .flags = record->last_modified_is_strong ? DETAIL_DATE_STRONG : 0,
    };
    if (record->etag.len > 0 && record->etag.len <= DETAIL_ETAG_BYTES)
        memcpy(second.etag, record->etag.data, record->etag.len);

    uint64_t words[SLOT_WORDS], details[DETAIL_WORDS];
    memcpy(words, &first, sizeof(words));
    memcpy(details, &second, sizeof(details));
    write_words(view, slot, words, details);
}

void shm_erase(struct shm_view *view, uint64_t slot)
{
    const uint64_t zeros[SLOT_WORDS] = {0};

    _Static_assert(SLOT_WORDS == DETAIL_WORDS, "one row of zeros serves both");
    write_words(view, slot, zeros, zeros);
}

void shm_copy(struct shm_view *view, uint64_t from, uint64_t to)
{
    uint64_t words[SLOT_WORDS], details[DETAIL_WORDS];

    load_words(words, slot_words(view, from), SLOT_WORDS);
    load_words(details, detail_words(view, from), DETAIL_WORDS);
    write_words(view, to, words, details);
}

/* ---- The writer's own reads ------------------------------------------------------------------ */

struct hash128 shm_fingerprint_at(const struct shm_view *view, uint64_t slot)
{
    const struct hash128 *const shared = &view->slots[slot].fingerprint;

    return (struct hash128){.low = load_word(&shared->low), .high = load_word(&shared->high)};
}

uint64_t shm_fill_lsn_at(const struct shm_view *view, uint64_t slot)
{
    return load_word(&view->slots[slot].fill_lsn);
}

uint64_t shm_expires_at(const struct shm_view *view, uint64_t slot)
{
    return load_word(&view->slots[slot].expires_ns);
}

void shm_refs_at(const struct shm_view *view, uint64_t slot, uint32_t *fieldset, uint32_t *overflow)
{
    const size_t word = offsetof(struct layout_detail, fieldset) / sizeof(uint64_t);
    const uint64_t both = load_word(detail_words(view, slot) + word);

    *fieldset = (uint32_t)both;
    *overflow = (uint32_t)(both >> 32);
}

uint32_t shm_hop_load(const struct shm_view *view, uint64_t home)
{
    return hop_of(view, home);
}

void shm_hop_store(struct shm_view *view, uint64_t home, uint32_t hop)
{
    __atomic_store_n(&view->slots[home].hop, hop, __ATOMIC_RELEASE);
}

void shm_clocks_at(const struct shm_view *view, uint64_t slot, struct shm_entry *out)
{
    copy_slot(view, slot, out);
    const bool whole = decode_entry(view, out, copy_detail(view, slot, out));
    assert(whole);
    (void)whole;
}

void shm_read_at(const struct shm_view *view, uint64_t slot, struct shm_entry *out)
{
    shm_clocks_at(view, slot, out);
    out->fieldset_bytes = copy_record(view, out->fieldset, FIELDSET_LENGTH_SHIFT,
                                      out->fieldset_words);
}

size_t shm_overflow_bytes_at(const struct shm_view *view, uint32_t unit)
{
    return load_word(pool_words(view, unit)) >> OVERFLOW_LENGTH_SHIFT;
}

/* ---- The pool -------------------------------------------------------------------------------- */

void shm_pool_write(struct shm_view *view, uint32_t unit, const void *bytes, size_t len)
{
    assert(unit != 0 && len > 0 && len <= POOL_RECORD_BYTES_MAX);
    assert((uint64_t)unit * POOL_UNIT_BYTES + len <= (uint64_t)view->pool_units * POOL_UNIT_BYTES);
    uint64_t words[POOL_RECORD_BYTES_MAX / sizeof(uint64_t)];
    const size_t count = (len + sizeof(uint64_t) - 1) / sizeof(uint64_t);
    words[count - 1] = 0;
    memcpy(words, bytes, len);
    /* W3: whoever sees these bytes sees that the slot which referred to the former ones has
     * changed. */
    __atomic_thread_fence(__ATOMIC_RELEASE);
    store_words(pool_words(view, unit), words, count);
}

size_t shm_overflow_pack(uint8_t *out, const struct shm_record *record, etag_str content_location)
{
    assert(record->etag.len <= ENTITY_TAG_BYTES_MAX);
    assert(content_location.len <= CONTENT_LOCATION_BYTES_MAX);
    assert(record->clock_count <= CLOCKS_PER_ENTRY_MAX);
    const size_t etag_len = record->etag.len > DETAIL_ETAG_BYTES ? record->etag.len : 0;
    const size_t clock_count = record->clock_count > SLOT_CLOCKS ? record->clock_count - SLOT_CLOCKS
                                                                 : 0;
    if (etag_len == 0 && clock_count == 0 && content_location.len == 0)
        return 0;

    uint8_t *at = out + OVERFLOW_HEADER_BYTES;
    for (size_t i = 0; i < clock_count; i++, at += sizeof(uint32_t))
        store_u32(at, record->clocks[SLOT_CLOCKS + i]);
    if (etag_len > 0)
        at = mempcpy(at, record->etag.data, etag_len);
    if (content_location.len > 0)
        at = mempcpy(at, content_location.data, content_location.len);
    store_u16(out, (uint16_t)etag_len);
    store_u16(out + 2, (uint16_t)content_location.len);
    store_u16(out + 4, (uint16_t)clock_count);
    store_u16(out + 6, (uint16_t)(at - out));
    return (size_t)(at - out);
}
