/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Canonical resources: host + path + query (docs/design.md). tests/cases/keys.tsv fixes them.
 *
 *   host   lower case, without ":80" and ":443", an empty port, leading zeros of a port, the dot
 *          that may end a name; empty: none
 *   path   unreserved characters decoded, other escapes with upper-case hex, bytes that RFC 3986
 *          does not allow raw escaped, then dot segments removed (section 6.2.2); "//" kept; starts
 *          with '/' (a path that had dot segments names what a write changes, never an entry: rule
 *          NO_DOT_SEGMENTS)
 *   query  byte for byte; "no query" differs from "empty query"
 *
 * As text: [//host]/path[?query]. A resource without host whose path starts with "//" is written
 * with an empty host: "////path".
 */
#ifndef ETAG_PROTO_RESOURCE_H
#define ETAG_PROTO_RESOURCE_H

#include "bounds.h"
#include "cleanup.h"
#include "siphash.h"

#include <etag/etag.h>

/* A canonical resource in its own memory: host, then path and query, without a separator. */
struct resource {
    /* the path from which it was made has dot segments, in the reading of some server */
    bool dotted;
    size_t host_len;
    /* without the query */
    size_t path_len;
    /* host + path + query with its '?' */
    size_t total_len;
    char bytes[HOST_BYTES_MAX + TARGET_BYTES_MAX];
};

static inline etag_str resource_host(const struct resource *r)
{
    return (etag_str){r->bytes, r->host_len};
}

static inline etag_str resource_path(const struct resource *r)
{
    return (etag_str){r->bytes + r->host_len, r->path_len};
}

/* Returns path and query. */
static inline etag_str resource_target(const struct resource *r)
{
    return (etag_str){r->bytes + r->host_len, r->total_len - r->host_len};
}

/* Canonicalizes. Returns NULL, or what is wrong with the input as a sentence (static text).
 * Refused: a target that does not start with '/', forbidden bytes (controls, space, DEL, '#', and
 * in the host anything that is not a host name, an IPv4 or a bracketed IPv6 address with optional
 * port), a broken percent escape in the path, over-long parts. Bytes >= 0x80 and '"<>[\]^`{|}' are
 * kept in the query and percent-encoded in the path: servers decode both spellings to the same
 * path. in must not point into out. */
MUST_USE const char *resource_canonicalize(struct resource *out, const etag_resource *in);

/* Returns true if the target is canonical as it is and without dot segments. False: it is not, or
 * only a closer look would tell; then resource_canonicalize() knows. */
MUST_USE bool resource_target_is_canonical(etag_str target);

/*
 * Rule NO_DOT_SEGMENTS: the resource of a lookup is the one that is rendered. Servers disagree
 * about dot segments: one removes them before it selects the view, another does so after it made
 * "%2F" or a backslash a slash, a third takes "..;a" for one, and most remove none. A key whose
 * path has one in any of these readings could be another view's, so key_canonicalize() refuses it.
 * A write with such a target names each resource that it may have changed: that of
 * resource_canonicalize(), with dot segments removed as RFC 3986 says, and the one that this
 * function makes, in which "%2F", '\' and "%5C" are slashes and a dot segment has no parameters.
 * Returns false if the path has no dot segments, or the input is refused.
 */
MUST_USE bool resource_canonicalize_loosely(struct resource *out, const etag_resource *in);

/* Splits the text form into host and target (borrowed from text) without canonicalizing. Returns
 * NULL, or what is wrong. */
MUST_USE const char *resource_split(etag_str text, etag_resource *out);

/* Writes the text form, NUL-terminated; out must hold RESOURCE_TEXT_BYTES_MAX. Returns its
 * length. */
#define RESOURCE_TEXT_BYTES_MAX (HOST_BYTES_MAX + TARGET_BYTES_MAX + 3)
size_t resource_format(const struct resource *r, char *out);

/* Finds the path prefixes on which an entry of this resource depends: each ends in '/', shortest
 * first, at most PREFIX_LEVELS_MAX. Returns their count; lens[i] is the length of the i-th within
 * the path. */
size_t resource_prefixes(const struct resource *r, size_t lens[PREFIX_LEVELS_MAX]);

/* Finds the prefix that a prefix target means: the longest one on which entries depend ("/", "/a/",
 * ...) that is no longer than the target's path. Returns its length within the path (at least
 * 1). */
size_t resource_covered_prefix(const struct resource *prefix_target);

#endif
