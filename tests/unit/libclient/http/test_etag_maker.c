/* SPDX-License-Identifier: Apache-2.0 */
/* ETag makers: known hashes, however a body is cut; reuse, misuse and OpenSSL's failures; variants
 * and their limits. */
#include "bounds.h"
#include "entity_tag.h"
#include "numbers.h"
#include "testing.h"
#include "text.h"

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>

/* ---- What OpenSSL does, counted and let fail ---- */

static size_t allocations;
static size_t allocation_that_fails; /* its number, from 1; 0: none */

static bool allocation_allowed(void)
{
    return ++allocations != allocation_that_fails;
}

static void *counted_malloc(size_t bytes, const char *file, int line)
{
    return allocation_allowed() ? malloc(bytes) : NULL;
}

static void *counted_realloc(void *p, size_t bytes, const char *file, int line)
{
    return allocation_allowed() ? realloc(p, bytes) : NULL;
}

static void counted_free(void *p, const char *file, int line)
{
    free(p);
}

/* Before OpenSSL allocates anything, or it refuses. */
__attribute__((constructor)) static void count_allocations(void)
{
    if (!CRYPTO_set_mem_functions(counted_malloc, counted_realloc, counted_free))
        abort();
}

static bool init_fails, update_fails, final_fails;

int __real_EVP_DigestInit_ex2(EVP_MD_CTX *context, const EVP_MD *type, const OSSL_PARAM params[]);
int __real_EVP_DigestUpdate(EVP_MD_CTX *context, const void *data, size_t len);
int __real_EVP_DigestFinal_ex(EVP_MD_CTX *context, unsigned char *out, unsigned *len);
int __wrap_EVP_DigestInit_ex2(EVP_MD_CTX *context, const EVP_MD *type, const OSSL_PARAM params[]);
int __wrap_EVP_DigestUpdate(EVP_MD_CTX *context, const void *data, size_t len);
int __wrap_EVP_DigestFinal_ex(EVP_MD_CTX *context, unsigned char *out, unsigned *len);

/* As OpenSSL fails: 0, and an error in the thread's queue. */
static int failure(void)
{
    ERR_raise(ERR_LIB_EVP, ERR_R_INTERNAL_ERROR);
    return 0;
}

int __wrap_EVP_DigestInit_ex2(EVP_MD_CTX *context, const EVP_MD *type, const OSSL_PARAM params[])
{
    return init_fails ? failure() : __real_EVP_DigestInit_ex2(context, type, params);
}

int __wrap_EVP_DigestUpdate(EVP_MD_CTX *context, const void *data, size_t len)
{
    return update_fails ? failure() : __real_EVP_DigestUpdate(context, data, len);
}

int __wrap_EVP_DigestFinal_ex(EVP_MD_CTX *context, unsigned char *out, unsigned *len)
{
    return final_fails ? failure() : __real_EVP_DigestFinal_ex(context, out, len);
}

/* ---- Shorthand ---- */

static etag_hasher *opened(void)
{
    etag_hasher *hasher;

    assert_int_equal(etag_hasher_open(&hasher), ETAG_OK);
    assert_non_null(hasher);
    return hasher;
}

static void expect_text(etag_str got, const char *expected)
{
    assert_int_equal(got.len, strlen(expected));
    assert_memory_equal(got.data, expected, got.len);
}

static void expect_final(etag_hasher *hasher, const char *expected)
{
    etag_str etag;

    assert_int_equal(etag_hasher_final(hasher, false, &etag), ETAG_OK);
    expect_text(etag, expected);
}

static void expect_failure(etag_hasher *hasher, etag_status status)
{
    etag_str etag = ETAG_LIT("something");

    assert_int_equal(etag_hasher_final(hasher, false, &etag), status);
    assert_null(etag.data);
    assert_int_equal(etag.len, 0);
}

#define TAG_EMPTY "\"47DEQpj8HBSa-_TImW-5JA\""
#define TAG_ABC "\"ungWv48Bz-pBQUDeXa4iIw\""
#define TAG_BYTES "\"QK_y6dLYki5Hr9RkjmlnSQ\"" /* 0 to 255 */

/* ---- Hashes ---- */

/* Made with sha256sum, cut and base64; the first four hashes stand in FIPS 180-2 and NIST's
 * examples. */
TEST(known_hashes)
{
    static const struct {
        size_t repeats;
        const char *piece, *tag;
    } rows[] = {
        {0, "", "47DEQpj8HBSa-_TImW-5JA"},
        {1, "abc", "ungWv48Bz-pBQUDeXa4iIw"},
        {1, "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", "JI1qYdIGOLjlwCaTDD5gOQ"},
        {1000000, "a", "zcduXJkU-5KBocfihNc-Zw"},
        {55, "a", "n0OQ-NMMLdkuyfCVtl4rmg"},
        {56, "a", "s1Q5pKxvCUi21vnjxq8PXw"},
        {63, "a", "fT50oF19sVvOStnsBljqmA"},
        {64, "a", "_-BU_nrgy23GXDr5th1SCQ"},
        {65, "a", "Y1NhxIu56rFBmOduqKt_Gg"},
        {119, "a", "MeulHDE6XAgiat8Y1KNZzw"},
        {120, "a", "Lz0zVDLHC1gK8Ojhs2dKfA"},
        {127, "a", "xX6SeK94-jyrOGZ770zinQ"},
        {128, "a", "aDbPE7rEAOkQUHHNavRwhA"},
        {129, "a", "wSywJKLlVRzKDgj86PHF4w"},
    };
    etag_hasher *hasher = opened();
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        char expected[64];
        etag_str etag;
        for (int weak = 0; weak <= 1; weak++) {
            snprintf(expected, sizeof(expected), "%s\"%s\"", weak ? "W/" : "", rows[i].tag);
            etag_hasher_begin(hasher);
            for (size_t n = 0; n < rows[i].repeats; n++)
                etag_hasher_update(hasher, rows[i].piece, strlen(rows[i].piece));
            assert_int_equal(etag_hasher_final(hasher, weak, &etag), ETAG_OK);
            expect_text(etag, expected);
            assert_int_equal(etag.data[etag.len], '\0');
            struct entity_tag parsed;
            assert_true(entity_tag_parse(etag, &parsed));
            assert_int_equal(parsed.weak, weak);
        }
    }
    etag_hasher_close(hasher);
}

TEST(every_cut_gives_the_same)
{
    unsigned char body[256];

    for (size_t i = 0; i < sizeof(body); i++)
        body[i] = (unsigned char)i;
    etag_hasher *hasher = opened();
    etag_str etag;
    assert_int_equal(etag_hash(hasher, body, sizeof(body), false, &etag), ETAG_OK);
    expect_text(etag, TAG_BYTES);
    for (size_t a = 0; a <= sizeof(body); a++) {
        for (size_t b = a; b <= sizeof(body); b += b % 7 + 1) {
            etag_hasher_begin(hasher);
            etag_hasher_update(hasher, body, a);
            etag_hasher_update(hasher, body + a, b - a);
            etag_hasher_update(hasher, body + b, sizeof(body) - b);
            expect_final(hasher, TAG_BYTES);
        }
    }
    etag_hasher_begin(hasher);
    for (size_t i = 0; i < sizeof(body); i++)
        etag_hasher_update(hasher, body + i, 1);
    expect_final(hasher, TAG_BYTES);
    etag_hasher_close(hasher);
}

/* Fetching the hash again would take dozens of allocations; OpenSSL 3.0 makes one for the hash's
 * state. */
TEST(reuse_fetches_nothing)
{
    etag_hasher *hasher = opened();
    const size_t before = allocations;

    assert_true(before > 0); /* or nobody counts */
    const size_t bodies = 1000;
    for (size_t i = 0; i < bodies; i++) {
        etag_hasher_begin(hasher);
        etag_hasher_update(hasher, "given up", 8);
        etag_hasher_begin(hasher);
        expect_final(hasher, TAG_EMPTY);
        etag_str etag;
        assert_int_equal(etag_hash(hasher, "abc", 3, false, &etag), ETAG_OK);
        expect_text(etag, TAG_ABC);
    }
    assert_true(allocations - before <= 3 * bodies);
    etag_hasher_close(hasher);
}

TEST(hashers_are_apart)
{
    etag_hasher *one = opened(), *other = opened();

    etag_hasher_begin(one);
    etag_hasher_update(one, "a", 1);
    etag_hasher_begin(other);
    etag_hasher_update(one, "bc", 2);
    expect_final(other, TAG_EMPTY);
    expect_final(one, TAG_ABC);
    etag_hasher_close(one);
    etag_hasher_close(other);
}

/* ---- What goes wrong ---- */

TEST(misuse_is_told_at_the_end)
{
    etag_hasher *hasher = opened();

    expect_failure(hasher, ETAG_INVALID); /* nothing begun */
    etag_hasher_update(hasher, "abc", 3);
    expect_failure(hasher, ETAG_INVALID); /* a piece of nothing */
    expect_failure(hasher, ETAG_INVALID); /* and that was its end */

    etag_hasher_begin(hasher);
    etag_hasher_update(hasher, "abc", 3);
    expect_final(hasher, TAG_ABC);
    expect_failure(hasher, ETAG_INVALID); /* twice */
    etag_hasher_update(hasher, "", 0);    /* empty, but outside as well */
    expect_failure(hasher, ETAG_INVALID);

    etag_hasher_begin(hasher);
    etag_hasher_update(hasher, NULL, 1);
    etag_hasher_update(hasher, "abc", 3); /* the body has a hole */
    expect_failure(hasher, ETAG_INVALID);

    etag_hasher_begin(hasher);
    etag_hasher_update(hasher, NULL, 0); /* no misuse */
    etag_hasher_update(hasher, "abc", 3);
    expect_final(hasher, TAG_ABC);

    etag_hasher_update(hasher, "abc", 3);
    etag_hasher_begin(hasher); /* forgets it */
    etag_hasher_update(hasher, "abc", 3);
    expect_final(hasher, TAG_ABC);
    assert_null(etag_hasher_close(hasher));
}

TEST(no_hasher_is_no_crash)
{
    etag_str etag = ETAG_LIT("something");

    assert_null(etag_hasher_close(NULL));
    etag_hasher_begin(NULL);
    etag_hasher_update(NULL, "abc", 3);
    expect_failure(NULL, ETAG_INVALID);
    assert_int_equal(etag_hash(NULL, "abc", 3, true, &etag), ETAG_INVALID);
    assert_null(etag.data);
}

/* The application's own error must be the last one before and after. */
static void expect_own_error(void)
{
    assert_int_equal(ERR_GET_REASON(ERR_peek_last_error()), ERR_R_PASSED_NULL_PARAMETER);
    assert_int_equal(ERR_GET_LIB(ERR_peek_error()), ERR_LIB_USER);
}

TEST(failures_are_told_at_the_end)
{
    bool *const switches[] = {&init_fails, &update_fails, &final_fails};
    etag_hasher *hasher = opened();

    for (int own = 0; own <= 1; own++) {
        ERR_clear_error();
        if (own)
            ERR_raise(ERR_LIB_USER, ERR_R_PASSED_NULL_PARAMETER);
        for (size_t i = 0; i < COUNT_OF(switches); i++) {
            const bool at_final = switches[i] == &final_fails;
            *switches[i] = true;
            etag_hasher_begin(hasher);
            etag_hasher_update(hasher, "a", 1);
            *switches[i] = at_final; /* the later pieces go well */
            etag_hasher_update(hasher, "bc", 2);
            expect_failure(hasher, ETAG_FAILED);
            *switches[i] = false;
            if (own)
                expect_own_error();
            else
                assert_int_equal(ERR_peek_error(), 0);
            etag_str etag;
            assert_int_equal(etag_hash(hasher, "abc", 3, false, &etag), ETAG_OK);
            expect_text(etag, TAG_ABC);
        }
    }
    ERR_clear_error();
    etag_hasher_close(hasher);
}

TEST(an_open_that_fails_leaves_nothing)
{
    etag_hasher *hasher = (etag_hasher *)(uintptr_t)1;

    ERR_clear_error();
    ERR_raise(ERR_LIB_USER, ERR_R_PASSED_NULL_PARAMETER);
    assert_int_equal(EVP_set_default_properties(NULL, "provider=nowhere"), 1);
    assert_int_equal(etag_hasher_open(&hasher), ETAG_FAILED);
    assert_null(hasher);
    expect_own_error();
    assert_int_equal(EVP_set_default_properties(NULL, ""), 1);

    init_fails = true;
    hasher = (etag_hasher *)(uintptr_t)1;
    assert_int_equal(etag_hasher_open(&hasher), ETAG_FAILED);
    assert_null(hasher);
    expect_own_error();
    init_fails = false;
    ERR_clear_error();
}

/* Some that fail OpenSSL can do without; then the hasher must be whole. */
TEST(no_memory_at_each_allocation)
{
    size_t failures = 0;

    for (size_t number = 1;; number++) {
        etag_hasher *hasher = (etag_hasher *)(uintptr_t)1;
        etag_str etag;
        allocations = 0;
        allocation_that_fails = number;
        const etag_status status = etag_hasher_open(&hasher);
        const bool reached = allocations >= number;
        allocation_that_fails = 0;
        assert_int_equal(ERR_peek_error(), 0);
        if (status == ETAG_OK) {
            assert_int_equal(etag_hash(hasher, "abc", 3, false, &etag), ETAG_OK);
            expect_text(etag, TAG_ABC);
            etag_hasher_close(hasher);
        } else {
            assert_true(status == ETAG_SYSTEM || status == ETAG_FAILED);
            assert_null(hasher);
            failures++;
        }
        if (!reached)
            break;
    }
    assert_true(failures >= 2); /* the context and the hash's state */
}

TEST(no_memory_for_a_body)
{
    etag_hasher *hasher = opened();
    etag_str etag;

    allocations = 0;
    allocation_that_fails = 1;
    const etag_status status = etag_hash(hasher, "abc", 3, false, &etag);
    allocation_that_fails = 0;
    assert_int_equal(status, allocations > 0 ? ETAG_FAILED : ETAG_OK);
    assert_int_equal(ERR_peek_error(), 0);
    assert_int_equal(etag_hash(hasher, "abc", 3, false, &etag), ETAG_OK);
    expect_text(etag, TAG_ABC);
    etag_hasher_close(hasher);
}

/* ---- Variants ---- */

TEST(variants)
{
    static const struct {
        /* NULL: absent, invalid */
        const char *etag, *coding, *expected;
    } rows[] = {
        {"\"x\"", "gzip", "\"x-gzip\""},
        {"W/\"x\"", "gzip", "W/\"x-gzip\""},
        {"\"\"", "br", "\"-br\""},
        {"\"x-gzip\"", "br", "\"x-gzip-br\""},
        {"\"x\"", "GZip", "\"x-gzip\""},
        {"\"x\"", "x-gzip", "\"x-gzip\""},
        {"\"x\"", "X-Compress", "\"x-compress\""},
        {"\"x\"", "dcb!", "\"x-dcb!\""},
        {"\"x\"", "identity", "\"x\""},
        {"W/\"x\"", "Identity", "W/\"x\""},
        {"\"x\"", "", "\"x\""},
        {"\"x\"", NULL, "\"x\""},
        {"\"x\"", "identity2", "\"x-identity2\""},
        {"x", "gzip", NULL},
        {"\"x", "gzip", NULL},
        {"w/\"x\"", "gzip", NULL},
        {" \"x\"", "gzip", NULL},
        {"\"x\", \"y\"", "gzip", NULL},
        {"*", "gzip", NULL},
        {"", "gzip", NULL},
        {NULL, "gzip", NULL},
        {"x", "identity", NULL},
        {NULL, NULL, NULL},
        {"\"x\"", "gz ip", NULL},
        {"\"x\"", "gzip\"", NULL},
        {"\"x\"", " gzip", NULL},
        {"\"x\"", "gzip,br", NULL},
        {"\"x\"", "\xc3\xa9", NULL},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        char buffer[ETAG_BYTES_MAX];
        memset(buffer, '#', sizeof(buffer));
        etag_str made = ETAG_LIT("something");
        const etag_status status = etag_variant(
            etag_str_of(rows[i].etag), etag_str_of(rows[i].coding), buffer, sizeof(buffer), &made);
        if (rows[i].expected) {
            assert_int_equal(status, ETAG_OK);
            expect_text(made, rows[i].expected);
            assert_ptr_equal(made.data, buffer);
        } else {
            assert_int_equal(status, ETAG_INVALID);
            assert_null(made.data);
            assert_int_equal(buffer[0], '#');
        }
    }
}

/* Tag, coding and buffer of just their sizes: a byte too many is an error under ASan. */
TEST(variant_limits)
{
    for (size_t len = ETAG_BYTES_MAX - 8; len <= ETAG_BYTES_MAX + 2; len++) {
        for (size_t size = ETAG_BYTES_MAX - 3; size <= ETAG_BYTES_MAX + 3; size++) {
            char *text = malloc(len), *buffer = malloc(size);
            assert_true(text && buffer);
            memset(text, 'a', len);
            text[0] = text[len - 1] = '"';
            const size_t max = size < ETAG_BYTES_MAX ? size : ETAG_BYTES_MAX;
            const etag_str etag = {text, len};
            etag_str made;
            assert_int_equal(etag_variant(etag, ETAG_LIT("gzip"), buffer, size, &made),
                             len + 5 <= max ? ETAG_OK : ETAG_INVALID);
            assert_int_equal(made.len, len + 5 <= max ? len + 5 : 0);
            if (made.data)
                assert_memory_equal(made.data + len - 1, "-gzip\"", 6);
            assert_int_equal(etag_variant(etag, ETAG_LIT("identity"), buffer, size, &made),
                             len <= max ? ETAG_OK : ETAG_INVALID);
            free(text);
            free(buffer);
        }
    }
    etag_str made;
    assert_int_equal(etag_variant(ETAG_LIT("\"x\""), ETAG_LIT("gzip"), NULL, 0, &made),
                     ETAG_INVALID);
    static char coding[ETAG_BYTES_MAX * 2];
    memset(coding, 'c', sizeof(coding));
    char buffer[ETAG_BYTES_MAX];
    assert_int_equal(etag_variant(ETAG_LIT("\"x\""), (etag_str){coding, sizeof(coding)}, buffer,
                                  sizeof(buffer), &made),
                     ETAG_INVALID);
}

TEST(a_variant_in_place)
{
    char buffer[ETAG_BYTES_MAX] = "?W/\"abc\"";
    etag_str made;

    assert_int_equal(
        etag_variant((etag_str){buffer + 1, 7}, ETAG_LIT("br"), buffer, sizeof(buffer), &made),
        ETAG_OK);
    expect_text(made, "W/\"abc-br\"");
    assert_int_equal(etag_variant(made, ETAG_LIT("gzip"), buffer, sizeof(buffer), &made), ETAG_OK);
    expect_text(made, "W/\"abc-br-gzip\"");
}

/* What is written here is read in entity_tag.c. */
TEST(variants_are_known_suffixes)
{
    static const char *const codings[] = {"gzip", "x-gzip", "br", "zstd", "deflate", "compress"};
    etag_hasher *hasher = opened();
    etag_str plain;

    assert_int_equal(etag_hash(hasher, "abc", 3, false, &plain), ETAG_OK);
    for (size_t i = 0; i < COUNT_OF(codings); i++) {
        char buffer[ETAG_BYTES_MAX];
        etag_str made;
        struct entity_tag listed, current;
        assert_int_equal(
            etag_variant(plain, etag_str_of(codings[i]), buffer, sizeof(buffer), &made), ETAG_OK);
        assert_true(entity_tag_parse(made, &listed));
        assert_true(entity_tag_parse(plain, &current));
        assert_false(entity_tag_equal_weak(listed, current));
        assert_true(entity_tag_equal_suffixed(listed, current));
    }
    etag_hasher_close(hasher);
}
