/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SipHash-1-3 with 64 and 128 bits of output: a keyed PRF, so that a client who chooses URLs cannot make
 * two keys meet. Any thread; no memory.
 */
#ifndef ETAG_PROTO_SIPHASH_H
#define ETAG_PROTO_SIPHASH_H

#include <stddef.h>
#include <stdint.h>

#define SIPHASH_KEY_BYTES 16

struct hash128 {
    uint64_t low, high;
};

uint64_t siphash13_64(const uint8_t key[SIPHASH_KEY_BYTES], const void *data, size_t len);
struct hash128 siphash13_128(const uint8_t key[SIPHASH_KEY_BYTES], const void *data, size_t len);

#endif
