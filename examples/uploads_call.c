/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How every resource of the API uses etagd. Reading:
 *
 *   token        taken by api_begin, before anything of the request was read
 *   authorize    401, 403, 404, 405 come before any condition (RFC 9110 section 13.2.1)
 *   precheck     304 or 412 from shared memory; that is the whole answer
 *   render       else, in one read transaction, younger than the token
 *   finish       fills, so that the next one is answered from memory by every process of the host,
 *                and judges the conditions with the real validators
 *
 * Writing: the conditions are judged a second time inside the write transaction, which is what
 * counts; the names of what changed are committed with the change, in an outbox table, and sent to
 * etagd after COMMIT and before the answer. If etagd can't be reached, the writer gets a 500 that
 * says that the change is stored but old versions may still be confirmed; the name stays in the
 * outbox, and every process tries again until it is sent, also after a crash.
 */
#include "uploads_call.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NOT_STORED "no-cache, no-store, must-revalidate"

bool text_is(etag_str s, const char *text)
{
    return s.len == strlen(text) && memcmp(s.data, text, s.len) == 0;
}

bool call_is(const struct call *call, const char *method)
{
    return text_is(call->request->method, method);
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

void answer_plain(struct http_answer *answer, unsigned status, char *json)
{
    answer->status = status;
    answer->body = json;
    answer->body_len = json ? strlen(json) : 0;
    http_answer_field(answer, "Cache-Control", ETAG_LIT(NOT_STORED));
    if (json)
        http_answer_field(answer, "Content-Type", ETAG_LIT("application/json"));
}

void answer_error(struct http_answer *answer, unsigned status, const char *word, const char *detail)
{
    char quoted[300], *json = NULL;

    quote(quoted, sizeof(quoted), detail);
    if (asprintf(&json, "{\"error\":\"%s\",\"detail\":\"%s\"}\n", word, quoted) < 0)
        json = NULL;
    answer_plain(answer, status, json);
}

void answer_db_error(struct call *call, enum db_status status)
{
    switch (status) {
    case DB_NOT_FOUND:
    case DB_FOREIGN: /* others may not learn whether it exists */
        answer_error(call->answer, 404, "not_found", "there is nothing of that name");
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

static void answer_not_published(struct call *call)
{
    char id[40] = "", *json = NULL;

    if (call->written_id)
        snprintf(id, sizeof(id), ",\"id\":%" PRId64, call->written_id);
    if (asprintf(
            &json,
            "{\"error\":\"not_published\",\"stored\":true%s,\"detail\":\"The change is stored. "
            "etagd could not be reached yet, so the old version may still be confirmed with 304; "
            "it is tried again.\"}\n",
            id) < 0)
        json = NULL;
    answer_plain(call->answer, 500, json);
}

void answer_representation(struct http_answer *answer, unsigned status, const etag_entry *response)
{
    answer->status = status;
    for (size_t i = 0; i < response->field_count; i++)
        http_answer_add(answer, response->fields[i]);
}

/* A condition decided: 304, 412 or 428. */
static void answer_condition(struct call *call, int status)
{
    switch (status) {
    case 304:
        call->api->counters.not_modified++;
        call->answer->status = 304;
        break;
    case 428:
        answer_error(
            call->answer, 428, "precondition_required",
            "say which version you know, with If-Match, or If-None-Match: * for a new one");
        break;
    default:
        call->api->counters.precondition_failed++;
        answer_error(call->answer, 412, "precondition_failed", "it is not the version you know");
        break;
    }
}

static void answer_decided(struct call *call, int status, const etag_answer *decided)
{
    answer_condition(call, status);
    for (size_t i = 0; i < decided->field_count; i++)
        http_answer_add(call->answer, decided->fields[i]);
}

/* ---- Around a rendering ---- */

void call_name(struct call *call)
{
    snprintf(call->scope, sizeof(call->scope), "customer:%" PRId64, call->principal.customer);
    ETAG_INIT(&call->key);
    /* No host: both processes of the demo serve the same resources under different ports. */
    call->key.resource.target = call->request->target;
    call->key.scope = (etag_scope){ETAG_SCOPE_NAMED, etag_str_of(call->scope)};
    call->key.release = etag_str_of(call->api->release);
    ETAG_INIT(&call->conditions);
    call->conditions.method = call->request->method;
    call->conditions.key = &call->key;
    call->conditions.fields = call->request->fields;
    call->conditions.field_count = call->request->field_count;
    call->conditions.require_if_match = call->api->require_if_match;
}

bool call_precheck(struct call *call, etag_answer *known)
{
    ETAG_INIT(known);
    const int status = etag_precheck(call->api->client, &call->conditions, call->request->token,
                                     known);
    if (status == 0)
        return false;
    call->api->counters.not_modified_cached += status == 304;
    answer_decided(call, status, known);
    return true;
}

bool call_finish(struct call *call, const etag_entry *response, etag_answer *known)
{
    const int status = etag_finish(call->api->client, &call->conditions, response, known);

    if (status == 0)
        return false;
    answer_decided(call, status, known);
    return true;
}

void call_finish_error(struct call *call, enum db_status status, etag_answer *known)
{
    etag_entry response;

    etag_entry_init(&response);
    answer_db_error(call, status);
    response.http_status = (int)call->answer->status;
    (void)!call_finish(call, &response, known); /* an error is sent, whatever the conditions say */
}

/* ---- Around a write ---- */

/* Is the condition true, and does the thing exist where it must? False: answered. */
static bool may_write(struct call *call, const struct write_steps *steps, void *write)
{
    etag_validators current;

    etag_validators_init(&current);
    current.existence = ETAG_EXISTS;
    const enum db_status status = steps->current(call, write, &current);
    if (status == DB_NOT_FOUND && call_is(call, "PUT")) {
        current.existence = ETAG_ABSENT;
        current.etag = (etag_str){0};
    } else if (status != DB_OK) {
        answer_db_error(call, status);
        return false;
    }
    const int instead = etag_verdict_http_status(etag_evaluate(&call->conditions, &current));
    if (instead != 0) {
        answer_condition(call, instead);
        if (current.etag.data)
            http_answer_field(call->answer, "ETag", current.etag);
        return false;
    }
    call->answer->status = status == DB_NOT_FOUND ? 201 : 200;
    return true;
}

bool call_write(struct call *call, const struct write_steps *steps, void *write)
{
    etag_answer known;

    if (call_precheck(call, &known))
        return false;
    struct db *db = call->api->db;
    enum db_status status = db_begin_write(db);
    if (status == DB_OK) {
        if (!may_write(call, steps, write)) {
            db_rollback(db);
            return false;
        }
        status = steps->change(call, write);
        if (status == DB_OK)
            status = db_commit(db);
        else
            db_rollback(db);
    }
    if (status != DB_OK) {
        answer_db_error(call, status);
        return false;
    }
    call->api->counters.writes++;
    if (!publisher_publish(call->api->publisher)) {
        answer_not_published(call);
        return false;
    }
    return true;
}
