/* SPDX-License-Identifier: Apache-2.0 */
/* The smaller and the larger of two numbers, and how many members an array has. */
#ifndef ETAG_PROTO_NUMBERS_H
#define ETAG_PROTO_NUMBERS_H

#include <stdint.h>

/* Of an array, not of a pointer. */
#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

static inline uint64_t min_of(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static inline uint64_t max_of(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

#endif
