/* SPDX-License-Identifier: Apache-2.0 */
/* A buffer doubles its capacity when it is full, so that many small appends copy few bytes. */
#include "frame.h"

#define BUFFER_BYTES_MIN 256

int buffer_grow(struct buffer *buffer, size_t more)
{
    size_t needed;

    if (__builtin_add_overflow(buffer->len, more, &needed) || needed > SIZE_MAX / 2)
        return -ENOMEM;
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
