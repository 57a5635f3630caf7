/* SPDX-License-Identifier: Apache-2.0 */
/* GET and HEAD of /metrics, under a name that is ours. Everything else is refused with a line that
 * says what would be right. */
#include "exporter_http.h"

#include "text.h"

#include <microhttpd.h>
#include <string.h>
#include <sys/un.h>

#define IDLE_SECONDS 30
#define CONNECTION_BYTES_MAX ((size_t)16 * 1024)

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
static enum metrics_format format_of(const struct exporter_http *http,
                                     struct MHD_Connection *connection)
{
    const char *accept = MHD_lookup_connection_value(connection, MHD_HEADER_KIND,
                                                     MHD_HTTP_HEADER_ACCEPT);

    return accept && !http->prometheus_only && strstr(accept, "application/openmetrics-text")
               ? METRICS_OPENMETRICS
               : METRICS_PROMETHEUS;
}

struct host_question {
    const struct exporter_http *http;
    bool refused;
};

static enum MHD_Result host_look(void *context, enum MHD_ValueKind kind, const char *name,
                                 const char *value)
{
    struct host_question *question = context;

    (void)kind;
    if (str_equal_nocase(str_of(name), ETAG_LIT("host")))
        question->refused |= !host_is_allowed(&question->http->hosts, str_of(value ? value : ""));
    return MHD_YES;
}

/* A request without Host (HTTP/1.0) is no browser's. */
static bool host_is_refused(const struct exporter_http *http, struct MHD_Connection *connection)
{
    struct host_question question = {.http = http};

    (void)MHD_get_connection_values(connection, MHD_HEADER_KIND, host_look, &question);
    return question.refused && !http->any_host;
}

static struct guest *guest_of(struct MHD_Connection *connection)
{
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(
        connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);

    return info ? (struct guest *)info->socket_context : NULL;
}

static enum MHD_Result handle(void *context, struct MHD_Connection *connection, const char *path,
                              const char *method, const char *version, const char *upload,
                              size_t *upload_size, void **state)
{
    static int begun;
    struct exporter_http *http = context;
    size_t bytes = 0;

    (void)version, (void)upload;
    if (!*state ||
        *upload_size > 0) { /* the head of the request; its body, if any, is not looked at */
        *state = &begun;
        *upload_size = 0;
        return MHD_YES;
    }
    struct guest *guest = guest_of(connection);
    if (guest)
        crowd_asks(guest);
    if (host_is_refused(http, connection))
        return answer_text(connection, MHD_HTTP_MISDIRECTED_REQUEST,
                           "etag-exporter: it is not asked under this name; an address in digits, "
                           "localhost, or --allow-host NAME\n");
    if (strcmp(method, MHD_HTTP_METHOD_GET) != 0 && strcmp(method, MHD_HTTP_METHOD_HEAD) != 0)
        return answer_text(connection, MHD_HTTP_METHOD_NOT_ALLOWED, "GET or HEAD\n");
    if (strcmp(path, "/metrics") != 0)
        return answer_text(connection, MHD_HTTP_NOT_FOUND, "etag-exporter: see /metrics\n");
    const enum metrics_format format = format_of(http, connection);
    char *page = http->page(http->context, format, &bytes);
    if (!page)
        return answer_text(connection, MHD_HTTP_INTERNAL_SERVER_ERROR, "no memory\n");
    return answer(connection, MHD_HTTP_OK,
                  MHD_create_response_from_buffer(bytes, page, MHD_RESPMEM_MUST_FREE),
                  metrics_content_type(format));
}

static void completed(void *context, struct MHD_Connection *connection, void **state,
                      enum MHD_RequestTerminationCode code)
{
    struct exporter_http *http = context;
    struct guest *guest = guest_of(connection);

    (void)state, (void)code;
    if (guest)
        crowd_answered(&http->crowd, guest);
}

static void connection_noted(void *context, struct MHD_Connection *connection, void **guest,
                             enum MHD_ConnectionNotificationCode code)
{
    struct exporter_http *http = context;

    if (code == MHD_CONNECTION_NOTIFY_CLOSED) {
        if (*guest)
            crowd_leave(*guest);
        *guest = NULL;
        return;
    }
    /* Each is read before the next is asked for: from 1.0 on, the library answers all in one
     * place. */
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(
        connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    if (!info)
        return;
    const int fd = info->connect_fd;
    info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    *guest = crowd_enter(&http->crowd, fd, info ? info->client_addr : NULL);
}

bool exporter_http_open(struct exporter_http *http, int listen_fd)
{
    const bool threaded = listen_fd >= 0;
    const unsigned flags = threaded ? MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_ERROR_LOG
                                    : MHD_USE_NO_LISTEN_SOCKET;

    http->daemon = MHD_start_daemon(
        flags, 0, NULL, NULL, handle, http, MHD_OPTION_NOTIFY_CONNECTION, connection_noted, http,
        MHD_OPTION_NOTIFY_COMPLETED, completed, http, MHD_OPTION_CONNECTION_TIMEOUT,
        (unsigned)IDLE_SECONDS, MHD_OPTION_CONNECTION_LIMIT, (unsigned)CROWD_MAX,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, CONNECTION_BYTES_MAX,
        threaded ? MHD_OPTION_LISTEN_SOCKET : MHD_OPTION_END, (MHD_socket)listen_fd,
        MHD_OPTION_END);
    return http->daemon != NULL;
}

void exporter_http_close(struct exporter_http *http)
{
    MHD_stop_daemon(http->daemon);
    http->daemon = NULL;
}

bool exporter_http_take(struct exporter_http *http, int fd)
{
    const struct sockaddr_un unnamed = {.sun_family = AF_UNIX};

    return MHD_add_connection(http->daemon, fd, (const struct sockaddr *)&unnamed,
                              sizeof(unnamed.sun_family)) == MHD_YES;
}

void exporter_http_turn(struct exporter_http *http)
{
    (void)MHD_run(http->daemon);
}
