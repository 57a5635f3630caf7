/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The 304 from memory. It repeats fields of the 200 as the client got them, after all filters; but
 * what add_header says of this very answer, such as $etag_cache_status, is to be said again. So it
 * passes the filters that nginx' own 304 passes, from headers_filter (add_header, expires) on,
 * without any of the stored fields, and gets those below them all:
 *
 *   what a 304 must repeat   is as it was stored, whatever was added to it now: that is in it
 *   an extra field           was the upstream's values, then those of add_header: these are the new
 *                            ones
 *   any other                is what add_header puts on every 304
 */
#include "etag_cache.h"

static ngx_http_output_header_filter_pt headers_filter;

/* The chain as it is so far begins with headers_filter, or with what other modules put before
 * it. */
void not_modified_install(void)
{
    headers_filter = ngx_http_top_header_filter;
}

/* ---- Above ---- */

static etag_str copy(char **to, etag_str text)
{
    char *from = *to;

    *to = (char *)ngx_cpymem(from, text.data, text.len);
    return (etag_str){from, text.len};
}

/* The answer's fields are libetag's until its next check; the log may ask for them later. */
static ngx_int_t keep_fields(struct request *request, const etag_answer *answer)
{
    size_t bytes = answer->field_count * sizeof(etag_field);

    for (size_t i = 0; i < answer->field_count; i++)
        bytes += answer->fields[i].name.len + answer->fields[i].value.len;
    etag_field *fields = ngx_palloc(request->http->pool, bytes);
    if (!fields)
        return NGX_ERROR;
    char *text = (char *)(fields + answer->field_count);
    for (size_t i = 0; i < answer->field_count; i++) {
        fields[i].name = copy(&text, answer->fields[i].name);
        fields[i].value = copy(&text, answer->fields[i].value);
    }
    request->repeats = fields;
    request->repeat_count = answer->field_count;
    return NGX_OK;
}

ngx_int_t not_modified_send(struct request *request, const etag_answer *answer)
{
    ngx_http_request_t *http = request->http;
    ngx_int_t rc = ngx_http_discard_request_body(http);

    http->headers_out.status = NGX_HTTP_NOT_MODIFIED;
    if (rc == NGX_OK)
        rc = keep_fields(request, answer);
    if (rc == NGX_OK)
        rc = headers_filter(http);
    ngx_http_finalize_request(http, rc);
    return NGX_DONE;
}

/* ---- Below ---- */

static size_t count_added(const ngx_http_request_t *http, etag_str name)
{
    struct field_walk walk = fields_of(&http->headers_out.headers);
    size_t count = 0;

    for (const ngx_table_elt_t *field; (field = field_next(&walk));)
        count += field->hash != 0 && field_is(field, name.data, name.len);
    return count;
}

static void remove_added(ngx_http_request_t *http, etag_str name)
{
    struct field_walk walk = fields_of(&http->headers_out.headers);

    for (ngx_table_elt_t *field; (field = field_next(&walk));)
        if (field_is(field, name.data, name.len))
            field->hash = 0;
}

static bool same_name(etag_str a, etag_str b)
{
    return a.len == b.len && strncasecmp(a.data, b.data, a.len) == 0;
}

static bool is_extra(const struct endpoint *endpoint, etag_str name)
{
    const etag_str *names = endpoint->repeated ? endpoint->repeated->elts : NULL;

    for (ngx_uint_t i = 0; names && i < endpoint->repeated->nelts; i++)
        if (same_name(names[i], name))
            return true;
    return false;
}

/* The last of the stored ones were added too, as many as there are now. */
static bool is_added_anew(const struct request *request, size_t number)
{
    const etag_str name = request->repeats[number].name;
    size_t after = 0;

    for (size_t i = number + 1; i < request->repeat_count; i++)
        after += same_name(request->repeats[i].name, name);
    return after < count_added(request->http, name);
}

static ngx_int_t add_field(ngx_http_request_t *http, ngx_str_t name, ngx_str_t value)
{
    ngx_table_elt_t *to = ngx_list_push(&http->headers_out.headers);

    if (!to)
        return NGX_ERROR;
    ngx_memzero(to, sizeof(*to));
    to->hash = 1;
    to->key = name;
    to->value = value;
    return NGX_OK;
}

static ngx_str_t ngx_str_of(etag_str text)
{
    return (ngx_str_t){text.len, (u_char *)(uintptr_t)text.data};
}

static ngx_uint_t count_fields(const ngx_http_request_t *http)
{
    struct field_walk walk = fields_of(&http->headers_out.headers);
    ngx_uint_t count = 0;

    while (field_next(&walk))
        count++;
    return count;
}

/* Added values of an extra field come after the upstream's, as on the 200. */
static ngx_int_t move_added(ngx_http_request_t *http, const struct endpoint *endpoint,
                            ngx_uint_t count)
{
    struct field_walk walk = fields_of(&http->headers_out.headers);

    for (ngx_uint_t i = 0; i < count; i++) {
        ngx_table_elt_t *field = field_next(&walk);
        if (field->hash == 0 || !is_extra(endpoint, etag_str_ngx(field->key)))
            continue;
        if (add_field(http, field->key, field->value) != NGX_OK)
            return NGX_ERROR;
        field->hash = 0;
    }
    return NGX_OK;
}

/* Leaves those of the stored fields that were not added again, and of what was added those that are
 * not stored. */
static void choose(struct request *request, const struct endpoint *endpoint)
{
    size_t kept = 0;

    for (size_t i = 0; i < request->repeat_count; i++) {
        const etag_field field = request->repeats[i];
        if (!is_extra(endpoint, field.name))
            remove_added(request->http, field.name);
        else if (is_added_anew(request, i))
            continue;
        request->repeats[kept++] = field;
    }
    request->repeat_count = kept;
}

ngx_int_t not_modified_merge(struct request *request)
{
    ngx_http_request_t *http = request->http;
    const struct location_conf *conf = ngx_http_get_module_loc_conf(http,
                                                                    ngx_http_etag_cache_module);
    const ngx_uint_t added = count_fields(http);

    if (added > 0)
        choose(request, conf->endpoint);
    for (size_t i = 0; i < request->repeat_count; i++)
        if (add_field(http, ngx_str_of(request->repeats[i].name),
                      ngx_str_of(request->repeats[i].value)) != NGX_OK)
            return NGX_ERROR;
    request->repeat_count = 0;
    return move_added(http, conf->endpoint, added);
}
