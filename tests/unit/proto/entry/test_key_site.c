/* SPDX-License-Identifier: Apache-2.0 */
/* The short way to a fingerprint beside the general one: over keys.tsv, over millions of made keys,
 * and what it must leave alone. */
#include "key_site.h"
#include "numbers.h"
#include "testing.h"
#include "text.h"

static const uint8_t hash_key[SIPHASH_KEY_BYTES] = "0123456789abcde";

enum { HOST_BYTES = 80, TARGET_BYTES = 90, TEXT_BYTES = 40, FIELDS = 3 };

/* A key and the bytes that it points to. */
struct made_key {
    etag_key key;
    char host[HOST_BYTES], target[TARGET_BYTES], scope[TEXT_BYTES], release[TEXT_BYTES];
    char scheme[TEXT_BYTES];
    struct {
        char name[TEXT_BYTES], value[TEXT_BYTES];
    } texts[FIELDS];
    etag_field vary[FIELDS];
};

static etag_str made_bytes(char *out, size_t len, const char *alphabet, size_t letters,
                           uint64_t *seed)
{
    for (size_t i = 0; i < len; i++)
        out[i] = alphabet[random_next(seed) % letters];
    return (etag_str){out, len};
}

#define MADE(out, len, alphabet, seed) made_bytes(out, len, alphabet, sizeof(alphabet) - 1, seed)

/* Mostly what is canonical as it is, since everything else is left to the general way at once. */
static etag_str made_target(char *out, uint64_t *seed)
{
    const size_t len = random_next(seed) % TARGET_BYTES;
    const unsigned wild = (unsigned)(random_next(seed) % 4);

    MADE(out, len, "abcxyz0189-_~!$&()*+,;=:@/ABCZ", seed);
    for (size_t i = 0; i < len; i++) {
        const uint64_t r = random_next(seed);
        if (wild == 1 && r % 24 == 0)
            out[i] = "?/.%\\#\"<>[]^`{|}\x7f\xc3 '"[r / 32 % 20];
        if (wild == 2 && r % 32 == 0)
            out[i] = (char)(r >> 32);
        if (wild == 3 && r % 6 == 0)
            out[i] = "/.?;"[r / 8 % 4];
    }
    if (len > 0 && random_next(seed) % 32 != 0)
        out[0] = '/';
    return (etag_str){out, len};
}

static etag_str made_host(char *out, uint64_t *seed)
{
    static const char *const hosts[] = {"a.example",     "A.Example", "a.example:443",
                                        "www.a.example", "[::1]",     "b.example."};
    const uint64_t r = random_next(seed);

    if (r % 8 == 0)
        return MADE(out, r / 8 % HOST_BYTES, "abcZ09-._:", seed);
    return r % 16 == 1 ? (etag_str){NULL, 0} : str_of(hosts[r / 16 % COUNT_OF(hosts)]);
}

static void made_vary(struct made_key *made, uint64_t *seed)
{
    static const char *const names[] = {"Accept-Encoding", "accept-encoding", "Accept",
                                        "Accept-Language", "Cookie",          "bad name"};

    made->key.vary_count = random_next(seed) % 3 ? 0 : random_next(seed) % (FIELDS + 1);
    for (size_t i = 0; i < made->key.vary_count; i++) {
        const uint64_t r = random_next(seed);
        made->vary[i].name = r % 16 ? str_of(names[r / 16 % COUNT_OF(names)])
                                    : MADE(made->texts[i].name, r / 16 % TEXT_BYTES, "abcZ-", seed);
        made->vary[i].value = r % 5 ? MADE(made->texts[i].value, r / 256 % TEXT_BYTES, "gzip", seed)
                                    : (etag_str){NULL, 0};
    }
    made->key.vary = made->vary;
}

static void made_key_init(struct made_key *made, uint64_t *seed)
{
    static const char *const schemes[] = {"https", "http", "HTTPS", "1x"};
    const uint64_t r = random_next(seed);

    ETAG_INIT(&made->key);
    made->key.resource.host = made_host(made->host, seed);
    made->key.resource.target = made_target(made->target, seed);
    made->key.scope.kind = (etag_scope_kind)(r % 64 == 0 ? r / 64 % 5 : 1 + r % 2);
    if (made->key.scope.kind == ETAG_SCOPE_NAMED || r % 61 == 0)
        made->key.scope.name = MADE(made->scope, r / 64 % TEXT_BYTES, "customer:7", seed);
    if (r % 7 == 0)
        made->key.release = MADE(made->release, r / 8192 % TEXT_BYTES, "v12", seed);
    if (r % 3 == 0)
        made->key.scheme = str_of(schemes[r / 65536 % COUNT_OF(schemes)]);
    made_vary(made, seed);
}

/* Scope and site aside. */
static bool is_canonical(const struct key *key, const etag_key *in)
{
    return str_equal(resource_target(&key->resource), in->resource.target);
}

/* As a lookup does: the short way, and where that does not know, the general one, which keeps. */
struct counts {
    uint64_t at_once, refused;
};

static void look(struct key_sites *sites, const etag_key *in, struct counts *counts)
{
    static struct key key;
    struct hash128 at_once;
    const bool hashed = key_sites_fingerprint(sites, hash_key, in, &at_once);
    const bool known = hashed && key_is_canonical(in);
    const char *const wrong = key_canonicalize(&key, in);

    if (known) {
        if (wrong)
            fail_msg("taken, though %s: //%.*s%.*s", wrong, (int)in->resource.host.len,
                     in->resource.host.data, (int)in->resource.target.len,
                     in->resource.target.data);
        const struct hash128 general = key_fingerprint(hash_key, &key);
        if (!hash128_equal(at_once, general))
            fail_msg("another fingerprint: //%.*s%.*s", (int)in->resource.host.len,
                     in->resource.host.data, (int)in->resource.target.len,
                     in->resource.target.data);
    }
    /* Strings that are not canonical never have a key's fingerprint. */
    if (hashed && !known && !wrong)
        assert_int_equal(hash128_equal(at_once, key_fingerprint(hash_key, &key)),
                         is_canonical(&key, in));
    counts->at_once += known;
    counts->refused += wrong != NULL;
    if (!wrong)
        key_sites_keep(sites, hash_key, in, key_site_state(hash_key, &key));
}

TEST(both_ways_say_the_same)
{
    static struct key_sites sites;
    struct counts counts = {0};
    const uint64_t rounds = test_rounds(400000);
    uint64_t seed = 22;

    for (uint64_t i = 0; i < rounds; i++) {
        struct made_key made;
        made_key_init(&made, &seed);
        look(&sites, &made.key, &counts);
    }
    print_message("%llu keys, %llu at once, %llu refused\n", (unsigned long long)rounds,
                  (unsigned long long)counts.at_once, (unsigned long long)counts.refused);
    assert_true(counts.at_once > rounds / 16 && counts.refused > rounds / 8);
}

/* Of each length, with each byte in each place. */
TEST(each_byte_in_each_place_of_a_target)
{
    static struct key_sites sites;
    struct counts counts = {0};
    char target[48];
    etag_key in;

    ETAG_INIT(&in);
    in.scope.kind = ETAG_SCOPE_PUBLIC;
    in.resource.host = ETAG_LIT("a.example");
    for (size_t len = 1; len <= sizeof(target); len++) {
        for (size_t at = 0; at < len; at++)
            for (unsigned byte = 0; byte < 256; byte++) {
                memset(target, 'x', sizeof(target));
                target[0] = '/';
                target[at] = (char)byte;
                in.resource.target = (etag_str){target, len};
                look(&sites, &in, &counts);
            }
    }
    assert_true(counts.at_once > 10000 && counts.refused > 10000);
}

/* ... and with each of it after a slash, or before or behind a question mark. */
TEST(each_pair_with_a_byte_that_has_a_meaning)
{
    static struct key_sites sites;
    struct counts counts = {0};
    char target[40];
    etag_key in;

    ETAG_INIT(&in);
    in.scope.kind = ETAG_SCOPE_PUBLIC;
    for (size_t at = 1; at + 1 < sizeof(target); at++)
        for (unsigned pair = 0; pair < 256 * 8; pair++) {
            const char special = "/?.;%=&\\"[pair % 8];
            memset(target, 'x', sizeof(target));
            target[0] = '/';
            target[at] = special;
            target[at + 1] = (char)(pair / 8);
            in.resource.target = (etag_str){target, sizeof(target)};
            look(&sites, &in, &counts);
            target[at] = (char)(pair / 8);
            target[at + 1] = special;
            look(&sites, &in, &counts);
        }
    assert_true(counts.at_once > 1000 && counts.refused > 1000);
}

static void expect_at_once(const struct key_sites *sites, const etag_key *in, bool expected)
{
    struct hash128 out;

    assert_int_equal(key_sites_fingerprint(sites, hash_key, in, &out) && key_is_canonical(in),
                     expected);
}

/* What most keys of a front end are goes the short way from the second lookup on. */
TEST(a_site_is_known_from_its_second_key_on)
{
    static struct key_sites sites;
    struct counts counts = {0};
    const etag_field vary[] = {{ETAG_LIT("Accept-Encoding"), ETAG_LIT("gzip")},
                               {ETAG_LIT("accept"), {NULL, 0}}};
    etag_key in;

    ETAG_INIT(&in);
    in.resource = (etag_resource){ETAG_LIT("WWW.a.example:443"), ETAG_LIT("/uploads/42?full=1")};
    in.scope = (etag_scope){ETAG_SCOPE_NAMED, ETAG_LIT("customer:7")};
    in.release = ETAG_LIT("2026-11");
    in.scheme = ETAG_LIT("HTTPS");
    in.vary = vary;
    in.vary_count = 2;
    expect_at_once(&sites, &in, false);
    look(&sites, &in, &counts);
    expect_at_once(&sites, &in, true);
    in.resource.target = ETAG_LIT("/uploads/43?q=%20a");
    in.scope = (etag_scope){ETAG_SCOPE_PUBLIC, {NULL, 0}};
    expect_at_once(&sites, &in, true);
    look(&sites, &in, &counts);
    in.resource.target = ETAG_LIT("/%7euser"); /* to be rewritten */
    expect_at_once(&sites, &in, false);
    in.resource.target = ETAG_LIT("/a/../b");
    expect_at_once(&sites, &in, false);
    assert_int_equal(counts.at_once, 1);
}

/* A length, or a kind, that would be other ones in the word that is hashed. */
TEST(what_a_word_of_lengths_has_no_room_for)
{
    static struct key_sites sites;
    struct counts counts = {0};
    struct hash128 out;
    etag_key in;

    ETAG_INIT(&in);
    in.resource = (etag_resource){ETAG_LIT("a.example"), ETAG_LIT("/")};
    in.scope = (etag_scope){ETAG_SCOPE_NAMED, ETAG_LIT("c")};
    look(&sites, &in, &counts);
    expect_at_once(&sites, &in, true);
    in.scope.kind = (etag_scope_kind)(0x1000000 | ETAG_SCOPE_NAMED);
    assert_false(key_sites_fingerprint(&sites, hash_key, &in, &out));
    in.scope.kind = ETAG_SCOPE_NAMED;
    in.scope.name.len = 0x1000000001;
    assert_false(key_sites_fingerprint(&sites, hash_key, &in, &out));
    in.scope.name.len = 1;
    in.resource.target.len = 0x10001;
    assert_false(key_sites_fingerprint(&sites, hash_key, &in, &out));
}

/* A daemon that starts cold has another key; nothing of the former one is used. */
TEST(another_hash_key_knows_no_site)
{
    static struct key_sites sites;
    struct counts counts = {0};
    uint8_t other[SIPHASH_KEY_BYTES];
    struct hash128 out;
    etag_key in;

    ETAG_INIT(&in);
    in.resource = (etag_resource){ETAG_LIT("a.example"), ETAG_LIT("/")};
    in.scope.kind = ETAG_SCOPE_PUBLIC;
    look(&sites, &in, &counts);
    expect_at_once(&sites, &in, true);
    for (size_t i = 0; i < SIPHASH_KEY_BYTES; i++) {
        memcpy(other, hash_key, sizeof(other));
        other[i] ^= 1;
        assert_false(key_sites_fingerprint(&sites, other, &in, &out));
    }
}

/* What is kept is a copy of the caller's bytes. */
TEST(a_site_does_not_borrow)
{
    static struct key_sites sites;
    struct counts counts = {0};
    char host[] = "a.example";
    etag_key in;

    ETAG_INIT(&in);
    in.resource = (etag_resource){{host, sizeof(host) - 1}, ETAG_LIT("/")};
    in.scope.kind = ETAG_SCOPE_PUBLIC;
    look(&sites, &in, &counts);
    memset(host, 'b', sizeof(host) - 1);
    expect_at_once(&sites, &in, false);
    in.resource.host = ETAG_LIT("a.example");
    expect_at_once(&sites, &in, true);
}

/* What is too long or too much for a site is looked up all the same. */
TEST(a_site_that_is_too_large_is_not_kept)
{
    static struct key_sites sites;
    struct counts counts = {0};
    char host[SITE_HOST_BYTES_MAX + 1], name[SITE_NAME_BYTES_MAX + 1];
    etag_field vary[SITE_VARY_MAX + 1];
    etag_key in;

    ETAG_INIT(&in);
    in.scope.kind = ETAG_SCOPE_PUBLIC;
    in.resource.target = ETAG_LIT("/");
    memset(host, 'h', sizeof(host));
    for (size_t less = 0; less < 2; less++) {
        in.resource.host = (etag_str){host, sizeof(host) - less};
        look(&sites, &in, &counts);
        expect_at_once(&sites, &in, less == 1);
    }
    memset(name, 'n', sizeof(name));
    in.vary = vary;
    in.vary_count = 1;
    for (size_t less = 0; less < 2; less++) {
        vary[0] = (etag_field){{name, sizeof(name) - less}, ETAG_LIT("v")};
        look(&sites, &in, &counts);
        expect_at_once(&sites, &in, less == 1);
    }
    for (size_t i = 0; i < SITE_VARY_MAX + 1; i++)
        vary[i] = (etag_field){{&"edcba"[i], 1}, ETAG_LIT("v")};
    for (size_t less = 0; less < 2; less++) {
        in.vary_count = SITE_VARY_MAX + 1 - less;
        look(&sites, &in, &counts);
        expect_at_once(&sites, &in, less == 1);
    }
}
