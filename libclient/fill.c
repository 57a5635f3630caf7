/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Filling. Best effort: a fill that cannot be sent now is dropped and counted, since the next render brings another.
 * Whether a response may be stored at all is decided first, by storable.c; then the connection is looked after, also for a
 * fill that is refused: a front end that has no index yet has no token either, and would never get one.
 */
#include "client.h"
#include "shadow.h"
#include "storable.h"

static etag_status refuse(struct etag_client *client, etag_reason reason, const char *why)
{
    client->reason = reason;
    counter_add(&client->counters->fills_refused, 1);
    return fault_set(&client->fault, ETAG_REFUSED, "%s", why ? why : etag_reason_text(reason));
}

/* The request that stores the response, borrowing from it and from scratch. */
static etag_status fill_request(struct etag_client *client, etag_token token,
                                const etag_entry *given, struct storable_scratch *scratch,
                                struct request *out)
{
    etag_entry entry_copy;
    etag_key key_copy;
    const char *why = NULL;
    const etag_entry *response = abi_in(given, &entry_copy, sizeof(entry_copy), ABI_FIRST_ENTRY);
    if (!response)
        return fault_set(&client->fault, ETAG_INVALID, "%s",
                         ABI_WHY(given, sizeof(entry_copy), "entry"));
    const etag_key *key = abi_in(response->key, &key_copy, sizeof(key_copy), ABI_FIRST_KEY);
    if (!key)
        return fault_set(&client->fault, ETAG_INVALID, "%s",
                         response->key ? ABI_WHY(response->key, sizeof(key_copy), "key")
                                       : "the entry has no key");
    if (response != &entry_copy)
        entry_copy = *response;
    entry_copy.key = key;

    *out = (struct request){.kind = REQUEST_FILL, .fill = {.token = token}};
    const etag_reason reason = storable_reduce(&entry_copy, &client->repeated, &out->fill.entry,
                                               scratch, &why);
    if (reason != ETAG_REASON_NONE)
        return refuse(client, reason, why);
    why = key_canonicalize(&client->scratch.key, key);
    if (why)
        return refuse(client, ETAG_REASON_LIMIT, why);
    if (token.incarnation == 0)
        return refuse(client, ETAG_REASON_TOKEN_FOREIGN, NULL);
    return ETAG_OK;
}

static etag_status send_fill(struct etag_client *client, struct request *request)
{
    const etag_status status = client_require_role(client, ROLE_FILL, "fill");
    if (status != ETAG_OK)
        return status;
    return channel_send(&client->channel, request, NULL, &client->fault);
}

etag_status etag_fill(etag_client *client, etag_token token, const etag_entry *entry)
{
    struct storable_scratch scratch;
    struct request request = {.kind = REQUEST_NONE};

    client_begin(client);
    client->reason = ETAG_REASON_NONE;
    const etag_status link = client_keep_up(client, false);
    etag_status status = fill_request(client, token, entry, &scratch, &request);
    if (status != ETAG_OK)
        return status;
    if (shadow_compare(client, &request.fill.entry.key, token, request.fill.entry.etag))
        return ETAG_OK; /* in earnest a 304 would have been given, and nothing filled */
    status = client->channel.state == CHANNEL_CLOSED ? link : send_fill(client, &request);
    counter_add(
        status == ETAG_OK ? &client->counters->fills_sent : &client->counters->fills_dropped, 1);
    return status;
}

etag_status etag_fill_wait(etag_client *client, etag_token token, const etag_entry *entry,
                           etag_receipt *receipt)
{
    struct storable_scratch scratch;
    struct request request = {.kind = REQUEST_NONE};
    struct reply reply;

    client_begin(client);
    client->reason = ETAG_REASON_NONE;
    etag_status status = fill_request(client, token, entry, &scratch, &request);
    if (status != ETAG_OK)
        return status;
    (void)shadow_compare(client, &request.fill.entry.key, token, request.fill.entry.etag);
    request.fill.want_verdict = true;
    status = client_call(client, &request, REPLY_FILL, &reply);
    if (status != ETAG_OK)
        return status;
    counter_add(&client->counters->fills_sent, 1);
    if (reply.fill.reason != ETAG_REASON_NONE) {
        client->reason = reply.fill.reason;
        return fault_set(&client->fault, ETAG_REFUSED, "%s", etag_reason_text(reply.fill.reason));
    }
    const etag_receipt full = {.size = sizeof(full), .lsn = reply.fill.lsn};
    (void)abi_out(receipt, &full, sizeof(full), ABI_FIRST_RECEIPT);
    return ETAG_OK;
}
