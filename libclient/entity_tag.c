/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Entity tags as the grammar has them:
 *
 *   entity-tag = [ %s"W/" ] DQUOTE *etagc DQUOTE          etagc = %x21 / %x23-7E / %x80-FF
 *   #entity-tag, received = [ element ] *( OWS "," OWS [ element ] )
 *
 * So a comma may stand inside a tag, a blank may not, and a list is never split at its commas: a tag is read
 * to its closing quote, eight bytes at a step.
 *
 * And one thing that no grammar has: who compresses our responses on their way (Apache, Jetty, a CDN) may mark the tag,
 * "x" as "x-gzip" or "x--gzip", and often passes it on to us as it is when the client sends it back.
 */
#include "entity_tag.h"

#include "bytes.h"
#include "text.h"

#include <assert.h>

#define EACH_BYTE(b) (UINT64_C(0x0101010101010101) * (b))

/* Bit 7 of each byte that is zero. Bits above the lowest one that is set may lie, that one never does. */
static inline uint64_t zero_bytes(uint64_t word)
{
    return (word - EACH_BYTE(0x01)) & ~word & EACH_BYTE(0x80);
}

/* The same of each byte that no tag may hold: controls, blank, quote, DEL. */
static inline uint64_t foreign_bytes(uint64_t word)
{
    const uint64_t below_0x21 = (word - EACH_BYTE(0x21)) & ~word & EACH_BYTE(0x80);
    return below_0x21 | zero_bytes(word ^ EACH_BYTE('"')) | zero_bytes(word ^ EACH_BYTE(0x7f));
}

static inline bool is_etagc(char c)
{
    const unsigned char byte = (unsigned char)c;
    return byte > 0x20 && byte != '"' && byte != 0x7f;
}

/* How many bytes at the start of text are etagc. */
static inline size_t etagc_span(etag_str text)
{
    size_t at = 0;
    for (; at + sizeof(uint64_t) <= text.len; at += sizeof(uint64_t)) {
        const uint64_t foreign = foreign_bytes(load_u64(text.data + at));
        if (foreign)
            return at + (size_t)__builtin_ctzll(foreign) / 8;
    }
    while (at < text.len && is_etagc(text.data[at]))
        at++;
    return at;
}

/* Reads one tag at the start of text: its length, 0 if there is none. */
static inline size_t tag_read(etag_str text, struct entity_tag *out)
{
    const size_t flag = text.len >= 2 && text.data[0] == 'W' && text.data[1] == '/' ? 2 : 0;
    const etag_str quoted = str_skip(text, flag);
    if (quoted.len < 2 || quoted.data[0] != '"')
        return 0;
    const size_t inside = etagc_span(str_skip(quoted, 1));
    if (inside + 1 == quoted.len || quoted.data[inside + 1] != '"')
        return 0;
    out->weak = flag != 0;
    out->opaque = (etag_str){quoted.data, inside + 2};
    return flag + inside + 2;
}

bool entity_tag_parse(etag_str text, struct entity_tag *out)
{
    return text.len > 0 && tag_read(text, out) == text.len;
}

bool entity_tag_equal_weak(struct entity_tag a, struct entity_tag b)
{
    return str_equal(a.opaque, b.opaque);
}

bool entity_tag_equal_strong(struct entity_tag a, struct entity_tag b)
{
    return !a.weak && !b.weak && str_equal(a.opaque, b.opaque);
}

/* The codings of the IANA registry that such a mark is made of, as they are written there, in lower case: nobody was
 * seen to write another one, or an alias (x-gzip). */
static bool is_coding_mark(etag_str text)
{
    static const etag_str codings[] = {
        {"gzip", 4}, {"br", 2}, {"zstd", 4}, {"deflate", 7}, {"compress", 8}};
    for (size_t i = 0; i < sizeof(codings) / sizeof(codings[0]); i++)
        if (str_equal(text, codings[i]))
            return true;
    return false;
}

/* Costs one comparison of the bytes that both must have; a suffix is as long as a coding's mark or none. */
bool entity_tag_equal_suffixed(struct entity_tag listed, struct entity_tag current)
{
    assert(listed.opaque.len >= 2 && current.opaque.len >= 2); /* parsed: the quotes at least */
    if (listed.opaque.len <= current.opaque.len)
        return str_equal(listed.opaque, current.opaque);
    const size_t stem = current.opaque.len - 1; /* all but the closing quote */
    etag_str suffix = {listed.opaque.data + stem, listed.opaque.len - current.opaque.len};
    if (suffix.data[0] != '-' || memcmp(listed.opaque.data, current.opaque.data, stem) != 0)
        return false;
    suffix = str_skip(suffix, suffix.len >= 2 && suffix.data[1] == '-' ? 2 : 1);
    return is_coding_mark(suffix);
}

int entity_tag_next(etag_str *rest, struct entity_tag *out)
{
    if (rest->len == 0)
        return 0;
    const char *p = rest->data;
    const char *const end = p + rest->len;
    while (p < end && (*p == ',' || char_is_blank(*p)))
        p++;
    *rest = (etag_str){p, (size_t)(end - p)};
    if (p == end)
        return 0;

    const size_t len = tag_read(*rest, out);
    if (len == 0)
        return -1;
    p += len;
    while (p < end && char_is_blank(*p))
        p++;
    if (p < end && *p != ',')
        return -1;
    *rest = (etag_str){p, (size_t)(end - p)};
    return 1;
}
