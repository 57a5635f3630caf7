/* SPDX-License-Identifier: Apache-2.0 */
/*
 * All names and values are base64 or numbers, so nothing here has to be escaped. No memory is
* remembered and reported once, at the end.
 */
#include "etcd_txn.h"

#include "base64.h"
#include "text.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>

#define FIRST_BYTES 1024
#define NUMBER_BYTES 24

void etcd_txn_free(struct etcd_txn *txn)
{
    free(txn->text);
    *txn = (struct etcd_txn){0};
}

/* Room for so many bytes after what is there; NULL: no memory. */
static char *room(struct etcd_txn *txn, size_t bytes)
{
    if (txn->no_memory)
        return NULL;
    if (bytes > txn->capacity - txn->len) {
        const size_t capacity = (txn->len + bytes) * 2 + FIRST_BYTES;
        char *const text = realloc(txn->text, capacity);
        txn->no_memory = !text;
        if (!text)
            return NULL;
        txn->text = text;
        txn->capacity = capacity;
    }
    return txn->text + txn->len;
}

static void add(struct etcd_txn *txn, etag_str text)
{
    char *const to = room(txn, text.len);

    if (!to)
        return;
    memcpy(to, text.data, text.len);
    txn->len += text.len;
}

static void add_number(struct etcd_txn *txn, const char *name, uint64_t number)
{
    char text[NUMBER_BYTES];

    (void)snprintf(text, sizeof(text), "%" PRIu64, number);
    add(txn, str_of(name));
    add(txn, ETAG_LIT("\""));
    add(txn, str_of(text));
    add(txn, ETAG_LIT("\""));
}

static void add_bytes(struct etcd_txn *txn, const char *name, etag_str bytes)
{
    add(txn, str_of(name));
    add(txn, ETAG_LIT("\""));
    char *const to = room(txn, BASE64_BYTES(bytes.len));
    if (to) {
        base64_encode(to, bytes);
        txn->len += BASE64_BYTES(bytes.len);
    }
    add(txn, ETAG_LIT("\""));
}

/* Begins a member of that list. */
static void begin(struct etcd_txn *txn, enum etcd_part part, const char *text)
{
    static const char *const lists[] = {"\"compare\":[", "\"success\":[", "\"failure\":["};

    assert(!txn->begun || part >= txn->part);
    if (!txn->begun || part != txn->part) {
        add(txn, txn->begun ? ETAG_LIT("],") : ETAG_LIT("{"));
        add(txn, str_of(lists[part]));
        txn->begun = true;
        txn->some = false;
        txn->part = part;
    }
    if (txn->some)
        add(txn, ETAG_LIT(","));
    txn->some = true;
    add(txn, str_of(text));
}

void etcd_txn_if(struct etcd_txn *txn, etag_str key, uint64_t mod_revision)
{
    begin(txn, ETCD_IF, "{\"target\":\"MOD\",\"result\":\"EQUAL\"");
    add_bytes(txn, ",\"key\":", key);
    add_number(txn, ",\"mod_revision\":", mod_revision);
    add(txn, ETAG_LIT("}"));
}

void etcd_txn_get(struct etcd_txn *txn, enum etcd_part part, const struct etcd_get *get)
{
    begin(txn, part, "{\"request_range\":{");
    add_bytes(txn, "\"key\":", get->from);
    if (get->to.data)
        add_bytes(txn, ",\"range_end\":", get->to);
    if (get->min_mod_revision > 0)
        add_number(txn, ",\"min_mod_revision\":", get->min_mod_revision);
    if (get->max_mod_revision > 0)
        add_number(txn, ",\"max_mod_revision\":", get->max_mod_revision);
    if (get->limit > 0)
        add_number(txn, ",\"limit\":", get->limit);
    if (get->count_only)
        add(txn, ETAG_LIT(",\"count_only\":true"));
    if (get->keys_only)
        add(txn, ETAG_LIT(",\"keys_only\":true"));
    add(txn, ETAG_LIT("}}"));
}

void etcd_txn_put(struct etcd_txn *txn, etag_str key, etag_str value)
{
    begin(txn, ETCD_THEN, "{\"request_put\":{");
    add_bytes(txn, "\"key\":", key);
    add_bytes(txn, ",\"value\":", value);
    add(txn, ETAG_LIT("}}"));
}

void etcd_txn_delete(struct etcd_txn *txn, etag_str from, etag_str to)
{
    begin(txn, ETCD_THEN, "{\"request_delete_range\":{");
    add_bytes(txn, "\"key\":", from);
    if (to.data)
        add_bytes(txn, ",\"range_end\":", to);
    add(txn, ETAG_LIT("}}"));
}

etag_str etcd_txn_end(struct etcd_txn *txn)
{
    add(txn, txn->begun ? ETAG_LIT("]}") : ETAG_LIT("{}"));
    return txn->no_memory ? (etag_str){0} : (etag_str){txn->text, txn->len};
}
