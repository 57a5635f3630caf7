/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The uploads API on etagd. What comes before any condition: which resource, which methods, who
 * asks. How etagd is used is in uploads_call.c; what the resources are, in uploads_rows.c and
 * uploads_files.c. Scope: the customer whose bearer token it is.
 */
#include "uploads_call.h"
#include "uploads_files.h"
#include "uploads_rows.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

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

/* Under /api/v1/: files/NAME, or what the table of resources has. */
static bool route(struct call *call)
{
    const etag_str path = call->request->path;
    const size_t prefix_len = strlen(API_PREFIX);

    if (path.len < prefix_len || memcmp(path.data, API_PREFIX, prefix_len) != 0)
        return false;
    const etag_str rest = {path.data + prefix_len, path.len - prefix_len};
    return files_route(call, rest) || rows_route(call, rest);
}

static etag_str methods(const struct call *call)
{
    return call->resource ? rows_methods(call) : files_methods();
}

/* One of the methods of a list with ", " between. */
static bool lists(etag_str list, etag_str method)
{
    for (const char *at = list.data, *end = list.data + list.len; at < end;) {
        const size_t len = strcspn(at, ",");
        if (len == method.len && memcmp(at, method.data, len) == 0)
            return true;
        at += len + strlen(", ");
    }
    return false;
}

static bool is_known_method(etag_str method)
{
    return lists(ETAG_LIT("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS, TRACE, CONNECT, QUERY"),
                 method);
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

static bool is_read(const struct call *call)
{
    return call_is(call, "GET") || call_is(call, "HEAD");
}

/* Requests that need no user; false: answered. */
static bool accept_method(struct call *call)
{
    struct http_answer *answer = call->answer;

    if (!is_known_method(call->request->method)) {
        answer_error(answer, 501, "method", "there is no such method");
        return false;
    }
    if (!lists(methods(call), call->request->method))
        answer_error(answer, 405, "method", "not allowed here");
    else if (call_is(call, "OPTIONS"))
        answer_plain(answer, 204, NULL);
    else
        return true;
    http_answer_field(answer, "Allow", methods(call));
    return false;
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
    if (!accept_method(call))
        return false;
    if (!authenticate(call)) {
        answer_error(answer, 401, "unauthorized", "a bearer token is needed");
        http_answer_field(answer, "WWW-Authenticate", ETAG_LIT("Bearer"));
        return false;
    }
    if (!is_read(call) && !call->principal.may_write) {
        answer_error(answer, 403, "forbidden", "this token may only read");
        return false;
    }
    return true;
}

/* ---- Entry points ---- */

etag_token api_begin(void *context)
{
    const struct api *api = context;

    return etag_token_now(api->client);
}

void api_answer(void *context, const struct http_request *request, struct http_answer *answer)
{
    struct api *api = context;

    if (text_is(request->path, "/debug/counters") && request->from_loopback) {
        answer_counters(api, answer);
        return;
    }
    api->counters.requests++;
    struct call call = {.api = api, .request = request, .answer = answer};
    if (!authorize(&call))
        return;
    call_name(&call);
    if (is_read(&call))
        call.resource ? rows_get(&call) : files_get(&call);
    else
        call.resource ? rows_write(&call) : files_write(&call);
}
