/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SipHash-1-3: one round a word of eight bytes, three at the end (Aumasson and Bernstein, 2012).
 * Every lookup calls it, so it does nothing byte by byte: if the input has at least eight bytes,
 * the last word is made of its last eight bytes, shifted.
 */
#include "siphash.h"

#include "bytes.h"

struct sip_state {
    uint64_t v0, v1, v2, v3;
};

static inline uint64_t rotate_left(uint64_t x, unsigned bits)
{
    return (x << bits) | (x >> (64 - bits));
}

__attribute__((always_inline)) static inline void sip_round(struct sip_state *s)
{
    s->v0 += s->v1;
    s->v2 += s->v3;
    s->v1 = rotate_left(s->v1, 13) ^ s->v0;
    s->v3 = rotate_left(s->v3, 16) ^ s->v2;
    s->v0 = rotate_left(s->v0, 32) + s->v3;
    s->v2 += s->v1;
    s->v1 = rotate_left(s->v1, 17) ^ s->v2;
    s->v3 = rotate_left(s->v3, 21) ^ s->v0;
    s->v2 = rotate_left(s->v2, 32);
}

__attribute__((always_inline)) static inline void sip_absorb(struct sip_state *s, uint64_t word)
{
    s->v3 ^= word;
    sip_round(s);
    s->v0 ^= word;
}

__attribute__((always_inline)) static inline uint64_t sip_squeeze(struct sip_state *s)
{
    sip_round(s);
    sip_round(s);
    sip_round(s);
    return s->v0 ^ s->v1 ^ s->v2 ^ s->v3;
}

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

/* tweak: what the wider output does to v1 first. */
__attribute__((always_inline)) static inline struct sip_state
sip_begin(const uint8_t key[SIPHASH_KEY_BYTES], const uint8_t *bytes, size_t len, uint64_t tweak)
{
    const uint64_t k0 = load_u64(key), k1 = load_u64(key + 8);
    struct sip_state s = {
        .v0 = k0 ^ UINT64_C(0x736f6d6570736575),
        .v1 = k1 ^ UINT64_C(0x646f72616e646f6d) ^ tweak,
        .v2 = k0 ^ UINT64_C(0x6c7967656e657261),
        .v3 = k1 ^ UINT64_C(0x7465646279746573),
    };
    const size_t whole = len - len % 8;

    for (size_t at = 0; at < whole; at += 8)
        sip_absorb(&s, load_u64(bytes + at));
    sip_absorb(&s, sip_last_word(bytes, len));
    return s;
}

uint64_t siphash13_64(const uint8_t key[SIPHASH_KEY_BYTES], const void *data, size_t len)
{
    struct sip_state s = sip_begin(key, data, len, 0);

    s.v2 ^= 0xff;
    return sip_squeeze(&s);
}

struct hash128 siphash13_128(const uint8_t key[SIPHASH_KEY_BYTES], const void *data, size_t len)
{
    struct sip_state s = sip_begin(key, data, len, 0xee);

    s.v2 ^= 0xee;
    struct hash128 hash;
    hash.low = sip_squeeze(&s);
    s.v1 ^= 0xdd;
    hash.high = sip_squeeze(&s);
    return hash;
}
