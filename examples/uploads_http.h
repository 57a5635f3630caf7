/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HTTP on 127.0.0.1, over libmicrohttpd. One thread: the caller polls, http_server_run() does what
 * came. The handler sees plain structs; everything that it gets is borrowed for the call.
 */
#ifndef UPLOADS_HTTP_H
#define UPLOADS_HTTP_H

#include <etag/etag.h>

#define MUST_USE __attribute__((warn_unused_result))

#define HTTP_FIELDS_MAX 64
#define HTTP_ARGS_MAX 16
#define HTTP_ANSWER_FIELD_BYTES_MAX 8192
#define HTTP_BODY_BYTES_MAX 65536

struct http_request {
    /* what begin() gave: before anything of the request was read */
    etag_token token;
    etag_str method;
    /* "/path?query", as on the request line */
    etag_str target;
    etag_str path;
    etag_field fields[HTTP_FIELDS_MAX];
    size_t field_count;
    /* of the query, decoded; value.data is NULL where there is no '=' */
    etag_field args[HTTP_ARGS_MAX];
    size_t arg_count;
    etag_str body;
    bool from_loopback;
    /* a status, if the request is too large to be looked at; else 0 */
    unsigned refuse_with;
};

struct http_answer {
    unsigned status;
    /* malloc'ed, consumed; NULL: none */
    char *body;
    size_t body_len;
    size_t fields_len;
    /* name, NUL, value, NUL, name, ... */
    char fields[HTTP_ANSWER_FIELD_BYTES_MAX];
};

/* Copied. What does not fit is an error of ours: the answer becomes a 500. */
void http_answer_add(struct http_answer *answer, etag_field field);
void http_answer_field(struct http_answer *answer, const char *name, etag_str value);

struct http_handler {
    void *context;
    etag_token (*begin)(void *context);
    void (*answer)(void *context, const struct http_request *request, struct http_answer *answer);
};

struct http_server;

/* port 0: any free one; *port is what it became. False: said on standard error. handler: borrowed
 * until close. */
MUST_USE bool http_server_open(struct http_server **out, uint16_t *port,
                               const struct http_handler *handler);
struct http_server *http_server_close(struct http_server *server); /* returns NULL */
int http_server_fd(const struct http_server *server);              /* poll it for POLLIN */
int http_server_timeout_ms(const struct http_server *server);      /* -1: none */
void http_server_run(struct http_server *server);

/* The first field of that name; absent if there is none. */
etag_str http_field(const struct http_request *request, const char *name);

#endif
