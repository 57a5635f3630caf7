/* SPDX-License-Identifier: Apache-2.0 */
/* Little-endian loads and stores at any address; copying of short texts. */
#ifndef ETAG_PROTO_BYTES_H
#define ETAG_PROTO_BYTES_H

#include <stdint.h>
#include <string.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "etagd runs on little-endian machines");

static inline uint16_t load_u16(const void *p)
{
    uint16_t v;

    memcpy(&v, p, sizeof(v));
    return v;
}

static inline uint32_t load_u32(const void *p)
{
    uint32_t v;

    memcpy(&v, p, sizeof(v));
    return v;
}

static inline uint64_t load_u64(const void *p)
{
    uint64_t v;

    memcpy(&v, p, sizeof(v));
    return v;
}

static inline void store_u16(void *p, uint16_t v)
{
    memcpy(p, &v, sizeof(v));
}

static inline void store_u32(void *p, uint32_t v)
{
    memcpy(p, &v, sizeof(v));
}

static inline void store_u64(void *p, uint64_t v)
{
    memcpy(p, &v, sizeof(v));
}

/* memcpy for short texts, used in every lookup: no call, and overlapping moves instead of a loop
 * over bytes. */
static inline void copy_bytes(void *to, const void *from, size_t len)
{
    char *const t = to;
    const char *const f = from;

    if (len > 128) {
        memcpy(t, f, len);
    } else if (len >= 16) {
        for (size_t at = 0; at < len - 16; at += 16)
            memcpy(t + at, f + at, 16);
        memcpy(t + len - 16, f + len - 16, 16);
    } else if (len >= 8) {
        const uint64_t end = load_u64(f + len - 8);
        store_u64(t, load_u64(f));
        store_u64(t + len - 8, end);
    } else if (len >= 4) {
        const uint32_t end = load_u32(f + len - 4);
        store_u32(t, load_u32(f));
        store_u32(t + len - 4, end);
    } else {
        for (size_t i = 0; i < len; i++)
            t[i] = f[i];
    }
}

/* memcmp() == 0 for short texts, used in every lookup: no call. */
static inline int bytes_equal(const void *a, const void *b, size_t len)
{
    const char *const x = a;
    const char *const y = b;

    if (len > 64)
        return memcmp(x, y, len) == 0;
    if (len < 8) {
        for (size_t i = 0; i < len; i++)
            if (x[i] != y[i])
                return 0;
        return 1;
    }
    uint64_t differences = load_u64(x + len - 8) ^ load_u64(y + len - 8);
    for (size_t at = 0; at < len - 8; at += 8)
        differences |= load_u64(x + at) ^ load_u64(y + at);
    return differences == 0;
}

#endif
