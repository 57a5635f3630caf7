/* SPDX-License-Identifier: Apache-2.0 */
/* check and token: through the public API, exactly as a front end does it. */
#include "ctl_daemon.h"
#include "ctl_key.h"
#include "ctl_output.h"
#include "ctl_token.h"
#include "text.h"

#include <inttypes.h>

#define HEADERS_MAX 64

/* ---- check ---- */

struct check {
    struct ctl_key key;
    const char *method;
    etag_field fields[HEADERS_MAX];
    size_t field_count;
    bool require_if_match, compression_suffixes;
};

static bool check_option(struct ctl *ctl, void *into, int option, const char *value)
{
    struct check *check = into;

    if (option != 'H')
        return ctl_key_option(ctl, &check->key, option, value);
    if (check->field_count < HEADERS_MAX &&
        ctl_split_field(value, &check->fields[check->field_count])) {
        check->field_count++;
        return true;
    }
    ctl_usage_error(ctl, "--header %s: want 'Name: value', at most %d times", value, HEADERS_MAX);
    return false;
}

static void print_verdict(const struct ctl *ctl, const etag_answer *answer)
{
    doc *out = doc_object(), *headers = doc_object();

    doc_words(out, "verdict", etag_verdict_word(answer->verdict));
    doc_words(out, "reason", etag_reason_word(answer->reason));
    doc_words(out, "detail", etag_reason_text(answer->reason));
    const int http_status = etag_verdict_http_status(answer->verdict);
    doc_number_or_null(out, "status", (uint64_t)http_status);
    if (answer->range != ETAG_RANGE_NONE)
        doc_words(out, "range", answer->range == ETAG_RANGE_HONOR ? "honor" : "ignore");
    for (size_t i = 0; i < answer->field_count; i++)
        doc_field(headers, answer->fields[i]);
    doc_add(out, "headers", headers);
    output_doc(ctl, out);
}

static int check_run(struct ctl *ctl)
{
    struct check check = {.method = "GET"};

    ctl_key_init(&check.key);
    if (!ctl_parse(ctl, check_option, &check) || !ctl_key_argument(ctl, &check.key))
        return ctl->exit_status;

    CLEANUP(cleanup_client) etag_client *client = ctl_client_open(ctl);
    if (!client || !ctl_client_connected(ctl, client))
        return ctl->exit_status;
    etag_request request;
    ETAG_INIT(&request);
    request.method = str_of(check.method);
    request.key = &check.key.key;
    request.fields = check.fields;
    request.field_count = check.field_count;
    request.require_if_match = check.require_if_match;
    request.compression_suffixes = check.compression_suffixes;
    etag_answer answer;
    ETAG_INIT(&answer);
    etag_check(client, &request, etag_token_now(client), &answer);
    print_verdict(ctl, &answer);
    return CTL_DONE;
}

static const struct ctl_option check_options[] = {
    {'m', "method", "M", "default: GET", CTL_TEXT(struct check, method)},
    {'H', "header", "'Name: value'", "of the request; may be given several times"},
    {'R', "require-if-match", NULL, "a method that writes without If-Match is answered 428",
     CTL_FLAG(struct check, require_if_match)},
    {'S', "compression-suffixes", NULL, "If-None-Match: \"x-gzip\" lists \"x\" too",
     CTL_FLAG(struct check, compression_suffixes)},
    {0}};

const struct ctl_command ctl_check = {
    "check",
    "KEY",
    "Judges a request as a front end would",
    "Prints the verdict (not_modified, precondition_failed, precondition_required, proceed,\n"
    "unknown), its reason, what a 304 would carry, and what becomes of a Range. Example:\n"
    "  etagctl check /a --header 'If-None-Match: \"v1\"'",
    check_options,
    true,
    check_run};

/* ---- token ---- */

void ctl_token_format(etag_token token, char out[CTL_TOKEN_BYTES])
{
    snprintf(out, CTL_TOKEN_BYTES, "%" PRIx64 ".%" PRIx64, token.incarnation, token.lsn);
}

/* One to 16 hex digits up to the end byte; NULL if it is something else. */
static const char *hex_parse(const char *text, char end, uint64_t *out)
{
    const size_t len = strspn(text, "0123456789abcdefABCDEF");

    *out = strtoull(text, NULL, 16);
    return len >= 1 && len <= 16 && text[len] == end ? text + len : NULL;
}

bool ctl_token_parse(const char *text, etag_token *out)
{
    const char *dot = hex_parse(text, '.', &out->incarnation);

    return dot && hex_parse(dot + 1, '\0', &out->lsn) && out->incarnation != 0;
}

static int token_run(struct ctl *ctl)
{
    char text[CTL_TOKEN_BYTES];

    if (!ctl_no_options(ctl))
        return ctl->exit_status;
    CLEANUP(cleanup_client) etag_client *client = ctl_client_open(ctl);
    if (!client || !ctl_client_connected(ctl, client))
        return ctl->exit_status;
    const etag_token token = etag_token_now(client);
    if (token.incarnation == 0)
        return ctl_fail(ctl, ETAG_DENIED,
                        "no token: the daemon gave this process no shared memory (role 'read'?)");
    ctl_token_format(token, text);
    if (ctl->json) {
        doc *out = doc_object();
        doc_words(out, "token", text);
        output_doc(ctl, out);
    } else
        puts(text);
    return CTL_DONE;
}

const struct ctl_command ctl_token = {
    "token",
    "",
    "Prints a fill token, as a front end takes it before it reads data",
    "For 'etagctl fill --token'.",
    NULL,
    false,
    token_run};
