/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SipHash-1-3 step by step, for a message whose parts are not in one piece (key.c) and for a state
 * that is kept (fingerprint.c). Everything inline: it is most of a lookup's time.
 */
#ifndef ETAG_PROTO_SIPHASH_ROUNDS_H
#define ETAG_PROTO_SIPHASH_ROUNDS_H

#include "siphash.h"

#define SIP_INLINE __attribute__((always_inline)) static inline

/* What the wider output does to the state first, and before its second half. */
#define SIP_TWEAK_128 0xee
#define SIP_TWEAK_128_HIGH 0xdd

struct sip_state {
    uint64_t v0, v1, v2, v3;
};

SIP_INLINE uint64_t sip_rotate_left(uint64_t x, unsigned bits)
{
    return (x << bits) | (x >> (64 - bits));
}

SIP_INLINE void sip_round(struct sip_state *s)
{
    s->v0 += s->v1;
    s->v2 += s->v3;
    s->v1 = sip_rotate_left(s->v1, 13) ^ s->v0;
    s->v3 = sip_rotate_left(s->v3, 16) ^ s->v2;
    s->v0 = sip_rotate_left(s->v0, 32) + s->v3;
    s->v2 += s->v1;
    s->v1 = sip_rotate_left(s->v1, 17) ^ s->v2;
    s->v3 = sip_rotate_left(s->v3, 21) ^ s->v0;
    s->v2 = sip_rotate_left(s->v2, 32);
}

/* tweak: 0 for 64 bits of output, SIP_TWEAK_128 for 128. */
SIP_INLINE struct sip_state sip_begin(const uint8_t key[SIPHASH_KEY_BYTES], uint64_t tweak)
{
    const uint64_t k0 = load_u64(key), k1 = load_u64(key + 8);

    return (struct sip_state){
        .v0 = k0 ^ UINT64_C(0x736f6d6570736575),
        .v1 = k1 ^ UINT64_C(0x646f72616e646f6d) ^ tweak,
        .v2 = k0 ^ UINT64_C(0x6c7967656e657261),
        .v3 = k1 ^ UINT64_C(0x7465646279746573),
    };
}

SIP_INLINE void sip_absorb(struct sip_state *s, uint64_t word)
{
    s->v3 ^= word;
    sip_round(s);
    s->v0 ^= word;
}

/* Fewer than eight bytes, zeros after them. */
SIP_INLINE uint64_t sip_short_word(const char *bytes, size_t len)
{
    uint64_t word = 0;

    if (len >= 4)
        return load_u32(bytes) | (uint64_t)load_u32(bytes + len - 4) << (8 * (len - 4));
    for (size_t i = 0; i < len; i++)
        word |= (uint64_t)(uint8_t)bytes[i] << (8 * i);
    return word;
}

/* Absorbs a part, whose length must have been absorbed before it, as whole words: the last one is
 * its last eight bytes, some of which may be in the word before, too. A part of fewer than eight is
 * one word, filled up with zeros. */
SIP_INLINE void sip_absorb_part(struct sip_state *s, const void *part, size_t len)
{
    const char *const bytes = part;

    if (len < 8) {
        if (len > 0)
            sip_absorb(s, sip_short_word(bytes, len));
        return;
    }
    for (size_t at = 0; at < len - 8; at += 8)
        sip_absorb(s, load_u64(bytes + at));
    sip_absorb(s, load_u64(bytes + len - 8));
}

SIP_INLINE uint64_t sip_squeeze(struct sip_state *s)
{
    sip_round(s);
    sip_round(s);
    sip_round(s);
    return s->v0 ^ s->v1 ^ s->v2 ^ s->v3;
}

SIP_INLINE struct hash128 sip_end_128(struct sip_state *s)
{
    struct hash128 hash;

    s->v2 ^= SIP_TWEAK_128;
    hash.low = sip_squeeze(s);
    s->v1 ^= SIP_TWEAK_128_HIGH;
    hash.high = sip_squeeze(s);
    return hash;
}

#endif
