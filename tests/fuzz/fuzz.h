/* SPDX-License-Identifier: Apache-2.0 */
/* What the fuzz targets share. A target is one function; libFuzzer or replay.c calls it. */
#ifndef ETAG_TESTS_FUZZ_H
#define ETAG_TESTS_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A finding is a crash, in release builds too. */
#define fuzz_require(condition)                                                                    \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);                \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

#endif
