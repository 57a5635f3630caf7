/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Invalidation: waiting for the answer, or as an operation that an event loop finishes. An operation ends in one of four
 * ways: its answer, the end of its connection, its time, the end of its client. The first that comes counts. Where the whole
 * request had left when the connection ended, it may have happened (TIMEOUT); where not, it has not (UNAVAILABLE).
 */
#include "client.h"

#include "clocktime.h"

/* The request that invalidates, borrowing from the targets. */
static etag_status invalidate_request(struct etag_client *client, const etag_targets *given,
                                      struct request *out)
{
    etag_targets copy;
    const etag_targets *targets = abi_in(given, &copy, sizeof(copy), ABI_FIRST_TARGETS);
    const char *wrong = targets ? targets_check(targets) : "the targets' size is not set";
    if (wrong)
        return fault_set(&client->fault, ETAG_INVALID, "%s", wrong);
    *out = (struct request){.kind = REQUEST_INVALIDATE, .targets = *targets};
    return ETAG_OK;
}

static void give_receipt(etag_receipt *receipt, uint64_t lsn)
{
    const etag_receipt full = {.size = sizeof(full), .lsn = lsn};
    (void)abi_out(receipt, &full, sizeof(full), ABI_FIRST_RECEIPT);
}

etag_status etag_invalidate(etag_client *client, const etag_targets *targets, etag_receipt *receipt)
{
    struct request request;
    struct reply reply;

    client_begin(client);
    etag_status status = invalidate_request(client, targets, &request);
    if (status == ETAG_OK)
        status = client_call(client, &request, REPLY_RECEIPT, &reply);
    if (status != ETAG_OK)
        return status;
    counter_add(&client->counters->invalidations, 1);
    give_receipt(receipt, reply.lsn);
    return ETAG_OK;
}

/* ---- Operations ---- */

static void op_link(struct etag_client *client, struct etag_op *op)
{
    op->client = client;
    op->previous = client->last_op;
    if (client->last_op)
        client->last_op->next = op;
    else
        client->first_op = op;
    client->last_op = op;
    client->op_count++;
}

static void op_unlink(struct etag_op *op)
{
    struct etag_client *client = op->client;
    if (!client)
        return;
    if (op->previous)
        op->previous->next = op->next;
    else
        client->first_op = op->next;
    if (op->next)
        op->next->previous = op->previous;
    else
        client->last_op = op->previous;
    client->op_count--;
    op->client = NULL;
    op->next = op->previous = NULL;
}

static void op_end(struct etag_op *op, etag_status status, const char *text)
{
    fault_set(&op->fault, status, "%s", text);
    op->done = true;
}

etag_status etag_invalidate_start(etag_client *client, const etag_targets *targets, etag_op **out)
{
    struct request request;

    *out = NULL;
    client_begin(client);
    etag_status status = invalidate_request(client, targets, &request);
    if (status != ETAG_OK)
        return status;
    if (client->op_count >= CLIENT_OPS_MAX)
        return fault_set(&client->fault, ETAG_AGAIN,
                         "%d operations are open: take their results first", CLIENT_OPS_MAX);
    status = client_keep_up(client, true);
    if (client->channel.state == CHANNEL_CLOSED)
        return status;
    status = client_require_role(client, ROLE_MUTATE, "mutate");
    if (status != ETAG_OK)
        return status;

    CLEANUP(cleanup_free) struct etag_op *op = calloc(1, sizeof(*op));
    if (!op)
        return fault_set(&client->fault, ETAG_SYSTEM, "no memory for an operation");
    op->deadline_ns = channel_now_ns() + client->timeout_ms * NS_PER_MS;
    status = channel_send(&client->channel, &request, &op->sent, &client->fault);
    if (status != ETAG_OK)
        return status;
    op_link(client, op);
    *out = take_ptr(op);
    return ETAG_OK;
}

etag_status etag_op_result(etag_op *op, etag_receipt *receipt)
{
    struct etag_client *client = op->client;
    if (client)
        client_begin(client);
    if (!op->done && channel_now_ns() >= op->deadline_ns)
        op_end(op, ETAG_TIMEOUT, "no answer from the daemon in time");
    if (!op->done)
        return ETAG_AGAIN;
    const etag_status status = op->fault.status;
    if (status == ETAG_OK)
        give_receipt(receipt, op->lsn);
    else if (client)
        client->fault = op->fault;
    (void)etag_op_forget(op);
    return status;
}

etag_op *etag_op_forget(etag_op *op)
{
    if (op)
        op_unlink(op);
    free(op);
    return NULL;
}

void ops_answer(struct etag_client *client, const struct reply *reply)
{
    /* Answers come in the order of their requests, so the search ends at once. */
    struct etag_op *op = client->first_op;
    while (op && op->sent.id != reply->id)
        op = op->next;
    if (!op || op->done)
        return;
    op->done = true;
    if (channel_reply_status(reply, REPLY_RECEIPT, &op->fault) != ETAG_OK)
        return;
    fault_clear(&op->fault);
    op->lsn = reply->lsn;
    counter_add(&client->counters->invalidations, 1);
}

void ops_lose_connection(struct etag_client *client)
{
    for (struct etag_op *op = client->first_op; op; op = op->next) {
        if (op->done)
            continue;
        if (client->socket_is_parents)
            op_end(op, ETAG_TIMEOUT, "the operation is the parent process's");
        else if (channel_was_sent(&client->channel, &op->sent))
            op_end(op, ETAG_TIMEOUT, "the connection was lost before the daemon's answer");
        else
            op_end(op, ETAG_UNAVAILABLE, "the connection was lost before the request was sent");
    }
}

void ops_expire(struct etag_client *client, uint64_t now_ns)
{
    for (struct etag_op *op = client->first_op; op; op = op->next)
        if (!op->done && now_ns >= op->deadline_ns)
            op_end(op, ETAG_TIMEOUT, "no answer from the daemon in time");
}

/* All operations wait equally long, so the first open one ends first. */
uint64_t ops_next_deadline_ns(const struct etag_client *client)
{
    for (const struct etag_op *op = client->first_op; op; op = op->next)
        if (!op->done)
            return op->deadline_ns;
    return UINT64_MAX;
}

void ops_detach(struct etag_client *client)
{
    channel_close(&client->channel);
    ops_lose_connection(client);
    while (client->first_op)
        op_unlink(client->first_op);
}
