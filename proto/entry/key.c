/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Canonical bytes, version 1, and fingerprints, version 2 (changing either orphans every stored
 * entry; tests/cases/keys.tsv has golden fingerprints). All lengths come first, little-endian, so
 * that the bytes are unambiguous and a parser need not read the texts. The header is one word, so
 * that hashing it does not wait for smaller stores.
 *
 *   u16 target, u8 host, u8 scope, u8 release, u8 scope kind, u8 vary fields, u8 scheme
 *   host, target (path and query), scope name, release, scheme in lower case
 *   per vary field, ascending by name:  u16 name, u16 value (0xffff: absent); name in lower case,
 *                                       value
 *
 * An empty host, scope name, release or scheme is the same as an absent one.
 */
#include "key.h"

#include "bytes.h"
#include "text.h"

#include <assert.h>
#include <string.h>

#define KEY_HEADER_BYTES 8u
#define VARY_HEADER_BYTES 4u

_Static_assert(KEY_HEADER_BYTES + HOST_BYTES_MAX + TARGET_BYTES_MAX + SCOPE_BYTES_MAX +
                       RELEASE_BYTES_MAX + SCHEME_BYTES_MAX +
                       VARY_COUNT_MAX *
                           (VARY_HEADER_BYTES + VARY_NAME_BYTES_MAX + VARY_VALUE_BYTES_MAX) <=
                   KEY_BYTES_MAX,
               "a key within its limits fits");
_Static_assert(HOST_BYTES_MAX <= UINT8_MAX && SCOPE_BYTES_MAX <= UINT8_MAX &&
                   RELEASE_BYTES_MAX <= UINT8_MAX && VARY_COUNT_MAX <= UINT8_MAX,
               "one byte a length");
_Static_assert(CLOCKS_FIXED + CLOCKS_OF_FAMILIES(CLOCKS_MIN) < CLOCKS_MIN, "each kind has clocks");
_Static_assert(TARGET_BYTES_MAX <= UINT16_MAX && VARY_VALUE_BYTES_MAX < VARY_ABSENT, "two bytes");

/* ---- Canonical bytes ------------------------------------------------------------------------- */

static const char *scope_check(etag_scope scope)
{
    switch (scope.kind) {
    case ETAG_SCOPE_UNSET:
        return "the key has no scope: say ETAG_SCOPE_PUBLIC if the representation is the same for "
               "everybody, else ETAG_SCOPE_NAMED and whose it is";
    case ETAG_SCOPE_PUBLIC:
        return scope.name.len == 0 ? NULL : "a public scope has a name: did you mean a named one?";
    case ETAG_SCOPE_NAMED:
        return scope.name.len >= 1 && scope.name.len <= SCOPE_BYTES_MAX
                   ? NULL
                   : "the name of a scope has 1 to 255 bytes";
    }
    return "the key's scope is of an unknown kind";
}

/* In lower case. RFC 3986 section 3.1: a letter, then letters, digits, "+-.". */
static const char *put_scheme(uint8_t *to, etag_str scheme)
{
    if (str_equal(scheme, ETAG_LIT("https")) || str_equal(scheme, ETAG_LIT("http"))) {
        memcpy(to, scheme.data, scheme.len);
        return NULL;
    }
    if (scheme.len > SCHEME_BYTES_MAX)
        return "the scheme is longer than 16 bytes";
    for (size_t i = 0; i < scheme.len; i++) {
        const char c = char_lower(scheme.data[i]);
        const bool other = (c >= '0' && c <= '9') || c == '+' || c == '-' || c == '.';
        if (!(c >= 'a' && c <= 'z') && !(other && i > 0))
            return "the scheme is not a URI scheme such as \"https\"";
        to[i] = (uint8_t)c;
    }
    return NULL;
}

static const char *vary_check(const etag_field *field)
{
    if (field->name.len > VARY_NAME_BYTES_MAX || !str_is_token(field->name))
        return "a vary field's name is not a header field name of 1 to 64 bytes";
    if (field->value.len > VARY_VALUE_BYTES_MAX)
        return "a vary field's value is longer than 1024 bytes";
    return NULL;
}

int key_vary_compare(etag_str a, etag_str b)
{
    for (size_t i = 0; i < a.len && i < b.len; i++) {
        const int difference = char_lower(a.data[i]) - char_lower(b.data[i]);
        if (difference != 0)
            return difference;
    }
    return (a.len > b.len) - (a.len < b.len);
}

/* Checks the fields and points to them in ascending order. */
static const char *vary_sort(const etag_key *in, const etag_field *sorted[VARY_COUNT_MAX])
{
    if (in->vary_count > VARY_COUNT_MAX)
        return "the key has more than 16 vary fields";
    for (size_t i = 0; i < in->vary_count; i++) {
        const etag_field *const field = &in->vary[i];
        const char *wrong = vary_check(field);
        if (wrong)
            return wrong;
        size_t at = i;
        for (; at > 0; at--) {
            const int order = key_vary_compare(sorted[at - 1]->name, field->name);
            if (order == 0)
                return "a vary field is twice in the key";
            if (order < 0)
                break;
            sorted[at] = sorted[at - 1];
        }
        sorted[at] = field;
    }
    return NULL;
}

static inline uint8_t *put_bytes(uint8_t *to, etag_str bytes)
{
    copy_bytes(to, bytes.data, bytes.len);
    return to + bytes.len;
}

static uint8_t *put_vary(uint8_t *to, const etag_field *field)
{
    const bool absent = !field->value.data;

    store_u16(to, (uint16_t)field->name.len);
    store_u16(to + 2, absent ? VARY_ABSENT : (uint16_t)field->value.len);
    to += VARY_HEADER_BYTES;
    for (size_t i = 0; i < field->name.len; i++)
        *to++ = (uint8_t)char_lower(field->name.data[i]);
    return absent ? to : put_bytes(to, field->value);
}

static inline const char *canonicalize(struct key *out, const etag_key *in)
{
    const etag_field *sorted[VARY_COUNT_MAX];
    const char *wrong = scope_check(in->scope);

    if (!wrong && in->release.len > RELEASE_BYTES_MAX)
        wrong = "the release is longer than 255 bytes";
    if (!wrong && in->vary_count > 0)
        wrong = vary_sort(in, sorted);
    if (!wrong)
        wrong = resource_canonicalize(&out->resource, &in->resource);
    if (wrong)
        return wrong;

    const struct resource *const r = &out->resource;
    const uint64_t header = (uint64_t)(r->total_len - r->host_len) | (uint64_t)r->host_len << 16 |
                            (uint64_t)in->scope.name.len << 24 | (uint64_t)in->release.len << 32 |
                            (uint64_t)in->scope.kind << 40 | (uint64_t)in->vary_count << 48 |
                            (uint64_t)in->scheme.len << 56;
    store_u64(out->bytes, header);
    uint8_t *to = put_bytes(out->bytes + KEY_HEADER_BYTES, (etag_str){r->bytes, r->total_len});
    to = put_bytes(to, in->scope.name);
    to = put_bytes(to, in->release);
    if (in->scheme.len > 0) {
        wrong = put_scheme(to, in->scheme);
        if (wrong)
            return wrong;
        to += in->scheme.len;
    }
    for (size_t i = 0; i < in->vary_count; i++)
        to = put_vary(to, sorted[i]);
    out->len = (size_t)(to - out->bytes);
    assert(out->len <= KEY_BYTES_MAX);
    return NULL;
}

const char *key_canonicalize(struct key *out, const etag_key *in)
{
    const char *wrong = canonicalize(out, in);

    if (!wrong && out->resource.dotted)
        return "the path has dot segments, which servers read in different ways: nothing is cached "
               "under it";
    return wrong;
}

const char *key_canonicalize_stored(struct key *out, const etag_key *in)
{
    return canonicalize(out, in);
}

/* ---- And back -------------------------------------------------------------------------------- */

/* Takes len bytes off the front of *from; false if it has fewer. */
static bool take_bytes(etag_str *from, size_t len, etag_str *out)
{
    if (len > from->len)
        return false;
    *out = (etag_str){from->data, len};
    *from = str_skip(*from, len);
    return true;
}

/* The same for a part that is absent where it is empty. */
static bool take_part(etag_str *from, size_t len, etag_str *out)
{
    const bool taken = take_bytes(from, len, out);

    if (len == 0)
        *out = (etag_str){NULL, 0};
    return taken;
}

static bool take_scheme(etag_str *from, size_t len, etag_str *out)
{
    uint8_t lowered[SCHEME_BYTES_MAX];

    return take_part(from, len, out) && !put_scheme(lowered, *out) &&
           (len == 0 || memcmp(lowered, out->data, len) == 0);
}

static bool take_vary(etag_str *from, etag_field *out)
{
    etag_str header;

    if (!take_bytes(from, VARY_HEADER_BYTES, &header))
        return false;
    const uint16_t value_len = load_u16(header.data + 2);
    out->value = (etag_str){NULL, 0};
    if (!take_bytes(from, load_u16(header.data), &out->name))
        return false;
    for (size_t i = 0; i < out->name.len; i++)
        if (char_lower(out->name.data[i]) != out->name.data[i])
            return false;
    if (value_len != VARY_ABSENT && !take_bytes(from, value_len, &out->value))
        return false;
    return !vary_check(out);
}

bool key_parse(etag_str bytes, etag_key *out, etag_field vary[VARY_COUNT_MAX])
{
    etag_str header;

    ETAG_INIT(out);
    if (!take_bytes(&bytes, KEY_HEADER_BYTES, &header))
        return false;
    const uint8_t *const lens = (const uint8_t *)header.data;
    const uint16_t target_len = load_u16(lens);
    const uint8_t scope_kind = lens[5], vary_count = lens[6];
    if (target_len == 0 || target_len > TARGET_BYTES_MAX || scope_kind > ETAG_SCOPE_NAMED ||
        vary_count > VARY_COUNT_MAX || lens[7] > SCHEME_BYTES_MAX)
        return false;
    out->scope.kind = (etag_scope_kind)scope_kind;
    if (!take_part(&bytes, lens[2], &out->resource.host) ||
        !take_bytes(&bytes, target_len, &out->resource.target) ||
        !take_part(&bytes, lens[3], &out->scope.name) ||
        !take_part(&bytes, lens[4], &out->release) || !take_scheme(&bytes, lens[7], &out->scheme))
        return false;
    for (size_t i = 0; i < vary_count; i++) {
        if (!take_vary(&bytes, &vary[i]))
            return false;
        if (i > 0 && key_vary_compare(vary[i - 1].name, vary[i].name) >= 0)
            return false;
    }
    out->vary = vary;
    out->vary_count = vary_count;
    return bytes.len == 0 && out->resource.target.data[0] == '/' && !scope_check(out->scope);
}

/* ---- Fingerprint and clocks ------------------------------------------------------------------ */

/* Where the parts of canonical bytes are. */
struct key_parts {
    uint64_t lengths;
    etag_str host, target, scope, release, scheme;
    /* the first vary field */
    const uint8_t *vary;
    size_t vary_count;
};

static struct key_parts parts_of(const struct key *key)
{
    const char *at = (const char *)key->bytes + KEY_HEADER_BYTES;
    struct key_parts p = {.lengths = load_u64(key->bytes), .vary_count = key->bytes[6]};

    p.host = (etag_str){at, key->bytes[2]};
    p.target = (etag_str){at += p.host.len, load_u16(key->bytes)};
    p.scope = (etag_str){at += p.target.len, key->bytes[3]};
    p.release = (etag_str){at += p.scope.len, key->bytes[4]};
    p.scheme = (etag_str){at += p.release.len, key->bytes[7]};
    p.vary = (const uint8_t *)at + p.scheme.len;
    return p;
}

/* The part at 'at', and the place of the next one. */
static const uint8_t *vary_at(const uint8_t *at, etag_field *out)
{
    const uint16_t name_len = load_u16(at), value_len = load_u16(at + 2);
    const char *const name = (const char *)at + VARY_HEADER_BYTES;

    out->name = (etag_str){name, name_len};
    out->value = value_len == VARY_ABSENT ? (etag_str){NULL, 0}
                                          : (etag_str){name + name_len, value_len};
    return (const uint8_t *)name + name_len + out->value.len;
}

static inline void absorb_str(struct sip_state *s, etag_str part)
{
    sip_absorb_part(s, part.data, part.len);
}

struct sip_state key_site_state(const uint8_t hash_key[SIPHASH_KEY_BYTES], const struct key *key)
{
    const struct key_parts p = parts_of(key);
    struct sip_state s = sip_begin(hash_key, SIP_TWEAK_128);
    const uint8_t *at = p.vary;

    sip_absorb(&s, p.lengths & KEY_SITE_LENGTHS);
    absorb_str(&s, p.host);
    absorb_str(&s, p.release);
    absorb_str(&s, p.scheme);
    for (size_t i = 0; i < p.vary_count; i++) {
        etag_field field;
        at = vary_at(at, &field);
        sip_absorb(&s, field.name.len);
        absorb_str(&s, field.name);
    }
    return s;
}

struct hash128 key_fingerprint_after(struct sip_state site, const struct key *key)
{
    const struct key_parts p = parts_of(key);
    const uint8_t *at = p.vary;

    sip_absorb(&site, p.lengths & ~KEY_SITE_LENGTHS);
    absorb_str(&site, p.target);
    absorb_str(&site, p.scope);
    for (size_t i = 0; i < p.vary_count; i++) {
        etag_field field;
        at = vary_at(at, &field);
        sip_absorb(&site, field.value.data ? field.value.len : VARY_ABSENT);
        absorb_str(&site, field.value);
    }
    return key_fingerprint_end(&site);
}

struct hash128 key_fingerprint(const uint8_t hash_key[SIPHASH_KEY_BYTES], const struct key *key)
{
    return key_fingerprint_after(key_site_state(hash_key, key), key);
}

const char *surrogate_check(etag_str name)
{
    if (name.len == 0 || name.len > SURROGATE_BYTES_MAX)
        return "a surrogate key has 1 to 255 bytes";
    for (size_t i = 0; i < name.len; i++)
        if (name.data[i] < '!' || name.data[i] > '~')
            return "a surrogate key contains a space, a control character or a byte above 0x7e";
    return NULL;
}

const char *surrogate_family_check(etag_str family)
{
    return surrogate_family(family).len == 0
               ? "a family of surrogate keys is what they have before their first colon, which is "
                 "empty here"
               : surrogate_check(family);
}

/* Kind, length of the first part, first part, second part: so that "a" + "/b" is not "a/" + "b". */
static uint32_t clock_of(const uint8_t hash_key[SIPHASH_KEY_BYTES], uint32_t clock_count,
                         enum target_kind kind, etag_str first, etag_str second)
{
    uint8_t bytes[3 + HOST_BYTES_MAX + TARGET_BYTES_MAX];
    const uint32_t families = CLOCKS_OF_FAMILIES(clock_count);
    const uint32_t from = kind == TARGET_FAMILY ? CLOCKS_FIXED : CLOCKS_FIXED + families;
    const uint32_t count = kind == TARGET_FAMILY ? families : clock_count - from;

    assert(clock_count >= CLOCKS_MIN && 3 + first.len + second.len <= sizeof(bytes));
    bytes[0] = (uint8_t)kind;
    store_u16(bytes + 1, (uint16_t)first.len);
    const uint8_t *const end = put_bytes(put_bytes(bytes + 3, first), second);
    const uint64_t hash = siphash13_64(hash_key, bytes, (size_t)(end - bytes));
    return from + (uint32_t)(((unsigned __int128)hash * count) >> 64);
}

uint32_t clock_of_resource(const uint8_t hash_key[SIPHASH_KEY_BYTES], uint32_t clock_count,
                           const struct resource *r)
{
    return clock_of(hash_key, clock_count, TARGET_RESOURCE, resource_host(r), resource_target(r));
}

uint32_t clock_of_prefix(const uint8_t hash_key[SIPHASH_KEY_BYTES], uint32_t clock_count,
                         const struct resource *r, size_t prefix_len)
{
    assert(prefix_len >= 1 && prefix_len <= r->path_len);
    const etag_str prefix = {r->bytes + r->host_len, prefix_len};
    return clock_of(hash_key, clock_count, TARGET_PREFIX, resource_host(r), prefix);
}

uint32_t clock_of_surrogate(const uint8_t hash_key[SIPHASH_KEY_BYTES], uint32_t clock_count,
                            etag_str name)
{
    uint32_t group;

    if (name.len > 0 && name.data[0] == '~' && surrogate_is_group(name, &group))
        return clock_of_group(group);
    return clock_of(hash_key, clock_count, TARGET_SURROGATE, name, (etag_str){NULL, 0});
}

uint32_t clock_of_family(const uint8_t hash_key[SIPHASH_KEY_BYTES], uint32_t clock_count,
                         etag_str family)
{
    return clock_of(hash_key, clock_count, TARGET_FAMILY, surrogate_family(family),
                    (etag_str){NULL, 0});
}

void family_clocks_of(struct family_clocks *out, const uint8_t hash_key[SIPHASH_KEY_BYTES],
                      uint32_t clock_count, const etag_str *surrogates, size_t surrogate_count)
{
    const struct surrogate_families *const families = &out->families;

    surrogate_families_of(&out->families, surrogates, surrogate_count);
    out->count = families->all ? 1 : families->count;
    if (families->all)
        out->clocks[0] = CLOCK_FAMILIES;
    for (size_t i = 0; i < families->count; i++)
        out->clocks[i] = clock_of(hash_key, clock_count, TARGET_FAMILY, families->names[i],
                                  (etag_str){NULL, 0});
}
