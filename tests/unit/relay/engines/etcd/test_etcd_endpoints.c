/* SPDX-License-Identifier: Apache-2.0 */
#include "etcd.h"

#include "testing.h"

#include <string.h>

TEST(a_list_of_members)
{
    struct etcd_endpoints endpoints;
    struct why why;

    assert_true(etcd_endpoints_read(
        &endpoints, "http://127.0.0.1:2379, https://etcd-2.example:2379/ ,https://[::1]", &why));
    assert_int_equal(endpoints.count, 3);
    assert_string_equal(endpoints.urls[0], "http://127.0.0.1:2379");
    assert_string_equal(endpoints.urls[1], "https://etcd-2.example:2379");
    assert_string_equal(endpoints.urls[2], "https://[::1]");
}

TEST(what_is_none)
{
    static const char *const texts[] = {
        "",         "etcd:2379",  "ftp://h",    "http://",   "http:///",   "http://h/v3",
        "http://,", "http://a b", "http://u@h", "http://h?", "http://h#x", "http://h,,http://i"};
    struct etcd_endpoints endpoints;
    struct why why;

    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        why.text[0] = '\0';
        assert_false(etcd_endpoints_read(&endpoints, texts[i], &why));
        assert_true(strlen(why.text) > 0);
    }
}
