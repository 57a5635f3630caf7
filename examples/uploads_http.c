/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libmicrohttpd, wrapped in a handful of functions. Its URI callback is the very first thing that
 * happens for a request: there the fill token is taken.
 */
#include "uploads_http.h"

#include <arpa/inet.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

struct http_server {
    struct MHD_Daemon *daemon;
    const struct http_handler *handler;
    int epoll_fd;
};

/* One request while its parts arrive. */
struct exchange {
    etag_token token;
    char *target;
    char *body;
    size_t body_len;
    bool started;
    bool too_large;
};

/* ---- Requests ---- */

static void *on_uri(void *context, const char *uri, struct MHD_Connection *connection)
{
    const struct http_server *server = context;
    struct exchange *exchange = calloc(1, sizeof(*exchange));

    if (!exchange)
        return NULL;
    exchange->token = server->handler->begin(server->handler->context);
    exchange->target = strdup(uri);
    return exchange;
}

static void on_completed(void *context, struct MHD_Connection *connection, void **slot,
                         enum MHD_RequestTerminationCode how)
{
    struct exchange *exchange = *slot;

    if (exchange) {
        free(exchange->target);
        free(exchange->body);
        free(exchange);
    }
    *slot = NULL;
}

static enum MHD_Result on_field(void *context, enum MHD_ValueKind kind, const char *name,
                                size_t name_len, const char *value, size_t value_len)
{
    struct http_request *request = context;
    const etag_field field = {{name, name_len}, {value, value_len}};

    if (kind == MHD_HEADER_KIND && request->field_count < HTTP_FIELDS_MAX)
        request->fields[request->field_count++] = field;
    else if (kind == MHD_GET_ARGUMENT_KIND && request->arg_count < HTTP_ARGS_MAX)
        request->args[request->arg_count++] = field;
    else
        return MHD_NO;
    return MHD_YES;
}

static bool is_loopback(struct MHD_Connection *connection)
{
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(
        connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);

    if (!info || info->client_addr->sa_family != AF_INET)
        return false;
    struct sockaddr_in address;
    memcpy(&address, info->client_addr, sizeof(address));
    return ntohl(address.sin_addr.s_addr) >> 24 == 127;
}

static void read_request(struct MHD_Connection *connection, const char *method,
                         const struct exchange *exchange, struct http_request *out)
{
    out->token = exchange->token;
    out->method = etag_str_of(method);
    out->target = etag_str_of(exchange->target);
    out->path = (etag_str){exchange->target, strcspn(exchange->target, "?")};
    out->body = (etag_str){exchange->body ? exchange->body : "", exchange->body_len};
    out->from_loopback = is_loopback(connection);
    out->field_count = out->arg_count = 0;
    const int fields = MHD_get_connection_values_n(connection, MHD_HEADER_KIND, on_field, out);
    const int args = MHD_get_connection_values_n(connection, MHD_GET_ARGUMENT_KIND, on_field, out);
    if (fields > HTTP_FIELDS_MAX || args > HTTP_ARGS_MAX)
        out->refuse_with = MHD_HTTP_REQUEST_HEADER_FIELDS_TOO_LARGE;
    else
        out->refuse_with = exchange->too_large ? MHD_HTTP_CONTENT_TOO_LARGE : 0;
}

etag_str http_field(const struct http_request *request, const char *name)
{
    for (size_t i = 0; i < request->field_count; i++)
        if (request->fields[i].name.len == strlen(name) &&
            strncasecmp(request->fields[i].name.data, name, strlen(name)) == 0)
            return request->fields[i].value;
    return (etag_str){0};
}

/* ---- Answers ---- */

static void append_text(struct http_answer *answer, etag_str text)
{
    memcpy(answer->fields + answer->fields_len, text.data, text.len);
    answer->fields_len += text.len;
    answer->fields[answer->fields_len++] = '\0';
}

void http_answer_add(struct http_answer *answer, etag_field field)
{
    if (answer->fields_len + field.name.len + field.value.len + 2 > sizeof(answer->fields)) {
        answer->status = MHD_HTTP_INTERNAL_SERVER_ERROR;
        return;
    }
    append_text(answer, field.name);
    append_text(answer, field.value);
}

void http_answer_field(struct http_answer *answer, const char *name, etag_str value)
{
    http_answer_add(answer, (etag_field){etag_str_of(name), value});
}

/* A 304 goes out with "Content-Length: 0", which RFC 9110 section 8.6 would rather not see there.
 * libmicrohttpd 0.9.75 has no way without it but chunked, and then it sends the last chunk too,
 * which breaks the connection. It does no harm: a 304 ends with its header (RFC 9112 section 6.3),
 * and caches do not take its length over (RFC 9111 section 3.2). */
static enum MHD_Result send_answer(struct MHD_Connection *connection, struct http_answer *answer)
{
    struct MHD_Response *response = MHD_create_response_from_buffer(
        answer->body_len, answer->body,
        answer->body ? MHD_RESPMEM_MUST_FREE : MHD_RESPMEM_PERSISTENT);

    if (!response) {
        free(answer->body);
        return MHD_NO;
    }
    enum MHD_Result done = MHD_YES;
    for (const char *at = answer->fields;
         at < answer->fields + answer->fields_len && done == MHD_YES;) {
        const char *value = at + strlen(at) + 1;
        done = MHD_add_response_header(response, at, value);
        at = value + strlen(value) + 1;
    }
    if (done == MHD_YES)
        done = MHD_queue_response(connection, answer->status, response);
    MHD_destroy_response(response);
    return done;
}

static bool append_body(struct exchange *exchange, const char *data, size_t len)
{
    if (exchange->too_large || exchange->body_len + len > HTTP_BODY_BYTES_MAX) {
        exchange->too_large = true;
        return true;
    }
    char *grown = realloc(exchange->body, exchange->body_len + len);
    if (!grown)
        return false;
    memcpy(grown + exchange->body_len, data, len);
    exchange->body = grown;
    exchange->body_len += len;
    return true;
}

static enum MHD_Result on_access(void *context, struct MHD_Connection *connection, const char *url,
                                 const char *method, const char *version, const char *data,
                                 size_t *data_len, void **slot)
{
    const struct http_server *server = context;
    struct exchange *exchange = *slot;

    if (!exchange || !exchange->target)
        return MHD_NO;
    if (!exchange->started) {
        exchange->started = true;
        return MHD_YES;
    }
    if (*data_len > 0) {
        const bool kept = append_body(exchange, data, *data_len);
        *data_len = 0;
        return kept ? MHD_YES : MHD_NO;
    }
    struct http_request request;
    struct http_answer answer = {0};
    read_request(connection, method, exchange, &request);
    server->handler->answer(server->handler->context, &request, &answer);
    return send_answer(connection, &answer);
}

/* ---- Server ---- */

bool http_server_open(struct http_server **out, uint16_t *port, const struct http_handler *handler)
{
    struct http_server *server = calloc(1, sizeof(*server));

    if (!server)
        return false;
    server->handler = handler;
    const struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(*port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    server->daemon = MHD_start_daemon(
        MHD_USE_EPOLL | MHD_USE_ERROR_LOG, *port, NULL, NULL, on_access, server,
        MHD_OPTION_SOCK_ADDR, (const struct sockaddr *)&address, MHD_OPTION_URI_LOG_CALLBACK,
        on_uri, server, MHD_OPTION_NOTIFY_COMPLETED, on_completed, server,
        MHD_OPTION_CONNECTION_TIMEOUT, 60u, MHD_OPTION_END);
    if (!server->daemon) {
        fprintf(stderr, "cannot listen on 127.0.0.1:%u\n", (unsigned)*port);
        free(server);
        return false;
    }
    *port = MHD_get_daemon_info(server->daemon, MHD_DAEMON_INFO_BIND_PORT)->port;
    server->epoll_fd = MHD_get_daemon_info(server->daemon, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd;
    *out = server;
    return true;
}

struct http_server *http_server_close(struct http_server *server)
{
    if (server) {
        MHD_stop_daemon(server->daemon);
        free(server);
    }
    return NULL;
}

int http_server_fd(const struct http_server *server)
{
    return server->epoll_fd;
}

int http_server_timeout_ms(const struct http_server *server)
{
    MHD_UNSIGNED_LONG_LONG ms;

    if (MHD_get_timeout(server->daemon, &ms) != MHD_YES)
        return -1;
    return ms > 60000 ? 60000 : (int)ms;
}

void http_server_run(struct http_server *server)
{
    MHD_run(server->daemon);
}
