/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Line by line. No library: what Debian has (http-parser, no longer maintained) takes the liberties
 * of a server that means well, and says neither in which line nor what is allowed.
 */
#include "http_request.h"

#include "text.h"

#include <stdio.h>

#define TEXT_ARGS(s) (int)((s).len < 40 ? (s).len : 40), (s).data

struct parse {
    struct http_request *out;
    etag_str left;
    /* number of the one that was taken last */
    unsigned line;
    struct why *why;
    unsigned version_minor;
    /* 0: none */
    unsigned host_line;
    etag_str host;
    bool absolute;
};

/* The next line without its end. False: there is none. */
static bool line_next(struct parse *parse, etag_str *line)
{
    if (parse->left.len == 0)
        return false;
    const char *end = memchr(parse->left.data, '\n', parse->left.len);
    const size_t len = end ? (size_t)(end - parse->left.data) : parse->left.len;
    *line = (etag_str){parse->left.data, len};
    if (line->len > 0 && line->data[line->len - 1] == '\r')
        line->len--;
    parse->left = str_skip(parse->left, end ? len + 1 : len);
    parse->line++;
    return true;
}

/* Visible characters, blanks between them, and bytes above ASCII. */
static bool line_check(struct parse *parse, etag_str line)
{
    for (size_t i = 0; i < line.len; i++) {
        const unsigned char byte = (unsigned char)line.data[i];
        if (byte == '\r')
            return why_not(parse->why, "a CR that no LF follows; lines end in CR LF, or LF");
        if ((byte < 0x20 && byte != '\t') || byte == 0x7f)
            return why_not(parse->why, "control character 0x%02x; allowed are text and blanks",
                           byte);
    }
    return true;
}

/* ---- The request line ---- */

static bool word_next(etag_str *line, etag_str *word)
{
    const char *blank = memchr(line->data, ' ', line->len);
    const size_t len = blank ? (size_t)(blank - line->data) : line->len;

    *word = (etag_str){line->data, len};
    *line = str_skip(*line, blank ? len + 1 : len);
    return len > 0;
}

static bool version_parse(struct parse *parse, etag_str word)
{
    if (word.len == 8 && str_starts_with(word, ETAG_LIT("HTTP/1.")) && word.data[7] >= '0' &&
        word.data[7] <= '9') {
        parse->version_minor = (unsigned)(word.data[7] - '0');
        return true;
    }
    return why_not(parse->why, "\"%.*s\" is no version; allowed are HTTP/1.1 and HTTP/1.0",
                   TEXT_ARGS(word));
}

/* "http://host/path?query" */
static bool absolute_parse(struct parse *parse, etag_str target)
{
    struct http_request *out = parse->out;
    const size_t scheme_len = str_starts_with(target, ETAG_LIT("https://")) ? 8 : 7;
    const etag_str rest = str_skip(target, scheme_len);
    size_t host_len = 0;

    while (host_len < rest.len && rest.data[host_len] != '/' && rest.data[host_len] != '?')
        host_len++;
    const etag_str path = str_skip(rest, host_len);
    if (host_len == 0 || memchr(rest.data, '@', host_len))
        return why_not(parse->why, "the target names no host: allowed is http://host[:port]/path");
    if (path.len > TARGET_BYTES_MAX)
        return why_not(parse->why, "the target is %zu bytes long; at most %d are allowed", path.len,
                       TARGET_BYTES_MAX);
    parse->absolute = true;
    out->resource.host = (etag_str){rest.data, host_len};
    out->resource.target = path;
    if (path.len == 0 || path.data[0] == '?') {
        out->made_target[0] = '/';
        if (path.len > 0)
            memcpy(out->made_target + 1, path.data, path.len);
        out->resource.target = (etag_str){out->made_target, 1 + path.len};
    }
    return true;
}

static bool target_parse(struct parse *parse, etag_str target)
{
    if (target.data[0] == '/') {
        parse->out->resource.target = target;
        return true;
    }
    if (str_starts_with(target, ETAG_LIT("http://")) ||
        str_starts_with(target, ETAG_LIT("https://")))
        return absolute_parse(parse, target);
    return why_not(parse->why, "\"%.*s\" names no resource: allowed are /path and http://host/path",
                   TEXT_ARGS(target));
}

static bool request_line_parse(struct parse *parse, etag_str line)
{
    etag_str target;

    if (!line_check(parse, line))
        return false;
    if (!word_next(&line, &parse->out->method) || !word_next(&line, &target) || line.len == 0 ||
        memchr(line.data, ' ', line.len))
        return why_not(
            parse->why,
            "no request line: it is METHOD, target and HTTP/1.1, with one space between");
    if (!str_is_token(parse->out->method))
        return why_not(parse->why, "\"%.*s\" is no method", TEXT_ARGS(parse->out->method));
    return version_parse(parse, line) && target_parse(parse, target);
}

/* ---- Header fields ---- */

static bool host_take(struct parse *parse, etag_str value)
{
    if (parse->host_line)
        return why_not(parse->why, "a second Host; the first is in line %u, and one is allowed",
                       parse->host_line);
    parse->host_line = parse->line;
    parse->host = value;
    return true;
}

static bool field_parse(struct parse *parse, etag_str line)
{
    struct http_request *out = parse->out;
    /* Of HTTP/2, as captures show it. */
    const bool pseudo = str_starts_with(line, ETAG_LIT(":authority:"));
    const char *colon = memchr(line.data + pseudo, ':', line.len - pseudo);

    if (char_is_blank(line.data[0]))
        return why_not(parse->why,
                       "a line that begins with a blank: folded fields are not allowed");
    if (!colon)
        return why_not(parse->why, "no colon; a header field is \"Name: value\"");
    const etag_str name = {line.data, (size_t)(colon - line.data)};
    const etag_str value = str_trim(str_skip(line, name.len + 1));
    if (name.len > 0 && char_is_blank(name.data[name.len - 1]))
        return why_not(parse->why, "white space before the colon is not allowed");
    if (!pseudo && !str_is_token(name))
        return why_not(parse->why, "\"%.*s\" is no name of a header field", TEXT_ARGS(name));
    if (out->field_count == HTTP_FIELDS_MAX)
        return why_not(parse->why, "more than %d header fields", HTTP_FIELDS_MAX);
    out->fields[out->field_count++] = (etag_field){name, value};
    return (pseudo || str_equal_nocase(name, ETAG_LIT("Host"))) ? host_take(parse, value) : true;
}

static bool fields_parse(struct parse *parse)
{
    etag_str line;

    while (line_next(parse, &line) && line.len > 0)
        if (!line_check(parse, line) || !field_parse(parse, line))
            return false;
    parse->out->body_len = parse->left.len;
    return true;
}

/* An absolute target wins over Host (RFC 9112 section 3.2.2). */
static bool host_settle(struct parse *parse)
{
    if (!parse->host_line && parse->version_minor > 0 && !parse->absolute) {
        parse->line = parse->line ? parse->line : 1;
        return why_not(parse->why, "no Host among the header fields; HTTP/1.1 wants one");
    }
    if (!parse->absolute)
        parse->out->resource.host = parse->host;
    return true;
}

static bool request_parse(struct parse *parse)
{
    etag_str line;

    do
        if (!line_next(parse, &line)) {
            parse->line = 1;
            return why_not(parse->why,
                           "there is no request: it begins with a line such as GET /path HTTP/1.1");
        }
    while (line.len == 0);
    return request_line_parse(parse, line) && fields_parse(parse) && host_settle(parse);
}

unsigned http_request_parse(struct http_request *out, etag_str bytes, struct why *why)
{
    struct parse parse = {.out = out, .left = bytes, .why = why};

    *out = (struct http_request){0};
    why->text[0] = '\0';
    return request_parse(&parse) ? 0 : parse.line;
}
