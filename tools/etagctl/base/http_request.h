/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A captured HTTP/1 request as text: request line, header fields, whatever comes after them.
 * Strict, since a front end is: what RFC 9112 lets a server refuse is refused, with the line that
 * is at fault. Three things are allowed that captures have: lines that end in LF alone, an end of
 * the file in place of the empty line, and ":authority" for Host.
 */
#ifndef ETAGCTL_HTTP_REQUEST_H
#define ETAGCTL_HTTP_REQUEST_H

#include "bounds.h"
#include "cleanup.h"
#include "why.h"

#include <etag/etag.h>

#define HTTP_REQUEST_BYTES_MAX (256u * 1024u)
#define HTTP_FIELDS_MAX 128

struct http_request {
    etag_str method;
    /* as sent; of an absolute target its host, else the one of Host */
    etag_resource resource;
    /* without white space around the values */
    etag_field fields[HTTP_FIELDS_MAX];
    size_t field_count;
    /* bytes after the empty line, which are ignored */
    size_t body_len;
    /* of an absolute target without a path */
    char made_target[TARGET_BYTES_MAX + 2];
};

/* 0: out is complete, and borrows from bytes. Else the number of the line that is at fault, and in
 * why what is wrong with it and what is allowed. Pure; linear time. */
MUST_USE unsigned http_request_parse(struct http_request *out, etag_str bytes, struct why *why);

#endif
