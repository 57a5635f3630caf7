/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A role `fill` is trusted with validators and with how long a response is fresh, not with the
 * connection, the cookies or the redirects of a host. Names that a front end adds to its 304s are
 * its administrator's choice, so what remains is a list of what nobody may choose. It is asked for
 * names that somebody else wrote; names that the reader did not ask for are left out in any case
 * (answer.c), so that a name that is missing here costs only those who configured it.
 */
#include "field_name.h"

#include "numbers.h"
#include "text.h"

#include <string.h>

static const etag_str refused_names[] = {
    /* Frame the message or belong to the connection: RFC 9112, RFC 9110 section 7.6.1. */
    STR_INIT("connection"),
    STR_INIT("content-length"),
    STR_INIT("http2-settings"),
    STR_INIT("keep-alive"),
    STR_INIT("proxy-connection"),
    STR_INIT("te"),
    STR_INIT("trailer"),
    STR_INIT("transfer-encoding"),
    STR_INIT("upgrade"),
    /* Describe a body that is not there. */
    STR_INIT("content-encoding"),
    STR_INIT("content-range"),
    STR_INIT("content-type"),
    /* Set state, or authenticate. */
    STR_INIT("authentication-info"),
    STR_INIT("clear-site-data"),
    STR_INIT("proxy-authenticate"),
    STR_INIT("proxy-authentication-info"),
    STR_INIT("set-cookie"),
    STR_INIT("set-cookie2"),
    STR_INIT("www-authenticate"),
    /* Send the client elsewhere, or make a server between do something else than to pass the answer
     * on. (x-accel-* too.) */
    STR_INIT("alt-svc"),
    STR_INIT("location"),
    STR_INIT("refresh"),
    STR_INIT("status"),
    STR_INIT("x-sendfile"),
    /* The server makes them anew for each answer. */
    STR_INIT("age"),
    STR_INIT("content-security-policy"),
    STR_INIT("content-security-policy-report-only"),
    STR_INIT("date"),
    /* The entry's own, which come from it: twice they would contradict. */
    STR_INIT("content-location"),
    STR_INIT("etag"),
    STR_INIT("last-modified"),
};

#define ACCEL_PREFIX "x-accel-"

bool field_name_is_standard(etag_str name)
{
    return str_is_named(name, ETAG_LIT("Cache-Control")) || str_is_named(name, ETAG_LIT("Vary")) ||
           str_is_named(name, ETAG_LIT("Expires"));
}

bool field_name_may_be_kept(etag_str name)
{
    const size_t prefix_len = strlen(ACCEL_PREFIX);

    if (field_name_is_standard(name)) /* as most are that anybody asks for */
        return true;
    for (size_t i = 0; i < COUNT_OF(refused_names); i++)
        if (str_equal_nocase(name, refused_names[i]))
            return false;
    return name.len < prefix_len ||
           !str_equal_nocase((etag_str){name.data, prefix_len}, ETAG_LIT(ACCEL_PREFIX));
}
