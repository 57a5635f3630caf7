/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The parts of the nginx module, in the order in which a request meets them:
 *
 *   conf         directives (ngx_http_etag_cache_module.c)
 *   endpoint     one etag client of this process for each daemon that the configuration names
 *   request      what the module knows of a request, from its first phase on, over internal
 *                redirects
 *   key          what names the representation
 *   scope        whose it is, and whether that is known
 *   check        look-up after the access phase
 *   not_modified the 304: what was stored, and what nginx adds to it now
 *   attempts     what each upstream did with the request, whatever the client gets in the end
 *   names        what is to be invalidated for that
 *   invalidate   after a write: the answer waits until the daemon has confirmed
 *   fill         what the client is sent goes to libetag, which fills, retires or does nothing
 *
 * They translate between nginx and libetag. Every rule of HTTP caching is libetag's.
 */
#ifndef ETAG_CACHE_H
#define ETAG_CACHE_H

#include <etag/etag.h>
#include <ngx_config.h>

#include <ngx_core.h>
#include <ngx_http.h>

#define ETAG_CACHE_VARY_MAX 8

/* ---- Configuration --------------------------------------------------------------------------- */

struct endpoint {
    /* with a NUL after it; empty: libetag's default */
    ngx_str_t socket;
    /* of etag_str: further fields of a 304; NULL: none */
    ngx_array_t *repeated;
    /* of its mutations */
    ngx_msec_t timeout;
    /* its place among the endpoints */
    ngx_uint_t number;
    /* of this process; NULL: could not be opened */
    etag_client *client;
    /* epoll descriptor that watches the client's socket, whichever that is */
    int events;
    /* of it, in nginx's event loop */
    ngx_connection_t *watch;
    /* when the client has something to do */
    ngx_event_t timer;
    /* of struct mutation: not confirmed yet */
    ngx_queue_t waiting;
    /* Lets go what is confirmed or over; called when the client heard something. */
    void (*settle)(struct endpoint *endpoint);
};

/* Shadow: look-ups are counted and the page is rendered all the same (etag_request.shadow). */
enum cache_use { USE_OFF = 0, USE_ON, USE_SHADOW };

enum scope_rule { SCOPE_UNSET = 0, SCOPE_PUBLIC, SCOPE_EXPRESSION };

enum failure_rule { FAILURE_ERROR = 0, FAILURE_PASS };

struct location_conf {
    /* enum cache_use */
    ngx_uint_t enable;
    ngx_str_t socket;
    /* of locations that use one */
    struct endpoint *endpoint;
    ngx_uint_t scope_rule;
    ngx_http_complex_value_t *scope;
    /* of ngx_int_t: their indices; an empty one is no scope */
    ngx_array_t *scope_variables;
    /* of ngx_http_regex_t *: those of server_name. nginx' own list of names is in memory that it
     * frees once the configuration is read */
    ngx_array_t *server_regexes;
    /* of ngx_int_t: indices of variables that were verified; or NULL */
    ngx_array_t *authenticated;
    /* it has one of those */
    bool scope_is_authenticated;
    /* by this process */
    bool unverified_said;
    ngx_http_complex_value_t *key;
    /* of etag_str, in lower case */
    ngx_array_t *vary;
    ngx_http_complex_value_t *release;
    /* NULL: the connection's */
    ngx_http_complex_value_t *scheme;
    /* of ngx_http_complex_value_t; NULL: the response's own fields */
    ngx_array_t *surrogates;
    /* by the directive; else it is as enable */
    ngx_flag_t invalidate_said;
    ngx_flag_t invalidate;
    ngx_msec_t invalidate_timeout;
    ngx_uint_t invalidate_failure;
    /* DELETE reaches what lies below a path without '/' at its end too */
    ngx_flag_t collections;
    /* predicates */
    ngx_array_t *bypass;
    /* predicates */
    ngx_array_t *no_store;
    time_t max_age_s;
    /* of Last-Modified */
    ngx_uint_t date_is_strong;
    /* of etag_str */
    ngx_array_t *repeated_fields;
};

struct names;

struct main_conf {
    /* of struct endpoint * */
    ngx_array_t endpoints;
};

extern ngx_module_t ngx_http_etag_cache_module;
extern ngx_module_t ngx_http_etag_cache_filter_module;
extern ngx_module_t ngx_http_etag_cache_place_module;

/* ---- Endpoint -------------------------------------------------------------------------------- */

/* An invalidation under way. It outlives its request where the client goes away: what was written
 * was written. */
struct mutation {
    ngx_queue_t link;
    etag_op *op;
    /* whose answer waits for it, or NULL */
    struct request *waiter;
};

/* Opens the client and lets nginx's event loop drive it. Without a daemon too. Never waits. settle:
 * see struct endpoint. */
ngx_int_t endpoint_open(struct endpoint *endpoint, ngx_cycle_t *cycle,
                        void (*settle)(struct endpoint *endpoint));

/* Closes it; what is not confirmed ends without an answer. May be called twice. */
void endpoint_close(struct endpoint *endpoint);

/* After each call of libetag that may talk: its descriptor, events and time may be others now, and
 * what came meanwhile may have ended mutations. */
void endpoint_talked(struct endpoint *endpoint);

/* The options with which its client is opened; they point into the endpoint. */
etag_client_options endpoint_options(const struct endpoint *endpoint);

/* ---- Request --------------------------------------------------------------------------------- */

enum cache_status {
    CACHE_NONE = 0,
    CACHE_HIT,
    CACHE_MISS,
    CACHE_STALE,
    CACHE_EXPIRED,
    CACHE_BYPASS,
    CACHE_OFFLINE,
    CACHE_REFUSED
};

/* Made in the first phase, with the tokens: before anything that the request does can have read
 * data. Internal redirects clear module contexts, but not this. */
struct request {
    ngx_http_request_t *http;
    /* as it was sent, before anything rewrote it */
    ngx_str_t uri;
    /* one an endpoint */
    etag_token *tokens;
    ngx_uint_t status;
    /* static text; NULL: none */
    const char *reason;
    uint64_t lsn;

    /* The configuration of the request's location. */
    /* its answer may be stored; NULL: not */
    struct location_conf *fills;
    etag_key key;
    etag_field vary[ETAG_CACHE_VARY_MAX];
    /* what the look-up under the key said; NONE: there was none */
    etag_reason looked_up;
    /* and where */
    uint64_t place[2];

    /* For a 304 from memory. */
    etag_field *repeats;
    /* 0 once they are among the answer's */
    size_t repeat_count;

    /* From the request as the client sent it. */
    /* a redirect makes GET of it */
    etag_str method;
    /* its method is unsafe */
    bool writes;
    /* a content handler had it */
    bool tried;
    /* the location that it is in has let it pass */
    bool passed;
    /* one that it was in before has not */
    bool refused;
    /* some answer came to the header filter */
    bool answered;
    /* the answer was a 200, before nginx's own judgement of its conditions */
    bool was_ok;
    /* the first location that wants it; NULL: none */
    struct location_conf *invalidates;
    /* What is done where the request ends, which may have had no answer. */
    void (*unanswered)(const struct request *request);
    /* what a write changes first */
    etag_resource target;
    /* and what it may have changed instead; without a target: there is none */
    etag_resource twin;

    /* Notes of what upstreams did with it, and of the answer. */
    /* of nginx's records */
    ngx_uint_t attempts_noted;
    /* enum outcome: of all that were noted */
    unsigned outcome;
    /* that are to be invalidated; NULL: none */
    struct names *names;
    /* nginx's, which ours runs */
    ngx_http_handler_pt content_handler;
    ngx_int_t (*reinit_request)(ngx_http_request_t *http);
    void (*finalize_request)(ngx_http_request_t *http, ngx_int_t rc);

    /* An answer that waits. */
    struct mutation *mutation;
    ngx_chain_t *held;
    bool was_held;
    /* what comes of the body goes nowhere */
    bool swallow;
};

/* NULL: a subrequest, or memory ran out in the first phase. */
struct request *request_of(ngx_http_request_t *http);
struct request *request_new(ngx_http_request_t *http);

void request_note(struct request *request, enum cache_status status, const char *reason);
const char *cache_status_word(ngx_uint_t status);

/* ---- Key ------------------------------------------------------------------------------------- */

/* Host and target of the request as the client sent it, or as etag_cache_key says. */
ngx_int_t key_resource(ngx_http_request_t *http, const struct location_conf *conf,
                       etag_resource *out);

/* The same for a write: the request's target, and its twin where the request line and Host name two
 * hosts. */
ngx_int_t key_targets(struct request *request, const struct location_conf *conf);

/* The request line has an authority that is not the Host field's: which one the upstream believes
 * is its own affair. */
bool key_authority_is_foreign(const ngx_http_request_t *http);

/* The whole key. NGX_DECLINED: the request has no scope, *why says it. */
ngx_int_t key_of(struct request *request, struct location_conf *conf, const char **why);

/* The resource that a Location or Content-Location names, of the request's own host: NGX_OK.
* Another host's, or none's: NGX_DECLINED. */
ngx_int_t key_reference(ngx_http_request_t *http, const etag_resource *base, ngx_str_t reference,
                        etag_resource *out);

bool key_is_public(const struct request *request);

/* Request header fields that libetag looks at, those of several lines included. */
#define ETAG_CACHE_CONDITIONS_MAX 16
size_t key_conditions(ngx_http_request_t *http, etag_field out[ETAG_CACHE_CONDITIONS_MAX]);

/* ---- Scope ----------------------------------------------------------------------------------- */

char *scope_set(ngx_conf_t *cf, ngx_command_t *command, void *to);
char *scope_set_authenticated(ngx_conf_t *cf, ngx_command_t *command, void *to);

/* After merging: what can be known to be wrong. serves: requests are answered by this
 * configuration. */
char *scope_merged(ngx_conf_t *cf, struct location_conf *conf, bool serves);

/* NGX_DECLINED: there is none, or it may be somebody else's than the client's; *why says it. */
ngx_int_t scope_of(struct request *request, struct location_conf *conf, etag_scope *out,
                   const char **why);

/* ---- Helpers --------------------------------------------------------------------------------- */

static inline etag_str etag_str_ngx(ngx_str_t text)
{
    return (etag_str){(const char *)text.data, text.len};
}

static inline bool str_equal(etag_str a, etag_str b)
{
    return a.len == b.len && ngx_memcmp(a.data, b.data, a.len) == 0;
}

static inline bool field_is(const ngx_table_elt_t *field, const char *name, size_t len)
{
    return field->key.len == len &&
           ngx_strncasecmp(field->key.data, (u_char *)(uintptr_t)name, len) == 0;
}
#define FIELD_IS(field, name) field_is((field), (name), sizeof(name) - 1)

/* The header fields of a list, one after the other. */
struct field_walk {
    const ngx_list_part_t *part;
    ngx_uint_t next;
};

static inline struct field_walk fields_of(const ngx_list_t *list)
{
    return (struct field_walk){&list->part, 0};
}

/* NULL: there are no more. */
static inline ngx_table_elt_t *field_next(struct field_walk *walk)
{
    while (walk->part && walk->next == walk->part->nelts)
        *walk = (struct field_walk){walk->part->next, 0};
    return walk->part ? (ngx_table_elt_t *)walk->part->elts + walk->next++ : NULL;
}

/* ---- Phases and filters ---------------------------------------------------------------------- */

ngx_int_t check_begin(ngx_http_request_t *http); /* POST_READ */
ngx_int_t check_enter(ngx_http_request_t *http); /* SERVER_REWRITE and REWRITE, the first of them */
ngx_int_t check_pass(ngx_http_request_t *http);  /* PRECONTENT, the first of it */
ngx_int_t check(ngx_http_request_t *http);       /* PRECONTENT, the last of it */

/* Above all other filters: sees what the content handler answered, and can hold it back. */
void invalidate_install_filters(void);
/* Everything of the endpoint that is confirmed or over lets its answer go. */
void invalidate_settle(struct endpoint *endpoint);
/* The request ends: if it has had no answer, what it may have written is invalidated. */
void invalidate_unanswered(const struct request *request);

/* Below all filters that change fields: sees what the client gets. */
void fill_install_filter(void);

/* Above the filter that adds fields, of which it makes use. */
void not_modified_install(void);
/* Answers. NGX_DONE. */
ngx_int_t not_modified_send(struct request *request, const etag_answer *answer);
/* Below the filters, of an answer with fields to repeat: adds them. NGX_ERROR: no memory. */
ngx_int_t not_modified_merge(struct request *request);

#endif
