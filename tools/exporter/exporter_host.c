/* SPDX-License-Identifier: Apache-2.0 */
/* host [ ":" port ], as RFC 9110 section 7.2 has it: strictly, since what is none of these forms is
 * no collector's. */
#include "exporter_host.h"

#include "text.h"

#include <arpa/inet.h>

#define PORT_DIGITS_MAX 5

/* Takes ":9437" off the end. False: what follows the last colon is no port. */
static bool port_cut(etag_str *host)
{
    const size_t whole = host->len;
    size_t len = whole;

    while (len > 0 && host->data[len - 1] >= '0' && host->data[len - 1] <= '9')
        len--;
    if (len == 0 || host->data[len - 1] != ':')
        return memchr(host->data, ':', whole) == NULL || host->data[whole - 1] == ']';
    host->len = len - 1;
    return whole - len <= PORT_DIGITS_MAX;
}

static bool is_address(etag_str host)
{
    char text[INET6_ADDRSTRLEN];
    struct in6_addr address;
    const bool six = host.len > 2 && host.data[0] == '[' && host.data[host.len - 1] == ']';

    if (six)
        host = (etag_str){host.data + 1, host.len - 2};
    if (host.len == 0 || host.len >= sizeof(text) || memchr(host.data, '\0', host.len))
        return false;
    memcpy(text, host.data, host.len);
    text[host.len] = '\0';
    return inet_pton(six ? AF_INET6 : AF_INET, text, &address) == 1;
}

bool host_is_allowed(const struct host_names *names, etag_str host)
{
    if (host.len == 0 || !port_cut(&host) || host.len == 0)
        return false;
    if (str_equal_nocase(host, ETAG_LIT("localhost")) || is_address(host))
        return true;
    for (size_t i = 0; i < names->count; i++)
        if (str_equal_nocase(host, str_of(names->names[i])))
            return true;
    return false;
}
