/* SPDX-License-Identifier: Apache-2.0 */
/*
 * etag-exporter: the figures of "etagctl stats" over HTTP, for Prometheus. One page, /metrics. A scrape asks the daemon and
 * waits for at most --timeout-ms; where no answer comes, the page says etagd_up 0, and that is not an error of HTTP: a
 * collector is to learn that the daemon is down, not that a page is missing.
 *
 * libmicrohttpd's thread serves one request after the other, so that the connection to the daemon and the sample need no
 * lock; the main thread waits for the end.
 */
#include "clocktime.h"
#include "exporter_listen.h"
#include "stats_metrics.h"
#include "text.h"

#include <argp.h>
#include <errno.h>
#include <microhttpd.h>
#include <signal.h>
#include <string.h>

#define LISTEN_DEFAULT "127.0.0.1:9437"
#define TIMEOUT_MS_DEFAULT 1000
#define TIMEOUT_MS_MAX 60000
#define CONNECTIONS_MAX 32
#define IDLE_SECONDS 30

struct exporter {
    const char *socket_path, *listen;
    uint32_t timeout_ms;
    bool allow_remote;
    bool answered; /* help or version */
    struct channel channel;
    struct sample *sample;
    bool known, up; /* what was said last */
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

static char *page_make(struct exporter *exporter, enum metrics_format format, size_t *bytes)
{
    struct fault fault;
    char *page = NULL;

    fault_clear(&fault);
    const bool up = sample_ask(exporter->sample, &exporter->channel, exporter->timeout_ms,
                               &fault) == ETAG_OK;
    say_state(exporter, up, fault.text);
    FILE *out = open_memstream(&page, bytes);
    if (!out)
        return NULL;
    metrics_write(out, up ? exporter->sample : NULL, format);
    if (fclose(out) == 0)
        return page;
    free(page);
    return NULL;
}

static enum MHD_Result answer(struct MHD_Connection *connection, unsigned status,
                              struct MHD_Response *response, const char *type)
{
    if (!response)
        return MHD_NO;
    (void)MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, type);
    (void)MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
    (void)MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
    if (status == MHD_HTTP_METHOD_NOT_ALLOWED)
        (void)MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, "GET, HEAD");
    const enum MHD_Result queued = MHD_queue_response(connection, status, response);
    MHD_destroy_response(response);
    return queued;
}

static enum MHD_Result answer_text(struct MHD_Connection *connection, unsigned status,
                                   const char *text)
{
    return answer(connection, status,
                  MHD_create_response_from_buffer(strlen(text), (void *)(uintptr_t)text,
                                                  MHD_RESPMEM_PERSISTENT),
                  "text/plain; charset=utf-8");
}

/* A collector that can read OpenMetrics says so. */
static enum metrics_format format_of(struct MHD_Connection *connection)
{
    const char *accept = MHD_lookup_connection_value(connection, MHD_HEADER_KIND,
                                                     MHD_HTTP_HEADER_ACCEPT);
    return accept && strstr(accept, "application/openmetrics-text") ? METRICS_OPENMETRICS
                                                                    : METRICS_PROMETHEUS;
}

static enum MHD_Result handle(void *context, struct MHD_Connection *connection, const char *path,
                              const char *method, const char *version, const char *upload,
                              size_t *upload_size, void **state)
{
    static int begun;
    size_t bytes = 0;

    (void)version, (void)upload;
    if (!*state ||
        *upload_size > 0) { /* the head of the request; its body, if any, is not looked at */
        *state = &begun;
        *upload_size = 0;
        return MHD_YES;
    }
    if (strcmp(method, MHD_HTTP_METHOD_GET) != 0 && strcmp(method, MHD_HTTP_METHOD_HEAD) != 0)
        return answer_text(connection, MHD_HTTP_METHOD_NOT_ALLOWED, "GET or HEAD\n");
    if (strcmp(path, "/metrics") != 0)
        return answer_text(connection, MHD_HTTP_NOT_FOUND, "etag-exporter: see /metrics\n");
    const enum metrics_format format = format_of(connection);
    char *page = page_make(context, format, &bytes);
    if (!page)
        return answer_text(connection, MHD_HTTP_INTERNAL_SERVER_ERROR, "no memory\n");
    return answer(connection, MHD_HTTP_OK,
                  MHD_create_response_from_buffer(bytes, page, MHD_RESPMEM_MUST_FREE),
                  metrics_content_type(format));
}

/* ---- Flags ---- */

enum { KEY_SOCKET = 256, KEY_LISTEN, KEY_REMOTE, KEY_TIMEOUT, KEY_VERSION, KEY_HELP = '?' };

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
    case KEY_TIMEOUT:
        return timeout_parse(exporter, value, state);
    case KEY_VERSION:
        printf("etag-exporter %s\n", ETAG_VERSION_STRING);
        exporter->answered = true;
        return ECANCELED;
    case KEY_HELP:
        argp_state_help(state, stdout, ARGP_HELP_USAGE | ARGP_HELP_PRE_DOC | ARGP_HELP_LONG);
        exporter->answered = true;
        return ECANCELED;
    case ARGP_KEY_ARG:
        argp_error(state, "unexpected argument \"%s\"", value);
        return EINVAL;
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
    {"timeout-ms", KEY_TIMEOUT, "N", 0, "Longest wait of a scrape for the daemon (default 1000)",
     0},
    {"help", KEY_HELP, NULL, 0, "Print this and end", -1},
    {"version", KEY_VERSION, NULL, 0, "Print the version and end", -1},
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
    char why[LISTEN_WHY_BYTES];
    sigset_t ends;
    int signal_number = 0;

    if (!listener_open(&listener, exporter->listen, exporter->allow_remote, why)) {
        fprintf(stderr, "etag-exporter: %s\n", why);
        return 1;
    }
    /* Blocked before the thread begins: only sigwait() gets them. */
    sigemptyset(&ends);
    sigaddset(&ends, SIGTERM);
    sigaddset(&ends, SIGINT);
    (void)pthread_sigmask(SIG_BLOCK, &ends, NULL);
    signal(SIGPIPE, SIG_IGN);
    struct MHD_Daemon *http = MHD_start_daemon(
        MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_ERROR_LOG, 0, NULL, NULL, handle, exporter,
        MHD_OPTION_LISTEN_SOCKET, (MHD_socket)listener.fd, MHD_OPTION_CONNECTION_TIMEOUT,
        (unsigned)IDLE_SECONDS, MHD_OPTION_CONNECTION_LIMIT, (unsigned)CONNECTIONS_MAX,
        MHD_OPTION_END);
    if (!http) {
        fprintf(stderr, "etag-exporter: cannot serve HTTP: %s\n", strerror(errno));
        cleanup_fd(&listener.fd);
        listener_remove(&listener);
        return 1;
    }
    fprintf(stderr, "etag-exporter: /metrics on %s, of the daemon on %s\n", listener.text,
            exporter->channel.path);
    (void)sigwait(&ends, &signal_number);
    MHD_stop_daemon(http);
    listener_remove(&listener);
    return 0;
}

int main(int argc, char **argv)
{
    struct exporter exporter = {.listen = LISTEN_DEFAULT, .timeout_ms = TIMEOUT_MS_DEFAULT};
    const struct argp argp = {
        .options = flags,
        .parser = flag_parse,
        .doc =
            "Serves etagd's figures over HTTP, as OpenMetrics or Prometheus text: GET /metrics. "
            "Exit status: 0 after SIGTERM or SIGINT, 1 where it cannot listen, 2 for mistakes in "
            "the command line."};

    const error_t error = argp_parse(&argp, argc, argv, ARGP_NO_HELP | ARGP_NO_EXIT, NULL,
                                     &exporter);
    if (exporter.answered)
        return 0;
    if (error != 0) /* argp said it */
        return 2;
    const int status = exporter_init(&exporter) ? exporter_run(&exporter) : 1;
    channel_deinit(&exporter.channel);
    free(exporter.sample);
    return status;
}
