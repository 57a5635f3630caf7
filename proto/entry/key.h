/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Keys: their canonical bytes and fingerprint; and the clocks to which targets hash.
 *
 * The canonical bytes of a key are unambiguous: the length of each part comes before it, the vary
 * fields are sorted by lower-case name, and an absent value differs from an empty one. The
 * fingerprint is the SipHash-1-3-128 of the same parts in another order, in which what the keys of
 * a site have alike comes first (key_site_state()). Clocks: a target is hashed together with a
 * first byte for its kind, so that the surrogate key "x" and the resource "x" are two targets, and
 * the hash selects one clock of the array. Clock 0 is the floor; no target hashes to it.
 */
#ifndef ETAG_PROTO_KEY_H
#define ETAG_PROTO_KEY_H

#include "resource.h"
#include "siphash_rounds.h"
#include "surrogate.h"

/* Canonical resource and canonical bytes of one key. Large, so keep it in a scratch and not on a
 * stack. */
struct key {
    struct resource resource;
    size_t len;
    uint8_t bytes[KEY_BYTES_MAX];
};

/* Makes the canonical form of a key. in: borrowed. Returns NULL, or what is wrong as a sentence
 * (static text). Rule NO_DOT_SEGMENTS (resource.h): refuses a path with dot segments. */
MUST_USE const char *key_canonicalize(struct key *out, const etag_key *in);

/* The same without that rule, for keys that an older release stored. */
MUST_USE const char *key_canonicalize_stored(struct key *out, const etag_key *in);

/* Splits canonical bytes into the parts of a key, which point into them: the inverse of
 * key_canonicalize(). vary: room for VARY_COUNT_MAX fields. Returns false if the bytes are no key
 * (they come from a damaged store). */
MUST_USE bool key_parse(etag_str bytes, etag_key *out, etag_field vary[VARY_COUNT_MAX]);

/* Returns the fingerprint, never {0, 0}, which marks an empty slot. */
struct hash128 key_fingerprint(const uint8_t hash_key[SIPHASH_KEY_BYTES], const struct key *key);

/*
 * The fingerprint hashes words of eight bytes (sip_absorb_part() makes them of a part).
 *
 *   site   the lengths of host, release and scheme and the number of vary fields; host, release,
 *          scheme; of each vary field, in ascending order, the length of the name, then the name
 *   rest   the lengths of target and scope name, and the scope's kind; target, scope name; of each
 *          vary field, in the same order, the length of the value or VARY_ABSENT, then the value
 *
 * No two keys give the same words, and the words of one never begin those of another: read from the
 * left, each length or number is there before the parts that it counts, so the parts and the end
 * follow from the words. That is why the hash needs no length of its own at the end.
 */

/* The hash's state after the site. */
struct sip_state key_site_state(const uint8_t hash_key[SIPHASH_KEY_BYTES], const struct key *key);

/* The fingerprint from that state. */
struct hash128 key_fingerprint_after(struct sip_state site, const struct key *key);

/* Lengths as they are in the key's first word, those of the site and of the rest alone. */
#define KEY_SITE_LENGTHS UINT64_C(0xffff00ff00ff0000)
#define VARY_ABSENT 0xffffu

static inline uint64_t key_lengths_of_rest(size_t target_len, etag_scope scope)
{
    return (uint64_t)target_len | (uint64_t)scope.name.len << 24 | (uint64_t)scope.kind << 40;
}

/* {0, 0} is not used. */
static inline struct hash128 key_fingerprint_end(struct sip_state *state)
{
    struct hash128 hash = sip_end_128(state);

    if (__builtin_expect(hash128_is_zero(hash), 0))
        hash.low = 1;
    return hash;
}

/* Compares names of vary fields as memcmp does, without case; a name goes before the names that it
 * begins. */
int key_vary_compare(etag_str a, etag_str b);

/* Checks a surrogate key. Returns NULL, or what is wrong: it is empty, over SURROGATE_BYTES_MAX, or
 * has bytes outside 0x21-0x7e. */
MUST_USE const char *surrogate_check(etag_str name);

/* The same for the name of a family. */
MUST_USE const char *surrogate_family_check(etag_str family);

/* The kind of a target. The value is hashed together with the name, so it is part of the format. */
enum target_kind {
    TARGET_EVERYTHING = 0,
    TARGET_RESOURCE = 'r',
    TARGET_PREFIX = 'p',
    TARGET_SURROGATE = 's',
    TARGET_FAMILY = 'f',
};

#define CLOCK_FLOOR 0u
/* Clocks 1 to SURROGATE_GROUPS: one for each group of surrogate keys. They move so often that a
 * target sharing one with a group would be stale most of the time. */
#define CLOCK_GROUPS 1u
/* The clock of all families: each mutation of a family moves it. */
#define CLOCK_FAMILIES (CLOCK_GROUPS + SURROGATE_GROUPS)
/* From this number on the clocks of families, which no other kind of target shares: thousands of
 * entries may depend on one, and a name that shared it would make all of them stale. */
#define CLOCKS_FIXED (CLOCK_FAMILIES + 1)
#define CLOCKS_OF_FAMILIES(clock_count) ((clock_count) / 16)

/* Returns the clock of a target: one after those of families, but the name of a group has the
 * group's own clock. clock_count: a power of two. */
uint32_t clock_of_resource(const uint8_t hash_key[SIPHASH_KEY_BYTES], uint32_t clock_count,
                           const struct resource *r);
uint32_t clock_of_prefix(const uint8_t hash_key[SIPHASH_KEY_BYTES], uint32_t clock_count,
                         const struct resource *r, size_t prefix_len);
static inline uint32_t clock_of_group(uint32_t group)
{
    return CLOCK_GROUPS + group;
}
uint32_t clock_of_surrogate(const uint8_t hash_key[SIPHASH_KEY_BYTES], uint32_t clock_count,
                            etag_str name);
/* Returns the clock of a family. family: passed through surrogate_family(), so "uploads:*" is the
 * same as "uploads". */
uint32_t clock_of_family(const uint8_t hash_key[SIPHASH_KEY_BYTES], uint32_t clock_count,
                         etag_str family);

/* The families of an entry, each with its clock. */
struct family_clocks {
    struct surrogate_families families;
    uint32_t clocks[FAMILIES_PER_ENTRY_MAX];
    /* of clocks: the one of all families, or one for each */
    size_t count;
};

/* surrogates: of the entry, as they are sent; borrowed. */
void family_clocks_of(struct family_clocks *out, const uint8_t hash_key[SIPHASH_KEY_BYTES],
                      uint32_t clock_count, const etag_str *surrogates, size_t surrogate_count);

#endif
