/* SPDX-License-Identifier: Apache-2.0 */
/*
 * After a write. Above all other filters, the answer to an unsafe method is held back, header and
 * body, until the daemon has confirmed that no front end answers 304 for the old version any more;
 * or, without a daemon, until the spool's wait is over. Nothing blocks: the confirmation is an
 * event of the endpoint (endpoint.c), which lets the answer go.
 *
 *   header filter   collects names, starts the mutation; does not call the next filter
 *   body filter     keeps what comes meanwhile
 *   settled         header, what was kept, and from then on everything as it comes
 *
 * Where it can't be confirmed in time the client gets a 500 instead, which says that the request
 * was carried out: whoever got the upstream's answer could take an old 304 for the new version.
 * (etag_cache_invalidate_failure pass: the answer all the same.)
 *
 * Where no answer comes at all (the client went away, the upstream did), the write may have
 * happened or not: the target is invalidated, and no answer is awaited. It covers what all
 * upstreams did that had the request (attempts.c), not only the one whose answer the client gets.
 */
#include "invalidate.h"

#define HELD_BUFFERED 0x08 /* of http->buffered; nginx's own bits there are 0x07 */

static ngx_http_output_header_filter_pt next_header_filter;
static ngx_http_output_body_filter_pt next_body_filter;

/* ---- Mutations ---- */

/* Starts it. OK: it is under way, in *out. Else it has failed already. */
static etag_status mutation_start(struct endpoint *endpoint, etag_targets targets,
                                  struct mutation **out, ngx_log_t *log)
{
    struct mutation *mutation = ngx_alloc(sizeof(*mutation), log);

    if (!mutation)
        return ETAG_SYSTEM;
    etag_status status = etag_invalidate_start(endpoint->client, &targets, &mutation->op);
    if (status == ETAG_INVALID) {
        /* One of the upstream's names is none. It meant something. */
        ngx_log_error(NGX_LOG_ERR, log, 0, "etag_cache: %s: everything is invalidated",
                      etag_client_error(endpoint->client));
        ETAG_INIT(&targets);
        targets.everything = true;
        status = etag_invalidate_start(endpoint->client, &targets, &mutation->op);
    }
    if (status != ETAG_OK) {
        ngx_log_error(NGX_LOG_ERR, log, 0, "etag_cache: not invalidated: %s",
                      etag_client_error(endpoint->client));
        ngx_free(mutation);
        return status;
    }
    mutation->waiter = NULL;
    ngx_queue_insert_tail(&endpoint->waiting, &mutation->link);
    endpoint_talked(endpoint);
    *out = mutation;
    return ETAG_OK;
}

/* ---- The answer goes on ---- */

static void consume(ngx_chain_t *chain)
{
    for (; chain; chain = chain->next) {
        chain->buf->pos = chain->buf->last;
        chain->buf->file_pos = chain->buf->file_last;
    }
}

static ngx_int_t send_held(ngx_http_request_t *http, struct request *request)
{
    const ngx_int_t rc = next_header_filter(http);

    if (rc == NGX_ERROR || rc > NGX_OK)
        return NGX_ERROR;
    ngx_chain_t *held = request->held;
    request->held = NULL;
    if (http->header_only) {
        request->swallow = true;
        consume(held);
        return NGX_OK;
    }
    return held ? next_body_filter(http, held) : NGX_OK;
}

#define NOT_CONFIRMED                                                                              \
    "but it could not be confirmed that old versions of what it changed are no longer answered "   \
    "with 304.\n"
static const ngx_str_t failure_text = ngx_string("The request was carried out, " NOT_CONFIRMED);
static const ngx_str_t unknown_text = ngx_string(
    "The request may have been carried out, " NOT_CONFIRMED);

static ngx_int_t send_failure(ngx_http_request_t *http, struct request *request)
{
    const ngx_str_t *text = request->outcome == OUTCOME_UNKNOWN ? &unknown_text : &failure_text;

    consume(request->held);
    request->held = NULL;
    request->swallow = true;
    ngx_http_clean_header(http);
    http->headers_out.status = NGX_HTTP_INTERNAL_SERVER_ERROR;
    http->headers_out.content_length_n = (off_t)text->len;
    ngx_str_set(&http->headers_out.content_type, "text/plain");
    http->headers_out.content_type_len = http->headers_out.content_type.len;
    ngx_table_elt_t *control = ngx_list_push(&http->headers_out.headers);
    ngx_buf_t *body = ngx_calloc_buf(http->pool);
    if (!control || !body)
        return NGX_ERROR;
    ngx_memzero(control, sizeof(*control));
    control->hash = 1;
    ngx_str_set(&control->key, "Cache-Control");
    ngx_str_set(&control->value, "no-store");
    const ngx_int_t rc = next_header_filter(http);
    if (rc == NGX_ERROR || rc > NGX_OK || http->header_only)
        return rc == NGX_OK ? NGX_OK : NGX_ERROR;
    body->pos = text->data;
    body->last = body->pos + text->len;
    body->memory = 1;
    body->last_buf = 1;
    body->last_in_chain = 1;
    ngx_chain_t out = {.buf = body, .next = NULL};
    return next_body_filter(http, &out);
}

static ngx_int_t answer(ngx_http_request_t *http, struct request *request, etag_status status)
{
    const bool pass = status == ETAG_OK || request->invalidates->invalidate_failure == FAILURE_PASS;

    return pass ? send_held(http, request) : send_failure(http, request);
}

static void release(struct request *request, etag_status status)
{
    ngx_http_request_t *http = request->http;
    ngx_connection_t *connection = http->connection;

    request->mutation = NULL;
    http->buffered &= ~HELD_BUFFERED & 0x0f;
    ngx_http_set_log_request(connection->log, http);
    if (answer(http, request, status) == NGX_ERROR)
        ngx_http_finalize_request(http, NGX_ERROR);
    else
        ngx_post_event(connection->write, &ngx_posted_events); /* whoever made the answer goes on */
    ngx_http_run_posted_requests(connection);
}

void invalidate_settle(struct endpoint *endpoint)
{
    ngx_queue_t *link = ngx_queue_head(&endpoint->waiting);

    while (link != ngx_queue_sentinel(&endpoint->waiting)) {
        struct mutation *mutation = ngx_queue_data(link, struct mutation, link);
        etag_receipt receipt;
        ETAG_INIT(&receipt);
        const etag_status status = etag_op_result(mutation->op, &receipt);
        if (status == ETAG_AGAIN) {
            link = ngx_queue_next(link);
            continue;
        }
        struct request *waiter = mutation->waiter;
        if (status != ETAG_OK)
            ngx_log_error(NGX_LOG_ERR,
                          waiter ? waiter->http->connection->log : endpoint->watch->log, 0,
                          "etag_cache: invalidation: %s: %s", etag_status_text(status),
                          etag_client_error(endpoint->client));
        ngx_queue_remove(link);
        ngx_free(mutation);
        if (waiter) {
            waiter->lsn = receipt.lsn;
            release(waiter, status);
        }
        /* An answer that went on may have ended other requests, and begun new ones. */
        link = ngx_queue_head(&endpoint->waiting);
    }
}

/* ---- Which answers wait ---- */

static bool is_cached(const ngx_http_request_t *http)
{
#if (NGX_HTTP_CACHE)
    return http->cached;
#else
    return false;
#endif
}

/* An answer that nginx made itself, or found in its cache. Of a page that it shows in the place of
 * an upstream's answer, with GET, the status says nothing about the write. What a cached answer
 * names was invalidated when it came. */
static ngx_int_t note_own(struct request *request)
{
    const ngx_http_request_t *http = request->http;
    const bool replaced = request->attempts_noted > 0 &&
                          !str_equal(request->method, etag_str_ngx(http->method_name));
    struct said said = {.locations = &http->headers_out.headers};

    if (attempts_is_grpc(http, http->headers_out.content_type))
        return NGX_OK;
    said.status = http->headers_out.status;
    said.outcome = replaced ? OUTCOME_NOTHING : attempts_outcome(said.status);
    said.fields = is_cached(http) ? NULL : &http->headers_out.headers;
    return names_note(request, &said);
}

/* An error that nginx sends because it does not know what the upstream did promises nothing. */
static bool promises(const ngx_http_request_t *http, const struct request *request)
{
    return request->outcome != OUTCOME_UNKNOWN ||
           http->headers_out.status < NGX_HTTP_INTERNAL_SERVER_ERROR;
}

/* NGX_AGAIN: the answer waits. NGX_DECLINED: it has failed, and the answer must not go out. */
static ngx_int_t invalidate(ngx_http_request_t *http, struct request *request)
{
    struct mutation *mutation = NULL;
    ngx_int_t rc = attempts_note(request, &http->headers_out.headers);

    if (rc == NGX_DECLINED)
        rc = note_own(request);
    const struct names *names = request->names;
    if (rc != NGX_OK || !names)
        return rc;
    request->names = NULL;
    if (!names_any(names))
        return NGX_OK;
    const etag_status status = mutation_start(request->invalidates->endpoint, names_targets(names),
                                              &mutation, http->connection->log);
    if (!promises(http, request))
        return NGX_OK;
    if (status != ETAG_OK)
        return request->invalidates->invalidate_failure == FAILURE_PASS ? NGX_OK : NGX_DECLINED;
    mutation->waiter = request;
    request->mutation = mutation;
    request->was_held = true;
    http->buffered |= HELD_BUFFERED;
    return NGX_AGAIN;
}

/* The request's pool is gone, so nothing is allocated. */
void invalidate_unanswered(const struct request *request)
{
    struct mutation *mutation;

    if (!request->invalidates || !request->invalidates->endpoint->client)
        return;
    etag_resource resources[2];
    etag_targets targets;
    ETAG_INIT(&targets);
    if (request->names) {
        targets = names_targets(request->names);
    } else if (!request->answered && request->writes && request->tried) {
        targets.resources = resources;
        if (etag_resource_check(&request->target) != ETAG_INVALID)
            resources[targets.resource_count++] = request->target;
        if (etag_resource_check(&request->twin) != ETAG_INVALID)
            resources[targets.resource_count++] = request->twin;
    }
    if (targets.everything || targets.resource_count + targets.prefix_count +
                                      targets.surrogate_count + targets.family_count >
                                  0)
        (void)mutation_start(request->invalidates->endpoint, targets, &mutation, ngx_cycle->log);
}

/* ---- Filters ---- */

static ngx_int_t header_filter(ngx_http_request_t *http)
{
    struct request *request = request_of(http);

    if (!request)
        return next_header_filter(http);
    const struct location_conf *conf = ngx_http_get_module_loc_conf(http,
                                                                    ngx_http_etag_cache_module);
    ngx_int_t rc = NGX_OK;
    request->answered = true;
    request->was_ok = http->headers_out.status == NGX_HTTP_OK;
    if (request->invalidates || (conf->invalidate && conf->endpoint->client))
        rc = invalidate(http, request);
    if (conf->enable || request->invalidates)
        names_hide_fields(http);
    switch (rc) {
    case NGX_OK:
        return next_header_filter(http);
    case NGX_AGAIN:
        return NGX_OK;
    case NGX_DECLINED:
        return send_failure(http, request);
    default:
        return NGX_ERROR;
    }
}

static ngx_int_t body_filter(ngx_http_request_t *http, ngx_chain_t *in)
{
    struct request *request = http == http->main
                                  ? ngx_http_get_module_ctx(http, ngx_http_etag_cache_module)
                                  : NULL;

    if (!request || !(request->was_held || request->swallow))
        return next_body_filter(http, in);
    if (request->mutation) {
        if (in && ngx_chain_add_copy(http->pool, &request->held, in) != NGX_OK)
            return NGX_ERROR;
        return NGX_AGAIN;
    }
    if (request->swallow) {
        consume(in);
        in = NULL;
    }
    /* The last filter must not be asked to send nothing. */
    if (!in && !http->out && !http->buffered && !http->connection->buffered)
        return NGX_OK;
    return next_body_filter(http, in);
}

void invalidate_install_filters(void)
{
    next_header_filter = ngx_http_top_header_filter;
    ngx_http_top_header_filter = header_filter;
    next_body_filter = ngx_http_top_body_filter;
    ngx_http_top_body_filter = body_filter;
}
