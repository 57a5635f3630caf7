/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Entity tags as the grammar has them:
 *
 *   entity-tag = [ %s"W/" ] DQUOTE *etagc DQUOTE          etagc = %x21 / %x23-7E / %x80-FF
 *   #entity-tag, received = [ element ] *( OWS "," OWS [ element ] )
 *
 * So a tag may contain a comma but no blank, and a list can't be split at its commas: a tag is read
 * to its closing quote, sixteen bytes at a step.
 *
 * One case is in no grammar: a server or CDN that compresses our responses on their way (Apache,
 * Jetty) may mark the tag, "x" as "x-gzip" or "x--gzip", and often passes the marked tag on to us
 * when the client sends it back.
 */
#include "entity_tag.h"

#include "bytes.h"
#include "numbers.h"
#include "text.h"

#include <assert.h>

#define STEP 16

/* The compiler knows what the machine has for it. */
typedef uint8_t bytes16 __attribute__((vector_size(STEP)));

/* What no tag may hold: controls, blank, quote, DEL. */
static inline bool is_foreign(uint8_t byte)
{
    return byte <= 0x20 || byte == '"' || byte == 0x7f;
}

/* 0xff for each foreign byte of sixteen, else 0. */
static inline bytes16 foreign_bytes(const char *p)
{
    bytes16 bytes;

    memcpy(&bytes, p, STEP);
    return (bytes16)(bytes <= 0x20) | (bytes16)(bytes == '"') | (bytes16)(bytes == 0x7f);
}

bool entity_tag_may_hold(const char *bytes, size_t len)
{
    if (len < STEP) {
        bool foreign = false;
        for (size_t i = 0; i < len; i++)
            foreign |= is_foreign((uint8_t)bytes[i]);
        return !foreign;
    }
    bytes16 foreign = foreign_bytes(bytes + len - STEP); /* over bytes that are seen twice */
    for (size_t at = 0; at < len - STEP; at += STEP)
        foreign |= foreign_bytes(bytes + at);
    uint64_t halves[2];
    memcpy(halves, &foreign, STEP);
    return (halves[0] | halves[1]) == 0;
}

/* The place of the first foreign byte of sixteen; STEP: none. */
static inline size_t first_foreign(const char *p)
{
    const bytes16 foreign = foreign_bytes(p);
    uint64_t halves[2];

    memcpy(halves, &foreign, STEP);
    if ((halves[0] | halves[1]) == 0)
        return STEP;
    return halves[0] ? (size_t)__builtin_ctzll(halves[0]) / 8
                     : 8 + (size_t)__builtin_ctzll(halves[1]) / 8;
}

/* How many bytes at the start of text are etagc. The last step of a text that is long enough goes
 * over bytes that were seen before. */
static inline size_t etagc_span(etag_str text)
{
    size_t at = 0;

    for (; at + STEP <= text.len; at += STEP) {
        const size_t first = first_foreign(text.data + at);
        if (first < STEP)
            return at + first;
    }
    if (at > 0 && at < text.len) {
        const size_t last = text.len - STEP;
        return last + first_foreign(text.data + last);
    }
    while (at < text.len && !is_foreign((uint8_t)text.data[at]))
        at++;
    return at;
}

/* Reads one tag at the start of text: its length, 0 if there is none. */
static inline size_t tag_read(etag_str text, struct entity_tag *out)
{
    const struct entity_tag all = entity_tag_divide(text);

    if (all.opaque.len < 2 || all.opaque.data[0] != '"')
        return 0;
    const size_t inside = etagc_span(str_skip(all.opaque, 1));
    if (inside + 1 == all.opaque.len || all.opaque.data[inside + 1] != '"')
        return 0;
    out->weak = all.weak;
    out->opaque = (etag_str){all.opaque.data, inside + 2};
    return text.len - all.opaque.len + out->opaque.len;
}

/* The codings of the IANA registry that such a mark is made of, as they are written there, in lower
* case: no server was seen to write another one, or an alias (x-gzip). */
static bool is_coding_mark(etag_str text)
{
    static const etag_str codings[] = {
        {"gzip", 4}, {"br", 2}, {"zstd", 4}, {"deflate", 7}, {"compress", 8}};

    for (size_t i = 0; i < COUNT_OF(codings); i++)
        if (str_equal(text, codings[i]))
            return true;
    return false;
}

/* Costs one comparison of the bytes that both must have; a suffix is as long as a coding's mark or
 * none. */
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
