/* SPDX-License-Identifier: Apache-2.0 */
/* Strict: what another program would read otherwise than we do is not read at all. */
#include "base64.h"

#define NO_DIGIT 64u

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static void group_put(char out[4], uint32_t bits)
{
    for (unsigned i = 0; i < 4; i++)
        out[i] = digits[bits >> (18 - 6 * i) & 63];
}

void base64_encode(char *out, etag_str bytes)
{
    const uint8_t *const from = (const uint8_t *)bytes.data;
    size_t at = 0;

    for (; bytes.len - at >= 3; at += 3, out += 4)
        group_put(out, (uint32_t)from[at] << 16 | (uint32_t)from[at + 1] << 8 | from[at + 2]);
    if (bytes.len - at == 0)
        return;
    const bool two = bytes.len - at == 2;
    group_put(out, (uint32_t)from[at] << 16 | (two ? (uint32_t)from[at + 1] << 8 : 0));
    out[3] = '=';
    if (!two)
        out[2] = '=';
}

static uint32_t digit_of(char c)
{
    if (c >= 'A' && c <= 'Z')
        return (uint32_t)(c - 'A');
    if (c >= 'a' && c <= 'z')
        return (uint32_t)(c - 'a') + 26;
    if (c >= '0' && c <= '9')
        return (uint32_t)(c - '0') + 52;
    return c == '+' ? 62 : c == '/' ? 63 : NO_DIGIT;
}

/* A group of 2, 3 or 4 digits. False: one of them is none, or has bits that belong to no byte. */
static bool group_get(const char *text, unsigned count, uint32_t *bits)
{
    *bits = 0;
    for (unsigned i = 0; i < count; i++) {
        const uint32_t digit = digit_of(text[i]);
        if (digit == NO_DIGIT)
            return false;
        *bits |= digit << (18 - 6 * i);
    }
    return count == 4 || (*bits & (count == 3 ? 0xffu : 0xffffu)) == 0;
}

bool base64_decode(uint8_t *out, size_t *len, etag_str text)
{
    uint32_t bits;

    *len = 0;
    if (text.len % 4 != 0)
        return false;
    for (size_t at = 0; at < text.len; at += 4) {
        const char *const group = text.data + at;
        unsigned count = 4;
        if (at + 4 == text.len && group[3] == '=')
            count = group[2] == '=' ? 2 : 3;
        if (!group_get(group, count, &bits))
            return false;
        for (unsigned i = 0; i < count - 1; i++)
            out[(*len)++] = (uint8_t)(bits >> (16 - 8 * i));
    }
    return true;
}
