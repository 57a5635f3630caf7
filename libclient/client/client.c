/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A client follows its daemon through restarts, and its process through a fork. It is always
 * usable: without a connection or an index its checks answer "unknown", and calls that talk to the
 * daemon try again to get both. Only such calls change the mapping, so memory never disappears
 * during a lookup.
 *
 * A child of fork keeps the index, which is read-only and shared. It must not write to its parent's
 * page of counters or socket. The first lookup of a child switches to counters of its own, without
 * a system call; the first call that talks closes the child's copy of the socket and connects
 * again.
 */
#include "client.h"

#include "clocktime.h"

#include <poll.h>

#define MAP_AGAIN_MS 1000
#define RESEND_PAUSE_MS 10
#define BACKLOG_RETRY_MS 5

static uint64_t after_ms(uint64_t ms)
{
    return channel_now_ns() + ms * NS_PER_MS;
}

/* ---- Fork ---- */

void client_become_child(struct etag_client *client)
{
    fork_word_raise(&client->fork_word);
    client->own_counters = (struct counters){.magic = COUNTERS_MAGIC};
    client->counters = &client->own_counters;
    client->socket_is_parents = true;
    client->events->became_child(client);
}

bool client_socket_is_ours(const struct etag_client *client)
{
    return fork_word_stands(&client->fork_word) && !client->socket_is_parents;
}

void client_begin(struct etag_client *client)
{
    fault_clear(&client->fault);
    client_notice_fork(client);
    if (!client->socket_is_parents)
        return;
    channel_close(&client->channel);
    client->events->left_socket(client);
    client->socket_is_parents = false;
    client->connect_again_ns = 0;
}

/* ---- Following the daemon ---- */

/* What no daemon has seen yet goes to the new page; what the former page says, its daemon has
 * seen. */
static void counters_move(struct etag_client *client, struct counters *page)
{
    struct counters *own = &client->own_counters;

    if (!page) {
        client->counters = own;
        return;
    }
    page->magic = COUNTERS_MAGIC;
#define MOVE(name, text) counter_add(&page->name, own->name);
    CLIENT_COUNTERS(MOVE)
#undef MOVE
    *own = (struct counters){.magic = COUNTERS_MAGIC};
    client->counters = page;
}

static bool clock_is_ours(const struct channel_hello *hello, const struct mapping *mapping)
{
    if (!hello_clock_bracketed(hello->clock_before_ns, hello->clock_ns, hello->clock_after_ns))
        return false;
    /* The deadline before the clock: the daemon may renew at any moment. */
    const uint64_t deadline_ns = shm_lease_load(&mapping->view);
    return lease_deadline_plausible(deadline_ns, mapping->view.header->lease_ns, time_coarse_ns());
}

/* A new hello: its memory takes the place of the former one. The connection serves even where the
 * memory does not. */
static etag_status adopt_hello(struct etag_client *client)
{
    struct channel_hello hello;
    struct mapping mapping = {0};

    if (!channel_take_hello(&client->channel, &hello))
        return ETAG_OK;
    CLEANUP(cleanup_fd) int index_fd = hello.index_fd;
    CLEANUP(cleanup_fd) int counters_fd = hello.counters_fd;
    const struct mapping_source source = {.index_fd = index_fd,
                                          .counters_fd = counters_fd,
                                          .index_bytes = hello.index_bytes,
                                          .counters_bytes = hello.counters_bytes,
                                          .incarnation_id = hello.incarnation_id};
    etag_status status =
        hello.fds_lost ? fault_set(&client->fault, ETAG_SYSTEM,
                                   "no room for the daemon's descriptors: too many open files?")
                       : mapping_open(&mapping, &source, &client->fault);
    client->map_again_ns = status == ETAG_SYSTEM ? after_ms(MAP_AGAIN_MS) : 0;
    if (status == ETAG_OK) {
        if (mapping.base && !clock_is_ours(&hello, &mapping)) {
            mapping_close_index(&mapping);
            status = fault_set(&client->fault, ETAG_SYSTEM,
                               "CLOCK_MONOTONIC of this process is not the daemon's (a time "
                               "namespace?), so its shared memory cannot be used");
        }
        counters_move(client, mapping.counters);
        mapping_close(&client->mapping);
        client->mapping = mapping;
    }
    counter_add(&client->counters->connects, 1);
    client->hello_seen = true;
    client->spool_id = hello.spool_id;
    client->linger_ns = hello.linger_ns;
    client->default_reach = hello.default_reach;
    client->events->greeted(client);
    return status;
}

void client_lose_link(struct etag_client *client, const struct fault *why)
{
    client->link = *why;
    /* Another daemon may be there already; one that speaks another language stays. */
    client->link_down = why->status != ETAG_UNAVAILABLE;
}

/* What an attempt to connect came to. */
static void note_attempt(struct etag_client *client, etag_status status)
{
    const bool closed = client->channel.state == CHANNEL_CLOSED;

    client->link_down = closed;
    if (closed && status != ETAG_OK)
        client->link = client->fault;
}

static etag_status reconnect(struct etag_client *client, bool at_once)
{
    if (!at_once && channel_now_ns() < client->connect_again_ns) {
        client->link_down = true;
        return fault_set(&client->fault, ETAG_UNAVAILABLE,
                         "not connected to %s, and it was tried just now", client->channel.path);
    }
    etag_status status = channel_connect_start(&client->channel, &client->fault);
    if (status == ETAG_OK)
        status = channel_pump(&client->channel, &client->fault);
    const bool crowded = client->channel.backlog_full && client->first_op;
    client->connect_again_ns = after_ms(crowded ? BACKLOG_RETRY_MS : RECONNECT_MS_MIN);
    note_attempt(client, status);
    return status == ETAG_OK ? adopt_hello(client) : status;
}

/* The system had no memory or descriptors for the index; a new hello brings it again. It waits for
 * open operations. */
static void drop_connection_without_index(struct etag_client *client)
{
    if (client->map_again_ns == 0 || channel_now_ns() < client->map_again_ns)
        return;
    client->map_again_ns = client->first_op ? after_ms(MAP_AGAIN_MS) : 0;
    if (client->map_again_ns != 0)
        return;
    client->connect_again_ns = 0;
    channel_close(&client->channel);
}

etag_status client_progress(struct etag_client *client, bool at_once)
{
    etag_status status = ETAG_UNAVAILABLE;

    drop_connection_without_index(client);
    if (client->channel.state != CHANNEL_CLOSED) {
        status = channel_pump(&client->channel, &client->fault);
        if (client->channel.state == CHANNEL_CLOSED)
            client_lose_link(client, &client->fault);
        else if (status == ETAG_OK)
            status = adopt_hello(client);
    }
    /* A daemon that restarted, or that sent an idle client away, is met again in the same call. */
    if (status == ETAG_UNAVAILABLE)
        status = reconnect(client, at_once);
    client->events->kept_up(client);
    return status;
}

/* ---- Calls that wait ---- */

etag_status client_require_role(struct etag_client *client, uint32_t role, const char *what)
{
    const struct channel *channel = &client->channel;

    if (channel->state != CHANNEL_READY || (channel->hello.roles & role))
        return ETAG_OK;
    return fault_set(&client->fault, ETAG_DENIED,
                     "the daemon on %s gave this process no role to %s: see 'roles' in its "
                     "configuration",
                     channel->path, what);
}

/* An index that cannot be mapped is no reason not to talk. */
etag_status client_connect(struct etag_client *client, uint64_t deadline_ns)
{
    if (client->channel.state == CHANNEL_READY)
        return ETAG_OK;
    client->connect_again_ns = after_ms(RECONNECT_MS_MIN);
    const etag_status status = channel_connect(&client->channel, deadline_ns, &client->fault);
    note_attempt(client, status);
    if (status == ETAG_OK)
        (void)adopt_hello(client);
    return status;
}

/* A role that is missing may have been given since: then the daemon has ended this connection. */
static etag_status connect_to_fill(struct etag_client *client, uint64_t deadline_ns)
{
    etag_status status = client_connect(client, deadline_ns);

    if (status == ETAG_OK)
        status = client_require_role(client, ROLE_FILL, "fill");
    if (status != ETAG_DENIED)
        return status;
    if (client_progress(client, true) != ETAG_OK && client->channel.state == CHANNEL_CLOSED)
        return client->fault.status;
    status = client_connect(client, deadline_ns);
    return status == ETAG_OK ? client_require_role(client, ROLE_FILL, "fill") : status;
}

/* One try. *maybe_done: the daemon may have got the request. */
static etag_status call_once(struct etag_client *client, struct request *request,
                             uint64_t deadline_ns, bool *maybe_done, struct reply *reply)
{
    struct channel_sent sent = {0};
    etag_status status = connect_to_fill(client, deadline_ns);

    if (status != ETAG_OK)
        return status;
    status = channel_call(&client->channel, request, deadline_ns, &sent, reply, &client->fault);
    /* What is still queued may go out later; only what died in the queue is certain not to have
     * happened. */
    if (sent.end > 0 &&
        (client->channel.state != CHANNEL_CLOSED || channel_was_sent(&client->channel, &sent)))
        *maybe_done = true;
    return status;
}

etag_status client_call(struct etag_client *client, struct request *request,
                        enum reply_kind expected, struct reply *reply)
{
    const uint64_t deadline_ns = after_ms(client->timeout_ms);
    bool maybe_done = false;
    bool maybe_done_before = false;
    etag_status status = call_once(client, request, deadline_ns, &maybe_done, reply);

    /* The first repetition needs no pause: mostly, the connection was old and the daemon is a new
     * one. */
    for (int tries = 1; status == ETAG_UNAVAILABLE; tries++) {
        if (channel_ms_until(deadline_ns) == 0 || (tries > 1 && !maybe_done))
            break;
        if (tries > 1)
            poll(NULL, 0, RESEND_PAUSE_MS);
        maybe_done_before = maybe_done;
        status = call_once(client, request, deadline_ns, &maybe_done, reply);
    }
    if (status == ETAG_OK)
        return channel_reply_status(reply, expected, &client->fault);
    if (maybe_done_before || (maybe_done && status == ETAG_UNAVAILABLE))
        status = ETAG_TIMEOUT;
    else if (!maybe_done && status == ETAG_TIMEOUT)
        status = ETAG_UNAVAILABLE;
    client->fault.status = status;
    return status;
}
