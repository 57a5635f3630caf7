/* SPDX-License-Identifier: Apache-2.0 */
/* cmocka with what it wants included before it, tests that register themselves, and random numbers
 * that are the same in every run. */
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

/*
 * TEST() or TEST_OF() begins a test and registers it; main() in unit_main.c runs the registered
 * ones in the order of the file. A file whose tests share a fixture defines a macro for it:
 *
 *     #define CASE(name) TEST_OF(name, struct fixture *f, setup, teardown)
 */
void test_register(int line, const struct CMUnitTest *test);

#define TEST_REGISTER(id_, ...)                                                                    \
    __attribute__((constructor)) static void id_##_register(void)                                  \
    {                                                                                              \
        test_register(__LINE__, &(const struct CMUnitTest){__VA_ARGS__});                          \
    }

#define TEST(name_)                                                                                \
    static void name_(void);                                                                       \
    static void name_##_run(void **state)                                                          \
    {                                                                                              \
        name_();                                                                                   \
    }                                                                                              \
    TEST_REGISTER(name_, .name = #name_, .test_func = name_##_run)                                 \
    static void name_(void)

/* fixture_ declares the test's parameter: what setup_ leaves in its state. */
#define TEST_OF(name_, fixture_, setup_, teardown_)                                                \
    static void name_(fixture_);                                                                   \
    static void name_##_run(void **state)                                                          \
    {                                                                                              \
        name_(*state);                                                                             \
    }                                                                                              \
    TEST_REGISTER(name_, .name = #name_, .test_func = name_##_run, .setup_func = (setup_),         \
                  .teardown_func = (teardown_))                                                    \
    static void name_(fixture_)

/* valgrind makes system calls of its own and keeps descriptors for itself. */
bool under_valgrind(void);

/* How many rounds a test of random inputs does: 'usual', or $ETAGD_TEST_ROUNDS for a long form by
 * hand. */
uint64_t test_rounds(uint64_t usual);

/* splitmix64 */
uint64_t random_mix(uint64_t x);

uint64_t random_next(uint64_t *seed);

#endif
