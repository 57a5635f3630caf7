/* SPDX-License-Identifier: Apache-2.0 */
/* Sentences of any length, and what a caller returns with them. */
#include "why.h"

#include "testing.h"

#include <errno.h>

TEST(what_does_not_fit_is_cut_off)
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

TEST(an_errno_is_said_in_words)
{
    static struct why why;

    errno = ENOENT;
    assert_int_equal(why_errno(&why, "open", "/there"), -1);
    assert_string_equal(why.text, "cannot open /there: No such file or directory");
}
