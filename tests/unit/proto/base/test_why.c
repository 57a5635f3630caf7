/* SPDX-License-Identifier: Apache-2.0 */
/* Sentences of any length, and what a caller returns with them. */
#include "why.h"

#include "testing.h"

#include <errno.h>

static void what_does_not_fit_is_cut_off(void **state)
{
    static struct why why;
    char path[2 * WHY_BYTES];
    memset(path, 'p', sizeof(path) - 1);
    path[sizeof(path) - 1] = '\0';
    assert_int_equal(why_set(&why, "%s: is too long", path), -1);
    assert_int_equal(strlen(why.text), WHY_BYTES - 1);
    assert_false(why_not(&why, "%s", "short"));
    assert_string_equal(why.text, "short");
}

static void an_errno_is_said_in_words(void **state)
{
    static struct why why;
    errno = ENOENT;
    assert_int_equal(why_errno(&why, "open", "/there"), -1);
    assert_string_equal(why.text, "cannot open /there: No such file or directory");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_does_not_fit_is_cut_off),
        cmocka_unit_test(an_errno_is_said_in_words),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
