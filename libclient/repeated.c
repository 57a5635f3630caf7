/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Added names are checked when the client opens, so that a mistake is seen at the first start and not in an answer. What
 * must not be repeated: fields that frame the message or belong to the connection (RFC 9112, RFC 9110 section 7.6.1), that
 * the server makes anew for each answer, that set state, or that describe a body which is not there.
 */
#include "repeated.h"

#include "text.h"

static const char *const refused_names[] = {
    "connection",
    "content-encoding",
    "content-length",
    "content-range",
    "content-security-policy",
    "content-security-policy-report-only",
    "content-type",
    "date",
    "keep-alive",
    "proxy-authenticate",
    "proxy-connection",
    "set-cookie",
    "set-cookie2",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "www-authenticate",
    /* An entry's own, which come from it: twice they would contradict. */
    "content-location",
    "etag",
    "last-modified",
};

static bool may_be_repeated(etag_str name)
{
    for (size_t i = 0; i < sizeof(refused_names) / sizeof(refused_names[0]); i++)
        if (str_equal_nocase(name, str_of(refused_names[i])))
            return false;
    return str_is_token(name) && name.len <= REPEATED_NAME_BYTES_MAX;
}

bool repeated_fields_copy(struct repeated_fields *out, const etag_str *names, size_t count)
{
    out->count = 0;
    if (count > REPEATED_FIELDS_MAX)
        return false;
    for (size_t i = 0; i < count; i++) {
        if (!may_be_repeated(names[i]))
            return false;
        memcpy(out->fields[i].name, names[i].data, names[i].len);
        out->fields[i].len = names[i].len;
    }
    out->count = count;
    return true;
}

static bool is_repeated_always(etag_str name)
{
    return str_equal_nocase(name, ETAG_LIT("cache-control")) ||
           str_equal_nocase(name, ETAG_LIT("expires")) || str_equal_nocase(name, ETAG_LIT("vary"));
}

bool repeated_fields_has(const struct repeated_fields *fields, etag_str name)
{
    for (size_t i = 0; i < fields->count; i++)
        if (str_equal_nocase(name, (etag_str){fields->fields[i].name, fields->fields[i].len}))
            return true;
    return is_repeated_always(name);
}
