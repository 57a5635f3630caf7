/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names of what a write changed: the target URI, Location and Content-Location of the same host (RFC 9111 section 4.4), what WebDAV
 * moves with a collection (RFC 4918 section 9.6 and on), and what the upstream says itself, which knows more:
 *
 *     Etag-Cache-Invalidate: surrogate=upload:42, prefix=/reports/, resource="/uploads?page=1", everything
 *
 * A list; values that hold a comma, a blank or a quote stand in quotes, with a backslash before each quote and backslash. A
 * path is of the request's own host, unless it begins with "//host/". What can't be read could have meant anything, so it
 * means everything.
 */
#include "invalidate.h"

#define FIELD_NAME "Etag-Cache-Invalidate"

ngx_int_t names_init(struct names *names, ngx_pool_t *pool)
{
    names->everything = false;
    if (ngx_array_init(&names->resources, pool, 4, sizeof(etag_resource)) != NGX_OK ||
        ngx_array_init(&names->prefixes, pool, 4, sizeof(etag_resource)) != NGX_OK ||
        ngx_array_init(&names->surrogates, pool, 4, sizeof(etag_str)) != NGX_OK)
        return NGX_ERROR;
    return NGX_OK;
}

bool names_any(const struct names *names)
{
    return names->everything ||
           names->resources.nelts + names->prefixes.nelts + names->surrogates.nelts > 0;
}

etag_targets names_targets(const struct names *names)
{
    etag_targets targets;
    ETAG_INIT(&targets);
    targets.resources = names->resources.elts;
    targets.resource_count = names->resources.nelts;
    targets.prefixes = names->prefixes.elts;
    targets.prefix_count = names->prefixes.nelts;
    targets.surrogates = names->surrogates.elts;
    targets.surrogate_count = names->surrogates.nelts;
    targets.everything = names->everything;
    return targets;
}

static ngx_int_t push_resource(ngx_array_t *to, const etag_resource *resource)
{
    etag_resource *place = ngx_array_push(to);
    if (!place)
        return NGX_ERROR;
    *place = *resource;
    return NGX_OK;
}

ngx_int_t names_add_resource(struct names *names, const etag_resource *resource)
{
    return etag_resource_check(resource) != ETAG_INVALID
               ? push_resource(&names->resources, resource)
               : NGX_OK;
}

/* ---- Etag-Cache-Invalidate ---- */

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == ',';
}

/* The value at *at; moves behind it. False: quotes that do not end, or no memory. */
static bool read_value(ngx_pool_t *pool, const char **at, const char *end, etag_str *out)
{
    const char *from = *at;
    if (from == end || *from != '"') {
        while (*at < end && !is_blank(**at) && **at != '"')
            (*at)++;
        *out = (etag_str){from, (size_t)(*at - from)};
        return *at == end || **at != '"';
    }
    char *text = ngx_pnalloc(pool, (size_t)(end - from));
    size_t len = 0;
    if (!text)
        return false;
    for (from++; from < end && *from != '"'; from++) {
        if (*from == '\\' && from + 1 < end)
            from++;
        text[len++] = *from;
    }
    *out = (etag_str){text, len};
    *at = from + 1;
    return from < end && (*at == end || is_blank(**at));
}

/* "/path" of the base's host, "//host/path" of its own. */
static bool read_resource(etag_str value, const etag_resource *base, etag_resource *out)
{
    *out = (etag_resource){base->host, value};
    if (value.len == 0 || value.data[0] != '/')
        return false;
    if (value.len < 2 || value.data[1] != '/')
        return true;
    const char *slash = memchr(value.data + 2, '/', value.len - 2);
    if (!slash)
        return false;
    out->host = (etag_str){value.data + 2, (size_t)(slash - value.data) - 2};
    out->target = (etag_str){slash, value.len - (size_t)(slash - value.data)};
    return true;
}

static bool word_is(etag_str word, const char *text)
{
    return word.len == strlen(text) && strncasecmp(word.data, text, word.len) == 0;
}

static bool add_named(struct names *names, etag_str word, etag_str value, const etag_resource *base)
{
    etag_resource resource;
    if (word_is(word, "surrogate")) {
        etag_str *place = value.len > 0 ? ngx_array_push(&names->surrogates) : NULL;
        if (place)
            *place = value;
        return place != NULL;
    }
    if (!read_resource(value, base, &resource))
        return false;
    if (word_is(word, "prefix"))
        return push_resource(&names->prefixes, &resource) == NGX_OK;
    return word_is(word, "resource") && push_resource(&names->resources, &resource) == NGX_OK;
}

/* False: not all of it could be read. */
static bool read_field(struct names *names, ngx_pool_t *pool, ngx_str_t text,
                       const etag_resource *base)
{
    const char *at = (const char *)text.data;
    const char *const end = at + text.len;
    for (;;) {
        while (at < end && is_blank(*at))
            at++;
        if (at == end)
            return true;
        const char *from = at;
        while (at < end && *at != '=' && !is_blank(*at))
            at++;
        const etag_str word = {from, (size_t)(at - from)};
        etag_str value = {0};
        if (at < end && *at == '=') {
            at++;
            if (!read_value(pool, &at, end, &value) || !add_named(names, word, value, base))
                return false;
        } else if (word_is(word, "everything")) {
            names->everything = true;
        } else {
            return false;
        }
    }
}

/* Where they stand: what the upstream said, also where proxy_hide_header hides it; else what another handler said. */
static struct field_walk said(const ngx_http_request_t *http)
{
    return fields_of(http->upstream ? &http->upstream->headers_in.headers
                                    : &http->headers_out.headers);
}

bool names_has_fields(ngx_http_request_t *http)
{
#if (NGX_HTTP_CACHE)
    if (http->cached)
        return false; /* it was done when the response came */
#endif
    struct field_walk walk = said(http);
    for (const ngx_table_elt_t *field; (field = field_next(&walk));)
        if (FIELD_IS(field, FIELD_NAME))
            return true;
    return false;
}

void names_add_fields(struct names *names, ngx_http_request_t *http, const etag_resource *base)
{
    struct field_walk walk = said(http);
    for (ngx_table_elt_t *field; (field = field_next(&walk));) {
        if (!FIELD_IS(field, FIELD_NAME) || read_field(names, http->pool, field->value, base))
            continue;
        ngx_log_error(NGX_LOG_ERR, http->connection->log, 0,
                      "etag_cache: \"" FIELD_NAME
                      ": %V\" cannot be read: everything is invalidated",
                      &field->value);
        names->everything = true;
    }
}

void names_hide_fields(ngx_http_request_t *http)
{
    struct field_walk walk = fields_of(&http->headers_out.headers);
    for (ngx_table_elt_t *field; (field = field_next(&walk));)
        if (FIELD_IS(field, FIELD_NAME))
            field->hash = 0;
}

/* ---- Locations ---- */

static ngx_int_t add_reference(struct names *names, ngx_http_request_t *http,
                               const etag_resource *base, ngx_str_t reference)
{
    etag_resource resource;
    const ngx_int_t rc = key_reference(http, base, reference, &resource);
    return rc == NGX_OK ? names_add_resource(names, &resource) : rc == NGX_ERROR ? rc : NGX_OK;
}

ngx_int_t names_add_locations(struct names *names, ngx_http_request_t *http,
                              const etag_resource *base)
{
    struct field_walk walk = fields_of(&http->headers_out.headers);
    for (const ngx_table_elt_t *field; (field = field_next(&walk));)
        if (field->hash != 0 &&
            (FIELD_IS(field, "Location") || FIELD_IS(field, "Content-Location")) &&
            add_reference(names, http, base, field->value) != NGX_OK)
            return NGX_ERROR;
    return NGX_OK;
}

/* ---- Collections ---- */

/* What lies below each of the resources that end in '/'. */
static ngx_int_t add_below(struct names *names)
{
    const etag_resource *resources = names->resources.elts;
    for (ngx_uint_t i = 0; i < names->resources.nelts; i++) {
        etag_resource below = resources[i];
        const char *query = memchr(below.target.data, '?', below.target.len);
        if (query)
            below.target.len = (size_t)(query - below.target.data);
        if (below.target.len > 0 && below.target.data[below.target.len - 1] == '/' &&
            push_resource(&names->prefixes, &below) != NGX_OK)
            return NGX_ERROR;
    }
    return NGX_OK;
}

ngx_int_t names_add_collections(struct names *names, ngx_http_request_t *http,
                                const etag_resource *base)
{
    const etag_str method = etag_str_ngx(http->method_name);
    if (!str_equal(method, ETAG_LIT("DELETE")) && !str_equal(method, ETAG_LIT("MOVE")) &&
        !str_equal(method, ETAG_LIT("COPY")))
        return NGX_OK;
    struct field_walk walk = fields_of(&http->headers_in.headers);
    for (const ngx_table_elt_t *field; (field = field_next(&walk));)
        if (FIELD_IS(field, "Destination") &&
            add_reference(names, http, base, field->value) != NGX_OK)
            return NGX_ERROR;
    return add_below(names);
}
