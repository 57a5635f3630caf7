/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A connection to the exporter, through the real libmicrohttpd: the page comes only for a path and
 * a Host that are right, and whatever else comes costs nothing that stays. Besides, the Host alone.
 */
#include "exporter_http.h"
#include "fuzz.h"
#include "text.h"

#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#define PAGE "the page\n"
#define TURNS 12

static char *page_make(void *context, enum metrics_format format, size_t *bytes)
{
    unsigned *const pages = context;

    ++*pages;
    fuzz_require(format == METRICS_PROMETHEUS || format == METRICS_OPENMETRICS);
    *bytes = strlen(PAGE);
    return strdup(PAGE);
}

/* No separators and no spaces: who reads the name elsewhere reads the same. */
static void host_try(const struct host_names *names, etag_str host)
{
    if (!host_is_allowed(names, host))
        return;
    for (size_t i = 0; i < host.len; i++)
        fuzz_require(char_is_token(host.data[i]) || host.data[i] == ':' || host.data[i] == '[' ||
                     host.data[i] == ']');
    fuzz_require(host.len <= sizeof("[ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255]:65535"));
}

static bool has(etag_str text, const char *word)
{
    const etag_str wanted = str_of(word);

    for (; text.len >= wanted.len; text = str_skip(text, 1))
        if (memcmp(text.data, wanted.data, wanted.len) == 0)
            return true;
    return false;
}

static unsigned here(const struct crowd *crowd)
{
    unsigned count = 0;

    for (size_t i = 0; i < CROWD_MAX; i++)
        count += crowd->guests[i].here;
    return count;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct exporter_http http;
    static unsigned pages;
    static char answer[64 * 1024];
    const etag_str text = {(const char *)data, size};
    int ends[2];

    if (!http.daemon) {
        http = (struct exporter_http){.page = page_make, .context = &pages, .hosts = {{"prom"}, 1}};
        signal(SIGPIPE, SIG_IGN);
        fuzz_require(exporter_http_open(&http, -1));
    }
    host_try(&http.hosts, text);

    fuzz_require(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends) == 0);
    pages = 0;
    fuzz_require(exporter_http_take(&http, ends[0]));
    (void)!write(ends[1], data, size);
    (void)shutdown(ends[1], SHUT_WR);
    for (unsigned i = 0; i < TURNS; i++)
        exporter_http_turn(&http);
    const ssize_t len = read(ends[1], answer, sizeof(answer));
    const etag_str said = {answer, len > 0 ? (size_t)len : 0};
    fuzz_require(said.len == 0 || str_starts_with(said, ETAG_LIT("HTTP/1.")));
    fuzz_require(pages > 0 || !has(said, PAGE));
    fuzz_require(pages == 0 || has(text, "metrics") || has(text, "%"));
    close(ends[1]);
    for (unsigned i = 0; i < TURNS && here(&http.crowd) > 0; i++)
        exporter_http_turn(&http);
    fuzz_require(here(&http.crowd) == 0);
    return 0;
}
