/* SPDX-License-Identifier: Apache-2.0 */
/* Small operations on etag_str. Comparison without case is as HTTP defines it: ASCII only, no
 * locale. */
#ifndef ETAG_PROTO_TEXT_H
#define ETAG_PROTO_TEXT_H

#include "bytes.h"

#include <etag/etag.h>
#include <string.h>

/* Makes an etag_str of a NUL-terminated string; of NULL an absent one. */
static inline etag_str str_of(const char *text)
{
    return (etag_str){text, text ? strlen(text) : 0};
}

static inline bool str_equal(etag_str a, etag_str b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

static inline char char_lower(char c)
{
    return (c >= 'A' && c <= 'Z') ? (char)(c + ('a' - 'A')) : c;
}

/* Initializes an etag_str of static storage, which ETAG_LIT cannot. */
#define STR_INIT(text)                                                                             \
    {                                                                                              \
        text, sizeof(text) - 1                                                                     \
    }

static inline bool str_equal_nocase(etag_str a, etag_str b)
{
    if (a.len != b.len)
        return false;
    for (size_t i = 0; i < a.len; i++)
        if (char_lower(a.data[i]) != char_lower(b.data[i]))
            return false;
    return true;
}

/* The same for a name that is nearly always spelled as 'usual', which then costs one comparison. */
static inline bool str_is_named(etag_str name, etag_str usual)
{
    return name.len == usual.len &&
           (memcmp(name.data, usual.data, usual.len) == 0 || str_equal_nocase(name, usual));
}

static inline bool str_starts_with(etag_str s, etag_str prefix)
{
    return s.len >= prefix.len && (prefix.len == 0 || memcmp(s.data, prefix.data, prefix.len) == 0);
}

/* Returns s without its first n bytes; n <= s.len. */
static inline etag_str str_skip(etag_str s, size_t n)
{
    return (etag_str){s.data + n, s.len - n};
}

/* Optional white space, OWS of RFC 9110 section 5.6.3. */
static inline bool char_is_blank(char c)
{
    return c == ' ' || c == '\t';
}

/* Returns s without blanks at both ends. */
static inline etag_str str_trim(etag_str s)
{
    while (s.len > 0 && char_is_blank(s.data[0]))
        s = str_skip(s, 1);
    while (s.len > 0 && char_is_blank(s.data[s.len - 1]))
        s.len--;
    return s;
}

/* Reads a number of digits below base (at most 10) and nothing else: no sign, no blank. Returns
 * false if it is empty, has another character, or is over 64 bits; *out is not written then. */
static inline bool str_number(etag_str s, unsigned base, uint64_t *out)
{
    uint64_t value = 0;

    for (size_t i = 0; i < s.len; i++) {
        const unsigned digit = (unsigned)((unsigned char)s.data[i] - '0');
        if (digit >= base || __builtin_mul_overflow(value, base, &value) ||
            __builtin_add_overflow(value, digit, &value))
            return false;
    }
    if (s.len > 0)
        *out = value;
    return s.len > 0;
}

/* RFC 9110 section 5.6.2: tchar. */
static inline bool char_is_token(char c)
{
    const char lower = char_lower(c);

    return (lower >= 'a' && lower <= 'z') || (c >= '0' && c <= '9') ||
           (c != '\0' && strchr("!#$%&'*+-.^_`|~", c));
}

/* Returns whether s is a token (one or more tchar): a field name or method. */
static inline bool str_is_token(etag_str s)
{
    for (size_t i = 0; i < s.len; i++)
        if (!char_is_token(s.data[i]))
            return false;
    return s.len > 0;
}

/* Returns whether s may be sent as the value of a header field: no control characters but the tab
 * (RFC 9110 section 5.5). It tests eight bytes at a time, since every answer from memory calls it:
 * the high bits of a word say whether one of its bytes is below a space, or DEL. */
static inline bool str_is_field_value(etag_str s)
{
    const uint64_t ones = UINT64_C(0x0101010101010101), high = ones << 7;
    size_t at = 0;

    for (; s.len - at >= sizeof(uint64_t); at += sizeof(uint64_t)) {
        const uint64_t word = load_u64(s.data + at), as_del = word ^ ones * 0x7f;
        const uint64_t suspects = ((word - ones * ' ') & ~word) | ((as_del - ones) & ~as_del);
        if (__builtin_expect((suspects & high) != 0, 0))
            break;
    }
    for (; at < s.len; at++) {
        const uint8_t byte = (uint8_t)s.data[at];
        if ((byte < ' ' && byte != '\t') || byte == 0x7f)
            return false;
    }
    return true;
}

#endif
