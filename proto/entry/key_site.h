/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The short way to a fingerprint. The keys of one site have their host, scheme, release and the
 * names of their vary fields alike, so the hash's state after those is kept. The rest is hashed
 * from the caller's strings as they are.
 *
 * Whether they are canonical is asked afterwards, if at all. Different strings give different words
 * (key.h), and every entry is under the fingerprint of a canonical key: so who finds an entry under
 * the fingerprint of strings knows that they were canonical. Who finds none asks
 * key_is_canonical().
 *
 * key_canonicalize() and key_fingerprint() remain the truth, and the only way to refuse a key.
 */
#ifndef ETAG_PROTO_KEY_SITE_H
#define ETAG_PROTO_KEY_SITE_H

#include "key.h"

/* A site with more, or longer parts, is not kept. */
#define SITE_HOST_BYTES_MAX 64u
#define SITE_RELEASE_BYTES_MAX 64u
#define SITE_VARY_MAX 4u
#define SITE_NAME_BYTES_MAX 32u

/* One site, as a caller spells it. All zero: none is kept. */
struct key_site {
    /* and one; 0: none is kept */
    size_t host_len_and_one;
    size_t release_len, scheme_len, vary_count;
    /* of this hash key */
    uint64_t hash_key[2];
    struct sip_state state;
    char host[SITE_HOST_BYTES_MAX], release[SITE_RELEASE_BYTES_MAX], scheme[SCHEME_BYTES_MAX];
    struct {
        size_t len;
        char bytes[SITE_NAME_BYTES_MAX];
    } names[SITE_VARY_MAX];
    /* places of the vary fields in ascending order of their names */
    uint8_t order[SITE_VARY_MAX];
};

/* The sites that were seen last. All zero: none. One thread at a time. */
#define SITES_KEPT 8u
struct key_sites {
    struct key_site places[SITES_KEPT];
};

/* Finds the fingerprint that a key has if it is canonical as it is. Returns false if its site is
 * not kept, or a part is longer than a key may have it. in: borrowed. */
MUST_USE bool key_sites_fingerprint(const struct key_sites *sites,
                                    const uint8_t hash_key[SIPHASH_KEY_BYTES], const etag_key *in,
                                    struct hash128 *out);

/* Returns whether a key for which key_sites_fingerprint() found one is canonical as it is, so that
 * this is its fingerprint. False: it is not, or only a closer look would tell; then
 * key_canonicalize() knows. */
MUST_USE bool key_is_canonical(const etag_key *in);

/* Keeps the site of a key that key_canonicalize() has accepted. in: as the caller spelled it,
 * copied. state: from key_site_state(). */
void key_sites_keep(struct key_sites *sites, const uint8_t hash_key[SIPHASH_KEY_BYTES],
                    const etag_key *in, struct sip_state state);

#endif
