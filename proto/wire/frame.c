/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frames: the 4-byte length before each message, the buffer that they are appended to, and the
 * codes with which a message says what went wrong. Nothing here knows what is in a message.
 */
#include "message.h"

#include "bytes.h"

#include <errno.h>

#define BUFFER_BYTES_MIN 256

/* ---- Errors ---- */

etag_status wire_error_status(uint32_t code)
{
    switch (code) {
#define STATUS_CASE(name, number, status, word)                                                    \
    case number:                                                                                   \
        return status;
        WIRE_ERRORS(STATUS_CASE)
#undef STATUS_CASE
    default:
        return ETAG_FAILED;
    }
}

const char *wire_error_word(uint32_t code)
{
    switch (code) {
#define WORD_CASE(name, number, status, word)                                                      \
    case number:                                                                                   \
        return word;
        WIRE_ERRORS(WORD_CASE)
#undef WORD_CASE
    default:
        return "unknown";
    }
}

/* ---- Buffer and frames ---- */

void buffer_deinit(struct buffer *buffer)
{
    free(buffer->bytes);
    *buffer = (struct buffer){0};
}

int buffer_reserve(struct buffer *buffer, size_t more)
{
    size_t needed;

    if (__builtin_add_overflow(buffer->len, more, &needed) || needed > SIZE_MAX / 2)
        return -ENOMEM;
    if (needed <= buffer->capacity)
        return 0;
    size_t capacity = buffer->capacity ? buffer->capacity : BUFFER_BYTES_MIN;
    while (capacity < needed)
        capacity *= 2;
    uint8_t *const bytes = realloc(buffer->bytes, capacity);
    if (!bytes)
        return -ENOMEM;
    buffer->bytes = bytes;
    buffer->capacity = capacity;
    return 0;
}

int frame_next(etag_str bytes, etag_str *payload)
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
