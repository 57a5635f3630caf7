/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Three nginx modules in one file that is loaded: two are only places among the filters. nginx runs
 * header filters in the reverse order of its list of modules, so the module is at its end (its
 * filters run first), the filter module before gzip (it runs after gzip, and after all that change
 * fields), and the place module after headers_filter, before which it would run: a 304 from memory
 * begins there.
 *
 * Directives, their inheritance, and what can be known to be wrong before a request comes.
 */
#include "etag_cache.h"

static ngx_conf_enum_t uses[] = {{ngx_string("off"), USE_OFF},
                                 {ngx_string("on"), USE_ON},
                                 {ngx_string("shadow"), USE_SHADOW},
                                 {ngx_null_string, 0}};

static ngx_conf_enum_t failure_rules[] = {
    {ngx_string("error"), FAILURE_ERROR}, {ngx_string("pass"), FAILURE_PASS}, {ngx_null_string, 0}};

static ngx_conf_enum_t dates[] = {
    {ngx_string("weak"), false}, {ngx_string("strong"), true}, {ngx_null_string, 0}};

/* ---- Directives ---- */

static char *set_names(ngx_conf_t *cf, ngx_array_t **to)
{
    const ngx_str_t *words = cf->args->elts;

    if (*to != NGX_CONF_UNSET_PTR)
        return "is duplicate";
    *to = ngx_array_create(cf->pool, cf->args->nelts, sizeof(etag_str));
    if (!*to)
        return NGX_CONF_ERROR;
    if (cf->args->nelts == 2 && words[1].len == 3 && ngx_memcmp(words[1].data, "off", 3) == 0)
        return NGX_CONF_OK;
    for (ngx_uint_t i = 1; i < cf->args->nelts; i++) {
        etag_str *name = ngx_array_push(*to);
        if (!name)
            return NGX_CONF_ERROR;
        *name = etag_str_ngx(words[i]);
    }
    return NGX_CONF_OK;
}

static char *set_vary(ngx_conf_t *cf, ngx_command_t *command, void *to)
{
    struct location_conf *conf = to;

    if (cf->args->nelts - 1 > ETAG_CACHE_VARY_MAX)
        return "has too many names";
    return set_names(cf, &conf->vary);
}

static char *set_repeated_fields(ngx_conf_t *cf, ngx_command_t *command, void *to)
{
    struct location_conf *conf = to;

    return set_names(cf, &conf->repeated_fields);
}

static char *set_surrogates(ngx_conf_t *cf, ngx_command_t *command, void *to)
{
    struct location_conf *conf = to;
    ngx_str_t *words = cf->args->elts;

    if (conf->surrogates)
        return "is duplicate";
    conf->surrogates = ngx_array_create(cf->pool, cf->args->nelts,
                                        sizeof(ngx_http_complex_value_t));
    if (!conf->surrogates)
        return NGX_CONF_ERROR;
    for (ngx_uint_t i = 1; i < cf->args->nelts; i++) {
        ngx_http_complex_value_t *value = ngx_array_push(conf->surrogates);
        if (!value)
            return NGX_CONF_ERROR;
        ngx_http_compile_complex_value_t compile = {
            .cf = cf, .value = &words[i], .complex_value = value};
        if (ngx_http_compile_complex_value(&compile) != NGX_OK)
            return NGX_CONF_ERROR;
    }
    return NGX_CONF_OK;
}

#define EVERYWHERE NGX_HTTP_MAIN_CONF | NGX_HTTP_SRV_CONF | NGX_HTTP_LOC_CONF
#define DIRECTIVE(name, args, set, member, post)                                                   \
    {                                                                                              \
        ngx_string(name), EVERYWHERE | (args), set, NGX_HTTP_LOC_CONF_OFFSET,                      \
            offsetof(struct location_conf, member), post                                           \
    }

static ngx_command_t directives[] = {
    DIRECTIVE("etag_cache", NGX_CONF_TAKE1, ngx_conf_set_enum_slot, enable, uses),
    DIRECTIVE("etag_cache_socket", NGX_CONF_TAKE1, ngx_conf_set_str_slot, socket, NULL),
    DIRECTIVE("etag_cache_scope", NGX_CONF_TAKE1, scope_set, scope, NULL),
    DIRECTIVE("etag_cache_authenticated", NGX_CONF_1MORE, scope_set_authenticated, authenticated,
              NULL),
    DIRECTIVE("etag_cache_key", NGX_CONF_TAKE1, ngx_http_set_complex_value_slot, key, NULL),
    DIRECTIVE("etag_cache_vary", NGX_CONF_1MORE, set_vary, vary, NULL),
    DIRECTIVE("etag_cache_release", NGX_CONF_TAKE1, ngx_http_set_complex_value_slot, release, NULL),
    DIRECTIVE("etag_cache_scheme", NGX_CONF_TAKE1, ngx_http_set_complex_value_slot, scheme, NULL),
    DIRECTIVE("etag_cache_surrogates", NGX_CONF_1MORE, set_surrogates, surrogates, NULL),
    DIRECTIVE("etag_cache_invalidate", NGX_CONF_FLAG, ngx_conf_set_flag_slot, invalidate_said,
              NULL),
    DIRECTIVE("etag_cache_invalidate_timeout", NGX_CONF_TAKE1, ngx_conf_set_msec_slot,
              invalidate_timeout, NULL),
    DIRECTIVE("etag_cache_invalidate_failure", NGX_CONF_TAKE1, ngx_conf_set_enum_slot,
              invalidate_failure, failure_rules),
    DIRECTIVE("etag_cache_collections", NGX_CONF_FLAG, ngx_conf_set_flag_slot, collections, NULL),
    DIRECTIVE("etag_cache_bypass", NGX_CONF_1MORE, ngx_http_set_predicate_slot, bypass, NULL),
    DIRECTIVE("etag_cache_no_store", NGX_CONF_1MORE, ngx_http_set_predicate_slot, no_store, NULL),
    DIRECTIVE("etag_cache_max_age", NGX_CONF_TAKE1, ngx_conf_set_sec_slot, max_age_s, NULL),
    DIRECTIVE("etag_cache_last_modified", NGX_CONF_TAKE1, ngx_conf_set_enum_slot, date_is_strong,
              dates),
    DIRECTIVE("etag_cache_repeated_fields", NGX_CONF_1MORE, set_repeated_fields, repeated_fields,
              NULL),
    ngx_null_command};

/* ---- Configuration ---- */

static void *create_main_conf(ngx_conf_t *cf)
{
    struct main_conf *conf = ngx_pcalloc(cf->pool, sizeof(*conf));

    if (!conf || ngx_array_init(&conf->endpoints, cf->pool, 1, sizeof(struct endpoint *)) != NGX_OK)
        return NULL;
    return conf;
}

static void *create_location_conf(ngx_conf_t *cf)
{
    struct location_conf *conf = ngx_pcalloc(cf->pool, sizeof(*conf));

    if (!conf)
        return NULL;
    conf->enable = NGX_CONF_UNSET_UINT;
    conf->scope_rule = NGX_CONF_UNSET_UINT;
    conf->authenticated = NGX_CONF_UNSET_PTR;
    conf->vary = NGX_CONF_UNSET_PTR;
    conf->invalidate_said = NGX_CONF_UNSET;
    conf->invalidate_timeout = NGX_CONF_UNSET_MSEC;
    conf->invalidate_failure = NGX_CONF_UNSET_UINT;
    conf->collections = NGX_CONF_UNSET;
    conf->bypass = NGX_CONF_UNSET_PTR;
    conf->no_store = NGX_CONF_UNSET_PTR;
    conf->max_age_s = NGX_CONF_UNSET;
    conf->date_is_strong = NGX_CONF_UNSET_UINT;
    conf->repeated_fields = NGX_CONF_UNSET_PTR;
    return conf;
}

static bool same_names(const ngx_array_t *a, const ngx_array_t *b)
{
    if (!a || !b)
        return a == b;
    const etag_str *x = a->elts;
    const etag_str *y = b->elts;
    if (a->nelts != b->nelts)
        return false;
    for (ngx_uint_t i = 0; i < a->nelts; i++)
        if (x[i].len != y[i].len || ngx_memcmp(x[i].data, y[i].data, x[i].len) != 0)
            return false;
    return true;
}

static bool same_endpoint(const struct endpoint *endpoint, const struct location_conf *conf)
{
    return endpoint->timeout == conf->invalidate_timeout &&
           endpoint->socket.len == conf->socket.len &&
           ngx_strncmp(endpoint->socket.data, conf->socket.data, conf->socket.len) == 0 &&
           same_names(endpoint->repeated, conf->repeated_fields);
}

/* libetag knows which options are none: ask it now rather than in every worker. */
static char *endpoint_try(ngx_conf_t *cf, const struct endpoint *endpoint)
{
    etag_client *client;
    const etag_client_options options = endpoint_options(endpoint);
    const etag_status status = etag_client_open(&client, &options);

    etag_client_close(client);
    if (status != ETAG_INVALID)
        return NGX_CONF_OK;
    ngx_conf_log_error(
        NGX_LOG_EMERG, cf, 0,
        "\"etag_cache_socket\" is too long, or \"etag_cache_repeated_fields\" names a field that a "
        "304 cannot repeat, or more than 8");
    return NGX_CONF_ERROR;
}

static char *use_endpoint(ngx_conf_t *cf, struct location_conf *conf)
{
    struct main_conf *main_conf = ngx_http_conf_get_module_main_conf(cf,
                                                                     ngx_http_etag_cache_module);
    struct endpoint **all = main_conf->endpoints.elts;

    for (ngx_uint_t i = 0; i < main_conf->endpoints.nelts; i++) {
        if (same_endpoint(all[i], conf)) {
            conf->endpoint = all[i];
            return NGX_CONF_OK;
        }
    }
    struct endpoint *endpoint = ngx_pcalloc(cf->pool, sizeof(*endpoint));
    struct endpoint **place = ngx_array_push(&main_conf->endpoints);
    if (!endpoint || !place)
        return NGX_CONF_ERROR;
    endpoint->socket = conf->socket;
    endpoint->repeated = conf->repeated_fields;
    endpoint->timeout = conf->invalidate_timeout;
    endpoint->number = main_conf->endpoints.nelts - 1;
    endpoint->events = -1;
    *place = conf->endpoint = endpoint;
    return endpoint_try(cf, endpoint);
}

static ngx_array_t *default_vary(ngx_conf_t *cf)
{
    ngx_array_t *names = ngx_array_create(cf->pool, 1, sizeof(etag_str));
    etag_str *name = names ? ngx_array_push(names) : NULL;

    if (name)
        *name = ETAG_LIT("Accept-Encoding");
    return name ? names : NULL;
}

/* A server without a scope of its own may have locations that have one; whatever has no location
 * then goes without. */
static bool needs_scope(ngx_conf_t *cf)
{
    const ngx_http_core_loc_conf_t *core = ngx_http_conf_get_module_loc_conf(cf,
                                                                             ngx_http_core_module);

    return core->name.len > 0 || !core->locations;
}

static void merge_scope(struct location_conf *conf, const struct location_conf *outer)
{
    if (conf->scope_rule != NGX_CONF_UNSET_UINT)
        return;
    conf->scope_rule = outer->scope_rule == NGX_CONF_UNSET_UINT ? SCOPE_UNSET : outer->scope_rule;
    conf->scope = outer->scope;
    conf->scope_variables = outer->scope_variables;
}

static char *merge_location_conf(ngx_conf_t *cf, void *parent, void *child)
{
    const struct location_conf *outer = parent;
    struct location_conf *conf = child;

    ngx_conf_merge_uint_value(conf->enable, outer->enable, USE_OFF);
    ngx_conf_merge_str_value(conf->socket, outer->socket, "");
    merge_scope(conf, outer);
    ngx_conf_merge_ptr_value(conf->authenticated, outer->authenticated, NULL);
    if (!conf->key)
        conf->key = outer->key;
    if (!conf->release)
        conf->release = outer->release;
    if (!conf->scheme)
        conf->scheme = outer->scheme;
    if (!conf->surrogates)
        conf->surrogates = outer->surrogates;
    ngx_conf_merge_ptr_value(conf->vary, outer->vary, default_vary(cf));
    ngx_conf_merge_value(conf->invalidate_said, outer->invalidate_said, NGX_CONF_UNSET);
    conf->invalidate = conf->invalidate_said == NGX_CONF_UNSET ? conf->enable != USE_OFF
                                                               : conf->invalidate_said;
    ngx_conf_merge_msec_value(conf->invalidate_timeout, outer->invalidate_timeout, 3000);
    ngx_conf_merge_uint_value(conf->invalidate_failure, outer->invalidate_failure, FAILURE_ERROR);
    ngx_conf_merge_value(conf->collections, outer->collections, 0);
    ngx_conf_merge_ptr_value(conf->bypass, outer->bypass, NULL);
    ngx_conf_merge_ptr_value(conf->no_store, outer->no_store, NULL);
    ngx_conf_merge_sec_value(conf->max_age_s, outer->max_age_s, 0);
    ngx_conf_merge_uint_value(conf->date_is_strong, outer->date_is_strong, false);
    ngx_conf_merge_ptr_value(conf->repeated_fields, outer->repeated_fields, NULL);
    if (!conf->vary)
        return NGX_CONF_ERROR;
    if (conf->enable && conf->scope_rule == SCOPE_UNSET && needs_scope(cf)) {
        ngx_conf_log_error(
            NGX_LOG_EMERG, cf, 0,
            "\"etag_cache on\" without \"etag_cache_scope\": say whose the responses are, "
            "\"public\" or an expression");
        return NGX_CONF_ERROR;
    }
    if (scope_merged(cf, conf, conf->enable && needs_scope(cf)) != NGX_CONF_OK)
        return NGX_CONF_ERROR;
    return conf->enable || conf->invalidate ? use_endpoint(cf, conf) : NGX_CONF_OK;
}

/* ---- Variables ---- */

static ngx_int_t variable_set(ngx_http_variable_value_t *v, const char *text, size_t len)
{
    v->data = (u_char *)(uintptr_t)text;
    v->len = (unsigned)len & 0x0fffffff;
    v->valid = 1;
    v->no_cacheable = 0;
    v->not_found = len == 0;
    return NGX_OK;
}

static ngx_int_t variable_status(ngx_http_request_t *http, ngx_http_variable_value_t *v,
                                 uintptr_t data)
{
    const struct request *request = request_of(http->main);
    const char *word = request && request->status != CACHE_NONE ? cache_status_word(request->status)
                                                                : "";

    return variable_set(v, word, strlen(word));
}

static ngx_int_t variable_reason(ngx_http_request_t *http, ngx_http_variable_value_t *v,
                                 uintptr_t data)
{
    const struct request *request = request_of(http->main);
    const char *word = request && request->reason ? request->reason : "";

    return variable_set(v, word, strlen(word));
}

static ngx_int_t variable_lsn(ngx_http_request_t *http, ngx_http_variable_value_t *v,
                              uintptr_t data)
{
    const struct request *request = request_of(http->main);

    if (!request || request->lsn == 0)
        return variable_set(v, "", 0);
    u_char *text = ngx_pnalloc(http->pool, NGX_INT64_LEN);
    if (!text)
        return NGX_ERROR;
    const u_char *end = ngx_sprintf(text, "%uL", request->lsn);
    return variable_set(v, (const char *)text, (size_t)(end - text));
}

static ngx_int_t add_variables(ngx_conf_t *cf)
{
    static const struct {
        ngx_str_t name;
        ngx_http_get_variable_pt get;
    } variables[] = {{ngx_string("etag_cache_status"), variable_status},
                     {ngx_string("etag_cache_reason"), variable_reason},
                     {ngx_string("etag_cache_lsn"), variable_lsn}};
    for (size_t i = 0; i < sizeof(variables) / sizeof(variables[0]); i++) {
        ngx_str_t name = variables[i].name;
        ngx_http_variable_t *variable = ngx_http_add_variable(cf, &name, NGX_HTTP_VAR_NOCACHEABLE);
        if (!variable)
            return NGX_ERROR;
        variable->get_handler = variables[i].get;
    }
    return NGX_OK;
}

/* ---- Life ---- */

static bool is_used(ngx_conf_t *cf)
{
    const struct main_conf *conf = ngx_http_conf_get_module_main_conf(cf,
                                                                      ngx_http_etag_cache_module);

    return conf->endpoints.nelts > 0;
}

/* The handlers of a phase run from the last of the array to its first. */
static ngx_int_t add_first_handler(ngx_array_t *handlers, ngx_http_handler_pt handler)
{
    ngx_http_handler_pt *first = ngx_array_push(handlers);

    if (first)
        *first = handler;
    return first ? NGX_OK : NGX_ERROR;
}

static ngx_int_t add_last_handler(ngx_array_t *handlers, ngx_http_handler_pt handler)
{
    if (!ngx_array_push(handlers))
        return NGX_ERROR;
    ngx_http_handler_pt *all = handlers->elts;
    ngx_memmove(&all[1], &all[0], (handlers->nelts - 1) * sizeof(*all));
    all[0] = handler;
    return NGX_OK;
}

static ngx_int_t install(ngx_conf_t *cf)
{
    if (!is_used(cf))
        return NGX_OK;
    ngx_http_core_main_conf_t *core = ngx_http_conf_get_module_main_conf(cf, ngx_http_core_module);
    static const struct {
        ngx_uint_t phase;
        ngx_http_handler_pt handler;
    } firsts[] = {{NGX_HTTP_POST_READ_PHASE, check_begin},
                  {NGX_HTTP_SERVER_REWRITE_PHASE, check_enter},
                  {NGX_HTTP_REWRITE_PHASE, check_enter},
                  {NGX_HTTP_PRECONTENT_PHASE, check_pass}};
    for (size_t i = 0; i < sizeof(firsts) / sizeof(firsts[0]); i++)
        if (add_first_handler(&core->phases[firsts[i].phase].handlers, firsts[i].handler) != NGX_OK)
            return NGX_ERROR;
    invalidate_install_filters();
    return add_last_handler(&core->phases[NGX_HTTP_PRECONTENT_PHASE].handlers, check);
}

static ngx_int_t install_filter(ngx_conf_t *cf)
{
    if (is_used(cf))
        fill_install_filter();
    return NGX_OK;
}

static ngx_int_t install_place(ngx_conf_t *cf)
{
    if (is_used(cf))
        not_modified_install();
    return NGX_OK;
}

static bool serves_requests(void)
{
    return ngx_process == NGX_PROCESS_WORKER || ngx_process == NGX_PROCESS_SINGLE;
}

static const struct main_conf *cycle_conf(ngx_cycle_t *cycle)
{
    return ngx_get_conf(cycle->conf_ctx, ngx_http_module)
               ? ngx_http_cycle_get_module_main_conf(cycle, ngx_http_etag_cache_module)
               : NULL;
}

/* A client that can't be opened is no reason not to serve. */
static ngx_int_t begin_process(ngx_cycle_t *cycle)
{
    const struct main_conf *conf = cycle_conf(cycle);

    if (!conf || !serves_requests())
        return NGX_OK;
    struct endpoint *const *endpoints = conf->endpoints.elts;
    for (ngx_uint_t i = 0; i < conf->endpoints.nelts; i++)
        (void)endpoint_open(endpoints[i], cycle, invalidate_settle);
    return NGX_OK;
}

static void end_process(ngx_cycle_t *cycle)
{
    const struct main_conf *conf = cycle_conf(cycle);

    if (!conf)
        return;
    struct endpoint *const *endpoints = conf->endpoints.elts;
    for (ngx_uint_t i = 0; i < conf->endpoints.nelts; i++)
        endpoint_close(endpoints[i]);
}

/* ---- What nginx looks for ---- */

static ngx_http_module_t hooks = {
    .preconfiguration = add_variables,
    .postconfiguration = install,
    .create_main_conf = create_main_conf,
    .create_loc_conf = create_location_conf,
    .merge_loc_conf = merge_location_conf,
};

static ngx_http_module_t filter_hooks = {.postconfiguration = install_filter};
static ngx_http_module_t place_hooks = {.postconfiguration = install_place};

#define VISIBLE __attribute__((visibility("default")))

VISIBLE ngx_module_t ngx_http_etag_cache_module = {
    NGX_MODULE_V1, &hooks, directives, NGX_HTTP_MODULE, NULL, NULL,
    begin_process, NULL,   NULL,       end_process,     NULL, NGX_MODULE_V1_PADDING};

VISIBLE ngx_module_t ngx_http_etag_cache_filter_module = {
    NGX_MODULE_V1, &filter_hooks, NULL, NGX_HTTP_MODULE,      NULL, NULL, NULL, NULL,
    NULL,          NULL,          NULL, NGX_MODULE_V1_PADDING};

VISIBLE ngx_module_t ngx_http_etag_cache_place_module = {
    NGX_MODULE_V1, &place_hooks, NULL, NGX_HTTP_MODULE,      NULL, NULL, NULL, NULL,
    NULL,          NULL,         NULL, NGX_MODULE_V1_PADDING};

extern ngx_module_t *ngx_modules[];
extern char *ngx_module_names[];
extern char *ngx_module_order[];

VISIBLE ngx_module_t *ngx_modules[] = {&ngx_http_etag_cache_module,
                                       &ngx_http_etag_cache_filter_module,
                                       &ngx_http_etag_cache_place_module, NULL};

VISIBLE char *ngx_module_names[] = {"ngx_http_etag_cache_module",
                                    "ngx_http_etag_cache_filter_module",
                                    "ngx_http_etag_cache_place_module", NULL};

/* Each of ours before all that come after it here. The one that is not named: at the end. */
VISIBLE char *ngx_module_order[] = {
    "ngx_http_etag_cache_filter_module", "ngx_http_gzip_filter_module",
    "ngx_http_postpone_filter_module",   "ngx_http_etag_cache_place_module",
    "ngx_http_copy_filter_module",       NULL};
