/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The uploads API on etagd. Reading, in this order (get_representation):
 *
 *   token        taken by api_begin, before anything of the request was read
 *   authorize    401, 403, 404, 405 come before any condition (RFC 9110 section 13.2.1)
 *   precheck     304 or 412 from shared memory; that is the whole answer
 *   render       else, in one read transaction, younger than the token
 *   finish       fills, so that the next one is answered from memory by every process of the host, and judges the
 *                conditions with the real validators
 *
 * Writing (write_row): the conditions are judged a second time inside the write transaction, which is what counts; the
 * names of what changed are committed with the change, in an outbox table, and told to etagd after COMMIT and before the
 * answer. If etagd can't be told, the writer gets a 500 that says that the change is stored but old versions may still
 * be confirmed; the name stays in the outbox, and every process tries again until it is told, also after a crash.
 *
 * ETags are made of row versions, which are never used twice; the body is a function of the row. There is no
 * Last-Modified: rows can change twice in a second. Scope: the customer whose bearer token it is.
 */
#include "uploads_api.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define API_PREFIX "/api/v1/"
#define FRESH "max-age=60, must-revalidate"
#define NOT_STORED "no-cache, no-store, must-revalidate"
#define PER_PAGE_DEFAULT 25
#define PER_PAGE_MAX 100
#define NAME_BYTES_MAX 64

/* One request on its way to one answer. */
struct call {
    struct api *api;
    const struct http_request *request;
    struct http_answer *answer;
    struct principal principal;
    const struct resource *resource;
    int64_t id; /* 0: the list */
};

static bool is(etag_str s, const char *text)
{
    return s.len == strlen(text) && memcmp(s.data, text, s.len) == 0;
}

static bool is_write(const struct call *call)
{
    return !is(call->request->method, "GET") && !is(call->request->method, "HEAD");
}

/* ---- Answers ---- */

/* A JSON string that needs no more escapes than these. */
static void quote(char *out, size_t size, const char *text)
{
    size_t n = 0;
    for (; *text && n + 3 < size; text++) {
        if (*text == '"' || *text == '\\')
            out[n++] = '\\';
        out[n++] = (unsigned char)*text < 0x20 ? ' ' : *text;
    }
    out[n] = '\0';
}

/* Every answer that is not a representation. */
static void answer_plain(struct http_answer *answer, unsigned status, char *json)
{
    answer->status = status;
    answer->body = json;
    answer->body_len = json ? strlen(json) : 0;
    http_answer_field(answer, "Cache-Control", ETAG_LIT(NOT_STORED));
    if (json)
        http_answer_field(answer, "Content-Type", ETAG_LIT("application/json"));
}

static void answer_error(struct http_answer *answer, unsigned status, const char *word,
                         const char *detail)
{
    char quoted[300], *json = NULL;
    quote(quoted, sizeof(quoted), detail);
    if (asprintf(&json, "{\"error\":\"%s\",\"detail\":\"%s\"}\n", word, quoted) < 0)
        json = NULL;
    answer_plain(answer, status, json);
}

static void answer_precondition_failed(struct call *call)
{
    call->api->counters.precondition_failed++;
    answer_error(call->answer, 412, "precondition_failed", "it is not the version you know");
}

static void answer_db_error(struct call *call, enum db_status status)
{
    switch (status) {
    case DB_NOT_FOUND:
    case DB_FOREIGN: /* whether it exists is nobody else's business */
        answer_error(call->answer, 404, "not_found", "there is no such row");
        break;
    case DB_REFUSED:
        answer_error(call->answer, 422, "refused", db_error(call->api->db));
        break;
    default:
        fprintf(stderr, "database: %s\n", db_error(call->api->db));
        answer_error(call->answer, 503, "database", "the database is not available");
        break;
    }
}

static void answer_counters(struct api *api, struct http_answer *answer)
{
    const struct {
        const char *name;
        uint64_t value;
    } counters[] = {
#define API_COUNTER_VALUE(name) {#name, api->counters.name},
        API_COUNTERS(API_COUNTER_VALUE)
#undef API_COUNTER_VALUE
            {"published", api->publisher->published_count},
        {"publish_failures", api->publisher->failure_count},
    };
    char *json = NULL;
    size_t size = 0;
    FILE *f = open_memstream(&json, &size);
    if (f) {
        for (size_t i = 0; i < sizeof(counters) / sizeof(counters[0]); i++)
            fprintf(f, "%s\"%s\":%" PRIu64, i ? "," : "{", counters[i].name, counters[i].value);
        fputs("}\n", f);
        fclose(f);
    }
    answer_plain(answer, 200, json);
}

/* ---- What the request is about ---- */

/* A positive decimal number, and nothing else. */
static bool parse_number(etag_str text, int64_t *out)
{
    int64_t value = 0;
    if (text.len == 0 || text.len > 15)
        return false;
    for (size_t i = 0; i < text.len; i++) {
        if (text.data[i] < '0' || text.data[i] > '9')
            return false;
        value = value * 10 + (text.data[i] - '0');
    }
    *out = value;
    return value > 0;
}

/* /api/v1/RESOURCE or /api/v1/RESOURCE/ID */
static bool route(struct call *call)
{
    etag_str path = call->request->path;
    const size_t prefix_len = strlen(API_PREFIX);
    if (path.len < prefix_len || memcmp(path.data, API_PREFIX, prefix_len) != 0)
        return false;
    path = (etag_str){path.data + prefix_len, path.len - prefix_len};
    const char *slash = memchr(path.data, '/', path.len);
    const size_t name_len = slash ? (size_t)(slash - path.data) : path.len;
    call->resource = resource_find((etag_str){path.data, name_len});
    call->id = 0;
    return call->resource &&
           (!slash || parse_number((etag_str){slash + 1, path.len - name_len - 1}, &call->id));
}

static bool allowed(const struct call *call)
{
    const etag_str method = call->request->method;
    if (is(method, "GET") || is(method, "HEAD"))
        return true;
    return call->id ? is(method, "PUT") || is(method, "DELETE") : is(method, "POST");
}

static bool authenticate(struct call *call)
{
    etag_str token = http_field(call->request, "Authorization");
    const char scheme[] = "Bearer ";
    if (token.len < strlen(scheme) || memcmp(token.data, scheme, strlen(scheme)) != 0)
        return false;
    token = (etag_str){token.data + strlen(scheme), token.len - strlen(scheme)};
    return db_authenticate(call->api->db, token, &call->principal) == DB_OK;
}

/* False: the query is not one of a list, or there is one where there must be none. */
static bool parse_page(const struct call *call, struct page *page,
                       etag_field filters[HTTP_ARGS_MAX])
{
    *page = (struct page){.number = 1, .size = PER_PAGE_DEFAULT, .filters = filters};
    for (size_t i = 0; i < call->request->arg_count; i++) {
        const etag_field arg = call->request->args[i];
        const struct column *column = resource_column(call->resource, arg.name);
        if (call->id || !arg.value.data)
            return false;
        if (is(arg.name, "page") || is(arg.name, "per_page")) {
            if (!parse_number(arg.value, is(arg.name, "page") ? &page->number : &page->size))
                return false;
        } else if (column && column->filter)
            filters[page->filter_count++] = arg;
        else
            return false;
    }
    return page->size <= PER_PAGE_MAX && page->number <= INT32_MAX;
}

/* ---- Names: the key of a representation, its ETag, what it depends on ---- */

struct names {
    etag_key key;
    char scope[NAME_BYTES_MAX]; /* "customer:7", which is a surrogate key too: all that is theirs */
    char list[NAME_BYTES_MAX];  /* "uploads:list:7" */
    char row[NAME_BYTES_MAX];   /* "upload:42" */
};

static void name_row(struct names *names, const struct call *call, int64_t id)
{
    snprintf(names->row, sizeof(names->row), "%s:%" PRId64, call->resource->surrogate, id);
}

static void name_all(struct names *names, const struct call *call)
{
    snprintf(names->scope, sizeof(names->scope), "customer:%" PRId64, call->principal.customer);
    snprintf(names->list, sizeof(names->list), "%s:list:%" PRId64, call->resource->path,
             call->principal.customer);
    name_row(names, call, call->id);
    ETAG_INIT(&names->key);
    /* No host: both processes of the demo serve the same resources under different ports. */
    names->key.resource.target = call->request->target;
    names->key.scope = (etag_scope){ETAG_SCOPE_NAMED, etag_str_of(names->scope)};
    names->key.release = etag_str_of(call->api->release);
}

static etag_request conditions(const struct call *call, const struct names *names)
{
    etag_request request;
    ETAG_INIT(&request);
    request.method = call->request->method;
    request.key = &names->key;
    request.fields = call->request->fields;
    request.field_count = call->request->field_count;
    return request;
}

/* "upload-42-10057" or "uploads-list-7-10057", with the quotes. */
static etag_str make_etag(char out[NAME_BYTES_MAX], const struct call *call, int64_t id,
                          int64_t version)
{
    if (id)
        snprintf(out, NAME_BYTES_MAX, "\"%s-%" PRId64 "-%" PRId64 "\"", call->resource->surrogate,
                 id, version);
    else
        snprintf(out, NAME_BYTES_MAX, "\"%s-list-%" PRId64 "-%" PRId64 "\"", call->resource->path,
                 call->principal.customer, version);
    return etag_str_of(out);
}

static etag_validators validators_of(etag_existence existence, etag_str etag)
{
    etag_validators v;
    ETAG_INIT(&v);
    v.existence = existence;
    v.etag = etag;
    v.last_modified = ETAG_NO_DATE;
    return v;
}

/* ---- Reading ---- */

/* What etag_precheck() or etag_finish() decided, with the fields that belong to it. */
static void answer_decided(struct call *call, int status, const etag_answer *decided)
{
    call->api->counters.not_modified += status == 304;
    if (status == 304)
        call->answer->status = 304;
    else
        answer_precondition_failed(call);
    for (size_t i = 0; i < decided->field_count; i++)
        http_answer_add(call->answer, decided->fields[i]);
}

static enum db_status render(struct call *call, const struct page *page, struct rendering *out)
{
    const int64_t customer = call->principal.customer;
    const enum db_status status =
        call->id ? db_render_row(call->api->db, call->resource, customer, call->id, out)
                 : db_render_list(call->api->db, call->resource, customer, page, out);
    call->api->counters.renders += status == DB_OK;
    return status;
}

static void get_representation(struct call *call)
{
    etag_field filters[HTTP_ARGS_MAX];
    struct page page;
    if (!parse_page(call, &page, filters)) {
        answer_error(call->answer, 400, "bad_query", "page, per_page or a filter is wrong");
        return;
    }
    struct names names;
    name_all(&names, call);
    const etag_request request = conditions(call, &names);
    etag_answer answer;
    ETAG_INIT(&answer);
    int http_status = etag_precheck(call->api->client, &request, call->request->token, &answer);
    if (http_status != 0) {
        call->api->counters.not_modified_cached += http_status == 304;
        answer_decided(call, http_status, &answer);
        return;
    }

    struct rendering rendering = {0};
    const enum db_status status = render(call, &page, &rendering);
    if (status != DB_OK) {
        answer_db_error(call, status);
        return;
    }
    char etag_text[NAME_BYTES_MAX];
    const etag_field fields[] = {
        {ETAG_LIT("ETag"), make_etag(etag_text, call, call->id, rendering.version)},
        {ETAG_LIT("Cache-Control"), ETAG_LIT(FRESH)}};
    const etag_str surrogates[] = {etag_str_of(call->id ? names.row : names.list),
                                   etag_str_of(names.scope)};
    etag_entry response;
    etag_entry_init(&response);
    response.fields = fields;
    response.field_count = 2;
    response.surrogates = surrogates;
    response.surrogate_count = 2;
    http_status = etag_finish(call->api->client, &request, &response, &answer);
    if (http_status != 200) {
        free(rendering.json);
        answer_decided(call, http_status, &answer);
        return;
    }
    call->answer->status = 200;
    call->answer->body = rendering.json;
    call->answer->body_len = rendering.len;
    http_answer_add(call->answer, fields[0]);
    http_answer_add(call->answer, fields[1]);
    http_answer_field(call->answer, "Content-Type", ETAG_LIT("application/json"));
}

/* ---- Writing ---- */

/* Inside the transaction: is the condition true, and does the row exist where it must? True: go on. */
static bool may_write_row(struct call *call, const struct names *names)
{
    int64_t version = 0;
    const enum db_status status = call->id
                                      ? db_row_version(call->api->db, call->resource,
                                                       call->principal.customer, call->id, &version)
                                      : db_list_version(call->api->db, call->resource,
                                                        call->principal.customer, &version);
    const bool absent_is_fine = is(call->request->method, "PUT");
    if (status != DB_OK && !(status == DB_NOT_FOUND && absent_is_fine)) {
        answer_db_error(call, status);
        return false;
    }
    char etag_text[NAME_BYTES_MAX];
    const etag_validators validators =
        status == DB_OK ? validators_of(ETAG_EXISTS, make_etag(etag_text, call, call->id, version))
                        : validators_of(ETAG_ABSENT, (etag_str){0});
    const etag_request request = conditions(call, names);
    if (etag_verdict_http_status(etag_evaluate(&request, &validators)) != 0) {
        answer_precondition_failed(call);
        if (validators.etag.data)
            http_answer_field(call->answer, "ETag", validators.etag);
        return false;
    }
    call->answer->status = call->id == 0 || status == DB_NOT_FOUND ? 201 : 200;
    return true;
}

/* Inside the transaction: the change, and the names that it makes stale. */
static enum db_status change_row(struct call *call, struct names *names, struct row_write *write)
{
    struct db *db = call->api->db;
    enum db_status status;
    if (is(call->request->method, "DELETE"))
        status = db_delete_row(db, call->resource, call->principal.customer, call->id);
    else
        status = db_put_row(db, write);
    name_row(names, call, write->id);
    if (status == DB_OK)
        status = db_outbox_add(db, names->row);
    if (status == DB_OK)
        status = db_outbox_add(db, names->list);
    return status;
}

static void answer_written(struct call *call, const struct row_write *write, bool told)
{
    char *json = NULL, etag[NAME_BYTES_MAX], location[128];
    if (!told) {
        if (asprintf(&json,
                     "{\"error\":\"not_published\",\"stored\":true,\"id\":%" PRId64
                     ",\"detail\":\"The change is stored. etagd could not be told yet, so the old "
                     "version may still be confirmed with 304; it is tried again.\"}\n",
                     write->id) < 0)
            json = NULL;
        answer_plain(call->answer, 500, json);
        return;
    }
    if (is(call->request->method, "DELETE")) {
        answer_plain(call->answer, 204, NULL);
        return;
    }
    if (asprintf(&json, "{\"id\":%" PRId64 ",\"version\":%" PRId64 "}\n", write->id,
                 write->version) < 0)
        json = NULL;
    answer_plain(call->answer, call->answer->status, json);
    if (is(call->request->method, "POST")) {
        snprintf(location, sizeof(location), API_PREFIX "%s/%" PRId64, call->resource->path,
                 write->id);
        http_answer_field(call->answer, "Location", etag_str_of(location));
        http_answer_field(call->answer, "ETag", make_etag(etag, call, write->id, write->version));
    }
}

static void write_row(struct call *call)
{
    struct names names;
    name_all(&names, call);
    const etag_request request = conditions(call, &names);
    etag_answer known;
    ETAG_INIT(&known);
    const int instead = etag_precheck(call->api->client, &request, call->request->token, &known);
    if (instead != 0) {
        answer_decided(call, instead, &known);
        return;
    }
    struct row_write write = {.resource = call->resource,
                              .customer = call->principal.customer,
                              .id = call->id,
                              .json = call->request->body};
    enum db_status status = db_begin_write(call->api->db);
    if (status == DB_OK) {
        if (!may_write_row(call, &names)) {
            db_rollback(call->api->db);
            return;
        }
        status = change_row(call, &names, &write);
        if (status == DB_OK)
            status = db_commit(call->api->db);
        else
            db_rollback(call->api->db);
    }
    if (status != DB_OK) {
        answer_db_error(call, status);
        return;
    }
    call->api->counters.writes++;
    answer_written(call, &write, publisher_publish(call->api->publisher));
}

/* ---- Entry points ---- */

etag_token api_begin(void *context)
{
    const struct api *api = context;
    return etag_token_now(api->client);
}

/* The normal checks, in the usual order; false: answered. */
static bool authorize(struct call *call)
{
    struct http_answer *answer = call->answer;
    if (call->request->refuse_with) {
        answer_error(answer, call->request->refuse_with, "too_large", "the request is too large");
        return false;
    }
    if (!route(call)) {
        answer_error(answer, 404, "not_found", "there is nothing at this path");
        return false;
    }
    if (!allowed(call)) {
        answer_error(answer, 405, "method", "not allowed here");
        http_answer_field(answer, "Allow",
                          call->id ? ETAG_LIT("GET, HEAD, PUT, DELETE")
                                   : ETAG_LIT("GET, HEAD, POST"));
        return false;
    }
    if (!authenticate(call)) {
        answer_error(answer, 401, "unauthorized", "a bearer token is needed");
        http_answer_field(answer, "WWW-Authenticate", ETAG_LIT("Bearer"));
        return false;
    }
    if (is_write(call) && !call->principal.may_write) {
        answer_error(answer, 403, "forbidden", "this token may only read");
        return false;
    }
    return true;
}

void api_answer(void *context, const struct http_request *request, struct http_answer *answer)
{
    struct api *api = context;
    if (is(request->path, "/debug/counters") && request->from_loopback) {
        answer_counters(api, answer);
        return;
    }
    api->counters.requests++;
    struct call call = {.api = api, .request = request, .answer = answer};
    if (!authorize(&call))
        return;
    if (is_write(&call))
        write_row(&call);
    else
        get_representation(&call);
}
