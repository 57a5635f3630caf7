/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A key's fingerprint on the short way and on the general one. Where the strings are said to be
 * canonical both are the same; where the general way refuses the key the short one does not say so;
 * and strings that are not canonical have no key's fingerprint. Sites stay from one input to the
 * next, as from one request to the next.
 *
 * Input: lines. Host, target, the scope's name ("-": public), release, scheme; then vary fields,
 * "name:value", or a name alone for a field that the request does not have.
 */
#include "fuzz.h"

#include "key_site.h"
#include "text.h"

static etag_str take_line(etag_str *text)
{
    const char *const end = text->len > 0 ? memchr(text->data, '\n', text->len) : NULL;
    const etag_str line = {text->data, end ? (size_t)(end - text->data) : text->len};

    *text = str_skip(*text, end ? line.len + 1 : line.len);
    return line;
}

static etag_field field_of(etag_str line)
{
    const char *const colon = line.len > 0 ? memchr(line.data, ':', line.len) : NULL;

    if (!colon)
        return (etag_field){line, {NULL, 0}};
    const size_t name_len = (size_t)(colon - line.data);
    return (etag_field){{line.data, name_len}, str_skip(line, name_len + 1)};
}

static void key_read(etag_key *key, etag_field *vary, etag_str text)
{
    ETAG_INIT(key);
    key->resource.host = take_line(&text);
    key->resource.target = take_line(&text);
    const etag_str scope = take_line(&text);
    key->release = take_line(&text);
    key->scheme = take_line(&text);
    key->scope.kind = str_equal(scope, ETAG_LIT("-")) ? ETAG_SCOPE_PUBLIC : ETAG_SCOPE_NAMED;
    if (key->scope.kind == ETAG_SCOPE_NAMED)
        key->scope.name = scope;
    while (text.len > 0 && key->vary_count < VARY_COUNT_MAX)
        vary[key->vary_count++] = field_of(take_line(&text));
    key->vary = vary;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint8_t hash_key[SIPHASH_KEY_BYTES] = "0123456789abcde";
    static struct key_sites sites;
    static struct key key;
    etag_field vary[VARY_COUNT_MAX];
    etag_key in;

    key_read(&in, vary, (etag_str){(const char *)data, size});
    for (int round = 0; round < 2; round++) {
        struct hash128 at_once;
        const bool hashed = key_sites_fingerprint(&sites, hash_key, &in, &at_once);
        const char *const wrong = key_canonicalize(&key, &in);
        fuzz_require(!hashed || !wrong || !key_is_canonical(&in));
        if (wrong)
            return 0;
        const struct sip_state site = key_site_state(hash_key, &key);
        const struct hash128 general = key_fingerprint(hash_key, &key);
        fuzz_require(hash128_equal(general, key_fingerprint_after(site, &key)));
        const bool same = str_equal(resource_target(&key.resource), in.resource.target);
        fuzz_require(!hashed || hash128_equal(general, at_once) == same);
        fuzz_require(!hashed || !key_is_canonical(&in) || same);
        key_sites_keep(&sites, hash_key, &in, site);
    }
    return 0;
}
