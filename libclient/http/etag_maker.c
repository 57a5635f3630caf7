/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Makes entity tags for applications that have none: the hash of a body, and the suffixes for its
 * encoded variants.
 *
 * 128 bits of SHA-256 are enough that no two bodies share a tag by chance, and that no one can
 * construct two that do. A body may come in pieces. The call for a piece returns no error; the
 * hasher keeps it and returns it at the end, so a hasher that returned OK has hashed every piece.
 * Opening finds the hash among OpenSSL's providers and begins it once, so that a provider which has
 * the hash but can't use it fails there.
 *
 * The application may use OpenSSL too, and its SSL_get_error() reads the thread's error queue, so
 * this file removes its own errors from the queue.
 */
#include "cleanup.h"

#include "bounds.h"
#include "encoding.h"
#include "entity_tag.h"
#include "text.h"

#include <assert.h>
#include <openssl/err.h>
#include <openssl/evp.h>

_Static_assert(ETAG_BYTES_MAX == ENTITY_TAG_BYTES_MAX, "the public header says what is stored");

#define HASH_BYTES 32
#define KEPT_BYTES 16
#define KEPT_CHARS 22                   /* in base64url, six bits each, the last with two */
#define TEXT_BYTES (2 + KEPT_CHARS + 2) /* W/ and quotes */

enum hasher_state {
    /* no body begun: final says so, whatever came */
    HASHER_IDLE,
    /* a body, and all went well */
    HASHER_READING,
    /* until the next begin or final */
    HASHER_MISUSED,
    /* OpenSSL failed, likewise */
    HASHER_BROKEN
};

struct etag_hasher {
    EVP_MD *hash;
    EVP_MD_CTX *context;
    enum hasher_state state;
    /* of the last tag, with a NUL */
    char text[TEXT_BYTES + 1];
};

/* ---- The hasher ---- */

static bool hash_begin(etag_hasher *hasher)
{
    ERR_set_mark();
    const bool done = EVP_DigestInit_ex2(hasher->context, hasher->hash, NULL) == 1;
    ERR_pop_to_mark();
    return done;
}

static etag_status hasher_fill(etag_hasher *hasher)
{
    ERR_set_mark();
    hasher->hash = EVP_MD_fetch(NULL, "SHA2-256", NULL);
    hasher->context = EVP_MD_CTX_new();
    ERR_pop_to_mark();
    if (!hasher->hash)
        return ETAG_FAILED;
    if (!hasher->context)
        return ETAG_SYSTEM;
    return hash_begin(hasher) ? ETAG_OK : ETAG_FAILED;
}

etag_status etag_hasher_open(etag_hasher **out)
{
    *out = NULL;
    etag_hasher *hasher = calloc(1, sizeof(*hasher));
    if (!hasher)
        return ETAG_SYSTEM;
    const etag_status status = hasher_fill(hasher);
    if (status != ETAG_OK)
        hasher = etag_hasher_close(hasher);
    *out = hasher;
    return status;
}

etag_hasher *etag_hasher_close(etag_hasher *hasher)
{
    if (!hasher)
        return NULL;
    EVP_MD_CTX_free(hasher->context);
    EVP_MD_free(hasher->hash);
    free(hasher);
    return NULL;
}

void etag_hasher_begin(etag_hasher *hasher)
{
    if (hasher)
        hasher->state = hash_begin(hasher) ? HASHER_READING : HASHER_BROKEN;
}

void etag_hasher_update(etag_hasher *hasher, const void *data, size_t len)
{
    if (!hasher)
        return;
    if (!data && len > 0)
        hasher->state = HASHER_MISUSED;
    if (hasher->state != HASHER_READING || len == 0)
        return;
    ERR_set_mark();
    if (EVP_DigestUpdate(hasher->context, data, len) != 1)
        hasher->state = HASHER_BROKEN;
    ERR_pop_to_mark();
}

/* ---- Its text ---- */

static void base64url(const unsigned char bytes[KEPT_BYTES], char out[KEPT_CHARS])
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    unsigned bits = 0, count = 0; /* that were read and not yet written */
    size_t at = 0;

    for (size_t i = 0; i < KEPT_BYTES; i++) {
        bits = bits << 8 | bytes[i];
        for (count += 8; count >= 6; count -= 6)
            out[at++] = digits[bits >> (count - 6) & 63];
    }
    out[at++] = digits[bits << (6 - count) & 63];
    assert(at == KEPT_CHARS);
}

static etag_str text_write(etag_hasher *hasher, const unsigned char *hash, bool weak)
{
    char *at = hasher->text;

    if (weak) {
        *at++ = 'W';
        *at++ = '/';
    }
    *at++ = '"';
    base64url(hash, at);
    at += KEPT_CHARS;
    *at++ = '"';
    *at = '\0';
    return (etag_str){hasher->text, (size_t)(at - hasher->text)};
}

etag_status etag_hasher_final(etag_hasher *hasher, bool weak, etag_str *out)
{
    *out = (etag_str){NULL, 0};
    if (!hasher)
        return ETAG_INVALID;
    const enum hasher_state state = hasher->state;
    hasher->state = HASHER_IDLE;
    if (state == HASHER_IDLE || state == HASHER_MISUSED)
        return ETAG_INVALID;
    unsigned char hash[HASH_BYTES];
    unsigned written = 0;
    ERR_set_mark();
    const bool done = state == HASHER_READING &&
                      EVP_DigestFinal_ex(hasher->context, hash, &written) == 1 &&
                      written == sizeof(hash);
    ERR_pop_to_mark();
    if (!done)
        return ETAG_FAILED;
    *out = text_write(hasher, hash, weak);
    return ETAG_OK;
}

etag_status etag_hash(etag_hasher *hasher, const void *body, size_t len, bool weak, etag_str *out)
{
    etag_hasher_begin(hasher);
    etag_hasher_update(hasher, body, len);
    return etag_hasher_final(hasher, weak, out);
}

/* ---- Variants ---- */

/* In lower case, so that a coding's spelling does not make two tags of one representation. */
etag_status etag_variant(etag_str etag, etag_str coding, char *buffer, size_t size, etag_str *out)
{
    struct entity_tag parsed;

    *out = (etag_str){NULL, 0};
    coding = encoding_canonical(coding);
    const bool plain = coding.len == 0 || str_equal_nocase(coding, ETAG_LIT("identity"));
    if (!entity_tag_parse(etag, &parsed) || !(plain || str_is_token(coding)))
        return ETAG_INVALID;
    const size_t extra = plain ? 0 : 1 + coding.len;
    if (size > ETAG_BYTES_MAX)
        size = ETAG_BYTES_MAX;
    if (etag.len > size || extra > size - etag.len)
        return ETAG_INVALID;

    char *at = memmove(buffer, etag.data, etag.len); /* the tag may be in the buffer */
    if (!plain) {
        at += etag.len - 1;
        *at++ = '-';
        for (size_t i = 0; i < coding.len; i++)
            *at++ = char_lower(coding.data[i]);
        *at = '"';
    }
    *out = (etag_str){buffer, etag.len + extra};
    return ETAG_OK;
}
