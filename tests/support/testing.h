/* SPDX-License-Identifier: Apache-2.0 */
/* cmocka with what it wants included before it, and random numbers that are the same in every run. */
#ifndef ETAG_TESTS_TESTING_H
#define ETAG_TESTS_TESTING_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* valgrind makes system calls of its own and keeps descriptors for itself. */
bool under_valgrind(void);

/* splitmix64 */
uint64_t random_mix(uint64_t x);

uint64_t random_next(uint64_t *seed);

#endif
