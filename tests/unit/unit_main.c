/* SPDX-License-Identifier: Apache-2.0 */
/* main() of every unit test: runs the tests that its file registered, in the order of their
 * lines. */
#include "testing.h"

#include <errno.h>

#define TESTS_MAX 128

static struct CMUnitTest tests[TESTS_MAX];
static int lines[TESTS_MAX];
static size_t count;

/* Called by constructors, whose order a compiler may choose. */
void test_register(int line, const struct CMUnitTest *test)
{
    size_t at = count++;

    if (at == TESTS_MAX)
        abort();
    for (; at > 0 && lines[at - 1] > line; at--) {
        tests[at] = tests[at - 1];
        lines[at] = lines[at - 1];
    }
    tests[at] = *test;
    lines[at] = line;
}

int main(void)
{
    if (count == 0)
        return 1;
    return _cmocka_run_group_tests(program_invocation_short_name, tests, count, NULL, NULL);
}
