/* SPDX-License-Identifier: Apache-2.0 */
/*
 * etag-exporter: the figures of "etagctl stats" over HTTP, for Prometheus. One page, /metrics. A
 * scrape asks the daemon and waits for at most --timeout-ms; where no answer comes, the page says
 * etagd_up 0, and that is not an error of HTTP: a collector is to learn that the daemon is down,
 * not that a page is missing.
 *
 * HTTP is served by one thread (exporter_http.c), so that the connection to the daemon and the
 * sample need no lock; the main thread waits for the end.
 */
#include "clocktime.h"
#include "command_line.h"
#include "exporter_http.h"
#include "exporter_listen.h"
#include "exporter_relay.h"
#include "text.h"

#include <errno.h>
#include <signal.h>
#include <string.h>

#define LISTEN_DEFAULT "127.0.0.1:9437"
#define TIMEOUT_MS_DEFAULT 1000
#define TIMEOUT_MS_MAX 60000

struct exporter {
    const char *socket_path, *listen;
    /* the file of its figures; NULL: there is no relay */
    const char *relay_path;
    uint32_t timeout_ms;
    bool allow_remote;
    struct exporter_http http;
    struct channel channel;
    struct sample *sample;
    /* what was said last */
    bool known, up;
    /* coarse ns */
    uint64_t down_until;
};

/* ---- Answers ---- */

/* Once, when it changes: a scrape comes every few seconds. */
static void say_state(struct exporter *exporter, bool up, const char *why)
{
    if (exporter->known && exporter->up == up)
        return;
    exporter->known = true;
    exporter->up = up;
    if (up)
        fprintf(stderr, "etag-exporter: the daemon on %s answers\n", exporter->channel.path);
    else
        fprintf(stderr, "etag-exporter: no figures: %s\n", why);
}

/* A daemon that lets a request wait and does not answer lets the next one wait as long, and scrapes
 * are served one after the other: for that time it is down without being asked again. */
static bool sample_renew(struct exporter *exporter)
{
    struct fault fault;
    const uint64_t before_ns = time_coarse_ns();

    if (before_ns < exporter->down_until)
        return false;
    fault_clear(&fault);
    const bool up = sample_ask(exporter->sample, &exporter->channel, exporter->timeout_ms,
                               &fault) == ETAG_OK;
    const uint64_t now_ns = time_coarse_ns();
    exporter->down_until = up ? 0 : now_ns + (now_ns - before_ns);
    say_state(exporter, up, fault.text);
    return up;
}

static char *page_make(void *context, enum metrics_format format, size_t *bytes)
{
    struct exporter *exporter = context;
    char *page = NULL;
    const bool up = sample_renew(exporter);

    FILE *out = open_memstream(&page, bytes);
    if (!out)
        return NULL;
    metrics_write(out, up ? exporter->sample : NULL, format);
    if (exporter->relay_path)
        exporter_relay_write(out, exporter->relay_path);
    if (fclose(out) == 0)
        return page;
    free(page);
    return NULL;
}

/* ---- Flags ---- */

enum { KEY_SOCKET = FLAG_FIRST, KEY_LISTEN, KEY_REMOTE, KEY_HOST, KEY_RELAY, KEY_TIMEOUT };

static error_t timeout_parse(struct exporter *exporter, const char *text, struct argp_state *state)
{
    char *end = NULL;
    const unsigned long value = strtoul(text, &end, 10);

    if (text[0] < '0' || text[0] > '9' || *end != '\0' || value < 1 || value > TIMEOUT_MS_MAX) {
        argp_error(state, "--timeout-ms %s: want milliseconds from 1 to %d", text, TIMEOUT_MS_MAX);
        return EINVAL;
    }
    exporter->timeout_ms = (uint32_t)value;
    return 0;
}

static error_t host_parse(struct exporter *exporter, const char *name, struct argp_state *state)
{
    struct host_names *hosts = &exporter->http.hosts;
    const size_t wrong = strcspn(name, ":/[] \t");

    if (name[0] == '\0' || name[wrong] != '\0' || hosts->count == HOST_NAMES_MAX) {
        argp_error(state, "--allow-host %s: want a name without a port, at most %d of them", name,
                   HOST_NAMES_MAX);
        return EINVAL;
    }
    hosts->names[hosts->count++] = name;
    return 0;
}

static error_t flag_parse(int key, char *value, struct argp_state *state)
{
    struct exporter *exporter = state->input;

    switch (key) {
    case KEY_SOCKET:
        exporter->socket_path = value;
        return 0;
    case KEY_LISTEN:
        exporter->listen = value;
        return 0;
    case KEY_REMOTE:
        exporter->allow_remote = true;
        return 0;
    case KEY_HOST:
        return host_parse(exporter, value, state);
    case KEY_RELAY:
        exporter->relay_path = value;
        return 0;
    case KEY_TIMEOUT:
        return timeout_parse(exporter, value, state);
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option flags[] = {
    {"socket", KEY_SOCKET, "PATH", 0,
     "The daemon's; default: $ETAGD_SOCKET or /run/etagd/etagd.sock", 0},
    {"listen", KEY_LISTEN, "WHERE", 0, "ADDRESS:PORT or unix:PATH; default: " LISTEN_DEFAULT, 0},
    {"allow-remote", KEY_REMOTE, NULL, 0, "Listen on other addresses than this host's loopback too",
     0},
    {"allow-host", KEY_HOST, "NAME", 0,
     "Answer requests for this Host too, repeated; by default addresses in digits and localhost",
     0},
    {"relay", KEY_RELAY, "FILE", 0,
     "Serve the figures of etag-relay too, as Prometheus text: /run/etag-relay/metrics.prom", 0},
    {"timeout-ms", KEY_TIMEOUT, "N", 0, "Longest wait of a scrape for the daemon (default 1000)",
     0},
    {0}};

/* ---- Running ---- */

static bool exporter_init(struct exporter *exporter)
{
    const char *path = exporter->socket_path;

    if (!path)
        path = getenv("ETAGD_SOCKET");
    if (!path || !path[0])
        path = "/run/etagd/etagd.sock";
    exporter->sample = calloc(1, sizeof(*exporter->sample));
    if (!exporter->sample) {
        fprintf(stderr, "etag-exporter: no memory\n");
        return false;
    }
    if (channel_init(&exporter->channel, path, NULL))
        return true;
    fprintf(stderr, "etag-exporter: the socket's path is too long or empty\n");
    return false;
}

static int exporter_run(struct exporter *exporter)
{
    struct listener listener;
    struct why why;
    sigset_t ends;
    int signal_number = 0;

    if (!listener_open(&listener, exporter->listen, exporter->allow_remote, &why)) {
        fprintf(stderr, "etag-exporter: %s\n", why.text);
        return 1;
    }
    /* Blocked before the thread begins: only sigwait() gets them. */
    sigemptyset(&ends);
    sigaddset(&ends, SIGTERM);
    sigaddset(&ends, SIGINT);
    (void)pthread_sigmask(SIG_BLOCK, &ends, NULL);
    signal(SIGPIPE, SIG_IGN);
    exporter->http.page = page_make;
    exporter->http.context = exporter;
    exporter->http.prometheus_only = exporter->relay_path != NULL;
    exporter->http.any_host = listener.path[0] != '\0';
    if (!exporter_http_open(&exporter->http, listener.fd)) {
        fprintf(stderr, "etag-exporter: cannot serve HTTP: %s\n", strerror(errno));
        cleanup_fd(&listener.fd);
        listener_remove(&listener);
        return 1;
    }
    fprintf(stderr, "etag-exporter: /metrics on %s, of the daemon on %s\n", listener.text,
            exporter->channel.path);
    (void)sigwait(&ends, &signal_number);
    exporter_http_close(&exporter->http);
    listener_remove(&listener);
    return 0;
}

int main(int argc, char **argv)
{
    struct exporter exporter = {.listen = LISTEN_DEFAULT, .timeout_ms = TIMEOUT_MS_DEFAULT};
    struct command_line line = {
        .program = "etag-exporter",
        .flags = {.options = flags,
                  .parser = flag_parse,
                  .doc = "Serves etagd's figures over HTTP, as OpenMetrics or Prometheus text: GET "
                         "/metrics. Exit status: 0 after SIGTERM or SIGINT, 1 where it cannot "
                         "listen, 2 for mistakes in the command line."}};

    if (!command_line_read(&line, argc, argv, &exporter))
        return line.answered ? 0 : 2;
    const int status = exporter_init(&exporter) ? exporter_run(&exporter) : 1;
    channel_deinit(&exporter.channel);
    free(exporter.sample);
    return status;
}
