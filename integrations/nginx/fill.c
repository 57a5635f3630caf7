/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an answer does to the cache, in a header filter below all those that change fields
 * (add_header, expires, gzip, ssi, sub_filter) and above those that only frame (ranges, chunks,
 * HTTP/2): it sees the fields as the client gets them. Whether they may be stored is libetag's to
 * say; what only nginx can know is said here:
 *
 *   - What came out of one of nginx's own caches (proxy_cache, open_file_cache) is of another age
 *     than the token. Filled, it would outlive the cache that it came from.
 *   - A 304 that nginx made of a 200, because the client had that version, has all fields that a
 *     304 repeats, so it fills like the 200. A 304 of the upstream does not: it need not name the
 *     surrogate keys.
 */
#include "etag_cache.h"

#define FIELDS_MAX 128

static ngx_http_output_header_filter_pt next_header_filter;

static bool from_nginx_cache(const ngx_http_request_t *http)
{
    const ngx_http_core_loc_conf_t *core = ngx_http_get_module_loc_conf(http, ngx_http_core_module);

#if (NGX_HTTP_CACHE)
    if (http->cached)
        return true;
#endif
    return !http->upstream && core->open_file_cache;
}

/* ---- Fields of the response ---- */

struct collected {
    etag_field fields[FIELDS_MAX];
    size_t field_count;
    /* of surrogate keys */
    etag_str lists[FIELDS_MAX];
    size_t list_count;
    bool too_many;
};

static void collect_field(struct collected *to, etag_str name, etag_str value)
{
    if (to->field_count == FIELDS_MAX)
        to->too_many = true;
    else
        to->fields[to->field_count++] = (etag_field){name, value};
}

static void collect_fields(struct collected *to, ngx_http_request_t *http)
{
    struct field_walk walk = fields_of(&http->headers_out.headers);

    for (const ngx_table_elt_t *field; (field = field_next(&walk));) {
        if (field->hash == 0)
            continue;
        collect_field(to, etag_str_ngx(field->key), etag_str_ngx(field->value));
    }
#if (NGX_HTTP_GZIP)
    const ngx_http_core_loc_conf_t *core = ngx_http_get_module_loc_conf(http, ngx_http_core_module);
    if (http->gzip_vary && core->gzip_vary)
        collect_field(to, ETAG_LIT("Vary"), ETAG_LIT("Accept-Encoding")); /* nginx writes it last */
#endif
}

/* ---- Surrogate keys ---- */

/* Lists of names, for libetag to read. */
static void collect_list(struct collected *to, ngx_str_t value)
{
    const etag_str list = etag_str_ngx(value);

    for (size_t i = 0; i < to->list_count; i++)
        if (to->lists[i].data == list.data && to->lists[i].len == list.len)
            return; /* what nginx took over from the upstream */
    if (to->list_count == FIELDS_MAX)
        to->too_many = true;
    else if (list.len > 0)
        to->lists[to->list_count++] = list;
}

static void collect_lists_in(struct collected *to, const ngx_list_t *list)
{
    struct field_walk walk = fields_of(list);

    for (const ngx_table_elt_t *field; (field = field_next(&walk));)
        if (etag_surrogate_field(etag_str_ngx(field->key)))
            collect_list(to, field->value);
}

/* The upstream's own fields too: proxy_hide_header hides them from the client, not from us. */
static ngx_int_t collect_lists(struct collected *to, ngx_http_request_t *http,
                               const struct location_conf *conf)
{
    if (!conf->surrogates) {
        collect_lists_in(to, &http->headers_out.headers);
        if (http->upstream)
            collect_lists_in(to, &http->upstream->headers_in.headers);
        return NGX_OK;
    }
    ngx_http_complex_value_t *values = conf->surrogates->elts;
    for (ngx_uint_t i = 0; i < conf->surrogates->nelts; i++) {
        ngx_str_t list;
        if (ngx_http_complex_value(http, &values[i], &list) != NGX_OK)
            return NGX_ERROR;
        collect_list(to, list);
    }
    return NGX_OK;
}

/* ---- The answer ---- */

static ngx_uint_t rendered_status(const ngx_http_request_t *http, const struct request *request)
{
    const ngx_uint_t status = http->headers_out.status;

    return status == NGX_HTTP_NOT_MODIFIED && request->was_ok ? NGX_HTTP_OK : status;
}

/* Statuses that libetag acts on; other responses need not be read. */
static bool status_counts(ngx_uint_t status)
{
    return status == NGX_HTTP_OK || status == NGX_HTTP_NOT_FOUND || status == 410 ||
           status == NGX_HTTP_MOVED_PERMANENTLY || status == NGX_HTTP_PERMANENT_REDIRECT;
}

/* error_page with a URL answers in the same location, with another status than the upstream had:
 * that says nothing of the page. */
static bool is_of_error_page(const ngx_http_request_t *http, ngx_uint_t status)
{
    return status != NGX_HTTP_OK && http->upstream && http->upstream->headers_in.status_n != status;
}

/* The request's conditions are nginx's to judge, so libetag gets none of them. */
static void finish(ngx_http_request_t *http, struct request *request, ngx_uint_t status,
                   struct collected *collected)
{
    const struct location_conf *conf = request->fills;
    struct endpoint *endpoint = conf->endpoint;
    etag_request asked;
    etag_entry entry;
    etag_answer answer;

    ETAG_INIT(&asked);
    ETAG_INIT(&answer);
    etag_entry_init(&entry);
    asked.method = etag_str_ngx(http->method_name);
    asked.key = &request->key;
    answer.token = request->tokens[endpoint->number];
    answer.reason = request->looked_up;
    ngx_memcpy(answer.place, request->place, sizeof(answer.place));
    entry.http_status = (int)status;
    entry.had_authorization = http->headers_in.authorization != NULL;
    entry.fields = collected->fields;
    entry.field_count = collected->field_count;
    entry.surrogate_lists = collected->lists;
    entry.surrogate_list_count = collected->list_count;
    entry.max_age_s = (uint64_t)conf->max_age_s;
    entry.last_modified_is_strong = conf->date_is_strong;
    if (!http->headers_out.last_modified && http->headers_out.last_modified_time != -1)
        entry.last_modified = http->headers_out.last_modified_time;
    /* the response is on its way, and nginx' own filter judged it */
    const int instead = etag_finish(endpoint->client, &asked, &entry, &answer);
    (void)instead;
    const etag_reason refused = etag_fill_reason(endpoint->client);
    if (refused != ETAG_REASON_NONE)
        request_note(request, CACHE_REFUSED, etag_reason_word(refused));
    endpoint_talked(endpoint);
}

/* Only the status counts if it is not 200. */
static ngx_int_t collect(struct collected *to, ngx_http_request_t *http, struct request *request,
                         ngx_uint_t status)
{
    to->field_count = to->list_count = 0;
    to->too_many = false;
    if (status != NGX_HTTP_OK)
        return NGX_OK;
    collect_fields(to, http);
    return collect_lists(to, http, request->fills);
}

/* Only of what would be stored it is worth a word in the log. */
static void refuse(struct request *request, ngx_uint_t status, const char *reason)
{
    if (status == NGX_HTTP_OK)
        request_note(request, CACHE_REFUSED, reason);
}

static ngx_int_t tell(ngx_http_request_t *http, struct request *request)
{
    struct collected collected; /* 6 KiB, of which the counts alone need to be zero */
    const ngx_uint_t status = rendered_status(http, request);

    if (http->method != NGX_HTTP_GET || !status_counts(status) || is_of_error_page(http, status))
        return NGX_OK;
    if (request->tokens[request->fills->endpoint->number].incarnation == 0)
        return NGX_OK; /* there was no daemon when the request began */
    if (from_nginx_cache(http)) {
        refuse(request, status, "nginx_cache");
        return NGX_OK;
    }
    switch (ngx_http_test_predicates(http, request->fills->no_store)) {
    case NGX_ERROR:
        return NGX_ERROR;
    case NGX_DECLINED:
        refuse(request, status, "etag_cache_no_store");
        return NGX_OK;
    default:
        break;
    }
    if (collect(&collected, http, request, status) != NGX_OK)
        return NGX_ERROR;
    if (collected.too_many)
        refuse(request, status, etag_reason_word(ETAG_REASON_LIMIT));
    else
        finish(http, request, status, &collected);
    return NGX_OK;
}

static ngx_int_t header_filter(ngx_http_request_t *http)
{
    struct request *request = http == http->main
                                  ? ngx_http_get_module_ctx(http, ngx_http_etag_cache_module)
                                  : NULL;

    if (request && request->repeat_count > 0 && not_modified_merge(request) != NGX_OK)
        return NGX_ERROR;
    /* The location of the look-up is the location of the answer, or nothing is stored. */
    if (request && request->fills &&
        request->fills == ngx_http_get_module_loc_conf(http, ngx_http_etag_cache_module) &&
        tell(http, request) != NGX_OK)
        return NGX_ERROR;
    return next_header_filter(http);
}

void fill_install_filter(void)
{
    next_header_filter = ngx_http_top_header_filter;
    ngx_http_top_header_filter = header_filter;
}
