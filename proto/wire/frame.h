/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frames: the 4-byte length before each message, and the buffer to which frames are appended. This
 * module does not know the content of messages.
 */
#ifndef ETAG_PROTO_FRAME_H
#define ETAG_PROTO_FRAME_H

#include "bounds.h"
#include "bytes.h"
#include "cleanup.h"

#include <errno.h>
#include <etag/etag.h>

/* A growing byte buffer. */
struct buffer {
    uint8_t *bytes;
    size_t len, capacity;
};

static inline void buffer_deinit(struct buffer *buffer)
{
    free(buffer->bytes);
    *buffer = (struct buffer){0};
}

/* For buffer_reserve() only: grows the buffer. Returns 0 or -ENOMEM. */
MUST_USE int buffer_grow(struct buffer *buffer, size_t more);

/* Makes room for this many bytes after len. After success 'bytes' is not NULL, also if nothing was
 * asked for. Returns 0 or -ENOMEM. */
MUST_USE static inline int buffer_reserve(struct buffer *buffer, size_t more)
{
    return buffer->bytes && more <= buffer->capacity - buffer->len ? 0 : buffer_grow(buffer, more);
}

/* Finds a whole frame at the start of bytes. Returns 1 and its payload; 0 if more bytes are needed;
 * -EPROTO if the length is 0 or over FRAME_BYTES_MAX, so that the next frame can't be found. */
MUST_USE static inline int frame_next(etag_str bytes, etag_str *payload)
{
    if (bytes.len < FRAME_HEADER_BYTES)
        return 0;
    const uint32_t len = load_u32(bytes.data);
    if (len == 0 || len > FRAME_BYTES_MAX)
        return -EPROTO;
    if (bytes.len - FRAME_HEADER_BYTES < len)
        return 0;
    *payload = (etag_str){bytes.data + FRAME_HEADER_BYTES, len};
    return 1;
}

#endif
