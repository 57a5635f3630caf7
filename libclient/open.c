/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opens and closes a client, and answers its caller's event loop. This file connects the parts:
 * client.c, which knows neither operations nor guards, with both of these, which use it.
 */
#include "client.h"
#include "clocktime.h"
#include "guard.h"
#include "op.h"
#include "refill_limit.h"

#define SOCKET_PATH_DEFAULT "/run/etagd/etagd.sock"
#define SOCKET_PATH_VARIABLE "ETAGD_SOCKET"
#define SHADOW_VARIABLE "ETAGD_SHADOW"
#define TIMEOUT_MS_DEFAULT 3000
#define CONNECT_TIMEOUT_MS_DEFAULT 100

/* ---- Between the parts ---- */

static void on_kept_up(struct etag_client *client)
{
    guards_attach_rest(client);
    ops_step(client);
}

static const struct client_events events = {
    .greeted = guards_attach,
    .kept_up = on_kept_up,
    .became_child = guards_disown,
    .left_socket = ops_disown,
};

static void on_reply(void *context, const struct reply *reply)
{
    ops_answer(context, reply);
}

static void on_closed(void *context)
{
    ops_lose_connection(context);
}

/* ---- Life ---- */

static struct etag_client *client_free(struct etag_client *client)
{
    channel_deinit(&client->channel);
    buffer_deinit(&client->spare_frame);
    arena_deinit(&client->names);
    mapping_close(&client->mapping);
    fork_word_close(&client->fork_word);
    free(client->many);
    free(client->shadow);
    (void)refill_limit_free(client->refill_limit);
    free(client);
    return NULL;
}

/* Somebody who may set the environment may turn it on, for a front end that knows nothing of it: it
 * only makes it render. */
static bool shadow_wanted(const etag_client_options *options)
{
    const char *said = secure_getenv(SHADOW_VARIABLE);

    return options->shadow || (said && said[0] && strcmp(said, "0") != 0);
}

static etag_status client_new(struct etag_client **out, const etag_client_options *options)
{
    struct etag_client *client = calloc(1, sizeof(*client));

    if (!client)
        return ETAG_SYSTEM;
    arena_init(&client->names, ARENA_BYTES_MAX);
    client->counters = &client->own_counters;
    client->own_counters.magic = COUNTERS_MAGIC;
    client->events = &events;
    client->timeout_ms = options->timeout_ms ? options->timeout_ms : TIMEOUT_MS_DEFAULT;
    client->spool_use = options->spool;
    client->shadows = shadow_wanted(options);

    const char *path = options->socket_path;
    if (!path)
        path = secure_getenv(SOCKET_PATH_VARIABLE);
    if (!path)
        path = SOCKET_PATH_DEFAULT;
    const struct channel_handler handler = {on_reply, on_closed, client};
    etag_status status = ETAG_OK;
    if (!channel_init(&client->channel, path, &handler) ||
        !repeated_fields_copy(&client->repeated, options->repeated_fields,
                              options->repeated_field_count))
        status = ETAG_INVALID;
    else if (fork_word_open(&client->fork_word) < 0)
        status = ETAG_SYSTEM;
    if (!spool_path_of(path, client->spool_path, sizeof(client->spool_path)))
        client->spool_path[0] = '\0';
    if (status != ETAG_OK)
        client_free(client);
    else
        *out = client;
    return status;
}

etag_status etag_client_open(etag_client **out, const etag_client_options *given)
{
    etag_client_options defaults, copy;

    ETAG_INIT(&defaults);
    *out = NULL;
    const etag_client_options *options = abi_in(given ? given : &defaults, &copy, sizeof(copy),
                                                ABI_FIRST_OPTIONS);
    if (!options || (options->spool != ETAG_SPOOL_ALLOWED && options->spool != ETAG_SPOOL_NEVER))
        return ETAG_INVALID;
    struct etag_client *client = NULL;
    etag_status status = client_new(&client, options);
    if (status != ETAG_OK)
        return status;
    const uint32_t wait_ms = options->connect_timeout_ms ? options->connect_timeout_ms
                                                         : CONNECT_TIMEOUT_MS_DEFAULT;
    status = options->no_wait
                 ? client_progress(client, true)
                 : client_connect(client, channel_now_ns() + wait_ms * (uint64_t)NS_PER_MS);
    *out = client;
    return status == ETAG_VERSION ? ETAG_VERSION : ETAG_OK;
}

etag_client *etag_client_close(etag_client *client)
{
    if (!client)
        return NULL;
    client_begin(client);
    ops_send_held(client);
    channel_close(&client->channel);
    ops_detach(client);
    guards_detach(client);
    return client_free(client);
}

/* ---- Of an event loop ---- */

int etag_client_fd(const etag_client *client)
{
    return client_socket_is_ours(client) ? client->channel.fd : -1;
}

short etag_client_events(const etag_client *client)
{
    return client_socket_is_ours(client) ? channel_events(&client->channel) : 0;
}

int etag_client_timeout_ms(const etag_client *client)
{
    if (!client_socket_is_ours(client) || channel_has_reply(&client->channel))
        return 0;
    uint64_t next_ns = ops_next_ns(client);
    if (client->channel.state == CHANNEL_CLOSED && client->connect_again_ns < next_ns)
        next_ns = client->connect_again_ns;
    if (client->map_again_ns != 0 && client->map_again_ns < next_ns)
        next_ns = client->map_again_ns;
    return next_ns == UINT64_MAX ? -1 : channel_ms_until(next_ns);
}

etag_status etag_client_dispatch(etag_client *client)
{
    client_begin(client);
    return client_progress(client, false);
}

/* ---- What went wrong ---- */

const char *etag_client_error(const etag_client *client)
{
    return client->fault.text;
}

etag_reason etag_fill_reason(const etag_client *client)
{
    return client->reason;
}
