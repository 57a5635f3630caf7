/* SPDX-License-Identifier: Apache-2.0 */
/* Minimum, maximum, and the number of elements of an array. */
#ifndef ETAG_PROTO_NUMBERS_H
#define ETAG_PROTO_NUMBERS_H

#include <stdint.h>

/* The number of elements of an array (not of a pointer). */
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
