/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HTTP for etcd: one request at a time, and beside it one answer that does not end (a watch).
 * Nothing blocks, but for what a resolver does. libcurl stops here.
 */
#ifndef ETAG_RELAY_ETCD_HTTP_H
#define ETAG_RELAY_ETCD_HTTP_H

#include "why.h"

#include <etag/etag.h>
#include <stdint.h>

#define ETCD_BODY_BYTES_MAX (2u << 20) /* of an answer */
#define ETCD_URL_BYTES_MAX 512

/* Paths; NULL or empty: none. Borrowed. */
struct etcd_tls {
    /* authorities, PEM; none: those of the system */
    const char *ca_file;
    const char *cert_file, *key_file;
};

enum etcd_transport {
    /* an answer of HTTP came */
    ETCD_HTTP_ANSWERED,
    /* larger than ETCD_BODY_BYTES_MAX */
    ETCD_HTTP_TOO_LARGE,
    /* the connection ended without an answer */
    ETCD_HTTP_EMPTY,
    ETCD_HTTP_FAILED,
};

struct etcd_outcome {
    enum etcd_transport transport;
    /* ANSWERED */
    long status;
    /* ANSWERED; borrowed until the next request */
    etag_str body;
    /* FAILED: what libcurl says */
    const char *text;
};

struct etcd_request {
    const char *url;
    /* NULL: none */
    const char *token;
    /* copied */
    etag_str body;
    uint32_t timeout_ms;
};

struct etcd_http;

/* 0, -ENOMEM, or -EINVAL and why. */
MUST_USE int etcd_http_open(struct etcd_http **out, const struct etcd_tls *tls, struct why *why);
/* NULL is allowed; returns NULL. */
struct etcd_http *etcd_http_close(struct etcd_http *http);

/* For poll(2): one descriptor, POLLIN; -1 in timeout_ms: none. */
int etcd_http_fd(const struct etcd_http *http);
int etcd_http_timeout_ms(const struct etcd_http *http);
/* Does what can be done without waiting. */
void etcd_http_dispatch(struct etcd_http *http);

/* Sends a request; none may be under way. 0 or -ENOMEM. */
MUST_USE int etcd_http_send(struct etcd_http *http, const struct etcd_request *request);
/* False: it is not over yet. */
MUST_USE bool etcd_http_take(struct etcd_http *http, struct etcd_outcome *outcome);

/* Opens the answer that does not end, in place of a former one. 0 or -ENOMEM. */
MUST_USE int etcd_http_stream(struct etcd_http *http, const struct etcd_request *request);
/* It is open. */
bool etcd_http_streams(const struct etcd_http *http);
/* Lines that came since this was asked last. */
uint64_t etcd_http_lines(struct etcd_http *http);

#endif
