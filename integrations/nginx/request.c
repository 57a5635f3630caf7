/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the module knows of a request. nginx clears the contexts of all modules at an internal
 * redirect (try_files, error_page, X-Accel-Redirect), and with them would go the one thing that
 * must not be taken again: the token. So it hangs on the request's pool, and the context is only
 * the short way to it.
 */
#include "etag_cache.h"

static void request_end(void *data)
{
    struct request *request = data;

    if (request->mutation)
        request->mutation->waiter = NULL;
    request->mutation = NULL;
    if (request->unanswered)
        request->unanswered(request);
}

struct request *request_new(ngx_http_request_t *http)
{
    const struct main_conf *main_conf = ngx_http_get_module_main_conf(http,
                                                                      ngx_http_etag_cache_module);
    struct endpoint *const *endpoints = main_conf->endpoints.elts;
    const ngx_uint_t count = main_conf->endpoints.nelts;
    ngx_pool_cleanup_t *cleanup = ngx_pool_cleanup_add(http->pool, sizeof(struct request));
    etag_token *tokens = ngx_pcalloc(http->pool, count * sizeof(etag_token));

    if (!cleanup || !tokens)
        return NULL;
    for (ngx_uint_t i = 0; i < count; i++)
        if (endpoints[i]->client)
            tokens[i] = etag_token_now(endpoints[i]->client);
    struct request *request = cleanup->data;
    *request = (struct request){.http = http, .uri = http->uri, .tokens = tokens};
    cleanup->handler = request_end;
    ngx_http_set_ctx(http, request, ngx_http_etag_cache_module);
    return request;
}

struct request *request_of(ngx_http_request_t *http)
{
    if (http != http->main)
        return NULL;
    struct request *request = ngx_http_get_module_ctx(http, ngx_http_etag_cache_module);
    if (request)
        return request;
    for (const ngx_pool_cleanup_t *c = http->pool->cleanup; c && !request; c = c->next)
        if (c->handler == request_end)
            request = c->data;
    if (request)
        ngx_http_set_ctx(http, request, ngx_http_etag_cache_module);
    return request;
}

/* ---- What goes into the log ---- */

void request_note(struct request *request, enum cache_status status, const char *reason)
{
    request->status = status;
    request->reason = reason;
    ngx_log_debug2(NGX_LOG_DEBUG_HTTP, request->http->connection->log, 0, "etag_cache: %s, %s",
                   cache_status_word(status), reason ? reason : "none");
}

const char *cache_status_word(ngx_uint_t status)
{
    static const char *const words[] = {
        [CACHE_NONE] = "NONE",       [CACHE_HIT] = "HIT",         [CACHE_MISS] = "MISS",
        [CACHE_STALE] = "STALE",     [CACHE_EXPIRED] = "EXPIRED", [CACHE_BYPASS] = "BYPASS",
        [CACHE_OFFLINE] = "OFFLINE", [CACHE_REFUSED] = "REFUSED"};

    return words[status];
}
