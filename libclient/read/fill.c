/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Filling is best effort: a fill that cannot be sent now is dropped and counted, since the next
 * render brings another. storable.c decides whether a response may be stored at all. Each call
 * first tries to connect and reads what came, also if it refuses the fill: a front end without an
 * index has no token, and would otherwise never get either.
 *
 * A retire is a fill without an entity tag and with the mark "gone": a daemon that does not know
 * the mark refuses it as a fill that has no tag, and nothing else happens.
 */
#include "fill.h"

#include "shadow_compare.h"

static etag_status refuse(struct etag_client *client, etag_reason reason, const char *why)
{
    client->reason = reason;
    counter_add(&client->counters->fills_refused, 1);
    return fault_set(&client->fault, ETAG_REFUSED, "%s", why ? why : etag_reason_text(reason));
}

etag_status fill_read(struct etag_client *client, etag_token token, const etag_entry *given,
                      struct rendering *out)
{
    etag_entry entry_copy;
    etag_key key_copy;

    out->request = (struct request){.kind = REQUEST_FILL, .fill = {.token = token}};
    out->reason = ETAG_REASON_BAD_KEY;
    out->why = out->bad_key = NULL;
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

    out->reason = storable_reduce(&entry_copy, &client->repeated, &out->request.fill.entry,
                                  &out->scratch, &out->why);
    return ETAG_OK;
}

void fill_name(struct etag_client *client, struct rendering *rendering)
{
    rendering->bad_key = key_canonicalize(&client->scratch.key, &rendering->request.fill.entry.key);
}

static etag_status fill_permit(struct etag_client *client, const struct rendering *rendering)
{
    if (rendering->reason != ETAG_REASON_NONE)
        return refuse(client, rendering->reason, rendering->why);
    if (rendering->bad_key)
        return refuse(client, ETAG_REASON_BAD_KEY, rendering->bad_key);
    if (rendering->request.fill.token.incarnation == 0)
        return refuse(client, ETAG_REASON_TOKEN_FOREIGN, NULL);
    counter_add(&client->counters->fills_grouped, rendering->scratch.surrogates.grouped);
    return ETAG_OK;
}

/* link: of client_progress(). What cannot leave now is dropped. */
static etag_status send_or_drop(struct etag_client *client, etag_status link,
                                struct request *request, uint64_t *counter)
{
    etag_status status = link;

    if (client->channel.state != CHANNEL_CLOSED)
        status = client_require_role(client, ROLE_FILL, "fill");
    if (client->channel.state != CHANNEL_CLOSED && status == ETAG_OK)
        status = channel_send(&client->channel, request, NULL, &client->fault);
    counter_add(status == ETAG_OK ? counter : &client->counters->fills_dropped, 1);
    return status;
}

etag_status fill_send(struct etag_client *client, struct rendering *rendering)
{
    const etag_status link = client_progress(client, false);
    const etag_status status = fill_permit(client, rendering);

    return status == ETAG_OK
               ? send_or_drop(client, link, &rendering->request, &client->counters->fills_sent)
               : status;
}

etag_status fill_send_retire(struct etag_client *client, etag_token token, const etag_key *key)
{
    struct request request = {
        .kind = REQUEST_FILL,
        .fill = {.token = token,
                 .entry = {.key = *key, .last_modified = ETAG_NO_DATE},
                 .gone = true},
    };

    return send_or_drop(client, client_progress(client, false), &request,
                        &client->counters->retires_sent);
}

etag_status etag_fill(etag_client *client, etag_token token, const etag_entry *entry)
{
    struct rendering rendering;

    client_begin(client);
    client->reason = ETAG_REASON_NONE;
    const etag_status link = client_progress(client, false);
    etag_status status = fill_read(client, token, entry, &rendering);
    if (status == ETAG_OK) {
        fill_name(client, &rendering);
        status = fill_permit(client, &rendering);
    }
    if (status != ETAG_OK)
        return status;
    if (shadow_compare(client, &rendering.request.fill.entry.key, token,
                       rendering.request.fill.entry.etag))
        return ETAG_OK; /* in earnest a 304 would have been given, and nothing filled */
    return send_or_drop(client, link, &rendering.request, &client->counters->fills_sent);
}

etag_status etag_fill_wait(etag_client *client, etag_token token, const etag_entry *entry,
                           etag_receipt *receipt)
{
    struct rendering rendering;
    struct reply reply;

    client_begin(client);
    client->reason = ETAG_REASON_NONE;
    etag_status status = fill_read(client, token, entry, &rendering);
    if (status == ETAG_OK) {
        fill_name(client, &rendering);
        status = fill_permit(client, &rendering);
    }
    if (status != ETAG_OK)
        return status;
    struct request *const request = &rendering.request;
    (void)shadow_compare(client, &request->fill.entry.key, token, request->fill.entry.etag);
    request->fill.want_verdict = true;
    status = client_call(client, request, REPLY_FILL, &reply);
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
