/* SPDX-License-Identifier: Apache-2.0 */
/* fill: what a front end does after rendering, but waits for the daemon's verdict. */
#include "ctl_daemon.h"
#include "ctl_key.h"
#include "ctl_output.h"
#include "ctl_token.h"
#include "text.h"

#define HEADERS_MAX 64

struct fill {
    struct ctl_key key;
    etag_entry entry;
    etag_token token;
    etag_field fields[HEADERS_MAX];
    etag_str surrogates[TARGETS_PER_EVENT_MAX];
};

/* Returns false after an error message. */
static bool fill_option(struct ctl *ctl, void *into, int option, const char *value)
{
    struct fill *fill = into;
    etag_entry *entry = &fill->entry;

    switch (option) {
    case 'e':
        entry->etag = str_of(value);
        return true;
    case 's':
        if (entry->surrogate_count == TARGETS_PER_EVENT_MAX) {
            ctl_usage_error(ctl, "at most %d --surrogate", TARGETS_PER_EVENT_MAX);
            return false;
        }
        fill->surrogates[entry->surrogate_count++] = str_of(value);
        return true;
    case 'H':
        if (entry->field_count == HEADERS_MAX ||
            !ctl_split_field(value, &fill->fields[entry->field_count])) {
            ctl_usage_error(ctl, "--header %s: want 'Name: value', at most %d times", value,
                            HEADERS_MAX);
            return false;
        }
        entry->field_count++;
        return true;
    case 't':
        if (ctl_token_parse(value, &fill->token))
            return true;
        ctl_usage_error(ctl, "--token %s: want what 'etagctl token' printed", value);
        return false;
    default:
        return ctl_key_option(ctl, &fill->key, option, value);
    }
}

static bool fill_parse(struct ctl *ctl, struct fill *fill)
{
    ctl_key_init(&fill->key);
    etag_entry_init(&fill->entry);
    fill->entry.key = &fill->key.key;
    fill->entry.fields = fill->fields;
    fill->entry.surrogates = fill->surrogates;
    if (!ctl_parse(ctl, fill_option, fill))
        return false;
    if (!fill->entry.etag.data) {
        ctl_usage_error(ctl, "want --etag, with its quotes: --etag '\"v1\"'");
        return false;
    }
    return ctl_key_argument(ctl, &fill->key);
}

static int print_refused(const struct ctl *ctl, etag_client *client)
{
    const etag_reason reason = etag_fill_reason(client);
    const char *error = etag_client_error(client);

    if (!error[0])
        error = etag_reason_text(reason);
    if (ctl->json) {
        doc *out = doc_object();
        doc_bool(out, "stored", false);
        doc_words(out, "reason", etag_reason_word(reason));
        doc_words(out, "error", error);
        doc_words(out, "status", "refused");
        output_doc(ctl, out);
    }
    fprintf(stderr, "etagctl fill: refused (%s): %s\n", etag_reason_word(reason), error);
    return CTL_NO;
}

static int fill_run(struct ctl *ctl)
{
    struct fill fill = {0};

    if (!fill_parse(ctl, &fill))
        return ctl->exit_status;
    CLEANUP(cleanup_client) etag_client *client = ctl_client_open(ctl);
    if (!client || !ctl_client_connected(ctl, client))
        return ctl->exit_status;
    if (fill.token.incarnation == 0)
        fill.token = etag_token_now(client);
    etag_receipt receipt;
    ETAG_INIT(&receipt);
    const etag_status status = etag_fill_wait(client, fill.token, &fill.entry, &receipt);
    if (status == ETAG_REFUSED)
        return print_refused(ctl, client);
    if (status != ETAG_OK)
        return ctl_fail(ctl, status, etag_client_error(client));
    doc *out = doc_object();
    doc_bool(out, "stored", true);
    doc_number(out, "lsn", receipt.lsn);
    output_doc(ctl, out);
    return CTL_DONE;
}

static const struct ctl_option fill_options[] = {
    {'e', "etag", "E", "with its quotes: '\"v1\"' or 'W/\"v1\"'"},
    {'s', "surrogate", "S", "what it depends on; may be given several times"},
    {'H', "header", "'Name: value'", "of the response; may be given several times"},
    {'t', "token", "T", "of 'etagctl token'; default: one taken now"},
    {'L', "strong-date", NULL, "no two versions share the second of its Last-Modified",
     CTL_FLAG(struct fill, entry.last_modified_is_strong)},
    {'a', "max-age-s", "N", "time to live in the cache; default: no end",
     CTL_NUMBER(struct fill, entry.max_age_s, UINT32_MAX)},
    {0}};

const struct ctl_command ctl_fill = {
    "fill",
    "KEY",
    "Stores an entry as a front end would, and waits for the verdict",
    "Exit status 1: refused; the reason is printed.",
    fill_options,
    true,
    fill_run};
