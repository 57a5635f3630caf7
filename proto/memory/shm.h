/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading and writing the shared memory: shm.c has every atomic access of both ends, and each
 * acquire names the release with which it pairs. One writer (the daemon's loop thread), any number
 * of readers, which map it read-only.
 */
#ifndef ETAG_PROTO_SHM_H
#define ETAG_PROTO_SHM_H

#include "key.h"
#include "layout.h"

/* Pointers to the sections of a validated mapping. In a reader's view the memory is read-only. */
struct shm_view {
    struct layout_header *header;
    struct layout_slot *slots;
    struct layout_detail *details;
    uint64_t *clocks;
    uint8_t *pool;
    uint64_t home_count;
    uint64_t slot_count;
    uint32_t clock_count;
    uint32_t pool_units;
};

/* Maps the first 'bytes' of an index descriptor, shared, at an address that huge pages can back.
 * prot: PROT_READ for readers, with PROT_WRITE for the daemon. Returns 0 or a negative errno. The
 * caller unmaps *out with munmap(*out, bytes). */
MUST_USE int shm_map(void **out, int fd, size_t bytes, int prot);

/* geometry: the header of the mapping at base, accepted by layout_validate(). Readers pass a copy
 * of the header, since the words in the mapping may change after the check. */
struct shm_view shm_view_of(void *base, const struct layout_header *geometry);

/* ---- Words: lease, LSN, clocks ---- */

/* Reader: loads the lease deadline (acquire), before anything else. */
uint64_t shm_lease_load(const struct shm_view *view);
/* Writer: release. Called by lease.c only. */
void shm_lease_store(struct shm_view *view, uint64_t deadline_ns);

uint64_t shm_lsn_load(const struct shm_view *view); /* acquire: data read after it is not older */
void shm_lsn_store(struct shm_view *view, uint64_t lsn);

uint64_t shm_clock_load(const struct shm_view *view, uint32_t clock);
void shm_clock_store(struct shm_view *view, uint32_t clock, uint64_t value);

/* ---- Entries ---- */

/* A slot's entry, copied into the reader's memory. Members after the header fields are valid only
 * if shm_find() returned SHM_FOUND. */
struct shm_entry {
    uint64_t slot;
    struct hash128 fingerprint;
    uint64_t fill_lsn;
    uint64_t expires_ns;
    int64_t last_modified;
    /* pool units */
    uint32_t fieldset, overflow;
    uint16_t etag_len;
    bool last_modified_is_strong;
    /* number of clocks, with a CLOCK_FLOOR for each unused inline place */
    uint16_t clock_count;
    uint32_t clocks[CLOCKS_PER_ENTRY_MAX + SLOT_CLOCKS];
    /* points into detail_words or overflow_words */
    etag_str etag;
    /* absent: none */
    etag_str content_location;
    size_t fieldset_bytes;
    uint64_t detail_words[8];
    uint64_t overflow_words[POOL_RECORD_BYTES_MAX / 8];
    /* see entry.h */
    uint64_t fieldset_words[POOL_RECORD_BYTES_MAX / 8];
};

static inline bool shm_entry_has_clock(const struct shm_entry *entry, uint32_t clock)
{
    for (size_t i = 0; i < entry->clock_count; i++)
        if (entry->clocks[i] == clock)
            return true;
    return false;
}

enum shm_find {
    SHM_FOUND = 0,
    SHM_MISSING = 1,
    /* the slot was being written, or changed, in each of READ_RETRIES_MAX tries */
    SHM_TORN = 2,
};

/* Finds and copies an entry: hop word of the home, sequence (acquire), copy of slot, detail,
 * overflow record and field set, acquire fence, sequence again. Never reads outside the view,
 * whatever the bytes are. */
MUST_USE enum shm_find shm_find(const struct shm_view *view, struct hash128 fingerprint,
                                struct shm_entry *out);

/* Prefetches the memory of an entry that will soon be searched or written. Changes nothing. */
void shm_prefetch(const struct shm_view *view, struct hash128 fingerprint);

/* Finds a clock of the entry that is above its fill LSN (so the entry is stale, or in flux if
 * CLOCK_IN_FLUX is set), and its value; returns false if there is none. Ends with an acquire fence,
 * so that a time read after it is later than the clocks. */
MUST_USE bool shm_newer_clock(const struct shm_view *view, const struct shm_entry *entry,
                              uint32_t *clock, uint64_t *value);

/* ---- Writer only ---- */

/* What shm_write() writes into a slot. */
struct shm_record {
    struct hash128 fingerprint;
    uint64_t fill_lsn;
    uint64_t expires_ns;
    int64_t last_modified;
    bool last_modified_is_strong;
    /* stored inline up to DETAIL_ETAG_BYTES; of a longer one only the length is used here */
    etag_str etag;
    /* pool units, already written */
    uint32_t fieldset;
    uint32_t overflow;
    /* the first SLOT_CLOCKS are stored inline; the rest are in the overflow record */
    const uint32_t *clocks;
    size_t clock_count;
};

/* Writes the record into the slot: sequence odd, words, sequence even. */
void shm_write(struct shm_view *view, uint64_t slot, const struct shm_record *record);

/* Empties the slot. A reader that is copying it sees that the sequence has changed. */
void shm_erase(struct shm_view *view, uint64_t slot);

/* Copies slot and detail 'from' to the empty slot 'to', under to's sequence. 'from' stays
 * unchanged. */
void shm_copy(struct shm_view *view, uint64_t from, uint64_t to);

/* The daemon's own cheap reads of its slots. As the only writer it needs no sequence. */
struct hash128 shm_fingerprint_at(const struct shm_view *view, uint64_t slot);
uint64_t shm_fill_lsn_at(const struct shm_view *view, uint64_t slot);
uint64_t shm_expires_at(const struct shm_view *view, uint64_t slot);
void shm_refs_at(const struct shm_view *view, uint64_t slot, uint32_t *fieldset,
                 uint32_t *overflow);
uint32_t shm_hop_load(const struct shm_view *view, uint64_t home);
void shm_hop_store(struct shm_view *view, uint64_t home, uint32_t hop);
/* Copies everything of one slot, as shm_find() does. */
void shm_read_at(const struct shm_view *view, uint64_t slot, struct shm_entry *out);
/* Copies only what shm_newer_clock() needs, and the expiry, because eviction reads a whole
 * window. */
void shm_clocks_at(const struct shm_view *view, uint64_t slot, struct shm_entry *out);
/* Returns the length of the overflow record at a unit. */
size_t shm_overflow_bytes_at(const struct shm_view *view, uint32_t unit);

/* Writes the bytes of a pool record to which no slot refers. unit: its first; bytes <=
 * POOL_RECORD_BYTES_MAX. */
void shm_pool_write(struct shm_view *view, uint32_t unit, const void *bytes, size_t len);

/* Packs the overflow record of an entry: what does not fit into slot and detail. Layout: u16 etag
 * bytes (0 if inline), u16 Content-Location bytes, u16 clocks, u16 length of the whole record; then
 * clocks (u32), etag, Content-Location. Returns its length, 0 if the entry needs none. out:
 * POOL_RECORD_BYTES_MAX bytes. */
size_t shm_overflow_pack(uint8_t *out, const struct shm_record *record, etag_str content_location);

#endif
