/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A front end of etagd: one thread, one loop. It polls three things: the HTTP server, the etag
 * client and the signals that end it. Start several of them on one database: they share what etagd
 * knows.
 */
#include "uploads_api.h"

#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

struct options {
    uint16_t port;
    const char *db_path;
    /* NULL: the library's default */
    const char *socket_path;
    const char *release;
    bool require_if_match;
};

static const char usage[] =
    "Usage: uploads_api --db FILE [--port N] [--socket PATH] [--release R] [--require-if-match]\n"
    "\n"
    "A small claims-processing API on 127.0.0.1, as an example of a front end of etagd.\n"
    "\n"
    "  --db FILE      SQLite database, shared by all processes (uploads_seed fills it)\n"
    "  --port N       0, the default: any free port; the first line printed names it\n"
    "  --socket PATH  etagd's socket; default: $ETAGD_SOCKET or /run/etagd/etagd.sock\n"
    "  --release R    goes into every key: give each deployment its own\n"
    "  --require-if-match\n"
    "                 428 for a change that does not say which version it is of\n"
    "  --help\n";

/* -1: go on; else the exit status. */
static int parse_options(struct options *out, int argc, char **argv)
{
    static const struct option names[] = {{"db", required_argument, NULL, 'd'},
                                          {"port", required_argument, NULL, 'p'},
                                          {"socket", required_argument, NULL, 's'},
                                          {"release", required_argument, NULL, 'r'},
                                          {"require-if-match", no_argument, NULL, 'm'},
                                          {"help", no_argument, NULL, 'h'},
                                          {0}};

    for (int c; (c = getopt_long(argc, argv, "", names, NULL)) != -1;) {
        char *end = NULL;
        unsigned long port = 0;
        switch (c) {
        case 'd':
            out->db_path = optarg;
            break;
        case 'p':
            port = strtoul(optarg, &end, 10);
            if (*optarg == '\0' || *end != '\0' || port > UINT16_MAX) {
                fprintf(stderr, "uploads_api: --port %s: want 0 to 65535\n", optarg);
                return 2;
            }
            out->port = (uint16_t)port;
            break;
        case 's':
            out->socket_path = optarg;
            break;
        case 'r':
            out->release = optarg;
            break;
        case 'm':
            out->require_if_match = true;
            break;
        case 'h':
            fputs(usage, stdout);
            return 0;
        default:
            fputs(usage, stderr);
            return 2;
        }
    }
    if (!out->db_path || optind != argc) {
        fputs(usage, stderr);
        return 2;
    }
    return -1;
}

static int sooner(int a_ms, int b_ms)
{
    if (a_ms < 0 || b_ms < 0)
        return a_ms < 0 ? b_ms : a_ms;
    return a_ms < b_ms ? a_ms : b_ms;
}

/* Until a signal comes. */
static int run(struct http_server *server, struct publisher *publisher, int signals)
{
    etag_client *client = publisher->client;

    for (;;) {
        struct pollfd fds[] = {
            {.fd = signals, .events = POLLIN},
            {.fd = http_server_fd(server), .events = POLLIN},
            {.fd = etag_client_fd(client), .events = etag_client_events(client)},
        };
        const int timeout_ms = sooner(
            http_server_timeout_ms(server),
            sooner(etag_client_timeout_ms(client), publisher_timeout_ms(publisher)));
        const int ready = poll(fds, sizeof(fds) / sizeof(fds[0]), timeout_ms);
        if (ready < 0 && errno != EINTR) {
            perror("poll");
            return 1;
        }
        if (fds[0].revents)
            return 0;
        if (fds[2].revents || etag_client_timeout_ms(client) == 0) {
            /* Without a daemon we render everything; the client says when to try again. */
            const etag_status ignored = etag_client_dispatch(client);
            (void)ignored;
        }
        publisher_tick(publisher);
        http_server_run(server);
    }
}

static int serve(const struct options *options, struct db *db, etag_client *client, int signals)
{
    etag_hasher *hasher = NULL;

    if (etag_hasher_open(&hasher) != ETAG_OK)
        fprintf(stderr, "uploads_api: OpenSSL has no SHA-256: files get no ETag\n");
    struct publisher publisher;
    publisher_init(&publisher, db, client);
    struct api api = {.db = db,
                      .client = client,
                      .release = options->release,
                      .publisher = &publisher,
                      .hasher = hasher,
                      .require_if_match = options->require_if_match};
    const struct http_handler handler = {&api, api_begin, api_answer};
    struct http_server *server = NULL;
    uint16_t port = options->port;
    int status = 1;
    if (http_server_open(&server, &port, &handler)) {
        printf("listening on 127.0.0.1:%u\n", (unsigned)port);
        fflush(stdout);
        status = run(server, &publisher, signals);
        http_server_close(server);
    }
    publisher_deinit(&publisher);
    etag_hasher_close(hasher);
    return status;
}

int main(int argc, char **argv)
{
    struct options options = {0};
    const int exit_status = parse_options(&options, argc, argv);

    if (exit_status >= 0)
        return exit_status;

    sigset_t ending;
    sigemptyset(&ending);
    sigaddset(&ending, SIGTERM);
    sigaddset(&ending, SIGINT);
    sigprocmask(SIG_BLOCK, &ending, NULL);
    signal(SIGPIPE, SIG_IGN);
    const int signals = signalfd(-1, &ending, SFD_CLOEXEC);
    if (signals < 0) {
        perror("signalfd");
        return 1;
    }

    etag_client_options client_options;
    ETAG_INIT(&client_options);
    client_options.socket_path = options.socket_path;
    /* A write without a living daemon takes one lease, and a little. */
    client_options.timeout_ms = 2000;
    etag_client *client = NULL;
    const etag_status opened = etag_client_open(&client, &client_options);
    if (!client) {
        fprintf(stderr, "uploads_api: %s\n", etag_status_text(opened));
        return 1;
    }
    struct db *db = NULL;
    const int status = db_open(&db, options.db_path) == DB_OK ? serve(&options, db, client, signals)
                                                              : 1;
    db_close(db);
    etag_client_close(client);
    close(signals);
    return status;
}
