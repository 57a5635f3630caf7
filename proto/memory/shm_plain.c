/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Plain entries, in which a reader takes the words of two cache lines, and no more, before it
 * judges. The sequence and the fences are those of shm.c (R1, R2, R3), in the same order; whatever
 * is not as it mostly is (an odd sequence, a record of its own, a field set that was not seen
 * yet) ends the try, and the reader asks shm_look().
 */
#include "shm_words.h"

#include "delay_point.h"

/* Does the record at 'unit' say what the reader knows? */
static inline bool record_is_known(const struct shm_view *view, uint32_t unit,
                                   const struct shm_known *known)
{
    uint64_t differences = 0;

    if (known->unit != unit || unit >= view->pool_units ||
        known->word_count > (size_t)(view->pool_units - unit) * (POOL_UNIT_BYTES / 8))
        return false;
    const uint64_t *const from = pool_words(view, unit);
#pragma GCC unroll 4
    for (size_t i = 0; i < known->word_count; i++)
        differences |= load_word(from + i) ^ known->words[i];
    return differences == 0;
}

/* The newest of the floor and of the slot's clocks, whose numbers exist. */
INLINED uint64_t newest_of(const struct shm_view *view, const uint32_t *clocks)
{
    uint64_t newest = load_word(&view->clocks[CLOCK_FLOOR]);

#pragma GCC unroll 8
    for (unsigned i = 0; i < SLOT_CLOCKS; i++) {
        const uint64_t now = load_word(&view->clocks[clocks[i]]);
        newest = now > newest ? now : newest;
    }
    return newest;
}

INLINED bool read_plain(const struct shm_view *view, uint64_t slot, struct hash128 fingerprint,
                        const struct shm_known known[SHM_KNOWN_PLACES], struct shm_plain *out)
{
    const struct layout_slot *const shared = &view->slots[slot];
    uint64_t words[SLOT_WORDS];
    uint32_t clocks[SLOT_CLOCKS];

    /* R1. */
    const uint32_t before = __atomic_load_n(&shared->sequence, __ATOMIC_ACQUIRE);
    load_words(words + 1, slot_words(view, slot) + 1, SLOT_WORDS - 1);
    load_words_to(&out->detail, detail_words(view, slot), DETAIL_WORDS);
    unpack_inline_clocks(words, clocks);
    const uint32_t all = clocks[0] | clocks[1] | clocks[2] | clocks[3] | clocks[4] | clocks[5] |
                         clocks[6] | clocks[7];
    const uint32_t unit = out->detail.fieldset;
    /* clock_count is a power of two, so one comparison is enough for all numbers. */
    if ((before & 1) != 0 || words[1] != fingerprint.low || words[2] != fingerprint.high ||
        all >= view->clock_count || out->detail.overflow != 0 ||
        out->detail.etag_len > DETAIL_ETAG_BYTES ||
        !record_is_known(view, unit, &known[shm_known_place(unit)]))
        return false;
    out->fill_lsn = words[3];
    out->expires_ns = words[4];
    /* R2. */
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    DELAY_POINT("lookup.slot_clocks");
    const uint64_t newest = newest_of(view, clocks);
    /* R3. */
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    DELAY_POINT("lookup.clocks_sequence");
    return newest <= out->fill_lsn &&
           __atomic_load_n(&shared->sequence, __ATOMIC_RELAXED) == before;
}

INLINED uint64_t slot_of(const struct shm_view *view, uint64_t home, struct hash128 fingerprint)
{
    for (uint32_t hop = hop_of(view, home); hop != 0; hop &= hop - 1) {
        const uint64_t slot = home + (unsigned)__builtin_ctz(hop);
        if (fingerprint_is(view, slot, fingerprint))
            return slot;
    }
    return SHM_NO_SLOT;
}

bool shm_plain_find(const struct shm_view *view, struct hash128 fingerprint,
                    const struct shm_known known[SHM_KNOWN_PLACES], struct shm_plain *out)
{
    const uint64_t home = layout_home(view->home_count, fingerprint);

    fetch_home(view, home);
    const uint64_t slot = slot_of(view, home, fingerprint);
    return slot != SHM_NO_SLOT && read_plain(view, slot, fingerprint, known, out);
}

/* ---- Of many, step by step ---- */

void shm_expect_home(const struct shm_view *view, struct hash128 fingerprint)
{
    const uint64_t home = layout_home(view->home_count, fingerprint);

    __builtin_prefetch(&view->slots[home]);
    __builtin_prefetch(&view->details[home]);
}

void shm_expect_slots(const struct shm_view *view, struct hash128 fingerprint)
{
    const uint64_t home = layout_home(view->home_count, fingerprint);

    for (uint32_t hop = hop_of(view, home) & ~1u; hop != 0; hop &= hop - 1) {
        const uint64_t slot = home + (unsigned)__builtin_ctz(hop);
        __builtin_prefetch(&view->slots[slot]);
        __builtin_prefetch(&view->details[slot]);
    }
}

uint64_t shm_plain_slot(const struct shm_view *view, struct hash128 fingerprint)
{
    const uint64_t slot = slot_of(view, layout_home(view->home_count, fingerprint), fingerprint);
    uint64_t words[SLOT_WORDS];
    uint32_t clocks[SLOT_CLOCKS];

    if (slot == SHM_NO_SLOT)
        return slot;
    load_words(words + FIRST_CLOCK_WORD, slot_words(view, slot) + FIRST_CLOCK_WORD,
               SLOT_WORDS - FIRST_CLOCK_WORD);
    unpack_inline_clocks(words, clocks);
#pragma GCC unroll 8
    for (unsigned i = 0; i < SLOT_CLOCKS; i++)
        __builtin_prefetch(&view->clocks[clocks[i]]);
    return slot;
}

bool shm_plain_read(const struct shm_view *view, uint64_t slot, struct hash128 fingerprint,
                    const struct shm_known known[SHM_KNOWN_PLACES], struct shm_plain *out)
{
    return read_plain(view, slot, fingerprint, known, out);
}
