/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every lookup canonicalizes, and nearly every resource is canonical already. So the code tests
 * sixteen bytes at a time and copies what passes unchanged; it rewrites byte by byte only what has
 * an upper-case letter, a port, an escape, a dot segment or a byte that needs an escape. Decoding
 * comes before the removal of dot segments, since "%2e%2e" is one. A path may have only the bytes
 * that RFC 3986 calls pchar unescaped; all others are escaped, because servers decode both forms to
 * the same path, and an entry under another spelling would miss its invalidation.
 */
#include "resource.h"

#include "bytes.h"
#include "numbers.h"
#include "text.h"

#include <arpa/inet.h>
#include <assert.h>
#include <string.h>

/* ---- Sixteen bytes at a time ----------------------------------------------------------------- */

#define BLOCK_BYTES sizeof(byte_block)

typedef uint8_t byte_block __attribute__((vector_size(16)));
typedef uint64_t word_pair __attribute__((vector_size(16)));

/* Bytes of 0xff where a byte is found; before: the bytes in front of each of here. */
typedef byte_block block_test(byte_block here, byte_block before);

static inline byte_block block_load(const char *p)
{
    byte_block block;

    memcpy(&block, p, sizeof(block));
    return block;
}

/* len < BLOCK_BYTES; zeros follow. */
static inline byte_block block_load_short(const char *p, size_t len)
{
    uint64_t low = 0, high = 0;

    if (len >= 8) {
        low = load_u64(p);
        if (len > 8)
            high = load_u64(p + len - 8) >> (8 * (BLOCK_BYTES - len));
    } else if (len >= 4) {
        low = load_u32(p) | (uint64_t)load_u32(p + len - 4) << (8 * (len - 4));
    } else {
        for (size_t i = 0; i < len; i++)
            low |= (uint64_t)(uint8_t)p[i] << (8 * i);
    }
    return (byte_block)(word_pair){low, high};
}

static inline byte_block block_in(byte_block here, uint8_t low, uint8_t high)
{
    return (byte_block)(here - low <= (uint8_t)(high - low));
}

/* The place of the first byte that a test found, BLOCK_BYTES if none. */
static inline size_t block_first(byte_block found)
{
    const word_pair words = (word_pair)found;

    if ((words[0] | words[1]) == 0)
        return BLOCK_BYTES;
    return words[0] ? (size_t)__builtin_ctzll(words[0]) / 8
                    : 8 + (size_t)__builtin_ctzll(words[1]) / 8;
}

/* The place of the first byte after the first one that the test finds, or the text's length. The
 * first byte is not tested, so that every block can be read together with the bytes in front of
 * it. */
__attribute__((always_inline)) static inline size_t text_find(etag_str text, block_test *test)
{
    if (text.len <= BLOCK_BYTES) {
        const byte_block here = block_load_short(text.data + 1, text.len - 1);
        const byte_block before = block_load_short(text.data, text.len - 1);
        const size_t found = 1 + block_first(test(here, before));
        return min_of(found, text.len);
    }
    const size_t last = text.len - BLOCK_BYTES; /* this block overlaps the one before it */
    for (size_t at = 1; at < last; at += BLOCK_BYTES) {
        const char *const block = text.data + at;
        const size_t found = block_first(test(block_load(block), block_load(block - 1)));
        if (found < BLOCK_BYTES)
            return at + found;
    }
    const char *const block = text.data + last;
    return last + block_first(test(block_load(block), block_load(block - 1)));
}

static inline bool block_is_zero(byte_block block)
{
    const word_pair words = (word_pair)block;

    return (words[0] | words[1]) == 0;
}

/* 8 to 16 bytes; some are in it twice. */
static inline byte_block block_load_twice(const char *p, size_t len)
{
    return (byte_block)(word_pair){load_u64(p), load_u64(p + len - 8)};
}

/* Does the test find none of the bytes after the first one? Without a decision for each block.
 * text: at least 9 bytes. */
__attribute__((always_inline)) static inline bool text_has_none(etag_str text, block_test *test)
{
    const char *const data = text.data;
    const size_t len = text.len - 1;

    if (len < BLOCK_BYTES)
        return block_is_zero(test(block_load_twice(data + 1, len), block_load_twice(data, len)));
    const size_t last = text.len - BLOCK_BYTES;
    byte_block found = test(block_load(data + last), block_load(data + last - 1));
    for (size_t at = 1; at < last; at += BLOCK_BYTES)
        found |= test(block_load(data + at), block_load(data + at - 1));
    return block_is_zero(found);
}

/* ---- Host ------------------------------------------------------------------------------------ */

/* What a byte of a host name is: its bit 0x20 is or-ed into the byte, which lowers the letters. */
enum host_class {
    HOST_REFUSED = 0,
    HOST_UPPER = 0x20,
    HOST_AS_IT_IS = 0x40,
};

static const uint8_t host_classes[256] = {
    ['0' ... '9'] = HOST_AS_IT_IS, ['a' ... 'z'] = HOST_AS_IT_IS, ['A' ... 'Z'] = HOST_UPPER,
    ['-'] = HOST_AS_IT_IS,         ['.'] = HOST_AS_IT_IS,         ['_'] = HOST_AS_IT_IS,
};

static const char host_malformed[] = "the host is not a host name, an IPv4 address or a bracketed "
                                     "IPv6 address, with or without a port";
static const char host_too_long[] = "the host is longer than 255 bytes";

/* All but lower-case letters, digits and "-._", and the second of two dots. */
static inline byte_block host_rewritten(byte_block here, byte_block before)
{
    const byte_block kept = block_in(here, 'a', 'z') | block_in(here, '-', '9') |
                            (byte_block)(here == '_');

    return ~kept | (byte_block)((here == '/') | ((here == '.') & (before == '.')));
}

/* Writes the name or IPv4 address at the host's start in lower case; a dot at its end is not part
 * of the name. *rest: what follows it. */
static const char *host_name(struct resource *out, etag_str host, etag_str *rest)
{
    const size_t len_max = min_of(host.len, HOST_BYTES_MAX);
    uint8_t before = '.';
    size_t len = 0;

    for (; len < len_max; len++) {
        const uint8_t byte = (uint8_t)host.data[len];
        const uint8_t class = host_classes[byte];
        if (class == HOST_REFUSED)
            break;
        if (byte == '.' && before == '.')
            return host_malformed; /* an empty label */
        before = byte | (class & 0x20);
        out->bytes[len] = (char)before;
    }
    *rest = str_skip(host, len);
    out->host_len = len - (before == '.' && len > 0);
    return NULL;
}

/* The same for "[v6 address]". */
static const char *host_ipv6(struct resource *out, etag_str host, etag_str *rest)
{
    const char *const end = memchr(host.data, ']', host.len);
    const size_t len = end ? (size_t)(end - host.data) + 1 : 0;
    char address[INET6_ADDRSTRLEN];

    if (len < 2 || len - 2 >= sizeof(address))
        return host_malformed;
    for (size_t i = 0; i < len; i++)
        out->bytes[i] = char_lower(host.data[i]);
    memcpy(address, host.data + 1, len - 2);
    address[len - 2] = '\0';
    struct in6_addr parsed;
    if (strlen(address) != len - 2 || inet_pton(AF_INET6, address, &parsed) != 1)
        return host_malformed;
    out->host_len = len;
    *rest = str_skip(host, len);
    return NULL;
}

/* Appends ":port", unless it is a default port or empty. */
static const char *host_port(struct resource *out, etag_str rest)
{
    if (rest.data[0] != ':')
        return host_malformed;
    etag_str digits = str_skip(rest, 1);
    while (digits.len > 1 && digits.data[0] == '0')
        digits = str_skip(digits, 1);
    unsigned port = 0;
    for (size_t i = 0; i < digits.len; i++) {
        if (i == 5 || digits.data[i] < '0' || digits.data[i] > '9')
            return host_malformed;
        port = port * 10 + (unsigned)(digits.data[i] - '0');
    }
    if (port > 65535)
        return host_malformed;
    if (digits.len == 0 || port == 80 || port == 443)
        return NULL;
    if (out->host_len + 1 + digits.len > HOST_BYTES_MAX)
        return host_too_long;
    out->bytes[out->host_len] = ':';
    memcpy(out->bytes + out->host_len + 1, digits.data, digits.len);
    out->host_len += 1 + digits.len;
    return NULL;
}

static const char *host_rewrite(struct resource *out, etag_str host)
{
    etag_str rest;
    const char *wrong = host.data[0] == '[' ? host_ipv6(out, host, &rest)
                                            : host_name(out, host, &rest);

    if (wrong)
        return wrong;
    if (out->host_len == 0)
        return host_malformed;
    if (rest.len == 0)
        return NULL;
    if (out->host_len == HOST_BYTES_MAX && rest.data[0] != ':')
        return host_too_long;
    return host_port(out, rest);
}

static inline const char *host_canonicalize(struct resource *out, etag_str host)
{
    out->host_len = 0;
    if (host.len == 0)
        return NULL;
    if (host.len > HOST_BYTES_MAX || host.data[0] == '.' || host.data[host.len - 1] == '.' ||
        host_classes[(uint8_t)host.data[0]] != HOST_AS_IT_IS ||
        text_find(host, host_rewritten) < host.len)
        return host_rewrite(out, host);
    copy_bytes(out->bytes, host.data, host.len);
    out->host_len = host.len;
    return NULL;
}

/* ---- Target ---------------------------------------------------------------------------------- */

enum path_class {
    PATH_REFUSED = 0,
    /* never escaped */
    PATH_UNRESERVED,
    /* stays as it came, raw or escaped */
    PATH_RESERVED,
    /* always escaped */
    PATH_ESCAPED,
    /* '%' */
    PATH_ESCAPE,
};

static const uint8_t path_classes[256] = {
    ['0' ... '9'] = PATH_UNRESERVED,
    ['a' ... 'z'] = PATH_UNRESERVED,
    ['A' ... 'Z'] = PATH_UNRESERVED,
    ['-'] = PATH_UNRESERVED,
    ['.'] = PATH_UNRESERVED,
    ['_'] = PATH_UNRESERVED,
    ['~'] = PATH_UNRESERVED,
    ['!'] = PATH_RESERVED,
    ['$'] = PATH_RESERVED,
    ['&' ... ','] = PATH_RESERVED, /* & ' ( ) * + , */
    ['/'] = PATH_RESERVED,
    [':'] = PATH_RESERVED,
    [';'] = PATH_RESERVED,
    ['='] = PATH_RESERVED,
    ['@'] = PATH_RESERVED,
    ['"'] = PATH_ESCAPED,
    ['<'] = PATH_ESCAPED,
    ['>'] = PATH_ESCAPED,
    ['[' ... '^'] = PATH_ESCAPED, /* [ \ ] ^ */
    ['`'] = PATH_ESCAPED,
    ['{' ... '}'] = PATH_ESCAPED, /* { | } */
    [0x80 ... 0xff] = PATH_ESCAPED,
    ['%'] = PATH_ESCAPE,
};

static const char target_too_long[] = "the target is longer than 4096 bytes";
static const char target_forbidden[] =
    "the target contains a control character, a space, DEL or '#'";
static const char target_escape[] = "the path contains a '%' without two hexadecimal digits";

/* The value of a hexadecimal digit, or -1. */
static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    const char lower = char_lower(c);
    return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

struct path_writer {
    /* room for TARGET_BYTES_MAX */
    char *bytes;
    size_t len;
};

/* One byte, raw or escaped; false if there is no room. */
static bool path_put(struct path_writer *to, uint8_t byte, bool escaped)
{
    static const char digits[] = "0123456789ABCDEF";

    if (TARGET_BYTES_MAX - to->len < (escaped ? 3u : 1u))
        return false;
    if (!escaped) {
        to->bytes[to->len++] = (char)byte;
        return true;
    }
    to->bytes[to->len++] = '%';
    to->bytes[to->len++] = digits[byte >> 4];
    to->bytes[to->len++] = digits[byte & 15];
    return true;
}

/* The segment that starts at path.data[*at], up to the next '/' or the end. */
static const char *path_put_segment(struct path_writer *to, etag_str path, size_t *at)
{
    size_t i = *at;

    for (; i < path.len && path.data[i] != '/'; i++) {
        uint8_t byte = (uint8_t)path.data[i];
        enum path_class class = path_classes[byte];
        if (class == PATH_REFUSED)
            return target_forbidden;
        bool escaped = class == PATH_ESCAPED;
        if (class == PATH_ESCAPE) {
            const int high = path.len - i > 2 ? hex_value(path.data[i + 1]) : -1;
            const int low = high >= 0 ? hex_value(path.data[i + 2]) : -1;
            if (low < 0)
                return target_escape;
            byte = (uint8_t)(high << 4 | low);
            escaped = path_classes[byte] != PATH_UNRESERVED;
            i += 2;
        }
        if (!path_put(to, byte, escaped))
            return target_too_long;
    }
    *at = i;
    return NULL;
}

/* If what was written from 'slash' on is "/." or "/..", takes it back, and its parent with the
 * latter. */
static bool path_take_back_dots(struct path_writer *to, size_t slash)
{
    const etag_str segment = {to->bytes + slash, to->len - slash};

    if (str_equal(segment, ETAG_LIT("/."))) {
        to->len = slash;
        return true;
    }
    if (!str_equal(segment, ETAG_LIT("/..")))
        return false;
    while (slash > 0 && to->bytes[--slash] != '/')
        ;
    to->len = slash;
    return true;
}

static const char *path_rewrite(struct path_writer *to, etag_str path)
{
    for (size_t at = 0; at < path.len;) {
        const size_t slash = to->len;
        if (!path_put(to, '/', false))
            return target_too_long;
        at++;
        const char *wrong = path_put_segment(to, path, &at);
        if (wrong)
            return wrong;
        if (path_take_back_dots(to, slash) && at == path.len && !path_put(to, '/', false))
            return target_too_long;
    }
    return NULL;
}

/* The byte at path.data[*at], unescaped; moves to the last byte of it. The escapes are right:
 * path_rewrite looked. */
static char path_byte(etag_str path, size_t *at)
{
    const char byte = path.data[*at];

    if (byte != '%')
        return byte;
    *at += 2;
    return (char)((unsigned)hex_value(path.data[*at - 1]) << 4 |
                  (unsigned)hex_value(path.data[*at]));
}

static bool is_slash(char byte)
{
    return byte == '/' || byte == '\\';
}

/* Rule NO_DOT_SEGMENTS: as the most generous server reads it. dots: of a segment that has nothing
 * else yet; 3: it is a name. */
static bool path_is_dotted(etag_str path)
{
    unsigned dots = 0;

    for (size_t i = 0; i < path.len; i++) {
        const char byte = path_byte(path, &i);
        const bool ends = is_slash(byte) || byte == ';';
        if (ends && (dots == 1 || dots == 2))
            return true;
        if (is_slash(byte))
            dots = 0;
        else if (byte != '.' || dots >= 2)
            dots = 3;
        else
            dots++;
    }
    return dots == 1 || dots == 2;
}

/* What ends a path or must be looked at more closely. */
static inline byte_block path_rewritten(byte_block here, byte_block before)
{
    return block_in(here, '[', '^') | block_in(here, '"', '#') |
           (byte_block)((here <= ' ') | (here == '%') | (here == '<') | (here == '>') |
                        (here == '?') | (here == '`') | ((here >= '{') & (here != '~')) |
                        ((here == '.') & (before == '/')));
}

static inline byte_block query_refused(byte_block here, byte_block before)
{
    (void)before;
    return (byte_block)((here <= ' ') | (here == '#') | (here == 0x7f));
}

/* All but the bytes that most targets are made of, which path and query may have as they are; and
 * a segment that begins with a dot. */
static inline byte_block target_unusual(byte_block here, byte_block before)
{
    const byte_block usual = block_in(here, 'a', 'z') | block_in(here, '&', ';') |
                             block_in(here, '?', 'Z') | (byte_block)((here == '=') | (here == '_'));

    return ~usual | (byte_block)((here == '.') & (before == '/'));
}

/* The same answer by the tests of target_canonicalize(). */
__attribute__((noinline)) static bool target_stays(etag_str target)
{
    const size_t path_len = text_find(target, path_rewritten);

    return path_len == target.len ||
           (target.data[path_len] == '?' &&
            text_find(str_skip(target, path_len), query_refused) == target.len - path_len);
}

bool resource_target_is_canonical(etag_str target)
{
    if (target.len - 1 >= TARGET_BYTES_MAX || target.data[0] != '/')
        return false;
    return (target.len > 8 && text_has_none(target, target_unusual)) || target_stays(target);
}

static inline const char *target_canonicalize(struct resource *out, etag_str target)
{
    if (target.len == 0 || target.data[0] != '/')
        return "the target does not start with '/'";
    if (target.len > TARGET_BYTES_MAX)
        return target_too_long;
    size_t path_len = text_find(target, path_rewritten);
    const bool rewritten = path_len < target.len && target.data[path_len] != '?';
    if (rewritten) {
        const char *const mark = memchr(target.data, '?', target.len);
        path_len = mark ? (size_t)(mark - target.data) : target.len;
    }
    const etag_str query = str_skip(target, path_len);
    if (query.len > 0 && text_find(query, query_refused) < query.len)
        return target_forbidden;

    struct path_writer to = {out->bytes + out->host_len, path_len};
    out->dotted = false;
    if (!rewritten) {
        copy_bytes(to.bytes, target.data, target.len);
    } else {
        to.len = 0;
        const etag_str path = {target.data, path_len};
        const char *wrong = path_rewrite(&to, path);
        if (wrong)
            return wrong;
        out->dotted = path_is_dotted(path);
        if (query.len > TARGET_BYTES_MAX - to.len)
            return target_too_long;
        copy_bytes(to.bytes + to.len, query.data, query.len);
    }
    out->path_len = to.len;
    out->total_len = out->host_len + to.len + query.len;
    return NULL;
}

const char *resource_canonicalize(struct resource *out, const etag_resource *in)
{
    const char *wrong = host_canonicalize(out, in->host);

    return wrong ? wrong : target_canonicalize(out, in->target);
}

/* The path as a server reads it that unescapes everything first; out has room for it. Returns its
 * length. */
static size_t path_loosen(char *out, etag_str path)
{
    size_t len = 0, segment = 0; /* where the current one begins */

    for (size_t i = 0; i < path.len; i++) {
        const size_t from = i;
        const char byte = path_byte(path, &i);
        if (is_slash(byte)) {
            out[len++] = '/';
            segment = len;
        } else if (byte == '.') {
            out[len++] = '.';
        } else if (byte == ';' &&
                   (str_equal((etag_str){out + segment, len - segment}, ETAG_LIT(".")) ||
                    str_equal((etag_str){out + segment, len - segment}, ETAG_LIT("..")))) {
            while (i + 1 < path.len && path.data[i + 1] != '/')
                i++; /* its parameters */
        } else {
            memcpy(out + len, path.data + from, i + 1 - from);
            len += i + 1 - from;
        }
    }
    return len;
}

bool resource_canonicalize_loosely(struct resource *out, const etag_resource *in)
{
    char target[TARGET_BYTES_MAX];

    if (resource_canonicalize(out, in) || !out->dotted)
        return false;
    const char *const mark = memchr(in->target.data, '?', in->target.len);
    const size_t path_len = mark ? (size_t)(mark - in->target.data) : in->target.len;
    const size_t loose_len = path_loosen(target, (etag_str){in->target.data, path_len});
    const etag_str query = str_skip(in->target, path_len);
    copy_bytes(target + loose_len, query.data, query.len);
    const etag_resource loose = {in->host, {target, loose_len + query.len}};
    return !resource_canonicalize(out, &loose);
}

/* ---- Text ------------------------------------------------------------------------------------ */

const char *resource_split(etag_str text, etag_resource *out)
{
    *out = (etag_resource){.target = text};
    if (!str_starts_with(text, ETAG_LIT("//")))
        return str_starts_with(text, ETAG_LIT("/"))
                   ? NULL
                   : "a resource is written as //host/path or /path";
    const etag_str rest = str_skip(text, 2);
    const char *const slash = memchr(rest.data, '/', rest.len);
    if (!slash)
        return "a resource that starts with // needs a path after the host: //host/path";
    const size_t host_len = (size_t)(slash - rest.data);
    if (host_len > 0)
        out->host = (etag_str){rest.data, host_len};
    out->target = str_skip(rest, host_len);
    return NULL;
}

size_t resource_format(const struct resource *r, char *out)
{
    const etag_str target = resource_target(r);
    size_t len = 0;

    if (r->host_len > 0 || str_starts_with(target, ETAG_LIT("//"))) {
        memcpy(out, "//", 2);
        len = 2;
    }
    memcpy(out + len, r->bytes, r->total_len);
    len += r->total_len;
    out[len] = '\0';
    return len;
}

/* ---- Prefixes -------------------------------------------------------------------------------- */

size_t resource_prefixes(const struct resource *r, size_t lens[PREFIX_LEVELS_MAX])
{
    const etag_str path = resource_path(r);
    size_t count = 0;

    for (size_t i = 0; i < path.len && count < PREFIX_LEVELS_MAX; i++)
        if (path.data[i] == '/')
            lens[count++] = i + 1;
    return count;
}

size_t resource_covered_prefix(const struct resource *prefix_target)
{
    size_t lens[PREFIX_LEVELS_MAX];
    const size_t count = resource_prefixes(prefix_target, lens);

    assert(count > 0); /* a canonical path starts with '/' */
    return lens[count - 1];
}
