/* SPDX-License-Identifier: Apache-2.0 */
#include "http_request.h"
#include "numbers.h"
#include "testing.h"
#include "text.h"

#include <stdio.h>

static void assert_text(etag_str found, const char *expected)
{
    assert_int_equal(found.len, strlen(expected));
    assert_memory_equal(found.data, expected, found.len);
}

static void parse(struct http_request *out, const char *text)
{
    struct why why;
    const unsigned line = http_request_parse(out, str_of(text), &why);

    if (line != 0)
        print_error("line %u: %s\n", line, why.text);
    assert_int_equal(line, 0);
}

TEST(a_request_with_cr_lf)
{
    static struct http_request r;

    parse(&r, "GET /a/b?c=d HTTP/1.1\r\nHost: Example.org:80\r\nIf-None-Match:  \"a, b\" \t\r\n"
              "X-Empty:\r\nif-none-match: W/\"c\"\r\n\r\nbody: not a field\r\n");
    assert_text(r.method, "GET");
    assert_text(r.resource.host, "Example.org:80");
    assert_text(r.resource.target, "/a/b?c=d");
    assert_int_equal(r.field_count, 4);
    assert_text(r.fields[1].name, "If-None-Match");
    assert_text(r.fields[1].value, "\"a, b\"");
    assert_text(r.fields[2].value, "");
    assert_non_null(r.fields[2].value.data); /* empty is not absent */
    assert_text(r.fields[3].value, "W/\"c\"");
    assert_int_equal(r.body_len, strlen("body: not a field\r\n"));
}

TEST(captures_end_lines_in_lf_and_lack_the_empty_line)
{
    static struct http_request r;

    parse(&r, "\n\r\nPUT /x HTTP/1.0\nIf-Match: *");
    assert_text(r.method, "PUT");
    assert_null(r.resource.host.data); /* HTTP/1.0 needs none */
    assert_text(r.fields[0].value, "*");
    parse(&r, "GET / HTTP/1.1\n:authority: h2.example\nx: \xc3\xa4\n");
    assert_text(r.resource.host, "h2.example");
}

TEST(an_absolute_target_wins_over_host)
{
    static struct http_request r;

    parse(&r, "GET http://a.example:8080/x?y HTTP/1.1\nHost: b.example\n\n");
    assert_text(r.resource.host, "a.example:8080");
    assert_text(r.resource.target, "/x?y");
    parse(&r, "GET https://a.example HTTP/1.1\n\n"); /* and stands for it */
    assert_text(r.resource.host, "a.example");
    assert_text(r.resource.target, "/");
    parse(&r, "GET http://a.example?q=/ HTTP/1.1\n\n");
    assert_text(r.resource.host, "a.example");
    assert_text(r.resource.target, "/?q=/");
}

TEST(mistakes_are_told_with_their_line)
{
    static const struct {
        const char *text;
        unsigned line;
        const char *why;
    } cases[] = {
        {"", 1, "there is no request"},
        {"\r\n\r\n", 1, "there is no request"},
        {"GET /\r\n\r\n", 1, "no request line"},
        {"GET  / HTTP/1.1\r\n\r\n", 1, "no request line"},
        {"GET / HTTP/1.1 \r\n\r\n", 1, "no request line"},
        {"GET / x HTTP/1.1\r\n\r\n", 1, "no request line"},
        {"\nGE(T / HTTP/1.1\n", 2, "\"GE(T\" is no method"},
        {"GET / HTTP/2\n", 1, "\"HTTP/2\" is no version"},
        {"GET / HTTP/1.10\n", 1, "is no version"},
        {"GET / http/1.1\n", 1, "is no version"},
        {"OPTIONS * HTTP/1.1\nHost: x\n", 1, "\"*\" names no resource"},
        {"CONNECT a.example:443 HTTP/1.1\n", 1, "names no resource"},
        {"GET ftp://a/ HTTP/1.1\n", 1, "names no resource"},
        {"GET http:///x HTTP/1.1\n", 1, "the target names no host"},
        {"GET http://user@a/ HTTP/1.1\n", 1, "the target names no host"},
        {"GET / HTTP/1.1\nA: b\nHost : x\n", 3, "white space before the colon"},
        {"GET / HTTP/1.1\nHost: x\nA b\n", 3, "no colon"},
        {"GET / HTTP/1.1\nHost: x\n: b\n", 3, "\"\" is no name"},
        {"GET / HTTP/1.1\nHost: x\n:path: b\n", 3, "is no name"},
        {"GET / HTTP/1.1\nHost: x\nA: b\n c\n", 4, "folded"},
        {"GET / HTTP/1.1\nHost: x\nA: \x01\n", 3, "control character 0x01"},
        {"GET / HTTP/1.1\nHost: x\nA: b\rc\n", 3, "a CR that no LF follows"},
        {"GET / HTTP/1.1\nHost: x\nB: c\nhost: x\n", 4, "a second Host; the first is in line 2"},
        {"GET / HTTP/1.1\nA: b\n\n", 3, "no Host"},
    };
    static struct http_request r;
    struct why why;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        const unsigned line = http_request_parse(&r, str_of(cases[i].text), &why);
        if (line != cases[i].line || !strstr(why.text, cases[i].why))
            fail_msg("%s: line %u: %s", cases[i].text, line, why.text);
    }
}

TEST(a_nul_and_too_many_fields)
{
    static struct http_request r;
    struct why why;
    static char text[8192];

    assert_int_equal(http_request_parse(&r, ETAG_LIT("GET / HTTP/1.1\nHost: a\0b\n"), &why), 2);
    assert_non_null(strstr(why.text, "0x00"));
    size_t len = (size_t)snprintf(text, sizeof(text), "GET / HTTP/1.0\n");
    for (int i = 0; i <= HTTP_FIELDS_MAX; i++)
        len += (size_t)snprintf(text + len, sizeof(text) - len, "A: %d\n", i);
    assert_int_equal(http_request_parse(&r, (etag_str){text, len}, &why), HTTP_FIELDS_MAX + 2);
    assert_non_null(strstr(why.text, "more than 128"));
}

TEST(an_absolute_target_is_bounded)
{
    static struct http_request r;
    struct why why;
    static char text[TARGET_BYTES_MAX + 100];

    for (size_t extra = 0; extra < 2; extra++) {
        size_t len = (size_t)snprintf(text, sizeof(text), "GET http://a?");
        memset(text + len, 'x', TARGET_BYTES_MAX - 1 + extra);
        len += TARGET_BYTES_MAX - 1 + extra;
        len += (size_t)snprintf(text + len, sizeof(text) - len, " HTTP/1.1\n");
        assert_int_equal(http_request_parse(&r, (etag_str){text, len}, &why), extra);
    }
    assert_non_null(strstr(why.text, "4097 bytes long"));
}
