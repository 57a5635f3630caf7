/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The writer's side of guards. A guard is an id and its targets. Each step has both, so that a
 * daemon that has lost the guard can begin it again, or invalidate. The steps are operations (op.c)
 * and go through the spool like any mutation.
 *
 * Only a confirmation that the application asked for, and that ended with OK, makes a COMMIT safe.
 * Its time counts from before its first byte was sent (the model's BOUND_FROM_SENDING), since the
 * daemon's linger cannot have begun earlier. The confirmations that the library sends after a
 * daemon's restart keep a guard alive and prove nothing.
 */
#include "guard.h"

#include "clocktime.h"
#include "mutate.h"
#include "numbers.h"
#include "op.h"

#include <errno.h>
#include <sys/random.h>

/* Clocks: the coarse one lags a tick at each end, and none of two runs equally fast. */
#define MARGIN_TICKS_MS 20
#define MARGIN_PART 20 /* of the linger: 5 % */

struct etag_guard {
    /* NULL: closed */
    struct etag_client *client;
    struct etag_guard *next, *previous;
    struct guard_id id;
    /* of its beginning: what the targets borrow from */
    struct buffer frame;
    struct arena arena;
    etag_targets targets;
    /* this process is a child of the one that began it */
    bool is_parents;
    /* the present daemon has not heard of it from us */
    bool attach_due;
    /* CLOCK_MONOTONIC_COARSE; 0: not, or not any more */
    uint64_t confirmed_ns;
    /* what the daemon or the mark said then */
    uint64_t linger_ns;
};

/* ---- Life ---- */

static void guard_link(struct etag_guard *guard, struct etag_client *client)
{
    guard->client = client;
    guard->next = client->first_guard;
    if (guard->next)
        guard->next->previous = guard;
    client->first_guard = guard;
    client->guard_count++;
}

static void guard_unlink(struct etag_guard *guard)
{
    struct etag_client *client = guard->client;

    if (!client)
        return;
    if (guard->previous)
        guard->previous->next = guard->next;
    else
        client->first_guard = guard->next;
    if (guard->next)
        guard->next->previous = guard->previous;
    client->guard_count--;
    guard->client = NULL;
    guard->next = guard->previous = NULL;
}

static struct etag_guard *guard_free(struct etag_guard *guard)
{
    if (guard) {
        guard_unlink(guard);
        arena_deinit(&guard->arena);
        buffer_deinit(&guard->frame);
    }
    free(guard);
    return NULL;
}

static void cleanup_guard(struct etag_guard **guard)
{
    guard_free(*guard);
}

static struct request guard_request(const struct etag_guard *guard, enum request_kind kind)
{
    return (struct request){.kind = kind, .guard = {guard->id, guard->targets}};
}

/* 128 random bits, of which the high ones are not 0: those ids are of the daemon's holds. */
static etag_status choose_id(struct etag_client *client, struct guard_id *id)
{
    do {
        const ssize_t n = getrandom(id, sizeof(*id), 0);
        if (n < 0 && errno != EINTR)
            return fault_system(&client->fault, -errno, "cannot make a guard's id");
        if (n != (ssize_t)sizeof(*id))
            id->high = 0;
    } while (id->high == 0);
    return ETAG_OK;
}

/* A copy of the targets: encoded and decoded, since both are there already. */
static etag_status copy_targets(struct etag_client *client, struct etag_guard *guard,
                                const etag_targets *targets)
{
    struct request request = {.kind = REQUEST_GUARD_BEGIN, .guard = {guard->id, *targets}};
    const etag_status status = channel_encode(&guard->frame, &request, &client->fault);

    if (status != ETAG_OK)
        return status;
    const etag_str payload = {(const char *)guard->frame.bytes + FRAME_HEADER_BYTES,
                              guard->frame.len - FRAME_HEADER_BYTES};
    if (request_decode(&request, &guard->arena, payload))
        return fault_system(&client->fault, -ENOMEM, "cannot copy a guard's targets");
    guard->targets = request.guard.targets;
    return ETAG_OK;
}

static etag_status guard_new(struct etag_client *client, const etag_targets *given,
                             struct etag_guard **out)
{
    etag_targets targets;
    etag_status status = mutate_targets(client, given, &targets);

    if (status != ETAG_OK)
        return status;
    if (client->guard_count >= GUARDS_MAX)
        return fault_set(&client->fault, ETAG_AGAIN, "%d guards are open: end some first",
                         GUARDS_MAX);
    CLEANUP(cleanup_guard) struct etag_guard *guard = calloc(1, sizeof(*guard));
    if (!guard)
        return fault_set(&client->fault, ETAG_SYSTEM, "no memory for a guard");
    arena_init(&guard->arena, ARENA_BYTES_MAX);
    status = choose_id(client, &guard->id);
    if (status == ETAG_OK)
        status = copy_targets(client, guard, &targets);
    if (status == ETAG_OK)
        *out = take_ptr(guard);
    return status;
}

/* Every step begins with this. INVALID: the guard is none of this process and client. */
static etag_status guard_enter(struct etag_guard *guard)
{
    struct etag_client *client = guard->client;

    if (!client)
        return ETAG_INVALID;
    client_begin(client);
    if (guard->is_parents)
        return fault_set(&client->fault, ETAG_INVALID,
                         "the guard is the parent process's: begin one in the child");
    return ETAG_OK;
}

/* An open connection is a sign of life to the daemon, for as long as max_ms allows: a guard that is
 * to linger must lose it. Everything else that goes over it is sent again over the next one, and
 * other guards are attached there. */
static void let_linger(struct etag_client *client)
{
    client_begin(client);
    channel_close(&client->channel);
    client->link_down = false;
    client->connect_again_ns = 0;
}

/* ---- Steps ---- */

etag_status etag_guard_begin(etag_client *client, const etag_targets *targets, etag_guard **out)
{
    CLEANUP(cleanup_guard) struct etag_guard *guard = NULL;
    struct op_outcome outcome;

    *out = NULL;
    client_begin(client);
    etag_status status = guard_new(client, targets, &guard);
    if (status != ETAG_OK || !guard)
        return status;
    struct request request = guard_request(guard, REQUEST_GUARD_BEGIN);
    status = op_run(client, &request, &outcome);
    if (status == ETAG_OK) {
        counter_add(&client->counters->guards_begun, 1);
        guard_link(guard, client);
        *out = take_ptr(guard);
    } else if (outcome.maybe_done && status != ETAG_DENIED && status != ETAG_INVALID) {
        /* The application goes on without it, so it has nothing to guard. */
        request = guard_request(guard, REQUEST_GUARD_ABORT);
        op_start_detached(client, &request);
    }
    return status;
}

etag_status etag_guard_confirm(etag_guard *guard)
{
    struct op_outcome outcome;
    etag_status status = guard_enter(guard);

    if (status != ETAG_OK)
        return status;
    struct etag_client *client = guard->client;
    struct request request = guard_request(guard, REQUEST_GUARD_CONFIRM);
    guard->confirmed_ns = 0;
    status = op_run(client, &request, &outcome);
    if (status == ETAG_OK) {
        guard->confirmed_ns = outcome.first_ns;
        guard->linger_ns = client->linger_ns;
        counter_add(&client->counters->guards_confirmed, 1);
    }
    return status;
}

uint32_t etag_guard_time_left_ms(const etag_guard *guard)
{
    const struct etag_client *client = guard->client;

    if (!client || guard->is_parents || !client_socket_is_ours(client) || guard->confirmed_ns == 0)
        return 0;
    /* A daemon that started since may linger less. */
    const uint64_t linger_ns = min_of(client->linger_ns, guard->linger_ns);
    const uint64_t gone_ns = time_coarse_ns() - guard->confirmed_ns + linger_ns / MARGIN_PART +
                             MARGIN_TICKS_MS * NS_PER_MS;
    return linger_ns > gone_ns ? (uint32_t)((linger_ns - gone_ns) / NS_PER_MS) : 0;
}

/* The guard is off the list before its last step is sent: no confirmation may follow that. */
static etag_status last_step(struct etag_guard *guard, enum request_kind kind,
                             struct op_outcome *outcome)
{
    struct etag_client *client = guard->client;
    struct request request = guard_request(guard, kind);

    guard_unlink(guard);
    const etag_status status = op_run(client, &request, outcome);
    if (status != ETAG_OK && status != ETAG_PENDING) {
        const struct fault why = client->fault;
        let_linger(client);
        client->fault = why;
    }
    return status;
}

static etag_status guard_end(etag_guard *guard, enum request_kind kind, struct op_outcome *outcome)
{
    etag_status status = guard_enter(guard);

    if (status == ETAG_OK)
        status = last_step(guard, kind, outcome);
    guard_free(guard);
    return status;
}

etag_status etag_guard_commit(etag_guard *guard, etag_receipt *receipt)
{
    struct op_outcome outcome;
    const etag_status status = guard_end(guard, REQUEST_GUARD_COMMIT, &outcome);

    return op_give_receipt(status, receipt, &outcome.receipt);
}

etag_status etag_guard_abort(etag_guard *guard)
{
    struct op_outcome outcome;

    return guard_end(guard, REQUEST_GUARD_ABORT, &outcome);
}

etag_guard *etag_guard_forget(etag_guard *guard)
{
    if (guard && guard->client) {
        client_notice_fork(guard->client);
        if (!guard->is_parents)
            let_linger(guard->client);
    }
    return guard_free(guard);
}

/* ---- For the client ---- */

void guards_attach_rest(struct etag_client *client)
{
    struct channel *channel = &client->channel;
    struct fault fault;

    if (channel->state != CHANNEL_READY || !(channel->hello.roles & ROLE_MUTATE))
        return;
    for (struct etag_guard *guard = client->first_guard; guard; guard = guard->next) {
        if (!guard->attach_due)
            continue;
        struct request request = guard_request(guard, REQUEST_GUARD_CONFIRM);
        /* No call waits for the answer. */
        const etag_status status = channel_send(channel, &request, NULL, &fault);
        if (channel->state == CHANNEL_CLOSED)
            client_lose_link(client, &fault);
        if (status != ETAG_OK)
            return;
        guard->attach_due = false;
    }
}

void guards_attach(struct etag_client *client)
{
    for (struct etag_guard *guard = client->first_guard; guard; guard = guard->next)
        guard->attach_due = !guard->is_parents;
    guards_attach_rest(client);
}

void guards_disown(struct etag_client *client)
{
    for (struct etag_guard *guard = client->first_guard; guard; guard = guard->next)
        guard->is_parents = true;
}

void guards_detach(struct etag_client *client)
{
    while (client->first_guard)
        guard_unlink(client->first_guard);
}
