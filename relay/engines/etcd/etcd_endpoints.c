/* SPDX-License-Identifier: Apache-2.0 */
/* The list of members as a configuration has it: mistakes are reported before anything is sent. */
#include "etcd.h"
#include "text.h"

static bool starts_with_scheme(etag_str url)
{
    return str_starts_with(url, ETAG_LIT("http://")) || str_starts_with(url, ETAG_LIT("https://"));
}

/* scheme://host[:port], nothing after it: what is asked for there is our matter. */
static bool endpoint_check(etag_str url, struct why *why)
{
    const int len = (int)(url.len < 200 ? url.len : 200);

    if (!starts_with_scheme(url))
        return why_not(why, "the endpoint \"%.*s\" does not begin with http:// or https://", len,
                       url.data);
    if (url.len > ETCD_ENDPOINT_BYTES_MAX)
        return why_not(why, "the endpoint \"%.*s...\" is longer than %d bytes", len, url.data,
                       ETCD_ENDPOINT_BYTES_MAX);
    const etag_str host = str_skip(url, (size_t)(strchr(url.data, ':') - url.data) + 3);
    if (memchr(host.data, '@', host.len))
        return why_not(why, "an endpoint holds no password: that is for the options user and "
                            "password-file");
    for (size_t i = 0; i < host.len; i++)
        if (host.data[i] <= ' ' || host.data[i] > '~' || strchr("/?#\"\\", host.data[i]))
            return why_not(why, "the endpoint \"%.*s\" is not written as http://host:2379", len,
                           url.data);
    return host.len > 0 || why_not(why, "the endpoint \"%.*s\" names no host", len, url.data);
}

bool etcd_endpoints_read(struct etcd_endpoints *out, const char *text, struct why *why)
{
    out->count = 0;
    for (etag_str rest = str_of(text); rest.len > 0;) {
        const char *const comma = memchr(rest.data, ',', rest.len);
        const size_t len = comma ? (size_t)(comma - rest.data) : rest.len;
        etag_str url = str_trim((etag_str){rest.data, len});
        rest = str_skip(rest, len + (comma ? 1 : 0));
        if (url.len > 1 && url.data[url.len - 1] == '/' && url.data[url.len - 2] != '/')
            url.len--;
        if (url.len == 0)
            return why_not(why, "an endpoint is empty");
        if (out->count == ETCD_ENDPOINTS_MAX)
            return why_not(why, "more than %d endpoints", ETCD_ENDPOINTS_MAX);
        if (!endpoint_check(url, why))
            return false;
        char *const to = out->urls[out->count++];
        memcpy(to, url.data, url.len);
        to[url.len] = '\0';
    }
    return out->count > 0 || why_not(why, "the engine etcd needs endpoints: http://host:2379, or "
                                          "https:// with ca-file");
}
