/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Keys: their canonical bytes and fingerprint; and the clocks to which targets hash.
 *
 * The canonical bytes of a key are unambiguous: each part stands behind its length, the vary fields
 * are sorted by lower-case name, an absent value is not an empty one. The fingerprint is
 * SipHash-1-3-128 of them. Clocks: a target hashes to one clock of the array under a first byte
 * that says what it is, so that the surrogate key "x" and the resource "x" are two targets. Clock 0
 * is the floor; no target hashes to it.
 */
#ifndef ETAG_PROTO_KEY_H
#define ETAG_PROTO_KEY_H

#include "resource.h"
#include "surrogate.h"

/* Canonical resource, canonical bytes and fingerprint of one key. Large: lives in the caller's
 * scratch. */
struct key {
    struct resource resource;
    size_t len;
    uint8_t bytes[KEY_BYTES_MAX];
};

/* NULL, or what is wrong as a sentence (static text). in: borrowed. Rule NO_DOT_SEGMENTS
 * (resource.h): a path with dot segments is in no key. */
MUST_USE const char *key_canonicalize(struct key *out, const etag_key *in);

/* The same without that rule: for keys that an older release stored. */
MUST_USE const char *key_canonicalize_stored(struct key *out, const etag_key *in);

/* The parts of canonical bytes, pointing into them: the inverse of key_canonicalize. vary: room for
 * VARY_COUNT_MAX fields. False: the bytes are not a key (they come from a damaged store). */
MUST_USE bool key_parse(etag_str bytes, etag_key *out, etag_field vary[VARY_COUNT_MAX]);

/* Never {0, 0}: that marks an empty slot. */
struct hash128 key_fingerprint(const uint8_t hash_key[SIPHASH_KEY_BYTES], const struct key *key);

/* NULL, or what is wrong with a surrogate key: empty, over SURROGATE_BYTES_MAX, bytes outside
 * 0x21-0x7e. */
MUST_USE const char *surrogate_check(etag_str name);

/* The same of a family, which has a name too. */
MUST_USE const char *surrogate_family_check(etag_str family);

/* What kind of target; the value is hashed with the name, so it is part of the format. */
enum target_kind {
    TARGET_EVERYTHING = 0,
    TARGET_RESOURCE = 'r',
    TARGET_PREFIX = 'p',
    TARGET_SURROGATE = 's',
    TARGET_FAMILY = 'f',
};

#define CLOCK_FLOOR 0u
/* Of the groups of surrogate keys, each its own: 1 to SURROGATE_GROUPS. They move so often that
 * whatever shared one with them would be stale most of the time. */
#define CLOCK_GROUPS 1u
/* Of all families: each mutation of a family moves it. */
#define CLOCK_FAMILIES (CLOCK_GROUPS + SURROGATE_GROUPS)
/* From here on those of families, which share them with nothing else: thousands of entries have the
 * same one, and a name that moved it would make all of them stale. */
#define CLOCKS_FIXED (CLOCK_FAMILIES + 1)
#define CLOCKS_OF_FAMILIES(clock_count) ((clock_count) / 16)

/* The clock of a target: behind those of families, but for the names of groups. clock_count: a
 * power of two. */
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
/* family: surrogate_family() is made of it, so that "uploads:*" does as well. */
uint32_t clock_of_family(const uint8_t hash_key[SIPHASH_KEY_BYTES], uint32_t clock_count,
                         etag_str family);

/* The clocks of an entry's families; returns how many. */
size_t clocks_of_families(const uint8_t hash_key[SIPHASH_KEY_BYTES], uint32_t clock_count,
                          const struct surrogate_families *families,
                          uint32_t out[FAMILIES_PER_ENTRY_MAX]);

#endif
