/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A version byte, then numbers of seven bits a byte, low ones first, as protobuf has them; running
 * positions as distances, so that one takes a byte or two.
 */
#include "cursor.h"

#include "snapshot.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#define CURSOR_VERSION 1
#define NUMBER_BYTES_MAX 10
/* All but the running positions. */
#define CURSOR_HEAD_BYTES (2 + ENGINE_NONCE_BYTES + 7 * NUMBER_BYTES_MAX)

void cursor_deinit(struct cursor *cursor)
{
    free(cursor->snapshot.running);
    *cursor = (struct cursor){0};
}

int cursor_set(struct cursor *cursor, const struct engine_poll *poll)
{
    cursor_deinit(cursor);
    const int r = snapshot_copy(&cursor->snapshot, &poll->snapshot);
    if (r < 0)
        return r;
    cursor->there = true;
    cursor->origin = poll->origin;
    cursor->witnessed = poll->witnessed;
    cursor->witness = poll->witness;
    cursor->digest = poll->digest;
    return 0;
}

/* ---- Packing ---- */

struct packing {
    uint8_t *out;
    size_t len;
};

static void pack_number(struct packing *p, uint64_t number)
{
    for (; number >= 0x80; number >>= 7)
        p->out[p->len++] = (uint8_t)(number | 0x80);
    p->out[p->len++] = (uint8_t)number;
}

static void pack_head(struct packing *p, const struct cursor *cursor)
{
    p->out[p->len++] = CURSOR_VERSION;
    pack_number(p, cursor->origin.system);
    pack_number(p, cursor->origin.started_us);
    pack_number(p, cursor->origin.timeline);
    pack_number(p, cursor->origin.database);
    p->out[p->len++] = cursor->witnessed;
    memcpy(p->out + p->len, cursor->witness.bytes, ENGINE_NONCE_BYTES);
    p->len += ENGINE_NONCE_BYTES;
    pack_number(p, cursor->digest);
}

/* Distances whose sum is below 2^64: at most 256 of them take more than eight bytes. */
static void pack_snapshot(struct packing *p, const struct engine_snapshot *snapshot)
{
    _Static_assert(CURSOR_HEAD_BYTES + 8 * ENGINE_RUNNING_MAX + 2 * 256 <= CURSOR_BYTES_MAX,
                   "a cursor fits");
    uint64_t former = 0;

    assert(snapshot->running_count <= ENGINE_RUNNING_MAX);
    pack_number(p, snapshot->next);
    pack_number(p, snapshot->running_count);
    for (size_t i = 0; i < snapshot->running_count; i++) {
        pack_number(p, snapshot->running[i] - former);
        former = snapshot->running[i];
    }
}

size_t cursor_pack(const struct cursor *cursor, uint8_t out[CURSOR_BYTES_MAX])
{
    struct packing p = {out, 0};

    pack_head(&p, cursor);
    pack_snapshot(&p, &cursor->snapshot);
    return p.len;
}

/* ---- Unpacking ---- */

struct unpacking {
    etag_str left;
    bool bad;
};

static uint64_t unpack_number(struct unpacking *u)
{
    uint64_t number = 0;

    for (unsigned shift = 0; shift < 64 && u->left.len > 0; shift += 7) {
        const uint8_t byte = (uint8_t)u->left.data[0];
        u->left.data++;
        u->left.len--;
        number |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80)
            return number;
    }
    u->bad = true;
    return 0;
}

static void unpack_bytes(struct unpacking *u, void *to, size_t len)
{
    if (u->left.len < len) {
        u->bad = true;
        return;
    }
    memcpy(to, u->left.data, len);
    u->left.data += len;
    u->left.len -= len;
}

/* Ascending and below next: what snapshot_covers() relies on. */
static int unpack_snapshot(struct unpacking *u, struct engine_snapshot *snapshot)
{
    snapshot->next = unpack_number(u);
    const uint64_t count = unpack_number(u);
    if (u->bad || count > ENGINE_RUNNING_MAX || count > u->left.len)
        return -EPROTO;
    if (count == 0)
        return 0;
    snapshot->running = malloc(count * sizeof(*snapshot->running));
    if (!snapshot->running)
        return -ENOMEM;
    uint64_t former = 0;
    for (; snapshot->running_count < count; snapshot->running_count++) {
        const uint64_t distance = unpack_number(u);
        if (u->bad || (distance == 0 && snapshot->running_count > 0) ||
            __builtin_add_overflow(former, distance, &former) || former >= snapshot->next)
            return -EPROTO;
        snapshot->running[snapshot->running_count] = former;
    }
    return 0;
}

static int unpack_all(struct unpacking *u, struct cursor *cursor)
{
    uint8_t version = 0, witnessed = 0;

    unpack_bytes(u, &version, 1);
    if (version != CURSOR_VERSION)
        return -EPROTO;
    cursor->origin.system = unpack_number(u);
    cursor->origin.started_us = unpack_number(u);
    cursor->origin.timeline = unpack_number(u);
    cursor->origin.database = unpack_number(u);
    unpack_bytes(u, &witnessed, 1);
    unpack_bytes(u, cursor->witness.bytes, ENGINE_NONCE_BYTES);
    cursor->witnessed = witnessed != 0;
    cursor->digest = unpack_number(u);
    const int r = unpack_snapshot(u, &cursor->snapshot);
    if (r < 0)
        return r;
    return u->bad || u->left.len > 0 ? -EPROTO : 0;
}

int cursor_unpack(struct cursor *cursor, etag_str bytes)
{
    struct unpacking u = {bytes, false};

    cursor_deinit(cursor);
    if (bytes.len == 0)
        return 0;
    const int r = unpack_all(&u, cursor);
    if (r < 0) {
        cursor_deinit(cursor);
        return r;
    }
    cursor->there = true;
    return 0;
}
