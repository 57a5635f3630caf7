/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The layout of the shared memory ("the index"), version 2. One memfd for each run of a daemon. It
 * has no pointers, and a reader validates every offset before use (layout_validate()). See
 * docs/architecture.md for a picture.
 *
 *   header   4096 bytes: immutable geometry, then the lease word and the LSN on cache lines of
 *            their own
 *   slots    64 bytes each: decide hit or miss, stale, in flux and expired; a search reads
 *            nothing else
 *   details  64 bytes each, same number as its slot: what an answer needs in addition; fetched
 *            in parallel
 *   clocks   8 bytes each, a power of two of them
 *   pool     units of 64 bytes: field sets (shared by entries) and overflow records (of one entry)
 *
 * The fingerprint gives an entry's home, a slot number. The entry is in one of the HOP_WINDOW slots
 * from there, and the home's hop word has a bit for each slot of the window that has an entry of
 * this home. A miss mostly reads the home only. The array has HOP_WINDOW - 1 slots more than homes,
 * so there is no wrap-around.
 *
 * One sequence word, in the slot, guards slot, detail, overflow record and field set: the daemon
 * makes it odd before it changes any of them for this entry, and a pool record is reused only after
 * every slot that referred to it has been changed. (The hop word belongs to the home, not to the
 * entry, and is read alone.)
 */
#ifndef ETAG_PROTO_LAYOUT_H
#define ETAG_PROTO_LAYOUT_H

#include "bounds.h"
#include "cleanup.h"
#include "siphash.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LAYOUT_MAGIC UINT64_C(0x5844496467617465) /* "etagdIDX" */
#define LAYOUT_VERSION 2u
#define LAYOUT_HEADER_BYTES 4096u
#define LAYOUT_ALIGN (2u * 1024u * 1024u) /* of the mapping's address, for huge pages (shm_map) */
#define LAYOUT_SECTION_ALIGN 4096u        /* of sections: huge pages may span two of them */

#define CLOCK_IN_FLUX (UINT64_C(1) << 63) /* top bit of a clock: a guard or hold counts on it */
#define CLOCK_LSN_MASK (CLOCK_IN_FLUX - 1)

#define SLOT_CLOCKS 8u        /* 24-bit clock numbers in a slot; unused ones are CLOCK_FLOOR */
#define DETAIL_ETAG_BYTES 44u /* a longer entity tag is in the overflow record */

struct layout_header {
    uint64_t magic;
    uint32_t version;
    uint32_t header_bytes;
    uint64_t total_bytes;
    uint64_t slots_offset, details_offset, clocks_offset, pool_offset;
    /* number of homes; there are home_count + HOP_WINDOW - 1 slots */
    uint64_t home_count;
    uint32_t clock_count;
    uint32_t pool_units;
    /* counter */
    uint64_t incarnation;
    /* random, not 0 */
    uint64_t incarnation_id;
    uint8_t hash_key[SIPHASH_KEY_BYTES];
    /* L */
    uint64_t lease_ns;
    uint8_t pad0[4096 / 2 - 112];
    /* lease and LSN: written by the daemon all the time, each on its own cache line */
    /* CLOCK_MONOTONIC_COARSE; 0: no lease */
    uint64_t lease_deadline_ns;
    uint8_t pad1[56];
    /* LSN of the last mutation */
    uint64_t lsn;
    uint8_t pad2[4096 / 2 - 72];
};

struct layout_slot {
    /* odd: being written */
    uint32_t sequence;
    /* hop word of the home that has this slot's number */
    uint32_t hop;
    /* {0, 0}: empty */
    struct hash128 fingerprint;
    uint64_t fill_lsn;
    /* CLOCK_MONOTONIC_COARSE; UINT64_MAX: never */
    uint64_t expires_ns;
    uint8_t clocks[SLOT_CLOCKS * 3];
};

struct layout_detail {
    /* ETAG_NO_DATE: none */
    int64_t last_modified;
    /* pool unit; 0: none */
    uint32_t fieldset;
    /* pool unit; 0: none */
    uint32_t overflow;
    /* length of the whole tag; > DETAIL_ETAG_BYTES: it is in the overflow record */
    uint16_t etag_len;
    /* DETAIL_*; others: 0 */
    uint16_t flags;
    char etag[DETAIL_ETAG_BYTES];
};

#define DETAIL_DATE_STRONG 1u /* no two versions in the second of last_modified */

_Static_assert(sizeof(struct layout_header) == LAYOUT_HEADER_BYTES, "header");
_Static_assert(offsetof(struct layout_header, lease_deadline_ns) == 2048, "lease word");
_Static_assert(offsetof(struct layout_header, lsn) == 2112, "LSN word");
_Static_assert(sizeof(struct layout_slot) == 64, "slot");
_Static_assert(offsetof(struct layout_slot, fingerprint) == 8, "fingerprint");
_Static_assert(offsetof(struct layout_slot, fill_lsn) == 24, "fill LSN");
_Static_assert(offsetof(struct layout_slot, clocks) == 40, "clocks");
_Static_assert(sizeof(struct layout_detail) == 64, "detail");
_Static_assert(offsetof(struct layout_detail, etag) == 20, "etag");

/* The pool's default size. Field sets are shared, so a few bytes per entry suffice for them. Each
 * entry may have a SHA-256 in hexadecimal as its entity tag: the overflow record, with 8 bytes, 64
 * digits and two quotes, takes two units. */
#define POOL_SETS_BYTES_PER_ENTRY 6u
#define POOL_TAG_BYTES_PER_ENTRY (2u * POOL_UNIT_BYTES)

/* The input from which the sizes of an index are computed. */
struct layout_plan {
    /* entries at the normal load (0.7) */
    uint64_t capacity;
    /* rounded up to a power of two by the caller */
    uint32_t clock_count;
    /* 0: POOL_*_BYTES_PER_ENTRY; raised to 1 MiB, cut at POOL_BYTES_MAX */
    uint64_t pool_bytes;
};

/* Fills geometry (magic, version, sizes, offsets, counts) of a zeroed header. Values outside the
 * limits are the caller's bug. */
void layout_init(struct layout_header *header, const struct layout_plan *plan);

/* Returns how many units of the pool the daemon allocates at its start: enough for field sets. */
uint32_t layout_pool_units_at_start(const struct layout_plan *plan);

/* Checks the geometry of a mapping of mapped_bytes. Returns NULL if a reader may follow it, else
 * what is wrong as a sentence. Never reads beyond the header. */
MUST_USE const char *layout_validate(const struct layout_header *header, size_t mapped_bytes);

/* Returns the home slot of a fingerprint. */
static inline uint64_t layout_home(uint64_t home_count, struct hash128 fingerprint)
{
    return (uint64_t)(((unsigned __int128)fingerprint.high * home_count) >> 64);
}

#endif
