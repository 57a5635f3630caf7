/* SPDX-License-Identifier: Apache-2.0 */
/* SipHash-1-3 against OpenSSL, at every length and alignment, without a byte read too many. */
#include "numbers.h"
#include "siphash.h"
#include "testing.h"

#include <openssl/evp.h>
#include <openssl/params.h>
#include <stdlib.h>
#include <string.h>

#define LEN_MAX 200

static void fill_pattern(uint8_t *bytes, size_t len)
{
    uint32_t x = 12345;

    for (size_t i = 0; i < len; i++) {
        x = x * 1664525u + 1013904223u;
        bytes[i] = (uint8_t)(x >> 24);
    }
}

/* The reference: output of 'size' bytes. */
static void openssl_siphash13(const uint8_t key[SIPHASH_KEY_BYTES], const uint8_t *data, size_t len,
                              uint8_t *out, size_t size)
{
    EVP_MAC *mac = EVP_MAC_fetch(NULL, "SIPHASH", NULL);

    assert_non_null(mac);
    EVP_MAC_CTX *context = EVP_MAC_CTX_new(mac);
    assert_non_null(context);
    unsigned c_rounds = 1, d_rounds = 3;
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_size_t("size", &size),
        OSSL_PARAM_construct_uint("c-rounds", &c_rounds),
        OSSL_PARAM_construct_uint("d-rounds", &d_rounds),
        OSSL_PARAM_construct_end(),
    };
    size_t written = 0;
    assert_int_equal(EVP_MAC_init(context, key, SIPHASH_KEY_BYTES, params), 1);
    assert_int_equal(EVP_MAC_update(context, data, len), 1);
    assert_int_equal(EVP_MAC_final(context, out, &written, size), 1);
    assert_int_equal(written, size);
    EVP_MAC_CTX_free(context);
    EVP_MAC_free(mac);
}

static void check_against_openssl(const uint8_t key[SIPHASH_KEY_BYTES], const uint8_t *data,
                                  size_t len)
{
    uint8_t expected[16];
    const uint64_t narrow = siphash13_64(key, data, len);

    openssl_siphash13(key, data, len, expected, sizeof(narrow));
    assert_memory_equal(&narrow, expected, sizeof(narrow));

    const struct hash128 wide = siphash13_128(key, data, len);
    openssl_siphash13(key, data, len, expected, sizeof(wide));
    assert_memory_equal(&wide, expected, sizeof(wide));
}

TEST(agrees_with_openssl_at_every_length)
{
    uint8_t key[SIPHASH_KEY_BYTES], data[LEN_MAX];

    fill_pattern(data, sizeof(data));
    for (size_t i = 0; i < sizeof(key); i++)
        key[i] = (uint8_t)i;
    for (size_t len = 0; len <= LEN_MAX; len++)
        check_against_openssl(key, data, len);
}

TEST(agrees_with_openssl_for_other_keys)
{
    uint8_t keys[8 * SIPHASH_KEY_BYTES], data[64];

    fill_pattern(keys, sizeof(keys));
    fill_pattern(data, sizeof(data));
    memset(keys, 0xff, SIPHASH_KEY_BYTES);
    memset(keys + SIPHASH_KEY_BYTES, 0, SIPHASH_KEY_BYTES);
    for (size_t i = 0; i < 8; i++)
        check_against_openssl(keys + i * SIPHASH_KEY_BYTES, data, 57 + i);
}

/* Lengths of 256 and more: only the low byte of the length goes into the last word. */
TEST(agrees_with_openssl_for_long_input)
{
    static uint8_t data[5000];
    const uint8_t key[SIPHASH_KEY_BYTES] = {7};

    fill_pattern(data, sizeof(data));
    const size_t lens[] = {255, 256, 257, 4096, 4999, 5000};
    for (size_t i = 0; i < COUNT_OF(lens); i++)
        check_against_openssl(key, data, lens[i]);
}

/* Exact allocations at every alignment: a sanitizer sees a byte read too many. */
TEST(reads_no_byte_too_many)
{
    const uint8_t key[SIPHASH_KEY_BYTES] = {1, 2, 3};

    for (size_t len = 0; len <= 40; len++) {
        uint8_t *first = malloc(len + 1);
        assert_non_null(first);
        fill_pattern(first, len);
        const struct hash128 expected = siphash13_128(key, first, len);
        for (size_t shift = 1; shift < 8; shift++) {
            uint8_t *moved = malloc(len + shift);
            assert_non_null(moved);
            fill_pattern(moved + shift, len);
            const struct hash128 hash = siphash13_128(key, moved + shift, len);
            assert_memory_equal(&hash, &expected, sizeof(hash));
            free(moved);
        }
        free(first);
    }
    assert_true(siphash13_64(key, NULL, 0) == siphash13_64(key, "", 0));
}
