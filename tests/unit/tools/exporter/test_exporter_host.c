/* SPDX-License-Identifier: Apache-2.0 */
#include "exporter_host.h"
#include "numbers.h"
#include "testing.h"
#include "text.h"

static const struct host_names names = {.names = {"metrics.example", "prom"}, .count = 2};

TEST(what_nobody_can_resolve_and_what_was_named)
{
    static const char *const allowed[] = {
        "localhost",       "LocalHost:9437",  "127.0.0.1", "127.0.0.1:9437",       "192.0.2.7:80",
        "[::1]",           "[::1]:9437",      "prom",      "Metrics.Example:9437", "localhost:",
        "metrics.example", "[2001:db8::1]:1",
    };
    static const char *const refused[] = {
        "",
        "evil.example",
        "evil.example:9437",
        "localhost.evil.example",
        "127.0.0.1.",
        "127.0.0.1.evil",
        "localhost:9437x",
        "localhost:123456",
        ":9437",
        ":",
        "[::1",
        "::1",
        "[]",
        "[evil]",
        "[::1]x",
        "localhost,evil",
        "127.1",
        "localhost, prom",
        "prom:80:80",
        "localhost\t",
        "0x7f.0.0.1",
        "prom.",
        "[::1]:9437:1",
        "metrics.exampl",
    };

    for (size_t i = 0; i < COUNT_OF(allowed); i++)
        if (!host_is_allowed(&names, str_of(allowed[i])))
            fail_msg("%s is refused", allowed[i]);
    for (size_t i = 0; i < COUNT_OF(refused); i++)
        if (host_is_allowed(&names, str_of(refused[i])))
            fail_msg("%s is allowed", refused[i]);
    assert_false(host_is_allowed(&names, (etag_str){"127.0.0.1\0", 10}));
}
