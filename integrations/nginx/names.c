/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names of what a write changed: the target URI, Location and Content-Location of the same host
 * (RFC 9111 section 4.4), what is moved or removed with a collection (RFC 4918 section 9.6 and on),
 * and what the upstream says itself, which knows more:
 *
 *     Etag-Cache-Invalidate: surrogate=upload:42, family=upload, prefix=/reports/,
 *     resource="/uploads?page=1", everything
 *
 * A list; values that hold a comma, a blank or a quote are quoted, with a backslash before
 * each quote and backslash. A path is of the request's own host, unless it begins with "//host/".
 * What can't be read could have meant anything, so it means everything.
 */
#include "invalidate.h"

#define FIELD_NAME "Etag-Cache-Invalidate"

struct names *request_names(struct request *request)
{
    ngx_pool_t *pool = request->http->pool;
    struct names *names = request->names ? request->names : ngx_pcalloc(pool, sizeof(*names));

    if (!names || request->names)
        return names;
    if (ngx_array_init(&names->resources, pool, 4, sizeof(etag_resource)) != NGX_OK ||
        ngx_array_init(&names->prefixes, pool, 4, sizeof(etag_resource)) != NGX_OK ||
        ngx_array_init(&names->surrogates, pool, 4, sizeof(etag_str)) != NGX_OK ||
        ngx_array_init(&names->families, pool, 4, sizeof(etag_str)) != NGX_OK)
        return NULL;
    return request->names = names;
}

bool names_any(const struct names *names)
{
    return names->everything || names->resources.nelts + names->prefixes.nelts +
                                        names->surrogates.nelts + names->families.nelts >
                                    0;
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
    targets.families = names->families.elts;
    targets.family_count = names->families.nelts;
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

/* If it can be one (not if it is too long, say). One with dot segments names what they lead to. */
static ngx_int_t add_resource(struct names *names, const etag_resource *resource)
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

/* The value at *at; moves past it. False: quotes that do not end, or no memory. */
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

static bool push_name(ngx_array_t *to, etag_str name)
{
    etag_str *place = name.len > 0 ? ngx_array_push(to) : NULL;

    if (place)
        *place = name;
    return place != NULL;
}

static bool add_named(struct names *names, etag_str word, etag_str value, const etag_resource *base)
{
    etag_resource resource;

    if (word_is(word, "surrogate"))
        return push_name(&names->surrogates, value);
    if (word_is(word, "family"))
        return push_name(&names->families, value);
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

static bool has_fields(const ngx_list_t *fields)
{
    struct field_walk walk = fields_of(fields);

    for (const ngx_table_elt_t *field; (field = field_next(&walk));)
        if (FIELD_IS(field, FIELD_NAME))
            return true;
    return false;
}

static void add_fields(struct names *names, ngx_http_request_t *http, const ngx_list_t *fields,
                       const etag_resource *base)
{
    struct field_walk walk = fields_of(fields);

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

    return rc == NGX_OK ? add_resource(names, &resource) : rc == NGX_ERROR ? rc : NGX_OK;
}

/* A Location as proxy_redirect would send it. It writes into the value, so it gets a copy. */
static ngx_int_t add_location_raw(struct names *names, ngx_http_request_t *http,
                                  const etag_resource *base, const ngx_table_elt_t *field)
{
    ngx_table_elt_t copy = *field;

    copy.value.data = ngx_pnalloc(http->pool, field->value.len + 1);
    if (!copy.value.data)
        return NGX_ERROR;
    *ngx_cpymem(copy.value.data, field->value.data, field->value.len) = '\0';
    if (http->upstream->rewrite_redirect &&
        http->upstream->rewrite_redirect(http, &copy, 0) == NGX_ERROR)
        return NGX_ERROR;
    return add_reference(names, http, base, copy.value);
}

static ngx_int_t add_locations(struct names *names, ngx_http_request_t *http,
                               const struct said *said, const etag_resource *base)
{
    const ngx_list_t *list = said->locations ? said->locations : said->fields;

    if (!list)
        return NGX_OK;
    struct field_walk walk = fields_of(list);
    for (const ngx_table_elt_t *field; (field = field_next(&walk));) {
        const bool location = FIELD_IS(field, "Location");
        ngx_int_t rc = NGX_OK;
        if (field->hash == 0 || !(location || FIELD_IS(field, "Content-Location")))
            continue;
        rc = location && !said->locations ? add_location_raw(names, http, base, field)
                                          : add_reference(names, http, base, field->value);
        if (rc != NGX_OK)
            return NGX_ERROR;
    }
    return NGX_OK;
}

/* ---- Collections ---- */

/* What lies below a resource, whether its path ends in '/' or not. */
static ngx_int_t add_below(struct names *names, ngx_pool_t *pool, const etag_resource *resource)
{
    const etag_str target = resource->target;
    const char *query = target.len > 0 ? memchr(target.data, '?', target.len) : NULL;
    etag_resource below = *resource;

    if (query)
        below.target.len = (size_t)(query - target.data);
    if (below.target.len == 0)
        return NGX_OK;
    if (below.target.data[below.target.len - 1] != '/') {
        u_char *path = ngx_pnalloc(pool, below.target.len + 1);
        if (!path)
            return NGX_ERROR;
        *ngx_cpymem(path, below.target.data, below.target.len) = '/';
        below.target = (etag_str){(const char *)path, below.target.len + 1};
    }
    /* Below a path that is too long for a resource there are none. */
    return etag_resource_check(&below) != ETAG_INVALID ? push_resource(&names->prefixes, &below)
                                                       : NGX_OK;
}

static bool ends_in_slash(etag_str target)
{
    const char *query = target.len > 0 ? memchr(target.data, '?', target.len) : NULL;
    const size_t len = query ? (size_t)(query - target.data) : target.len;

    return len > 0 && target.data[len - 1] == '/';
}

/* Where it is moved or copied to: all that was there before is gone. */
static ngx_int_t add_destination(struct names *names, const struct request *request)
{
    ngx_http_request_t *http = request->http;
    struct field_walk walk = fields_of(&http->headers_in.headers);

    for (const ngx_table_elt_t *field; (field = field_next(&walk));) {
        etag_resource resource;
        if (!FIELD_IS(field, "Destination"))
            continue;
        const ngx_int_t rc = key_reference(http, &request->target, field->value, &resource);
        if (rc == NGX_ERROR ||
            (rc == NGX_OK && (add_resource(names, &resource) != NGX_OK ||
                              add_below(names, http->pool, &resource) != NGX_OK)))
            return NGX_ERROR;
    }
    return NGX_OK;
}

/* The members of a collection that a method takes along (RFC 4918 section 9.6 and on), if it was
 * done or may have been: else who may not write could empty the cache. Whether a path without '/'
 * at its end is a collection only the server knows: MOVE and COPY are WebDAV's, but DELETE is sent
 * by many. */
static ngx_int_t add_collections(struct names *names, const struct request *request,
                                 const struct said *said)
{
    const bool done = said->outcome == OUTCOME_UNKNOWN ||
                      (said->status >= NGX_HTTP_OK && said->status < NGX_HTTP_SPECIAL_RESPONSE);
    const bool moves = str_equal(request->method, ETAG_LIT("MOVE")) ||
                       str_equal(request->method, ETAG_LIT("COPY"));
    const bool removes = str_equal(request->method, ETAG_LIT("DELETE")) &&
                         (request->invalidates->collections ||
                          ends_in_slash(request->target.target));
    ngx_pool_t *pool = request->http->pool;

    if (!done || !(moves || removes))
        return NGX_OK;
    if (add_below(names, pool, &request->target) != NGX_OK ||
        add_below(names, pool, &request->twin) != NGX_OK)
        return NGX_ERROR;
    return moves ? add_destination(names, request) : NGX_OK;
}

/* ---- All of it ---- */

ngx_int_t names_wanted(struct request *request)
{
    struct location_conf *conf = ngx_http_get_module_loc_conf(request->http,
                                                              ngx_http_etag_cache_module);

    if (request->invalidates)
        return NGX_OK;
    if (!conf->invalidate || !conf->endpoint->client)
        return NGX_DECLINED;
    if (key_targets(request, conf) != NGX_OK)
        return NGX_ERROR;
    request->invalidates = conf;
    return NGX_OK;
}

ngx_int_t names_note(struct request *request, const struct said *said)
{
    const bool wrote = request->writes && said->outcome != OUTCOME_NOTHING;
    const bool named = said->fields && has_fields(said->fields);

    if (said->outcome > request->outcome)
        request->outcome = said->outcome;
    if (!wrote && !named)
        return NGX_OK;
    const ngx_int_t wanted = names_wanted(request);
    if (wanted != NGX_OK)
        return wanted == NGX_DECLINED ? NGX_OK : NGX_ERROR;
    struct names *names = request_names(request);
    if (!names)
        return NGX_ERROR;
    if (named)
        add_fields(names, request->http, said->fields, &request->target);
    if (!wrote)
        return NGX_OK;
    if (add_resource(names, &request->target) != NGX_OK ||
        add_resource(names, &request->twin) != NGX_OK ||
        add_locations(names, request->http, said, &request->target) != NGX_OK)
        return NGX_ERROR;
    return add_collections(names, request, said);
}
