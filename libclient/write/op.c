/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The one state machine of all mutations.
 *
 *   open      sent, or waiting for a connection. If it gets no connection or no answer in time, it
 *             goes to the spool
 *   spooled   recorded at T. OK at T + L (rule WRITER_WAIT); PENDING if its deadline is before that
 *   here      no front end on this host answers 304 from older data, by the daemon's first receipt
 *             or since T + L. It has to reach further (etag_reach), so only the daemon's last
 *             receipt is OK; PENDING if its deadline is before that
 *   done
 *
 * In all phases it is sent again over each new connection (a mutation is harmless when applied
 * twice), and an answer ends it at once, with OK or a definite error. If the spool can't be used,
 * it stays open until its deadline: an operation that a daemon may have applied ends as TIMEOUT,
 * any other as UNAVAILABLE, or with the error of the connection.
 *
 * An operation that is started while others are under way joins them: its frame waits in the
 * channel, and goes in one send with those that are started after it, at the latest with the next
 * call that dispatches, asks for a result that is not there, forgets an operation, or closes. Until
 * then it was not sent, whatever happens to the connection.
 *
 * An operation keeps its frame, which it sends and also writes to the spool. A client reuses the
 * frame's memory for its next operation, so that answered mutations do not allocate.
 */
#include "op.h"

#include "clocktime.h"
#include "numbers.h"
#include "text.h"

#include <errno.h>
#include <poll.h>

#define PATIENCE_MS_MAX 250
#define PATIENCE_PART 4 /* of the time that there is */
#define SPARE_FRAME_BYTES_MAX 65536
#define JOINED_BYTES_MAX 16384 /* beyond: they are sent, and answers are read */

etag_status op_give_receipt(etag_status status, etag_receipt *receipt, const etag_receipt *full)
{
    if (status == ETAG_OK || status == ETAG_PENDING)
        (void)abi_out(receipt, full, sizeof(*full), ABI_FIRST_RECEIPT);
    return status;
}

/* How far this operation has to reach for OK, as far as it is known. */
static etag_reach op_reach(const struct etag_op *op)
{
    if (op->asked != ETAG_REACH_DEFAULT)
        return op->asked;
    return op->client->default_reach > ETAG_REACH_HOST ? op->client->default_reach
                                                       : ETAG_REACH_HOST;
}

/* ---- Life ---- */

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

static void op_deinit(struct etag_op *op)
{
    struct etag_client *client = op->client;

    op_unlink(op);
    if (client && !client->spare_frame.bytes && op->frame.capacity <= SPARE_FRAME_BYTES_MAX) {
        client->spare_frame = op->frame;
        client->spare_frame.len = 0;
        op->frame = (struct buffer){0};
    }
    buffer_deinit(&op->frame);
}

/* Deinit follows whatever it returns. */
static etag_status op_init(struct etag_op *op, struct etag_client *client, struct request *request)
{
    const uint64_t now = channel_now_ns();
    const uint64_t time_ns = client->timeout_ms * NS_PER_MS;
    const uint32_t hold_ms = request->kind == REQUEST_INVALIDATE ? request->targets.hold_ms
                                                                 : request->guard.targets.hold_ms;

    *op = (struct etag_op){.kind = request->kind,
                           .frame = client->spare_frame,
                           .asked = request->kind == REQUEST_INVALIDATE ? request->targets.reach
                                    : request->kind == REQUEST_GUARD_COMMIT
                                        ? request->guard.targets.reach
                                        : ETAG_REACH_HOST};
    client->spare_frame = (struct buffer){0};
    op->id = request->id = channel_new_id(&client->channel);
    op->deadline_ns = now + time_ns;
    op->spool_ns = now + min_of(time_ns / PATIENCE_PART, PATIENCE_MS_MAX * NS_PER_MS);
    /* "Purge everything" says nothing of a hold, and does not put anything in flux. */
    op->all_will_do = hold_ms == 0 && (request->kind == REQUEST_INVALIDATE ||
                                       request->kind == REQUEST_GUARD_COMMIT);
    if (client->spool_use == ETAG_SPOOL_NEVER) {
        op->spool_ns = UINT64_MAX;
        fault_set(&op->fault, ETAG_UNAVAILABLE, "the client may not use the spool");
    }
    op_link(client, op);
    return channel_encode(&op->frame, request, &client->fault);
}

/* ---- Ends ---- */

/* The status and its sentence; 'also', if it is not empty, follows it. */
static void op_end(struct etag_op *op, etag_status status, const char *text, const char *also)
{
    struct fault fault;

    fault_set(&fault, status, "%s%s%s", text, also[0] ? "; " : "", also);
    op->fault = fault;
    op->phase = OP_DONE;
    if (status == ETAG_PENDING && op->client)
        counter_add(&op->client->counters->mutations_pending, 1);
}

/* So much is proved: all that was asked for, or no more than this host. Rule LESS_IS_PENDING. */
static void op_prove(struct etag_op *op, uint64_t lsn, etag_reach reach, etag_proof proof)
{
    fault_clear(&op->fault);
    op->receipt.lsn = lsn;
    op->receipt.reach = reach;
    op->receipt.proof = proof;
    op->phase = reach >= op_reach(op) ? OP_DONE : OP_HERE;
}

static const char pending_text[] =
    "recorded in the spool, but there was no time to prove that it has its effect";

static const char here_text[] =
    "no front end on this host answers 304 from older data, but there was no time to prove that it "
    "has reached further";

/* The time is over. */
static void op_expire(struct etag_op *op)
{
    const struct channel *channel = &op->client->channel;
    const char *why_not = op->fault.text;
    char text[2 * CHANNEL_PATH_BYTES_MAX];

    if (op->phase == OP_SPOOLED) {
        op_end(op, ETAG_PENDING, pending_text, "");
    } else if (op->phase == OP_HERE) {
        op_end(op, ETAG_PENDING, here_text, "");
    } else if (op->maybe_done || op->sent.end > 0) {
        snprintf(text, sizeof(text), "no answer from the daemon on %s in time", channel->path);
        op_end(op, ETAG_TIMEOUT, text, why_not);
    } else {
        snprintf(text, sizeof(text), "no hello from the daemon on %s in time", channel->path);
        op_end(op, op->fault.status == ETAG_DENIED ? ETAG_DENIED : ETAG_UNAVAILABLE, text, why_not);
    }
}

/* No connection, and no spool either: what cannot get better ends now. */
static void op_end_if_hopeless(struct etag_op *op)
{
    const struct fault *link = &op->client->link;

    if (op->busy && !op->maybe_done)
        op_end(op, ETAG_UNAVAILABLE, "the daemon has no room for it now", op->fault.text);
    else if (!op->client->link_down || op->client->channel.backlog_full)
        return;
    else if (link->status != ETAG_UNAVAILABLE)
        op_end(op, link->status, link->text, op->fault.text);
    else if (!op->maybe_done)
        op_end(op, op->fault.status == ETAG_OK ? ETAG_UNAVAILABLE : op->fault.status, link->text,
               op->fault.text);
}

/* ---- Steps ---- */

typedef __typeof__(channel_send_frame) op_sender;

/* Hands the frame to the channel, which sends or holds it. */
static void op_hand_over(struct etag_op *op, op_sender *sender)
{
    struct etag_client *client = op->client;
    const uint64_t before_ns = time_coarse_ns();
    struct fault fault;
    const etag_str frame = {(const char *)op->frame.bytes, op->frame.len};
    const etag_status status = sender(&client->channel, op->id, frame, &op->sent, &fault);

    if (op->sent.end > 0 && op->first_ns == 0)
        op->first_ns = before_ns;
    if (client->channel.state == CHANNEL_CLOSED)
        client_lose_link(client, &fault);
    else if (status == ETAG_SYSTEM)
        op_end(op, status, fault.text, "");
}

static void op_send(struct etag_op *op)
{
    struct etag_client *client = op->client;

    if (client_require_role(client, ROLE_MUTATE, "mutate") == ETAG_OK)
        op_hand_over(op, channel_send_frame);
    else
        op_end(op, ETAG_DENIED, client->fault.text, "");
}

/* The connection is gone and there is no other one, or the answer does not come. */
static bool op_wants_spool(const struct etag_op *op, uint64_t now_ns)
{
    const struct etag_client *client = op->client;

    if (now_ns >= op->spool_ns)
        return true;
    /* Tried before: at its own pace, or never again. */
    if (op->fault.status != ETAG_OK)
        return false;
    return op->busy || (client->link_down && !client->channel.backlog_full);
}

/* What no daemon answers goes to the spool. */
static void op_spool(struct etag_op *op)
{
    struct etag_client *client = op->client;
    const uint64_t before_ns = time_coarse_ns();
    const struct spool_place place = {client->spool_path, client->channel.path, client->spool_id};
    const struct spool_item item = {{(const char *)op->frame.bytes, op->frame.len},
                                    op->all_will_do};

    if (client->hello_seen && client->spool_id == 0) {
        fault_set(&op->fault, ETAG_UNAVAILABLE, "the daemon on %s has no spool",
                  client->channel.path);
        op->spool_ns = channel_now_ns() + RECONNECT_MS_MIN * NS_PER_MS;
        return;
    }
    const etag_status status = spool_write(&place, &item, &op->record, &op->fault);
    if (op->record.in_place) {
        op->maybe_done = true;
        op->first_ns = op->first_ns ? op->first_ns : before_ns;
    }
    if (status != ETAG_OK) {
        /* Not again what lies there already: it would fill the spool. */
        op->spool_ns = op->record.in_place ? UINT64_MAX
                                           : channel_now_ns() + RECONNECT_MS_MIN * NS_PER_MS;
        return;
    }
    fault_clear(&op->fault);
    op->phase = OP_SPOOLED;
    client->linger_ns = op->record.linger_ns ? op->record.linger_ns : client->linger_ns;
    if (op->record.log_reach)
        client->default_reach = ETAG_REACH_LOG;
    counter_add(&client->counters->mutations_spooled, 1);
    /* Nothing depends on an abort's effect. */
    if (op->kind == REQUEST_GUARD_ABORT)
        op_end(op, ETAG_PENDING, pending_text, "");
}

/* Rule WRITER_WAIT: when the wait is over, T + L. CLOCK_MONOTONIC_COARSE. */
static uint64_t op_proven_ns(const struct etag_op *op)
{
    return op->record.time_ns + op->record.lease_ns;
}

/* Does what is due. */
static void op_step(struct etag_op *op, uint64_t now_ns)
{
    struct etag_client *client = op->client;

    if (op->phase != OP_DONE && client->channel.state == CHANNEL_READY && op->sent.end == 0)
        op_send(op);
    if (op->phase == OP_OPEN && client->link_down && client->link.status == ETAG_DENIED)
        op_end(op, ETAG_DENIED, client->link.text, "");
    if (op->phase == OP_OPEN && op_wants_spool(op, now_ns))
        op_spool(op);
    if (op->phase == OP_OPEN && op->fault.status != ETAG_OK)
        op_end_if_hopeless(op);
    if (op->phase == OP_SPOOLED && time_coarse_ns() >= op_proven_ns(op))
        op_prove(op, 0, ETAG_REACH_HOST, ETAG_PROOF_WAIT);
    if (op->phase != OP_DONE && now_ns >= op->deadline_ns)
        op_expire(op);
}

/* The next moment at which time alone changes something. CLOCK_MONOTONIC. */
static uint64_t op_next_ns(const struct etag_op *op)
{
    if (op->phase == OP_DONE)
        return UINT64_MAX;
    if (op->phase == OP_HERE)
        return op->deadline_ns;
    if (op->phase == OP_OPEN)
        return min_of(op->spool_ns, op->deadline_ns);
    const uint64_t proven_ns = op_proven_ns(op);
    const uint64_t coarse_ns = time_coarse_ns();
    /* The coarse clock does not move for a tick, and may be just before the moment: no busy
     * waiting for it. */
    const uint64_t left_ns = proven_ns > coarse_ns ? proven_ns - coarse_ns + NS_PER_MS : 0;
    return min_of(channel_now_ns() + left_ns, op->deadline_ns);
}

/* ---- Waiting ---- */

/* What it says, the operations have seen: it ends with their steps. */
static void keep_up(struct etag_client *client, bool at_once)
{
    if (client_progress(client, at_once) != ETAG_OK)
        return;
}

/* Waits for one thing: an answer, a connection, the next moment. An operation that was sent waits
 * with the fewest calls. */
static void op_wait(struct etag_op *op)
{
    struct etag_client *client = op->client;
    struct channel *channel = &client->channel;
    const uint64_t until_ns = op_next_ns(op);
    struct reply reply;
    struct fault fault;

    if (channel->state == CHANNEL_READY && op->sent.end > 0) {
        const etag_status status = channel_receive(channel, until_ns, &reply, &fault);
        if (status == ETAG_OK)
            ops_answer(client, &reply);
        if (channel->state == CHANNEL_CLOSED)
            client_lose_link(client, &fault);
        op_step(op, channel_now_ns());
        return;
    }
    struct pollfd p = {.fd = channel->fd, .events = channel_events(channel)};
    const uint64_t wake_ns = channel->state == CHANNEL_CLOSED
                                 ? min_of(until_ns, client->connect_again_ns)
                                 : until_ns;
    poll(&p, 1, channel_ms_until(wake_ns));
    keep_up(client, false);
}

/* A connection that is lost is looked for again at once: mostly it was old, and the daemon is a new
 * one. */
static void op_await(struct etag_op *op)
{
    const struct channel *channel = &op->client->channel;
    bool lost_before = false;

    /* A role that is missing may have been given since: then the daemon has ended this
     * connection. */
    if (channel->state == CHANNEL_READY && (channel->hello.roles & ROLE_MUTATE))
        op_step(op, channel_now_ns());
    else
        keep_up(op->client, true);
    while (op->phase != OP_DONE) {
        if (channel->state == CHANNEL_CLOSED && !op->client->link_down && !lost_before) {
            lost_before = true;
            keep_up(op->client, true);
        } else {
            op_wait(op);
        }
    }
}

etag_status op_run(struct etag_client *client, struct request *request, struct op_outcome *outcome)
{
    struct etag_op op;
    etag_status status = op_init(&op, client, request);

    if (status == ETAG_OK) {
        op_await(&op);
        status = op.fault.status;
        client->fault = op.fault;
    }
    *outcome = (struct op_outcome){op.receipt, op.first_ns, op.maybe_done || op.sent.end > 0};
    op_deinit(&op);
    return status;
}

/* ---- Without waiting ---- */

static void ops_reap(struct etag_client *client)
{
    for (struct etag_op *op = client->first_op, *next; op; op = next) {
        next = op->next;
        if (op->nobody_waits && op->phase == OP_DONE)
            (void)etag_op_forget(op);
    }
}

/* The operation before it waits for the daemon's answer, and there is room. So somebody will look
 * at the socket, and the next look sends it: etag_client_events() asks for that. */
static bool op_may_join(const struct etag_op *op)
{
    const struct etag_op *const before = op->previous;
    const struct channel *const channel = &op->client->channel;

    return before && before->phase == OP_OPEN && before->sent.end > 0 &&
           channel->state == CHANNEL_READY && (channel->hello.roles & ROLE_MUTATE) &&
           channel->out.len - channel->out_sent + op->frame.len <= JOINED_BYTES_MAX;
}

static void op_begin(struct etag_op *op, bool detached)
{
    if (!detached && op_may_join(op))
        op_hand_over(op, channel_hold_frame);
    else
        keep_up(op->client, true);
}

static etag_status start(struct etag_client *client, struct request *request, bool detached,
                         struct etag_op **out)
{
    *out = NULL;
    if (client->op_count >= CLIENT_OPS_MAX)
        return fault_set(&client->fault, ETAG_AGAIN,
                         "%d operations are open: take their results first", CLIENT_OPS_MAX);
    struct etag_op *op = malloc(sizeof(*op));
    if (!op)
        return fault_set(&client->fault, ETAG_SYSTEM, "no memory for an operation");
    etag_status status = op_init(op, client, request);
    if (status == ETAG_OK) {
        op_begin(op, detached);
        if (op->phase == OP_DONE)
            status = op->fault.status;
        if (status != ETAG_OK)
            client->fault = op->fault;
    }
    if (status == ETAG_OK)
        *out = op;
    else
        (void)etag_op_forget(op);
    return status;
}

etag_status op_start(struct etag_client *client, struct request *request, struct etag_op **out)
{
    return start(client, request, false, out);
}

/* It may be that no later call looks at the socket, so it joins no others. */
void op_start_detached(struct etag_client *client, struct request *request)
{
    const struct fault fault = client->fault;
    struct etag_op *op = NULL;

    if (start(client, request, true, &op) == ETAG_OK && op)
        op->nobody_waits = true;
    ops_reap(client);
    client->fault = fault;
}

etag_status etag_op_result(etag_op *op, etag_receipt *receipt)
{
    struct etag_client *client = op->client;

    if (client) {
        client_begin(client);
        op_step(op, channel_now_ns());
    }
    if (op->phase != OP_DONE) {
        ops_send_held(client);
        return ETAG_AGAIN;
    }
    const etag_status status = op->fault.status;
    if (status != ETAG_OK && client)
        client->fault = op->fault;
    const etag_receipt full = op->receipt;
    (void)etag_op_forget(op);
    return op_give_receipt(status, receipt, &full);
}

etag_op *etag_op_forget(etag_op *op)
{
    if (op && op->client && op->phase != OP_DONE)
        ops_send_held(op->client);
    if (op)
        op_deinit(op);
    free(op);
    return NULL;
}

/* ---- For the client ---- */

void ops_send_held(struct etag_client *client)
{
    if (client_socket_is_ours(client))
        channel_send_held(&client->channel);
}

void ops_answer(struct etag_client *client, const struct reply *reply)
{
    struct fault fault;
    /* Answers come in the order of their requests, so the search mostly ends at once. */
    struct etag_op *op = client->first_op;

    while (op && op->id != reply->id)
        op = op->next;
    if (!op || op->phase == OP_DONE)
        return;
    const etag_status status = channel_reply_status(reply, REPLY_RECEIPT, &fault);
    if (status == ETAG_OK) {
        const __typeof__(reply->receipt) *receipt = &reply->receipt;
        op_prove(op, receipt->lsn, receipt->reach, receipt->proof);
        if (op->phase == OP_HERE && !receipt->more)
            op_end(op, ETAG_PENDING, "the daemon proved less than was asked for", "");
        if (op->phase == OP_DONE && op->kind == REQUEST_INVALIDATE)
            counter_add(&client->counters->invalidations, 1);
    } else if (status == ETAG_UNAVAILABLE) {
        op->busy = true; /* the next step sees to it */
    } else {
        op_end(op, status, fault.text, "");
    }
}

void ops_lose_connection(struct etag_client *client)
{
    /* Who starts an operation without a connection looks for one at once. Those that were held were
     * started, and the next call looks. */
    if (client->channel.held)
        client->connect_again_ns = 0;
    for (struct etag_op *op = client->first_op; op; op = op->next) {
        op->maybe_done |= channel_was_sent(&client->channel, &op->sent);
        op->sent = (struct channel_sent){0};
        op->busy = false;
    }
}

void ops_step(struct etag_client *client)
{
    const uint64_t now_ns = channel_now_ns();

    for (struct etag_op *op = client->first_op; op; op = op->next)
        if (op->phase != OP_DONE)
            op_step(op, now_ns);
    ops_reap(client);
}

uint64_t ops_next_ns(const struct etag_client *client)
{
    uint64_t next_ns = UINT64_MAX;

    for (const struct etag_op *op = client->first_op; op; op = op->next)
        next_ns = min_of(next_ns, op_next_ns(op));
    return next_ns;
}

void ops_disown(struct etag_client *client)
{
    for (struct etag_op *op = client->first_op; op; op = op->next)
        if (op->phase != OP_DONE)
            op_end(op, ETAG_TIMEOUT, "the operation is the parent process's", "");
    ops_reap(client);
}

void ops_detach(struct etag_client *client)
{
    while (client->first_op) {
        struct etag_op *op = client->first_op;
        if (op->phase == OP_SPOOLED)
            op_end(op, ETAG_PENDING, pending_text, "");
        else if (op->phase == OP_HERE)
            op_end(op, ETAG_PENDING, here_text, "");
        else if (op->phase == OP_OPEN)
            op_end(op, op->maybe_done ? ETAG_TIMEOUT : ETAG_UNAVAILABLE, "the client was closed",
                   "");
        if (op->nobody_waits)
            (void)etag_op_forget(op);
        else
            op_unlink(op);
    }
}
