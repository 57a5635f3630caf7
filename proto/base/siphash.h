/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SipHash-1-3 with 64 and 128 bits of output: a keyed PRF, so that an HTTP client, which chooses
 * URLs, cannot make two keys collide. Any thread; allocates nothing.
 */
#ifndef ETAG_PROTO_SIPHASH_H
#define ETAG_PROTO_SIPHASH_H

#include "bytes.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SIPHASH_KEY_BYTES 16

struct hash128 {
    uint64_t low, high;
};

static inline bool hash128_equal(struct hash128 a, struct hash128 b)
{
    return a.low == b.low && a.high == b.high;
}

static inline bool hash128_is_zero(struct hash128 hash)
{
    return hash.low == 0 && hash.high == 0;
}

/* The form in keys and records: 16 bytes, little-endian, low half first. */
static inline struct hash128 hash128_load(const void *bytes)
{
    return (struct hash128){load_u64(bytes), load_u64((const uint8_t *)bytes + sizeof(uint64_t))};
}

uint64_t siphash13_64(const uint8_t key[SIPHASH_KEY_BYTES], const void *data, size_t len);
struct hash128 siphash13_128(const uint8_t key[SIPHASH_KEY_BYTES], const void *data, size_t len);

#endif
