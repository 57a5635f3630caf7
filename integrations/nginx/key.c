/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What names a representation: the target URI as the client sent it, which internal redirects and
 * rewrites do not change; the scope; the header fields that select it; the release; the scheme.
 * libetag brings all of it into canonical form.
 *
 * The host keeps its port: two servers on one host name that differ only in the port are two sites.
 */
#include "etag_cache.h"

/* ---- Text ---- */

static etag_str skip(etag_str text, size_t n)
{
    return (etag_str){text.data + n, text.len - n};
}

static const char *find(etag_str text, char c)
{
    return text.len > 0 ? memchr(text.data, c, text.len) : NULL;
}

static bool equal_nocase(etag_str a, etag_str b)
{
    return a.len == b.len && strncasecmp(a.data, b.data, a.len) == 0;
}

static ngx_int_t join(ngx_pool_t *pool, etag_str a, etag_str b, etag_str *out)
{
    char *text = ngx_pnalloc(pool, a.len + b.len + 1);

    if (!text)
        return NGX_ERROR;
    ngx_memcpy(text, a.data, a.len);
    ngx_memcpy(text + a.len, b.data, b.len);
    *out = (etag_str){text, a.len + b.len};
    return NGX_OK;
}

/* ---- Host and target ---- */

/* ":8080" of an authority, empty where it has none. */
static etag_str port_of(etag_str authority)
{
    for (size_t at = authority.len; at > 0; at--) {
        const char c = authority.data[at - 1];
        if (c == ':')
            return skip(authority, at - 1);
        if (c < '0' || c > '9')
            break;
    }
    return (etag_str){0};
}

/* Without what libetag leaves out too: a default port, the dot at the end of a name. */
static etag_str without_default_port(etag_str authority)
{
    const etag_str port = port_of(authority);

    if (port.len == 1 || equal_nocase(port, ETAG_LIT(":80")) ||
        equal_nocase(port, ETAG_LIT(":443")))
        authority.len -= port.len;
    if (authority.len > 0 && authority.data[authority.len - 1] == '.')
        authority.len--;
    return authority;
}

static bool same_authority(etag_str a, etag_str b)
{
    return equal_nocase(without_default_port(a), without_default_port(b));
}

/* The host of a request line in absolute form; else absent. */
static etag_str authority_of_line(const ngx_http_request_t *http)
{
    if (!http->host_start || !http->host_end)
        return (etag_str){0};
    const char *const from = (const char *)http->host_start;
    size_t len = (size_t)(http->host_end - http->host_start);
    if (from[len] == ':')
        for (len++; from[len] >= '0' && from[len] <= '9';)
            len++;
    return (etag_str){from, len};
}

static etag_str authority_of_field(const ngx_http_request_t *http)
{
    return http->headers_in.host ? etag_str_ngx(http->headers_in.host->value) : (etag_str){0};
}

bool key_authority_is_foreign(const ngx_http_request_t *http)
{
    const etag_str line = authority_of_line(http), field = authority_of_field(http);

    return line.data && field.data && !same_authority(line, field);
}

/* As it was sent, with the port: what is wrong with it libetag says. The authority of the request
 * line counts, else the Host field (RFC 9112 section 3.2.2), else the server's own name. */
static etag_str host_of(ngx_http_request_t *http)
{
    const ngx_http_core_srv_conf_t *server = ngx_http_get_module_srv_conf(http,
                                                                          ngx_http_core_module);
    const etag_str line = authority_of_line(http), field = authority_of_field(http);

    return line.len > 0 ? line : field.len > 0 ? field : etag_str_ngx(server->server_name);
}

ngx_int_t key_resource(ngx_http_request_t *http, const struct location_conf *conf,
                       etag_resource *out)
{
    if (!conf->key) {
        *out = (etag_resource){host_of(http), etag_str_ngx(http->unparsed_uri)};
        return NGX_OK;
    }
    ngx_str_t text;
    if (ngx_http_complex_value(http, conf->key, &text) != NGX_OK)
        return NGX_ERROR;
    const etag_str key = etag_str_ngx(text);
    const char *slash = find(key, '/');
    const size_t host_len = slash ? (size_t)(slash - key.data) : key.len;
    out->host = (etag_str){key.data, host_len};
    out->target = skip(key, host_len); /* without a slash libetag says what is wrong with it */
    return NGX_OK;
}

ngx_int_t key_targets(struct request *request, const struct location_conf *conf)
{
    const ngx_http_request_t *http = request->http;

    request->twin = (etag_resource){0};
    if (key_authority_is_foreign(http))
        request->twin = (etag_resource){authority_of_field(http), etag_str_ngx(http->unparsed_uri)};
    return key_resource(request->http, conf, &request->target);
}

bool key_is_public(const struct request *request)
{
    return request->key.scope.kind == ETAG_SCOPE_PUBLIC;
}

/* ---- Request header fields ---- */

struct taken {
    etag_field *fields;
    size_t count, max;
    /* NULL: those of conditions */
    const etag_str *names;
    size_t name_count;
};

static bool is_condition(const ngx_table_elt_t *field)
{
    return field->key.len > 3 && (field->key.data[0] | 0x20) == 'i' && field->key.data[2] == '-' &&
           (FIELD_IS(field, "If-None-Match") || FIELD_IS(field, "If-Modified-Since") ||
            FIELD_IS(field, "If-Match") || FIELD_IS(field, "If-Unmodified-Since") ||
            FIELD_IS(field, "If-Range"));
}

static bool is_named(const struct taken *taken, const ngx_table_elt_t *field)
{
    for (size_t i = 0; i < taken->name_count; i++)
        if (equal_nocase(etag_str_ngx(field->key), taken->names[i]))
            return true;
    return false;
}

static void take_fields(struct taken *taken, const ngx_http_request_t *http)
{
    struct field_walk walk = fields_of(&http->headers_in.headers);

    for (const ngx_table_elt_t *field; (field = field_next(&walk));) {
        if (!(taken->names ? is_named(taken, field) : is_condition(field)))
            continue;
        if (taken->count < taken->max)
            taken->fields[taken->count] = (etag_field){etag_str_ngx(field->key),
                                                       etag_str_ngx(field->value)};
        taken->count++; /* beyond max: one too many, which the caller sees */
    }
}

size_t key_conditions(ngx_http_request_t *http, etag_field out[ETAG_CACHE_CONDITIONS_MAX])
{
    struct taken taken = {.fields = out, .max = ETAG_CACHE_CONDITIONS_MAX};

    take_fields(&taken, http);
    return taken.count;
}

#define VARY_LINES_MAX 32
#define VARY_TEXT_BYTES 4096

/* Which coding the request's Accept-Encoding selects: its spellings are too many for keys of their
 * own. */
static void encoding_reduce(struct request *request, const struct taken *lines)
{
    static const etag_str offered[] = {{"br", 2}, {"gzip", 4}};

    for (size_t i = 0; i < request->key.vary_count; i++)
        if (equal_nocase(request->vary[i].name, ETAG_LIT("Accept-Encoding")))
            request->vary[i].value = etag_encoding_select(lines->fields, lines->count, offered, 2);
}

static ngx_int_t vary_of(struct request *request, const struct location_conf *conf,
                         const char **why)
{
    ngx_http_request_t *http = request->http;
    etag_field fields[VARY_LINES_MAX];
    struct taken lines = {.fields = fields,
                          .max = VARY_LINES_MAX,
                          .names = conf->vary->elts,
                          .name_count = conf->vary->nelts};

    request->key.vary = request->vary;
    request->key.vary_count = 0;
    if (lines.name_count == 0)
        return NGX_OK;
    take_fields(&lines, http);
    size_t bytes = 0;
    for (size_t i = 0; i < lines.count && i < lines.max; i++)
        bytes += fields[i].value.len + 2;
    if (lines.count > lines.max || bytes > VARY_TEXT_BYTES) {
        *why = "vary_limit";
        return NGX_DECLINED;
    }
    char *text = bytes > 0 ? ngx_pnalloc(http->pool, bytes) : NULL;
    if (bytes > 0 && !text)
        return NGX_ERROR;
    if (etag_vary_select(lines.names, lines.name_count, fields, lines.count, request->vary, text,
                         bytes) != ETAG_OK) {
        *why = "vary_limit";
        return NGX_DECLINED;
    }
    request->key.vary_count = lines.name_count;
    encoding_reduce(request, &lines);
    return NGX_OK;
}

/* http and https of one path are two representations: one may be the redirect to the other. */
static ngx_int_t scheme_of(ngx_http_request_t *http, const struct location_conf *conf,
                           etag_str *out)
{
    ngx_str_t scheme;

    if (conf->scheme) {
        if (ngx_http_complex_value(http, conf->scheme, &scheme) != NGX_OK)
            return NGX_ERROR;
        *out = etag_str_ngx(scheme);
        return NGX_OK;
    }
    *out = ETAG_LIT("http");
#if (NGX_HTTP_SSL)
    if (http->connection->ssl)
        *out = ETAG_LIT("https");
#endif
    return NGX_OK;
}

ngx_int_t key_of(struct request *request, struct location_conf *conf, const char **why)
{
    ngx_http_request_t *http = request->http;
    ngx_str_t release = ngx_null_string;

    ETAG_INIT(&request->key);
    ngx_int_t rc = scope_of(request, conf, &request->key.scope, why);
    if (rc == NGX_OK)
        rc = key_resource(http, conf, &request->key.resource);
    if (rc == NGX_OK)
        rc = vary_of(request, conf, why);
    if (rc == NGX_OK)
        rc = scheme_of(http, conf, &request->key.scheme);
    if (rc == NGX_OK && conf->release)
        rc = ngx_http_complex_value(http, conf->release, &release);
    if (release.len > 0)
        request->key.release = etag_str_ngx(release);
    return rc;
}

/* ---- References (RFC 3986 section 5) ---- */

static size_t scheme_len(etag_str reference)
{
    for (size_t i = 0; i < reference.len; i++) {
        const char c = reference.data[i];
        if (c == ':')
            return i;
        if (c == '/' || c == '?' || c == '#')
            break;
    }
    return 0;
}

static etag_str without_fragment(etag_str reference)
{
    const char *hash = find(reference, '#');

    return hash ? (etag_str){reference.data, (size_t)(hash - reference.data)} : reference;
}

static bool same_host(ngx_http_request_t *http, etag_str authority)
{
    const char *at = find(authority, '@');

    if (at)
        authority = skip(authority, (size_t)(at - authority.data) + 1);
    return same_authority(host_of(http), authority);
}

/* Path and query of a reference that begins with neither scheme nor authority; libetag removes its
 * dot segments. */
static ngx_int_t resolve_path(ngx_pool_t *pool, etag_str base, etag_str reference, etag_str *out)
{
    if (reference.len > 0 && reference.data[0] == '/') {
        *out = reference;
        return NGX_OK;
    }
    const char *query = find(base, '?');
    etag_str path = query ? (etag_str){base.data, (size_t)(query - base.data)} : base;
    if (reference.len == 0) {
        *out = base;
        return NGX_OK;
    }
    if (reference.data[0] != '?')
        while (path.len > 0 && path.data[path.len - 1] != '/')
            path.len--;
    return join(pool, path, reference, out);
}

ngx_int_t key_reference(ngx_http_request_t *http, const etag_resource *base, ngx_str_t text,
                        etag_resource *out)
{
    etag_str reference = without_fragment(etag_str_ngx(text));
    const size_t scheme = scheme_len(reference);

    if (scheme > 0) {
        const etag_str name = {reference.data, scheme};
        if (!equal_nocase(name, ETAG_LIT("http")) && !equal_nocase(name, ETAG_LIT("https")))
            return NGX_DECLINED;
        reference = skip(reference, scheme + 1);
    }
    if (reference.len >= 2 && reference.data[0] == '/' && reference.data[1] == '/') {
        reference = skip(reference, 2);
        size_t len = 0;
        while (len < reference.len && reference.data[len] != '/' && reference.data[len] != '?')
            len++;
        if (!same_host(http, (etag_str){reference.data, len}))
            return NGX_DECLINED;
        reference = skip(reference, len);
        if (reference.len == 0 || reference.data[0] == '?') {
            out->host = base->host;
            return join(http->pool, ETAG_LIT("/"), reference, &out->target);
        }
    } else if (scheme > 0) {
        return NGX_DECLINED;
    }
    out->host = base->host;
    return resolve_path(http->pool, base->target, reference, &out->target);
}
