/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ETags are made of row versions, which are never used twice; the body is a function of the row.
 * There is no Last-Modified: rows can change twice in a second. A list depends on all rows of its
 * customer, whatever page it shows.
 */
#include "uploads_rows.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PER_PAGE_DEFAULT 25
#define PER_PAGE_MAX 100

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

bool rows_route(struct call *call, etag_str path)
{
    const char *slash = memchr(path.data, '/', path.len);
    const size_t name_len = slash ? (size_t)(slash - path.data) : path.len;

    call->resource = resource_find((etag_str){path.data, name_len});
    call->id = 0;
    return call->resource &&
           (!slash || parse_number((etag_str){slash + 1, path.len - name_len - 1}, &call->id));
}

etag_str rows_methods(const struct call *call)
{
    return call->id ? ETAG_LIT("GET, HEAD, PUT, DELETE, OPTIONS")
                    : ETAG_LIT("GET, HEAD, POST, OPTIONS");
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
        if (text_is(arg.name, "page") || text_is(arg.name, "per_page")) {
            if (!parse_number(arg.value, text_is(arg.name, "page") ? &page->number : &page->size))
                return false;
        } else if (column && column->filter)
            filters[page->filter_count++] = arg;
        else
            return false;
    }
    return page->size <= PER_PAGE_MAX && page->number <= INT32_MAX;
}

/* ---- Names ---- */

/* Surrogate keys. "upload:42" */
static etag_str name_row(char out[NAME_BYTES_MAX], const struct call *call, int64_t id)
{
    snprintf(out, NAME_BYTES_MAX, "%s:%" PRId64, call->resource->surrogate, id);
    return etag_str_of(out);
}

/* "uploads:list:7" */
static etag_str name_list(char out[NAME_BYTES_MAX], const struct call *call)
{
    snprintf(out, NAME_BYTES_MAX, "%s:list:%" PRId64, call->resource->path,
             call->principal.customer);
    return etag_str_of(out);
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

/* ---- Reading ---- */

static enum db_status render(struct call *call, const struct page *page, struct rendering *out)
{
    const int64_t customer = call->principal.customer;
    const enum db_status status =
        call->id ? db_render_row(call->api->db, call->resource, customer, call->id, out)
                 : db_render_list(call->api->db, call->resource, customer, page, out);

    call->api->counters.renders += status == DB_OK;
    return status;
}

void rows_get(struct call *call)
{
    etag_field filters[HTTP_ARGS_MAX];
    struct page page;
    etag_answer known;

    if (!parse_page(call, &page, filters)) {
        answer_error(call->answer, 400, "bad_query", "page, per_page or a filter is wrong");
        return;
    }
    if (call_precheck(call, &known))
        return;
    struct rendering rendering = {0};
    const enum db_status status = render(call, &page, &rendering);
    if (status != DB_OK) {
        call_finish_error(call, status, &known);
        return;
    }
    char etag[NAME_BYTES_MAX], name[NAME_BYTES_MAX];
    const etag_field fields[] = {
        {ETAG_LIT("ETag"), make_etag(etag, call, call->id, rendering.version)},
        {ETAG_LIT("Cache-Control"), ETAG_LIT(API_FRESH)},
        {ETAG_LIT("Content-Type"), ETAG_LIT("application/json")}};
    const etag_str surrogates[] = {call->id ? name_row(name, call, call->id)
                                            : name_list(name, call),
                                   etag_str_of(call->scope)};
    etag_entry response;
    etag_entry_init(&response);
    response.fields = fields;
    response.field_count = sizeof(fields) / sizeof(fields[0]);
    response.surrogates = surrogates;
    response.surrogate_count = sizeof(surrogates) / sizeof(surrogates[0]);
    if (call_finish(call, &response, &known)) {
        free(rendering.json);
        return;
    }
    answer_representation(call->answer, 200, &response);
    call->answer->body = rendering.json;
    call->answer->body_len = rendering.len;
}

/* ---- Writing ---- */

struct row_change {
    struct row_write row;
    char etag_before[NAME_BYTES_MAX];
};

static enum db_status current(struct call *call, void *argument, etag_validators *out)
{
    struct row_change *write = argument;
    struct db *db = call->api->db;
    const int64_t customer = call->principal.customer;
    int64_t version = 0;
    const enum db_status status = call->id
                                      ? db_row_version(db, call->resource, customer, call->id,
                                                       &version)
                                      : db_list_version(db, call->resource, customer, &version);

    out->etag = make_etag(write->etag_before, call, call->id, version);
    return status;
}

static enum db_status change(struct call *call, void *argument)
{
    struct db *db = call->api->db;
    struct row_write *write = &((struct row_change *)argument)->row;
    char row[NAME_BYTES_MAX], list[NAME_BYTES_MAX];
    enum db_status status;

    if (call_is(call, "DELETE"))
        status = db_delete_row(db, call->resource, call->principal.customer, call->id);
    else
        status = db_put_row(db, write);
    if (status == DB_OK)
        status = db_outbox_add(db, name_row(row, call, write->id).data);
    if (status == DB_OK)
        status = db_outbox_add(db, name_list(list, call).data);
    call->written_id = write->id;
    return status;
}

static void answer_written(struct call *call, const struct row_write *write)
{
    char *json = NULL, etag[NAME_BYTES_MAX], location[128];

    if (call_is(call, "DELETE")) {
        answer_plain(call->answer, 204, NULL);
        return;
    }
    if (asprintf(&json, "{\"id\":%" PRId64 ",\"version\":%" PRId64 "}\n", write->id,
                 write->version) < 0)
        json = NULL;
    answer_plain(call->answer, call->id ? call->answer->status : 201, json);
    if (call_is(call, "POST")) {
        snprintf(location, sizeof(location), API_PREFIX "%s/%" PRId64, call->resource->path,
                 write->id);
        http_answer_field(call->answer, "Location", etag_str_of(location));
        http_answer_field(call->answer, "ETag", make_etag(etag, call, write->id, write->version));
    }
}

void rows_write(struct call *call)
{
    static const struct write_steps steps = {current, change};
    struct row_change write = {.row = {.resource = call->resource,
                                       .customer = call->principal.customer,
                                       .id = call->id,
                                       .json = call->request->body}};

    if (call_write(call, &steps, &write))
        answer_written(call, &write.row);
}
