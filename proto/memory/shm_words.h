/* SPDX-License-Identifier: Apache-2.0 */
/* How a reader takes words out of the shared memory: for shm.c, which has the rules, and
 * shm_plain.c. */
#ifndef ETAG_PROTO_SHM_WORDS_H
#define ETAG_PROTO_SHM_WORDS_H

#include "shm.h"

#include "bytes.h"

#define INLINED __attribute__((always_inline)) static inline

#define SLOT_WORDS (sizeof(struct layout_slot) / sizeof(uint64_t))
#define DETAIL_WORDS (sizeof(struct layout_detail) / sizeof(uint64_t))
#define CLOCK_BITS 24u
#define FIRST_CLOCK_WORD (offsetof(struct layout_slot, clocks) / sizeof(uint64_t))

/* How many slots from the home on are fetched before it is known which of them holds the entry. */
#define FETCHED_SLOTS 3u

static inline uint64_t load_word(const uint64_t *word)
{
    return __atomic_load_n(word, __ATOMIC_RELAXED);
}

/* Brings a word nearer. A prefetch would do, but processors drop it where the address has to be
 * translated first, and in a large index nearly every one has (2.65 random loads a lookup of 1 M
 * entries, 2.15 with this). */
static inline void touch(const uint64_t *word)
{
    const uint64_t value = load_word(word);

    __asm__ volatile("" ::"r"(value));
}

/* count: a constant. Unrolled, with the loop below, it takes a third of the instructions of a
 * copied slot. */
INLINED void load_words(uint64_t *to, const uint64_t *from, size_t count)
{
#pragma GCC unroll 8
    for (size_t i = 0; i < count; i++)
        to[i] = load_word(from + i);
}

/* The same, into memory of another type. */
INLINED void load_words_to(void *to, const uint64_t *from, size_t count)
{
#pragma GCC unroll 8
    for (size_t i = 0; i < count; i++)
        store_u64((char *)to + i * sizeof(uint64_t), load_word(from + i));
}

static inline uint64_t *slot_words(const struct shm_view *view, uint64_t slot)
{
    return (uint64_t *)&view->slots[slot];
}

static inline uint64_t *detail_words(const struct shm_view *view, uint64_t slot)
{
    return (uint64_t *)&view->details[slot];
}

static inline uint64_t *pool_words(const struct shm_view *view, uint32_t unit)
{
    return (uint64_t *)(view->pool + (size_t)unit * POOL_UNIT_BYTES);
}

INLINED void unpack_inline_clocks(const uint64_t words[SLOT_WORDS], uint32_t *clocks)
{
    const unsigned first_bit = offsetof(struct layout_slot, clocks) * 8;

#pragma GCC unroll 8
    for (unsigned i = 0; i < SLOT_CLOCKS; i++) {
        const unsigned bit = first_bit + i * CLOCK_BITS;
        const unsigned word = bit / 64, shift = bit % 64;
        uint64_t value = words[word] >> shift;
        if (shift + CLOCK_BITS > 64)
            value |= words[word + 1] << (64 - shift);
        clocks[i] = (uint32_t)value & ((1u << CLOCK_BITS) - 1);
    }
}

/* shm_hop_load(). */
static inline uint32_t hop_of(const struct shm_view *view, uint64_t home)
{
    /* Pairs with shm_hop_store: the entry of a bit was written before the bit. */
    return __atomic_load_n(&view->slots[home].hop, __ATOMIC_ACQUIRE);
}

/* A glance without the sequence: what it says may be changing. */
static inline bool fingerprint_is(const struct shm_view *view, uint64_t slot,
                                  struct hash128 fingerprint)
{
    const struct hash128 *const shared = &view->slots[slot].fingerprint;
    const uint64_t low = load_word(&shared->low), high = load_word(&shared->high);

    return ((low ^ fingerprint.low) | (high ^ fingerprint.high)) == 0;
}

/* All at once, while the hop word is on its way: most entries lie at home or right after it. */
static inline void fetch_home(const struct shm_view *view, uint64_t home)
{
    touch(detail_words(view, home));
    for (unsigned i = 1; i < FETCHED_SLOTS; i++) {
        __builtin_prefetch(&view->slots[home + i]);
        __builtin_prefetch(&view->details[home + i]);
    }
}

#endif
