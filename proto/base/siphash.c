/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SipHash-1-3: one round a word of eight bytes, three at the end (Aumasson and Bernstein, 2012).
 * Every lookup calls it, so it does nothing byte by byte: if the input has at least eight bytes,
 * the last word is made of its last eight bytes, shifted.
 */
#include "siphash.h"

#include "siphash_rounds.h"

/* The bytes after the last whole word, and the low byte of the length on top. */
__attribute__((always_inline)) static inline uint64_t sip_last_word(const uint8_t *bytes,
                                                                    size_t len)
{
    const size_t rest = len % 8;
    uint64_t word = 0;

    if (rest > 0 && len >= 8) {
        word = load_u64(bytes + len - 8) >> (8 * (8 - rest));
    } else {
        for (size_t i = 0; i < rest; i++)
            word |= (uint64_t)bytes[i] << (8 * i);
    }
    return word | (uint64_t)len << 56;
}

__attribute__((always_inline)) static inline struct sip_state
sip_of(const uint8_t key[SIPHASH_KEY_BYTES], const uint8_t *bytes, size_t len, uint64_t tweak)
{
    struct sip_state s = sip_begin(key, tweak);
    const size_t whole = len - len % 8;

    for (size_t at = 0; at < whole; at += 8)
        sip_absorb(&s, load_u64(bytes + at));
    sip_absorb(&s, sip_last_word(bytes, len));
    return s;
}

uint64_t siphash13_64(const uint8_t key[SIPHASH_KEY_BYTES], const void *data, size_t len)
{
    struct sip_state s = sip_of(key, data, len, 0);

    s.v2 ^= 0xff;
    return sip_squeeze(&s);
}

struct hash128 siphash13_128(const uint8_t key[SIPHASH_KEY_BYTES], const void *data, size_t len)
{
    struct sip_state s = sip_of(key, data, len, SIP_TWEAK_128);

    return sip_end_128(&s);
}
