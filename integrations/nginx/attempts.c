/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What upstreams did with the request. nginx may ask several for one request (proxy_next_upstream),
 * and may put something else in the place of an answer (X-Accel-Redirect, error_page,
 * proxy_intercept_errors). Whatever the client gets in the end, each upstream that had the request
 * may have carried it out. So each attempt is noted while its header fields are there:
 *
 *   reinit_request     nginx forgets them, and asks the next upstream
 *   finalize_request   nginx is done with the upstreams of this location; the answer may be
 *                      replaced
 *   header filter      the answer goes to the client
 *
 * The first two are functions that the content handler gives nginx: ours come before them. nginx's
 * records (upstream_states) say which attempts there were, so one that was missed is seen, and
 * means everything.
 *
 * An attempt changed something (2xx, 3xx), did not (4xx, 5xx), or it is unknown (no answer). Of
 * several, the first beats the last, and that the second.
 */
#include "invalidate.h"

/* ---- One attempt ---- */

/* False: a separator between two handlers' attempts, or one for which nothing was sent, since no
 * one accepted the connection. (nginx counts what it sent when the attempt is over.) */
static bool had_request(const ngx_http_upstream_state_t *state)
{
    return state->peer && (state->bytes_sent > 0 || state->bytes_received > 0 ||
                           state->header_time != (ngx_msec_t)-1);
}

static bool type_is_grpc(ngx_str_t type)
{
    static const char grpc[] = "application/grpc";

    return type.len >= sizeof(grpc) - 1 &&
           ngx_strncasecmp(type.data, (u_char *)(uintptr_t)grpc, sizeof(grpc) - 1) == 0;
}

/* A stream of messages, which must not be held back. The client's word alone does not make it
 * one. */
bool attempts_is_grpc(const ngx_http_request_t *http, ngx_str_t answered)
{
    const ngx_table_elt_t *asked = http->headers_in.content_type;

    return asked && type_is_grpc(asked->value) && type_is_grpc(answered);
}

enum fields { FIELDS_NONE, FIELDS_WHOLE, FIELDS_LOST };

/* Bytes that are no whole header may have been names of what changed; so may those of an attempt
 * that was not noted. A line without a status, which nginx passes on as HTTP/0.9, is no header
 * either, and one of 1xx is not the last. */
static enum fields fields_of_attempt(const ngx_http_upstream_state_t *state,
                                     const ngx_http_upstream_headers_in_t *headers)
{
    if (state->header_time == (ngx_msec_t)-1)
        return state->bytes_received > 0 ? FIELDS_LOST : FIELDS_NONE;
    return headers && headers->status_n >= NGX_HTTP_OK ? FIELDS_WHOLE : FIELDS_LOST;
}

enum outcome attempts_outcome(ngx_uint_t status)
{
    return status < NGX_HTTP_BAD_REQUEST ? OUTCOME_CHANGED : OUTCOME_NOTHING;
}

static ngx_int_t note_lost(struct request *request)
{
    ngx_log_error(NGX_LOG_ERR, request->http->connection->log, 0,
                  "etag_cache: the header fields of the upstream's answer cannot be read: "
                  "everything is invalidated");
    struct names *names = request_names(request);
    if (!names)
        return NGX_ERROR;
    names->everything = true;
    return NGX_OK;
}

/* sent: the fields of the answer, as nginx made them of the upstream's; NULL: it is not sent. */
static ngx_int_t note(struct request *request, const ngx_http_upstream_state_t *state,
                      const ngx_http_upstream_headers_in_t *headers, const ngx_list_t *sent)
{
    ngx_http_request_t *http = request->http;
    const enum fields fields = fields_of_attempt(state, headers);
    struct said said = {.outcome = OUTCOME_UNKNOWN};

    if (state->header_time != (ngx_msec_t)-1) {
        said.status = headers && headers->status_n > 0 ? headers->status_n : state->status;
        said.outcome = attempts_outcome(said.status);
    }
    if (fields != FIELDS_WHOLE) {
        if (fields == FIELDS_LOST && request->writes && note_lost(request) != NGX_OK)
            return NGX_ERROR;
        return names_note(request, &said);
    }
    if (headers->content_type && attempts_is_grpc(http, headers->content_type->value))
        return NGX_OK;
    said.fields = &headers->headers;
    said.locations = sent;
    return names_note(request, &said);
}

ngx_int_t attempts_note(struct request *request, const ngx_list_t *sent)
{
    const ngx_http_request_t *http = request->http;
    const ngx_array_t *all = http->upstream_states;

    if (!all)
        return NGX_DECLINED;
    const ngx_http_upstream_state_t *states = all->elts;
    ngx_uint_t end = request->attempts_noted;
    for (ngx_uint_t i = end; i < all->nelts; i++)
        if (had_request(&states[i]))
            end = i + 1;
    if (end == request->attempts_noted)
        return NGX_DECLINED;
    /* nginx has the fields of the last one only. */
    for (ngx_uint_t i = request->attempts_noted; i < end; i++)
        if (had_request(&states[i]) &&
            note(request, &states[i], i + 1 == end ? &http->upstream->headers_in : NULL, sent) !=
                NGX_OK)
            return NGX_ERROR;
    request->attempts_noted = end;
    return NGX_OK;
}

/* ---- Being there in time ---- */

static ngx_int_t reinit(ngx_http_request_t *http)
{
    struct request *request = request_of(http);

    return attempts_note(request, NULL) == NGX_ERROR ? NGX_ERROR : request->reinit_request(http);
}

static void finalize(ngx_http_request_t *http, ngx_int_t rc)
{
    struct request *request = request_of(http);

    if (attempts_note(request, NULL) == NGX_ERROR && request->names)
        request->names->everything = true; /* no memory for what it is */
    request->finalize_request(http, rc);
}

/* Runs nginx's content handler, which makes the upstream, and asks it only when the request's body
 * is there: later, or at its end. */
static ngx_int_t content(ngx_http_request_t *http)
{
    struct request *request = request_of(http);
    const ngx_http_upstream_t *before = http->upstream;
    const ngx_int_t rc = request->content_handler(http);
    ngx_http_upstream_t *upstream = http->upstream;

    if (upstream && upstream != before && upstream->finalize_request != finalize) {
        request->reinit_request = upstream->reinit_request;
        request->finalize_request = upstream->finalize_request;
        upstream->reinit_request = reinit;
        upstream->finalize_request = finalize;
    }
    return rc;
}

void attempts_watch(struct request *request)
{
    ngx_http_request_t *http = request->http;

    if (!http->content_handler || http->content_handler == content)
        return;
    request->content_handler = http->content_handler;
    http->content_handler = content;
}
