/* SPDX-License-Identifier: Apache-2.0 */
/* Connecting to the daemon and asking it one thing, with errors printed on the way. */
#include "ctl_daemon.h"

#include "clocktime.h"
#include "text.h"

/* ---- Public API ---- */

etag_client *ctl_client_open(struct ctl *ctl)
{
    etag_client *client = NULL;
    etag_client_options options;

    ETAG_INIT(&options);
    options.socket_path = ctl->socket_path;
    options.timeout_ms = options.connect_timeout_ms = ctl->timeout_ms;
    const etag_status status = etag_client_open(&client, &options);
    if (status == ETAG_OK)
        return client;
    ctl->exit_status = ctl_fail(ctl, status, client ? etag_client_error(client) : NULL);
    return etag_client_close(client);
}

bool ctl_client_connected(struct ctl *ctl, etag_client *client)
{
    /* A daemon that is stopped takes the connection, and does not say hello: then there is an error
     * too. */
    if (etag_client_fd(client) >= 0 && !etag_client_error(client)[0])
        return true;
    CLEANUP(cleanup_free) char *text = strdup(etag_client_error(client));
    ctl->exit_status = ctl_fail(ctl, ETAG_UNAVAILABLE, text);
    return false;
}

/* ---- Channel ---- */

const char *const role_words[ROLE_WORD_COUNT] = {"read", "fill", "mutate", "admin", "relay"};

bool ctl_daemon_init(struct ctl_daemon *daemon, struct ctl *ctl)
{
    daemon->ctl = ctl;
    fault_clear(&daemon->fault);
    daemon->deadline_ns = channel_now_ns() + ctl->timeout_ms * NS_PER_MS;
    if (channel_init(&daemon->channel, ctl_socket_path(ctl), NULL))
        return true;
    ctl->exit_status = ctl_fail(ctl, ETAG_INVALID, "the socket's path is too long or empty");
    return false;
}

bool ctl_daemon_connect(struct ctl_daemon *daemon)
{
    const etag_status status = channel_connect(&daemon->channel, daemon->deadline_ns,
                                               &daemon->fault);

    if (status != ETAG_OK)
        daemon->ctl->exit_status = ctl_fail(daemon->ctl, status, daemon->fault.text);
    return status == ETAG_OK;
}

bool ctl_daemon_open(struct ctl_daemon *daemon, struct ctl *ctl)
{
    return ctl_daemon_init(daemon, ctl) && ctl_daemon_connect(daemon);
}

bool ctl_daemon_ask(struct ctl_daemon *daemon, struct request *request, enum reply_kind expected,
                    struct reply *reply)
{
    daemon->deadline_ns = channel_now_ns() + daemon->ctl->timeout_ms * NS_PER_MS;
    etag_status status = channel_call(&daemon->channel, request, daemon->deadline_ns, NULL, reply,
                                      &daemon->fault);
    if (status == ETAG_OK)
        status = channel_reply_status(reply, expected, &daemon->fault);
    if (status != ETAG_OK)
        daemon->ctl->exit_status = ctl_fail(daemon->ctl, status, daemon->fault.text);
    return status == ETAG_OK;
}

void ctl_daemon_plain(struct ctl_daemon *daemon)
{
    daemon->plain = *daemon->ctl;
    daemon->plain.json = false;
    daemon->ctl = &daemon->plain;
}
