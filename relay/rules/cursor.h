/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The cursor: what a daemon has applied, with who had answered then. To the daemon it is bytes,
 * which it keeps with the events (rule CURSOR_OF_DAEMON); both halves of their form are in
 * cursor.c.
 */
#ifndef ETAG_RELAY_CURSOR_H
#define ETAG_RELAY_CURSOR_H

#include "bounds.h"
#include "engine.h"

#define CURSOR_BYTES_MAX RELAY_CURSOR_BYTES_MAX

struct cursor {
    /* false: a cold start, or one that could not be read */
    bool there;
    struct engine_origin origin;
    bool witnessed;
    struct engine_nonce witness;
    uint64_t digest;
    /* owned */
    struct engine_snapshot snapshot;
};

/* Leaves it empty: not there. */
void cursor_deinit(struct cursor *cursor);

/* Of a poll. 0 or -ENOMEM (then it is not there). The former content is freed. */
MUST_USE int cursor_set(struct cursor *cursor, const struct engine_poll *poll);

/* Bytes written to out. */
size_t cursor_pack(const struct cursor *cursor, uint8_t out[CURSOR_BYTES_MAX]);

/* 0, -ENOMEM, or -EPROTO: no release of ours wrote this; then it is not there. Empty bytes: 0, and
 * it is not there. */
MUST_USE int cursor_unpack(struct cursor *cursor, etag_str bytes);

#endif
