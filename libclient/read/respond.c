/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A whole request in two calls: one before the handler's work, one after it. Both only combine the
 * other public calls, in the right order:
 *
 *   before   require, look up, judge                       304, 412, 428, or go on
 *   after    correct what the cache has (refill.h);       304, 412, or the response as it is
 *            judge with the response's own validators
 *
 * The second judgement covers what the cache did not know. It is only for GET and HEAD, since
 * another method has done its work by then, and its conditions were judged inside its transaction;
 * and only for a 2xx (RFC 9110 section 13.2.1).
 */
#include "precondition.h"
#include "refill.h"
#include "shadow_compare.h"
#include "text.h"

int etag_precheck(etag_client *client, const etag_request *request, etag_token token,
                  etag_answer *answer)
{
    return etag_verdict_http_status(etag_check(client, request, token, answer));
}

/* ---- After rendering ---- */

/* The arguments as this library knows them. */
struct ending {
    etag_request request;
    /* with what it leaves to the request */
    etag_entry response;
    etag_answer answer;
};

/* Takes what abi_in() made of a struct. False: nothing. */
static bool read_in(void *out, size_t bytes, const void *seen)
{
    if (seen && seen != out)
        memcpy(out, seen, bytes);
    return seen;
}

static bool has_field(const etag_request *request, etag_str name)
{
    for (size_t i = 0; i < request->field_count; i++)
        if (request->fields[i].value.data && str_equal_nocase(request->fields[i].name, name))
            return true;
    return false;
}

static const char *ending_read(struct ending *e, const etag_request *request,
                               const etag_entry *response, const etag_answer *answer)
{
    if (!read_in(&e->request, sizeof(e->request),
                 abi_in(request, &e->request, sizeof(e->request), ABI_FIRST_REQUEST)))
        return ABI_WHY(request, sizeof(e->request), "request");
    if (!read_in(&e->response, sizeof(e->response),
                 abi_in(response, &e->response, sizeof(e->response), ABI_FIRST_ENTRY)))
        return ABI_WHY(response, sizeof(e->response), "response");
    if (!read_in(&e->answer, sizeof(e->answer),
                 abi_in_answer(answer, &e->answer, sizeof(e->answer), ABI_FIRST_ANSWER)))
        return "the answer's size is not set";
    if (!e->response.key)
        e->response.key = e->request.key;
    if (!e->response.key)
        return "neither request nor response has a key";
    if (!e->response.method.data)
        e->response.method = e->request.method;
    e->response.had_authorization |= has_field(&e->request, ETAG_LIT("Authorization"));
    return NULL;
}

static void answer_pass(etag_answer *answer, etag_reason reason)
{
    answer->verdict = ETAG_PROCEED;
    answer->reason = reason;
    answer->fields = NULL;
    answer->field_count = 0;
    answer->range = ETAG_RANGE_NONE;
}

static void judge_response(struct etag_client *client, struct ending *e,
                           const struct entry *rendered)
{
    const etag_validators validators = {
        .size = sizeof(validators),
        .existence = ETAG_EXISTS,
        .etag = rendered->etag,
        .last_modified = rendered->last_modified,
        .last_modified_is_strong = e->response.last_modified_is_strong};
    const struct judgement judgement = precondition_judge(&e->request, &validators, DATES_STRONG);

    answer_from_response(&e->answer, &client->scratch, rendered, judgement.verdict,
                         judgement.reason);
    e->answer.range = judgement.verdict == ETAG_PROCEED
                          ? precondition_range(&e->request, &validators)
                          : ETAG_RANGE_NONE;
}

/* The answer is about the entry of its key. etag_check() gives each answer a reason, so one without
 * is of a request that was not looked up under it; and what is answered to a request for a part may
 * be about the part. */
static bool is_of_the_entry(const struct ending *e)
{
    return e->answer.reason != ETAG_REASON_NONE && !has_field(&e->request, ETAG_LIT("Range"));
}

/* A response with a key of its own may be another page than what was looked up. */
static struct refill_place place_of(const struct ending *e)
{
    if (e->response.key != e->request.key)
        return (struct refill_place){0};
    return (struct refill_place){{.low = e->answer.place[0], .high = e->answer.place[1]}};
}

/* The representation is not there any more. */
static void settle_gone(struct etag_client *client, const struct ending *e)
{
    etag_key copy;

    if (!client->shadow && refill_finds_nothing(client, place_of(e)))
        return;
    const etag_key *key = abi_in(e->response.key, &copy, sizeof(copy), ABI_FIRST_KEY);
    if (!key)
        return;
    const int http_status = e->response.http_status;
    if (client->shadow && (http_status == 404 || http_status == 410) &&
        !key_canonicalize(&client->scratch.key, key))
        (void)shadow_compare(client, key, e->answer.token, (etag_str){0});
    if (is_of_the_entry(e))
        refill_gone(client, e->answer.token, key);
}

static bool is_success(int http_status)
{
    return http_status >= 200 && http_status <= 299;
}

int etag_finish(etag_client *client, const etag_request *request, const etag_entry *response,
                etag_answer *answer)
{
    struct ending e;
    struct rendering rendering;

    client_begin(client);
    client->reason = ETAG_REASON_NONE;
    const char *const wrong = ending_read(&e, request, response, answer);
    if (wrong) {
        fault_set(&client->fault, ETAG_INVALID, "%s", wrong);
        return 0;
    }
    const bool is_get = str_equal(e.request.method, ETAG_LIT("GET"));
    const bool is_read = is_get || str_equal(e.request.method, ETAG_LIT("HEAD"));
    if (!is_read || !is_success(e.response.http_status)) {
        if (is_get && refill_is_gone(e.response.http_status))
            settle_gone(client, &e);
        answer_pass(&e.answer, is_read ? ETAG_REASON_HTTP_STATUS : ETAG_REASON_METHOD);
    } else {
        if (fill_read(client, e.answer.token, &e.response, &rendering) != ETAG_OK)
            return 0;
        if (is_get) {
            const struct refill_place place = place_of(&e);
            if (!refill_knows(client, place))
                fill_name(client, &rendering);
            refill_answered(client, &rendering, is_of_the_entry(&e), place);
        }
        judge_response(client, &e, &rendering.request.fill.entry);
    }
    (void)abi_out(answer, &e.answer, sizeof(e.answer), ABI_FIRST_ANSWER);
    return etag_verdict_http_status(e.answer.verdict);
}
