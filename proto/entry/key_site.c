/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is compared with a kept site are the caller's own bytes, not canonical ones: the same bytes
 * have the same canonical form, so a host in upper case is as quick as any. And each comparison is
 * with the hash key too, so that a new run of the daemon needs no word about what is kept.
 */
#include "key_site.h"

#include "bytes.h"

/* Which place a key's site may have: by the beginning of its host, since the sites of one server
 * are often its subdomains, and by the scheme's length. */
static inline size_t place_of(const etag_key *in)
{
    const etag_str host = in->resource.host;
    const uint64_t begin = host.len >= 8 ? load_u64(host.data) : host.len;

    return ((begin * UINT64_C(0x9e3779b97f4a7c15)) >> 61 ^ in->scheme.len) % SITES_KEPT;
}

static inline bool names_are_kept(const struct key_site *site, const etag_key *in)
{
    for (size_t i = 0; i < in->vary_count; i++) {
        const etag_str name = in->vary[i].name;
        if (name.len != site->names[i].len ||
            !bytes_equal(name.data, site->names[i].bytes, name.len))
            return false;
    }
    return true;
}

__attribute__((always_inline)) static inline bool
site_is(const struct key_site *site, const uint8_t hash_key[SIPHASH_KEY_BYTES], const etag_key *in)
{
    const etag_str host = in->resource.host;
    const uint64_t differences = (site->host_len_and_one ^ (host.len + 1)) |
                                 (site->release_len ^ in->release.len) |
                                 (site->scheme_len ^ in->scheme.len) |
                                 (site->vary_count ^ in->vary_count) |
                                 (site->hash_key[0] ^ load_u64(hash_key)) |
                                 (site->hash_key[1] ^ load_u64(hash_key + 8));

    return differences == 0 && bytes_equal(site->host, host.data, host.len) &&
           (in->release.len == 0 ||
            bytes_equal(site->release, in->release.data, in->release.len)) &&
           (in->scheme.len == 0 || bytes_equal(site->scheme, in->scheme.data, in->scheme.len)) &&
           names_are_kept(site, in);
}

/* False: a value is too long. */
static inline bool absorb_values(struct sip_state *s, const struct key_site *site,
                                 const etag_field *vary)
{
    for (size_t i = 0; i < site->vary_count; i++) {
        const etag_str value = vary[site->order[i]].value;
        if (value.len > VARY_VALUE_BYTES_MAX)
            return false;
        sip_absorb(s, value.data ? value.len : VARY_ABSENT);
        sip_absorb_part(s, value.data, value.data ? value.len : 0);
    }
    return true;
}

bool key_sites_fingerprint(const struct key_sites *sites, const uint8_t hash_key[SIPHASH_KEY_BYTES],
                           const etag_key *in, struct hash128 *out)
{
    const struct key_site *const site = &sites->places[place_of(in)];
    const etag_str target = in->resource.target;

    /* What the word of lengths has no room for would be other lengths there. */
    if (target.len > TARGET_BYTES_MAX || in->scope.name.len > SCOPE_BYTES_MAX ||
        in->scope.kind > ETAG_SCOPE_NAMED || !site_is(site, hash_key, in))
        return false;
    struct sip_state s = site->state;
    sip_absorb(&s, key_lengths_of_rest(target.len, in->scope));
    sip_absorb_part(&s, target.data, target.len);
    sip_absorb_part(&s, in->scope.name.data, in->scope.name.len);
    if (!absorb_values(&s, site, in->vary))
        return false;
    *out = key_fingerprint_end(&s);
    return true;
}

/* scope_check() of key.c. */
static inline bool scope_is_good(etag_scope scope)
{
    return scope.kind == ETAG_SCOPE_PUBLIC
               ? scope.name.len == 0
               : scope.kind == ETAG_SCOPE_NAMED && scope.name.len - 1 < SCOPE_BYTES_MAX;
}

bool key_is_canonical(const etag_key *in)
{
    return scope_is_good(in->scope) && resource_target_is_canonical(in->resource.target);
}

/* ---- Keeping --------------------------------------------------------------------------------- */

static bool may_keep(const etag_key *in)
{
    bool may = in->resource.host.len <= SITE_HOST_BYTES_MAX &&
               in->release.len <= SITE_RELEASE_BYTES_MAX && in->scheme.len <= SCHEME_BYTES_MAX &&
               in->vary_count <= SITE_VARY_MAX;

    for (size_t i = 0; may && i < in->vary_count; i++)
        may = in->vary[i].name.len <= SITE_NAME_BYTES_MAX;
    return may;
}

static void order_names(struct key_site *site, const etag_key *in)
{
    for (size_t i = 0; i < in->vary_count; i++) {
        size_t at = i;
        for (; at > 0 && key_vary_compare(in->vary[site->order[at - 1]].name, in->vary[i].name) > 0;
             at--)
            site->order[at] = site->order[at - 1];
        site->order[at] = (uint8_t)i;
    }
}

void key_sites_keep(struct key_sites *sites, const uint8_t hash_key[SIPHASH_KEY_BYTES],
                    const etag_key *in, struct sip_state state)
{
    struct key_site *const site = &sites->places[place_of(in)];

    if (!may_keep(in) || site_is(site, hash_key, in))
        return;
    *site = (struct key_site){.host_len_and_one = in->resource.host.len + 1,
                              .release_len = in->release.len,
                              .scheme_len = in->scheme.len,
                              .vary_count = in->vary_count,
                              .hash_key = {load_u64(hash_key), load_u64(hash_key + 8)},
                              .state = state};
    copy_bytes(site->host, in->resource.host.data, in->resource.host.len);
    copy_bytes(site->release, in->release.data, in->release.len);
    copy_bytes(site->scheme, in->scheme.data, in->scheme.len);
    for (size_t i = 0; i < in->vary_count; i++) {
        site->names[i].len = in->vary[i].name.len;
        copy_bytes(site->names[i].bytes, in->vary[i].name.data, in->vary[i].name.len);
    }
    order_names(site, in);
}
