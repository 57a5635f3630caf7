/* SPDX-License-Identifier: Apache-2.0 */
/*
* Look-up. It comes after everything that may refuse or redirect a request (rewrite, access,
 * auth_request, limit_req, mirror, try_files), as the last handler before content: a 304 tells that
 * the representation exists, and is only for those who would have got the 200 in this very location
 * (RFC 9110 section 13.2.1).
 *
 * A request that a content handler has had already (error_page, X-Accel-Redirect) is left alone:
 * where it went was that handler's decision, which a later look-up under the same URI would skip.
 * So is one that was refused, and that error_page sent to a location where nothing refuses it: its
 * URI is still that of what it must not see.
 *
 * Only a plain 304 is answered here (not_modified.c).
 */
#include "invalidate.h"

#if (nginx_version >= 1023000)
#define HAS_COOKIE(http) ((http)->headers_in.cookie != NULL)
#else
#define HAS_COOKIE(http) ((http)->headers_in.cookies.nelts > 0)
#endif

/* ---- First phase ---- */

/* RFC 9110 section 9.2.1, and the safe methods that WebDAV and others registered. */
static bool method_is_safe(const ngx_http_request_t *http)
{
    static const etag_str others[] = {{"REPORT", 6}, {"SEARCH", 6}, {"QUERY", 5}};

    if (http->method &
        (NGX_HTTP_GET | NGX_HTTP_HEAD | NGX_HTTP_OPTIONS | NGX_HTTP_TRACE | NGX_HTTP_PROPFIND))
        return true;
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
        if (str_equal(etag_str_ngx(http->method_name), others[i]))
            return true;
    return false;
}

ngx_int_t check_begin(ngx_http_request_t *http)
{
    if (http != http->main)
        return NGX_DECLINED;
    struct request *request = request_new(http);
    if (!request)
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    request->method = etag_str_ngx(http->method_name);
    request->writes = !method_is_safe(http);
    request->unanswered = invalidate_unanswered;
    return NGX_DECLINED;
}

/* ---- Refusals ---- */

/* First of the rewrite phases. nginx clears contexts at an internal redirect, and only there:
 * without ours the request comes from another location. If it was not let pass there, error_page
 * shows here what is to be shown instead. */
ngx_int_t check_enter(ngx_http_request_t *http)
{
    if (http != http->main || ngx_http_get_module_ctx(http, ngx_http_etag_cache_module))
        return NGX_DECLINED;
    struct request *request = request_of(http);
    if (request) {
        request->refused |= !request->passed;
        request->passed = false;
    }
    return NGX_DECLINED;
}

/* First of the handlers after the access phase, before those that redirect where all is well
 * (try_files, index). */
ngx_int_t check_pass(ngx_http_request_t *http)
{
    struct request *request = request_of(http);

    if (request)
        request->passed = true;
    return NGX_DECLINED;
}

/* The answer is to be something else than what the URI names. */
static bool is_of_error(const ngx_http_request_t *http, const struct request *request)
{
    return request->refused || http->error_page || http->err_status != 0;
}

/* ---- Look-up ---- */

/* A date that is judged by its order alone confirms what a file's older version, put back, is not.
 * So nginx compares for equality, unless if_modified_since says otherwise; so do we. */
static bool date_counts(ngx_http_request_t *http, const etag_answer *answer)
{
    const ngx_http_core_loc_conf_t *core = ngx_http_get_module_loc_conf(http, ngx_http_core_module);
    const ngx_table_elt_t *since = http->headers_in.if_modified_since;

    if (answer->reason != ETAG_REASON_NOT_MODIFIED_SINCE)
        return true;
    if (core->if_modified_since == NGX_HTTP_IMS_OFF || !since)
        return false;
    return core->if_modified_since == NGX_HTTP_IMS_BEFORE ||
           etag_date_parse(etag_str_ngx(since->value)) == answer->last_modified;
}

static enum cache_status status_of(const etag_answer *answer)
{
    switch (answer->reason) {
    case ETAG_REASON_NO_INDEX:
    case ETAG_REASON_NO_LEASE:
        return CACHE_OFFLINE;
    case ETAG_REASON_STALE:
    case ETAG_REASON_IN_FLUX:
        return CACHE_STALE;
    case ETAG_REASON_EXPIRED:
        return CACHE_EXPIRED;
    case ETAG_REASON_BAD_KEY:
        return CACHE_REFUSED;
    default:
        /* no entry, or the client has another version than it, or asked without a condition */
        return CACHE_MISS;
    }
}

/* What makes a request none of ours, before its key is known. NULL: nothing. */
static const char *why_not(const ngx_http_request_t *http, const struct request *request)
{
    if (!(http->method & (NGX_HTTP_GET | NGX_HTTP_HEAD)) || request->writes)
        return "method";
    if (http->headers_in.content_length_n > 0 || http->headers_in.chunked)
        return "request_body";
    if (http->http_version < NGX_HTTP_VERSION_10)
        return "http_version";
    if (http->headers_in.range && !http->headers_in.if_none_match &&
        !http->headers_in.if_modified_since)
        return "range";
    if (key_authority_is_foreign(http))
        return "authority";
    return NULL;
}

static ngx_int_t look_up(ngx_http_request_t *http, struct request *request,
                         const struct location_conf *conf)
{
    etag_client *client = conf->endpoint->client;
    etag_field fields[ETAG_CACHE_CONDITIONS_MAX];
    etag_request asked;
    etag_answer answer;

    ETAG_INIT(&asked);
    ETAG_INIT(&answer);
    asked.method = etag_str_ngx(http->method_name);
    asked.key = &request->key;
    asked.shadow = conf->enable == USE_SHADOW;
    asked.fields = fields;
    asked.field_count = key_conditions(http, fields);
    if (asked.field_count > ETAG_CACHE_CONDITIONS_MAX) {
        request_note(request, CACHE_BYPASS, "conditions_limit");
        return NGX_DECLINED;
    }
    const etag_verdict verdict = etag_check(client, &asked, request->tokens[conf->endpoint->number],
                                            &answer);
    request->lsn = answer.fill_lsn;
    if (verdict == ETAG_NOT_MODIFIED && date_counts(http, &answer)) {
        request_note(request, CACHE_HIT, etag_reason_word(answer.reason));
        request->fills = NULL;
        return not_modified_send(request, &answer);
    }
    if (http->headers_in.range) {
        /* Whether the client has this version counts before the part that it asks for (RFC 9110
         * section 13.2.2). All else is the content handler's, and a part says nothing about the
         * entry. */
        request_note(request, CACHE_BYPASS, "range");
        request->fills = NULL;
        return NGX_DECLINED;
    }
    request_note(request, status_of(&answer), etag_reason_word(answer.reason));
    request->looked_up = answer.reason;
    ngx_memcpy(request->place, answer.place, sizeof(request->place));
    return NGX_DECLINED;
}

/* The location is known to use the cache. */
static ngx_int_t check_location(ngx_http_request_t *http, struct request *request,
                                struct location_conf *conf)
{
    /* If the configuration made the key, libetag does not see what the client sent, and the
     * upstream may. */
    const etag_resource sent = {.target = etag_str_ngx(http->unparsed_uri)};
    const char *why = why_not(http, request);
    ngx_int_t rc = NGX_DECLINED;

    if (!why)
        rc = key_of(request, conf, &why);
    if (rc == NGX_ERROR)
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    if (rc == NGX_OK && conf->key && etag_resource_check(&sent) != ETAG_OK) {
        request_note(request, CACHE_REFUSED, etag_reason_word(ETAG_REASON_BAD_KEY));
        return NGX_DECLINED;
    }
    if (rc == NGX_OK && key_is_public(request)) {
        /* The representation would depend on something that the key does not have. */
        if (http->headers_in.authorization)
            why = "authorization", rc = NGX_DECLINED;
        else if (HAS_COOKIE(http))
            why = "cookie", rc = NGX_DECLINED;
    }
    if (rc != NGX_OK) {
        request_note(request, CACHE_BYPASS, why);
        return NGX_DECLINED;
    }
    request->fills = conf;
    request->looked_up = ETAG_REASON_NONE;
    ngx_memzero(request->place, sizeof(request->place));
    rc = ngx_http_test_predicates(http, conf->bypass);
    if (rc == NGX_ERROR)
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    if (rc == NGX_DECLINED) {
        request_note(request, CACHE_BYPASS, "etag_cache_bypass");
        if (http->headers_in.range)
            request->fills = NULL;
        return NGX_DECLINED;
    }
    return look_up(http, request, conf);
}

/* A directory has no content of its own: an index file has, in the location to which nginx
 * redirects. */
static bool is_directory(const ngx_http_request_t *http)
{
    return !http->content_handler && http->uri.len > 0 && http->uri.data[http->uri.len - 1] == '/';
}

/* What an earlier location's handler asked of upstreams is noted before this one's makes nginx
 * forget it. */
static ngx_int_t watch(struct request *request, const struct location_conf *conf)
{
    if (request->writes && names_wanted(request) == NGX_ERROR)
        return NGX_ERROR;
    if (request->invalidates && attempts_note(request, NULL) == NGX_ERROR)
        return NGX_ERROR;
    if (request->invalidates || (conf->invalidate && conf->endpoint->client))
        attempts_watch(request);
    return NGX_OK;
}

ngx_int_t check(ngx_http_request_t *http)
{
    struct location_conf *conf = ngx_http_get_module_loc_conf(http, ngx_http_etag_cache_module);
    struct request *request = request_of(http);

    if (!request)
        return NGX_DECLINED;
    request->fills = NULL;
    if (watch(request, conf) != NGX_OK)
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    if (is_directory(http) && !request->writes)
        return NGX_DECLINED;
    const bool tried = request->tried;
    request->tried = true;
    if (!conf->enable || conf->scope_rule == SCOPE_UNSET || !conf->endpoint->client)
        return NGX_DECLINED;
    if (tried || is_of_error(http, request)) {
        request_note(request, CACHE_BYPASS, "redirected");
        return NGX_DECLINED;
    }
    return check_location(http, request, conf);
}
