/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Words may come in any order, and unknown ones are passed over, so that a later release may add
 * some. A word that is missing, or is not what it should be, makes a value unreadable: what follows
 * from that is its reader's matter.
 */
#include "etcd_keys.h"

#include "numbers.h"
#include "text.h"

#include <inttypes.h>
#include <stdio.h>

#define NONCE_TEXT_BYTES (2 * ENGINE_NONCE_BYTES + 1)

/* ---- Keys ------------------------------------------------------------------------------------ */

static void key_add(struct etcd_key *key, etag_str text)
{
    const size_t len = min_of(text.len, sizeof(key->bytes) - key->len);

    if (len > 0)
        memcpy(key->bytes + key->len, text.data, len);
    key->len += len;
}

struct etcd_key etcd_key_of(const char *prefix, const char *name)
{
    struct etcd_key key = {.len = 0};

    key_add(&key, str_of(prefix));
    key_add(&key, str_of(name));
    return key;
}

struct etcd_key etcd_key_of_host(const char *prefix, const char *folder, etag_str host)
{
    struct etcd_key key = etcd_key_of(prefix, folder);

    key_add(&key, host);
    return key;
}

struct etcd_key etcd_key_of_epoch(const char *prefix, const char *folder, uint64_t epoch)
{
    char text[20];
    struct etcd_key key = etcd_key_of(prefix, folder);

    (void)snprintf(text, sizeof(text), "%016" PRIx64, epoch);
    key_add(&key, str_of(text));
    return key;
}

static const char *nonce_text(const struct engine_nonce *nonce, char out[NONCE_TEXT_BYTES])
{
    for (size_t i = 0; i < ENGINE_NONCE_BYTES; i++)
        (void)snprintf(out + 2 * i, 3, "%02x", nonce->bytes[i]);
    return out;
}

struct etcd_key etcd_key_of_row(const char *prefix, uint64_t epoch,
                                const struct engine_nonce *nonce, unsigned number)
{
    char text[NONCE_TEXT_BYTES + 16], digits[NONCE_TEXT_BYTES];
    struct etcd_key key = etcd_key_of_epoch(prefix, "outbox/", epoch);

    (void)snprintf(text, sizeof(text), "/%s-%u", nonce_text(nonce, digits), number);
    key_add(&key, str_of(text));
    return key;
}

struct etcd_key etcd_key_after_folder(struct etcd_key folder)
{
    folder.bytes[folder.len - 1] = '/' + 1;
    return folder;
}

etag_str etcd_key_name(etag_str key, etag_str folder)
{
    return str_starts_with(key, folder) ? str_skip(key, folder.len) : (etag_str){0};
}

/* ---- Words ----------------------------------------------------------------------------------- */

/* Of "name=value"; absent: there is none. */
static etag_str word_find(etag_str value, const char *name)
{
    const etag_str wanted = str_of(name);

    while (value.len > 0) {
        const char *const blank = memchr(value.data, ' ', value.len);
        const size_t len = blank ? (size_t)(blank - value.data) : value.len;
        const etag_str word = {value.data, len};
        if (len > wanted.len && word.data[wanted.len] == '=' && str_starts_with(word, wanted))
            return str_skip(word, wanted.len + 1);
        value = str_skip(value, len + (blank ? 1 : 0));
    }
    return (etag_str){0};
}

bool etcd_number_read(const char *name, uint64_t *out, etag_str value)
{
    return str_number(word_find(value, name), 10, out);
}

static bool number32_read(const char *name, uint32_t *out, etag_str value)
{
    uint64_t number;

    if (!etcd_number_read(name, &number, value) || number > UINT32_MAX)
        return false;
    *out = (uint32_t)number;
    return true;
}

static int digit_of(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool nonce_read(const char *name, struct engine_nonce *out, etag_str value)
{
    const etag_str text = word_find(value, name);

    if (text.len != (size_t)2 * ENGINE_NONCE_BYTES)
        return false;
    for (size_t i = 0; i < ENGINE_NONCE_BYTES; i++) {
        const int high = digit_of(text.data[2 * i]), low = digit_of(text.data[2 * i + 1]);
        if (high < 0 || low < 0)
            return false;
        out->bytes[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}

/* ---- Values ---------------------------------------------------------------------------------- */

struct etcd_value etcd_witness_write(const struct etcd_witness *witness)
{
    char digits[NONCE_TEXT_BYTES];
    struct etcd_value value;

    (void)snprintf(value.text, sizeof(value.text), "nonce=%s cluster=%" PRIu64 " term=%" PRIu64,
                   nonce_text(&witness->nonce, digits), witness->cluster, witness->term);
    return value;
}

bool etcd_witness_read(struct etcd_witness *out, etag_str value)
{
    return nonce_read("nonce", &out->nonce, value) &&
           etcd_number_read("cluster", &out->cluster, value) &&
           etcd_number_read("term", &out->term, value);
}

struct etcd_value etcd_ack_write(const struct etcd_ack *ack)
{
    char digits[NONCE_TEXT_BYTES], more[NONCE_TEXT_BYTES];
    struct etcd_value value;

    (void)snprintf(value.text, sizeof(value.text), "nonce=%s witness=%s revision=%" PRIu64,
                   nonce_text(&ack->nonce, digits), nonce_text(&ack->witness, more), ack->revision);
    return value;
}

bool etcd_ack_read(struct etcd_ack *out, etag_str value)
{
    return nonce_read("nonce", &out->nonce, value) && nonce_read("witness", &out->witness, value) &&
           etcd_number_read("revision", &out->revision, value) && out->revision < INT64_MAX;
}

struct etcd_value etcd_host_write(const struct etcd_host *host)
{
    char digits[NONCE_TEXT_BYTES];
    struct etcd_value value;

    (void)snprintf(value.text, sizeof(value.text), "nonce=%s state=%s",
                   nonce_text(&host->nonce, digits),
                   host->membership == ENGINE_LEAVING ? "leaving" : "member");
    return value;
}

bool etcd_host_read(struct etcd_host *out, etag_str value)
{
    const etag_str state = word_find(value, "state");

    out->membership = str_equal(state, ETAG_LIT("leaving")) ? ENGINE_LEAVING : ENGINE_MEMBER;
    return nonce_read("nonce", &out->nonce, value) &&
           (out->membership == ENGINE_LEAVING || str_equal(state, ETAG_LIT("member")));
}

struct etcd_value etcd_setting_write(const struct etcd_setting *setting)
{
    struct etcd_value value;

    (void)snprintf(value.text, sizeof(value.text), "version=%" PRIu64 " lease_ms=%u wait_ms=%u",
                   setting->version, setting->lease_ms, setting->wait_ms);
    return value;
}

bool etcd_setting_read(struct etcd_setting *out, etag_str value)
{
    return etcd_number_read("version", &out->version, value) &&
           number32_read("lease_ms", &out->lease_ms, value) &&
           number32_read("wait_ms", &out->wait_ms, value);
}

struct etcd_value etcd_number_write(const char *name, uint64_t number)
{
    struct etcd_value value;

    (void)snprintf(value.text, sizeof(value.text), "%s=%" PRIu64, name, number);
    return value;
}
