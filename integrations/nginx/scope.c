/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whose the representation is, and whether that is known.
 *
 * A 304 tells one client about another's page as soon as the scope says what the client merely
 * claims: $remote_user without auth_basic is whatever Authorization holds, $http_x_tenant
 * whatever was typed. nginx has no mark for "this was verified", so the configuration declares it:
 * etag_cache_authenticated names the variables that are set by, or checked by, what runs before the
 * look-up. A scope with one of them is answered. Every other scope
 *
 *   - is not for requests that bring Authorization: only the application knows what that is worth;
 *   - must come to the same for a stranger, who sends the same request line and Host and nothing
 *     else. So what a client chooses is found whatever way it took (map, geo, split_clients,
 *     scripts). What was assigned while the request ran (set, auth_request_set) a stranger does not
 *     have, since where it comes from cannot be seen: in doubt it is the client's.
 */
#include "etag_cache.h"

/* ---- Configuration ---- */

/* The name of the variable after the '$' at 'at'; moves past it. */
static ngx_str_t variable_name(const ngx_str_t *text, size_t *at)
{
    ngx_str_t name = ngx_null_string;
    const bool braced = *at < text->len && text->data[*at] == '{';

    *at += braced;
    name.data = text->data + *at;
    while (*at < text->len && (isalnum(text->data[*at]) || text->data[*at] == '_'))
        (*at)++;
    name.len = (size_t)(text->data + *at - name.data);
    *at += braced;
    return name;
}

static char *push_variable(ngx_conf_t *cf, ngx_array_t *to, ngx_str_t *name)
{
    if (name->len > 0 && isdigit(name->data[0]))
        return "cannot use a capture by its number: give it a name";
    ngx_int_t *index = ngx_array_push(to);
    if (!index)
        return NGX_CONF_ERROR;
    *index = ngx_http_get_variable_index(cf, name);
    return *index == NGX_ERROR ? NGX_CONF_ERROR : NGX_CONF_OK;
}

static char *find_variables(ngx_conf_t *cf, struct location_conf *conf, const ngx_str_t *text)
{
    conf->scope_variables = ngx_array_create(cf->pool, 2, sizeof(ngx_int_t));
    if (!conf->scope_variables)
        return NGX_CONF_ERROR;
    for (size_t at = 0; at < text->len;) {
        if (text->data[at++] != '$')
            continue;
        ngx_str_t name = variable_name(text, &at);
        char *rv = push_variable(cf, conf->scope_variables, &name);
        if (rv != NGX_CONF_OK)
            return rv;
    }
    return conf->scope_variables->nelts > 0 ? NGX_CONF_OK
                                            : "is neither \"public\" nor an expression with a "
                                              "variable that says whose the response is";
}

char *scope_set(ngx_conf_t *cf, ngx_command_t *command, void *to)
{
    struct location_conf *conf = to;
    ngx_str_t *words = cf->args->elts;

    if (conf->scope_rule != NGX_CONF_UNSET_UINT)
        return "is duplicate";
    if (str_equal(etag_str_ngx(words[1]), ETAG_LIT("public"))) {
        conf->scope_rule = SCOPE_PUBLIC;
        return NGX_CONF_OK;
    }
    conf->scope_rule = SCOPE_EXPRESSION;
    char *rv = ngx_http_set_complex_value_slot(cf, command, conf);
    return rv == NGX_CONF_OK ? find_variables(cf, conf, &words[1]) : rv;
}

char *scope_set_authenticated(ngx_conf_t *cf, ngx_command_t *command, void *to)
{
    struct location_conf *conf = to;
    ngx_str_t *words = cf->args->elts;

    if (conf->authenticated != NGX_CONF_UNSET_PTR)
        return "is duplicate";
    conf->authenticated = ngx_array_create(cf->pool, cf->args->nelts, sizeof(ngx_int_t));
    if (!conf->authenticated)
        return NGX_CONF_ERROR;
    if (cf->args->nelts == 2 && str_equal(etag_str_ngx(words[1]), ETAG_LIT("off")))
        return NGX_CONF_OK;
    for (ngx_uint_t i = 1; i < cf->args->nelts; i++) {
        size_t at = 1;
        ngx_str_t name = variable_name(&words[i], &at);
        if (words[i].data[0] != '$' || name.len == 0 || at != words[i].len) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "\"etag_cache_authenticated\": \"%V\" is not a variable: name those "
                               "that say who was authenticated, such as $remote_user",
                               &words[i]);
            return NGX_CONF_ERROR;
        }
        char *rv = push_variable(cf, conf->authenticated, &name);
        if (rv != NGX_CONF_OK)
            return rv;
    }
    return NGX_CONF_OK;
}

static bool is_declared(const struct location_conf *conf, ngx_int_t index)
{
    const ngx_int_t *declared = conf->authenticated ? conf->authenticated->elts : NULL;

    for (ngx_uint_t i = 0; declared && i < conf->authenticated->nelts; i++)
        if (declared[i] == index)
            return true;
    return false;
}

static bool begins_with(ngx_str_t name, const char *prefix)
{
    const size_t len = strlen(prefix);

    return name.len > len && ngx_memcmp(name.data, prefix, len) == 0;
}

/* By its name alone, it is what the client sent. The Host is in the key anyway. */
static bool name_is_claimed(ngx_str_t name)
{
    const etag_str text = etag_str_ngx(name);

    return (begins_with(name, "http_") && !str_equal(text, ETAG_LIT("http_host"))) ||
           begins_with(name, "cookie_") || begins_with(name, "arg_") ||
           begins_with(name, "ssl_client_") || str_equal(text, ETAG_LIT("remote_user")) ||
           str_equal(text, ETAG_LIT("args")) || str_equal(text, ETAG_LIT("query_string"));
}

/* ssl_verify_client optional_no_ca lets certificates pass that no authority vouches for; without
 * the directive there are none. */
static bool verifies_certificates(ngx_conf_t *cf)
{
#if (NGX_HTTP_SSL)
    const ngx_http_ssl_srv_conf_t *ssl = ngx_http_conf_get_module_srv_conf(cf, ngx_http_ssl_module);
    return ssl->verify == 1 || ssl->verify == 2; /* on, optional */
#else
    return false;
#endif
}

static const char *why_not_declared(ngx_conf_t *cf, ngx_str_t name)
{
    const ngx_http_core_loc_conf_t *core = ngx_http_conf_get_module_loc_conf(cf,
                                                                             ngx_http_core_module);

    if (begins_with(name, "ssl_client_"))
        return verifies_certificates(cf) ? NULL
                                         : "without \"ssl_verify_client on\" or \"optional\" "
                                           "it is not verified";
    if (core->satisfy == NGX_HTTP_SATISFY_ANY && name_is_claimed(name))
        return "under \"satisfy any\" a request may pass without its being verified: use a "
               "variable of auth_request_set, or \"satisfy all\"";
    return NULL;
}

static char *complain(ngx_conf_t *cf, ngx_str_t name, const char *why)
{
    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "\"etag_cache_scope\" has $%V: %s", &name, why);
    return NGX_CONF_ERROR;
}

static ngx_int_t keep_server_regexes(ngx_conf_t *cf, struct location_conf *conf)
{
#if (NGX_PCRE)
    const ngx_http_core_srv_conf_t *server = ngx_http_conf_get_module_srv_conf(
        cf, ngx_http_core_module);
    const ngx_http_server_name_t *names = server->server_names.elts;

    conf->server_regexes = ngx_array_create(cf->pool, 1, sizeof(ngx_http_regex_t *));
    if (!conf->server_regexes)
        return NGX_ERROR;
    for (ngx_uint_t i = 0; i < server->server_names.nelts; i++) {
        if (!names[i].regex)
            continue;
        ngx_http_regex_t **const kept = ngx_array_push(conf->server_regexes);
        if (!kept)
            return NGX_ERROR;
        *kept = names[i].regex;
    }
#endif
    return NGX_OK;
}

char *scope_merged(ngx_conf_t *cf, struct location_conf *conf, bool serves)
{
    const ngx_http_core_main_conf_t *core = ngx_http_conf_get_module_main_conf(
        cf, ngx_http_core_module);
    const ngx_http_variable_t *variables = core->variables.elts;
    const ngx_http_variable_t *claimed = NULL;

    conf->scope_is_authenticated = false;
    if (conf->scope_rule != SCOPE_EXPRESSION)
        return NGX_CONF_OK;
    if (keep_server_regexes(cf, conf) != NGX_OK)
        return NGX_CONF_ERROR;
    const ngx_int_t *indices = conf->scope_variables->elts;
    for (ngx_uint_t i = 0; i < conf->scope_variables->nelts; i++) {
        const ngx_http_variable_t *variable = &variables[indices[i]];
        if (is_declared(conf, indices[i])) {
            const char *wrong = serves ? why_not_declared(cf, variable->name) : NULL;
            if (wrong)
                return complain(cf, variable->name, wrong);
            conf->scope_is_authenticated = true;
        } else if (name_is_claimed(variable->name)) {
            claimed = variable;
        }
    }
    if (serves && claimed && !conf->scope_is_authenticated)
        return complain(cf, claimed->name,
                        "the client chooses it. Verify it before (auth_basic, auth_request) and "
                        "say so by \"etag_cache_authenticated\", or use a variable that is");
    return NGX_CONF_OK;
}

/* ---- The value ---- */

/* A variable that is empty, such as the user of a request that has none, would put all of those
 * under one scope. */
static bool is_whole(ngx_http_request_t *http, const struct location_conf *conf)
{
    const ngx_int_t *indices = conf->scope_variables->elts;

    for (ngx_uint_t i = 0; i < conf->scope_variables->nelts; i++) {
        const ngx_http_variable_value_t *v = ngx_http_get_flushed_variable(http,
                                                                           (ngx_uint_t)indices[i]);
        if (!v || v->not_found || v->len == 0)
            return false;
    }
    return true;
}

/* ---- The stranger ---- */

/* The same request before anything ran: without values that were assigned, and with a place of
 * their own for what modules note of it. A subrequest, nearly; it lives as long, and is never
 * run. */
static ngx_http_request_t *fresh_copy(ngx_http_request_t *http, const struct request *request)
{
    const ngx_http_core_main_conf_t *core = ngx_http_get_module_main_conf(http,
                                                                          ngx_http_core_module);
    ngx_http_request_t *copy = ngx_palloc(http->pool, sizeof(*copy));

    if (!copy)
        return NULL;
    *copy = *http;
    copy->main = copy;
    copy->ctx = ngx_pcalloc(http->pool, sizeof(void *) * ngx_http_max_module);
    copy->variables = ngx_pcalloc(http->pool,
                                  sizeof(ngx_http_variable_value_t) * core->variables.nelts);
    copy->uri = request->uri;
#if (NGX_PCRE)
    copy->ncaptures = 0;
    copy->captures = NULL;
    copy->captures_data = NULL;
#endif
    return copy->ctx && copy->variables ? copy : NULL;
}

/* Forgets all that the client said but the path and the Host. */
static ngx_int_t forget_client(ngx_http_request_t *http)
{
    ngx_table_elt_t *const host = http->headers_in.host;
    const ngx_str_t server = http->headers_in.server;
    const u_char *query = ngx_strlchr(http->unparsed_uri.data,
                                      http->unparsed_uri.data + http->unparsed_uri.len, '?');

    ngx_memzero(&http->headers_in, sizeof(http->headers_in));
    http->headers_in.server = server;
    http->headers_in.content_length_n = -1;
    http->headers_in.keep_alive_n = -1;
    if (query)
        http->unparsed_uri.len = (size_t)(query - http->unparsed_uri.data);
    ngx_str_null(&http->args);
    ngx_str_null(&http->request_line);
    http->request_start = NULL; /* $request would be made of it */
    http->request_body = NULL;
    if (ngx_list_init(&http->headers_in.headers, http->pool, 1, sizeof(ngx_table_elt_t)) != NGX_OK)
        return NGX_ERROR;
    if (!host)
        return NGX_OK;
    ngx_table_elt_t *place = ngx_list_push(&http->headers_in.headers);
    if (!place)
        return NGX_ERROR;
    *place = *host;
    http->headers_in.host = place;
    return NGX_OK;
}

/* Names that server_name and location take out of Host and path are assigned too, but everybody
 * sees from what. */
static ngx_int_t take_captures(ngx_http_request_t *http, const struct location_conf *conf)
{
#if (NGX_PCRE)
    const ngx_http_core_loc_conf_t *location = ngx_http_get_module_loc_conf(http,
                                                                            ngx_http_core_module);
    ngx_http_regex_t **const regexes = conf->server_regexes->elts;
    ngx_int_t rc = NGX_DECLINED;
    for (ngx_uint_t i = 0; rc == NGX_DECLINED && i < conf->server_regexes->nelts; i++)
        rc = ngx_http_regex_exec(http, regexes[i], &http->headers_in.server);
    if (rc != NGX_ERROR && location->regex)
        rc = ngx_http_regex_exec(http, location->regex, &http->uri);
    return rc == NGX_ERROR ? NGX_ERROR : NGX_OK;
#else
    return NGX_OK;
#endif
}

/* The variable is the same of both requests. */
static bool is_same(ngx_http_request_t *http, ngx_http_request_t *other, ngx_int_t index)
{
    const ngx_http_variable_value_t *a = ngx_http_get_flushed_variable(http, (ngx_uint_t)index);
    const ngx_http_variable_value_t *b = ngx_http_get_flushed_variable(other, (ngx_uint_t)index);

    return a && b && !a->not_found && !b->not_found && a->len == b->len &&
           ngx_memcmp(a->data, b->data, a->len) == 0;
}

static bool is_certificate_unverified(const ngx_http_request_t *http)
{
#if (NGX_HTTP_SSL)
    const ngx_http_ssl_srv_conf_t *ssl = ngx_http_get_module_srv_conf(http, ngx_http_ssl_module);
    return http->connection->ssl && ssl->verify == 3; /* optional_no_ca */
#else
    return false;
#endif
}

/* NGX_DECLINED: it does, or may. */
static ngx_int_t does_not_depend_on_client(ngx_http_request_t *http, const struct request *request,
                                           const struct location_conf *conf)
{
    const ngx_int_t *indices = conf->scope_variables->elts;
    ngx_http_request_t *stranger = fresh_copy(http, request);

    if (!stranger || forget_client(stranger) != NGX_OK || take_captures(stranger, conf) != NGX_OK)
        return NGX_ERROR;
    if (is_certificate_unverified(http))
        return NGX_DECLINED; /* which a stranger has too */
    for (ngx_uint_t i = 0; i < conf->scope_variables->nelts; i++)
        if (!is_same(http, stranger, indices[i]))
            return NGX_DECLINED;
    return NGX_OK;
}

/* Where one check of several is enough, what the request says by itself was not necessarily
 * verified: a value counts that it would not have by itself, since a check has assigned it. */
static ngx_int_t was_assigned(ngx_http_request_t *http, const struct request *request,
                              const struct location_conf *conf)
{
    const ngx_int_t *indices = conf->scope_variables->elts;
    ngx_http_request_t *fresh = fresh_copy(http, request);

    if (!fresh)
        return NGX_ERROR;
    for (ngx_uint_t i = 0; i < conf->scope_variables->nelts; i++)
        if (is_declared(conf, indices[i]) && is_same(http, fresh, indices[i]))
            return NGX_DECLINED;
    return NGX_OK;
}

/* ---- The scope of a request ---- */

/* Once a location and worker: who moves from a release that did not ask has to hear of it. */
static ngx_int_t unverified(ngx_http_request_t *http, struct location_conf *conf, const char **why)
{
    *why = "unverified";
    if (conf->unverified_said)
        return NGX_DECLINED;
    conf->unverified_said = true;
    ngx_log_error(
        NGX_LOG_WARN, http->connection->log, 0,
        "etag_cache: the scope has values that the client chose, or that were assigned by "
        "\"set\" or \"auth_request_set\" and are not named by \"etag_cache_authenticated\": "
        "such requests go to the upstream, and are not stored");
    return NGX_DECLINED;
}

static ngx_int_t is_trusted(struct request *request, struct location_conf *conf, const char **why)
{
    ngx_http_request_t *http = request->http;
    const ngx_http_core_loc_conf_t *core = ngx_http_get_module_loc_conf(http, ngx_http_core_module);
    ngx_int_t rc = NGX_OK;

    if (!conf->scope_is_authenticated) {
        if (http->headers_in.authorization) {
            *why = "authorization";
            return NGX_DECLINED;
        }
        rc = does_not_depend_on_client(http, request, conf);
    } else if (core->satisfy == NGX_HTTP_SATISFY_ANY) {
        rc = was_assigned(http, request, conf);
    }
    return rc == NGX_DECLINED ? unverified(http, conf, why) : rc;
}

ngx_int_t scope_of(struct request *request, struct location_conf *conf, etag_scope *out,
                   const char **why)
{
    ngx_str_t name;

    *out = (etag_scope){ETAG_SCOPE_PUBLIC, {0}};
    if (conf->scope_rule == SCOPE_PUBLIC)
        return NGX_OK;
    *why = "no_scope";
    if (!is_whole(request->http, conf))
        return NGX_DECLINED;
    if (ngx_http_complex_value(request->http, conf->scope, &name) != NGX_OK)
        return NGX_ERROR;
    if (name.len == 0)
        return NGX_DECLINED;
    /* A user of that name is not everybody. Nor is it a scope of its own: etagctl has no other word
     * for the public one. */
    if (str_equal(etag_str_ngx(name), ETAG_LIT("public"))) {
        *why = "scope_public";
        return NGX_DECLINED;
    }
    *out = (etag_scope){ETAG_SCOPE_NAMED, etag_str_ngx(name)};
    return is_trusted(request, conf, why);
}
