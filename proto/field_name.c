/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A role `fill` is trusted with validators and with how long a response is fresh, not with the connection, the cookies or the
 * redirects of a host. Names that a front end adds to its 304s are its administrator's choice, so what remains is a list of
 * what nobody may choose. It is asked for names that somebody else wrote; names that the reader did not ask for are left out
 * in any case (answer.c), so that a name that is missing here costs only those who configured it.
 */
#include "field_name.h"

#include "text.h"

#include <string.h>

static const char *const refused_names[] = {
    /* Frame the message or belong to the connection: RFC 9112, RFC 9110 section 7.6.1. */
    "connection",
    "content-length",
    "http2-settings",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    /* Describe a body that is not there. */
    "content-encoding",
    "content-range",
    "content-type",
    /* Set state, or authenticate. */
    "authentication-info",
    "clear-site-data",
    "proxy-authenticate",
    "proxy-authentication-info",
    "set-cookie",
    "set-cookie2",
    "www-authenticate",
    /* Send the client elsewhere, or make a server between do something else than to pass the answer on. (x-accel-* too.) */
    "alt-svc",
    "location",
    "refresh",
    "status",
    "x-sendfile",
    /* The server makes them anew for each answer. */
    "age",
    "content-security-policy",
    "content-security-policy-report-only",
    "date",
    /* The entry's own, which come from it: twice they would contradict. */
    "content-location",
    "etag",
    "last-modified",
};

#define ACCEL_PREFIX "x-accel-"

/* As etag.h and the RFCs write it, or in any other case. The first is nearly always so, and then it is one comparison. */
static bool is_named(etag_str name, const char *usual, size_t len)
{
    return name.len == len &&
           (memcmp(name.data, usual, len) == 0 || str_equal_nocase(name, (etag_str){usual, len}));
}

bool field_name_is_standard(etag_str name)
{
    return is_named(name, "Cache-Control", 13) || is_named(name, "Vary", 4) ||
           is_named(name, "Expires", 7);
}

bool field_name_may_be_kept(etag_str name)
{
    const size_t prefix_len = strlen(ACCEL_PREFIX);

    for (size_t i = 0; i < sizeof(refused_names) / sizeof(refused_names[0]); i++)
        if (str_equal_nocase(name, str_of(refused_names[i])))
            return false;
    return name.len < prefix_len ||
           !str_equal_nocase((etag_str){name.data, prefix_len}, ETAG_LIT(ACCEL_PREFIX));
}
