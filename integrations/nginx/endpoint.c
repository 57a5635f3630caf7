/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One client a worker process and daemon, driven by nginx's event loop.
 *
 * The client's socket may be replaced by any call that talks, and the new one may have the number
 * of the former one. So nginx does not watch it: it watches an epoll descriptor of our own, which
 * lives as long as the client, and that watches whatever socket the client has. The kernel forgets
 * a socket that is closed, and "change" tells us by ENOENT that it is a new one.
 *
 * Nothing here waits. A worker that shuts down stays until its mutations are confirmed or over.
 */
#include "etag_cache.h"

#include <errno.h>
#include <poll.h>
#include <sys/epoll.h>

etag_client_options endpoint_options(const struct endpoint *endpoint)
{
    etag_client_options options;

    ETAG_INIT(&options);
    options.socket_path = endpoint->socket.len > 0 ? (const char *)endpoint->socket.data : NULL;
    options.timeout_ms = (uint32_t)endpoint->timeout;
    options.no_wait = true;
    if (endpoint->repeated) {
        options.repeated_fields = endpoint->repeated->elts;
        options.repeated_field_count = endpoint->repeated->nelts;
    }
    return options;
}

/* ---- Watching ---- */

static void watch_socket(const struct endpoint *endpoint)
{
    const int fd = etag_client_fd(endpoint->client);
    const short wanted = etag_client_events(endpoint->client);

    if (fd < 0)
        return;
    struct epoll_event event = {.events = (wanted & POLLOUT) ? EPOLLIN | EPOLLOUT : EPOLLIN};
    if (epoll_ctl(endpoint->events, EPOLL_CTL_MOD, fd, &event) < 0 && errno == ENOENT)
        (void)epoll_ctl(endpoint->events, EPOLL_CTL_ADD, fd, &event);
}

static void watch_client(struct endpoint *endpoint)
{
    watch_socket(endpoint);
    const int timeout_ms = etag_client_timeout_ms(endpoint->client);
    /* nginx leaves a timer that it has alone where the new time is near; ours must not be late. */
    if (endpoint->timer.timer_set) {
        ngx_del_timer(&endpoint->timer);
    }
    endpoint->timer.cancelable = ngx_queue_empty(&endpoint->waiting);
    if (timeout_ms >= 0)
        ngx_add_timer(&endpoint->timer, (ngx_msec_t)timeout_ms);
}

void endpoint_talked(struct endpoint *endpoint)
{
    watch_client(endpoint);
    if (!ngx_queue_empty(&endpoint->waiting)) {
        ngx_post_event(endpoint->watch->read, &ngx_posted_events);
    }
}

/* The handler of the descriptor, and of the timer. */
static void on_event(ngx_event_t *event)
{
    const ngx_connection_t *connection = event->data;
    struct endpoint *endpoint = connection->data;

    (void)etag_client_dispatch(endpoint->client); /* each call says itself what went wrong */
    endpoint->settle(endpoint);
    watch_client(endpoint);
}

/* ---- Life ---- */

static ngx_int_t watch_open(struct endpoint *endpoint, ngx_log_t *log)
{
    endpoint->events = epoll_create1(EPOLL_CLOEXEC);
    if (endpoint->events < 0) {
        ngx_log_error(NGX_LOG_ALERT, log, errno, "etag_cache: epoll_create1() failed");
        return NGX_ERROR;
    }
    endpoint->watch = ngx_get_connection(endpoint->events, log);
    if (!endpoint->watch) {
        close(endpoint->events);
        endpoint->events = -1;
        return NGX_ERROR;
    }
    endpoint->watch->data = endpoint;
    endpoint->watch->read->handler = on_event;
    endpoint->watch->read->log = log;
    endpoint->watch->write->log = log;
    endpoint->timer = (ngx_event_t){.handler = on_event, .data = endpoint->watch, .log = log};
    return ngx_add_event(endpoint->watch->read, NGX_READ_EVENT, NGX_LEVEL_EVENT);
}

ngx_int_t endpoint_open(struct endpoint *endpoint, ngx_cycle_t *cycle,
                        void (*settle)(struct endpoint *endpoint))
{
    const etag_client_options options = endpoint_options(endpoint);

    ngx_queue_init(&endpoint->waiting);
    endpoint->settle = settle;
    const etag_status status = etag_client_open(&endpoint->client, &options);
    if (!endpoint->client) {
        ngx_log_error(NGX_LOG_ALERT, cycle->log, 0, "etag_cache: cannot open a client: %s",
                      etag_status_text(status));
        return NGX_ERROR;
    }
    if (status != ETAG_OK)
        ngx_log_error(NGX_LOG_ERR, cycle->log, 0, "etag_cache: %s",
                      etag_client_error(endpoint->client));
    if (watch_open(endpoint, cycle->log) != NGX_OK) {
        endpoint_close(endpoint);
        return NGX_ERROR;
    }
    watch_client(endpoint);
    return NGX_OK;
}

static void forget_waiting(struct endpoint *endpoint)
{
    while (!ngx_queue_empty(&endpoint->waiting)) {
        ngx_queue_t *first = ngx_queue_head(&endpoint->waiting);
        struct mutation *mutation = ngx_queue_data(first, struct mutation, link);
        ngx_queue_remove(first);
        if (mutation->waiter)
            mutation->waiter->mutation = NULL;
        etag_op_forget(mutation->op);
        ngx_free(mutation);
    }
}

void endpoint_close(struct endpoint *endpoint)
{
    if (!endpoint->client)
        return;
    forget_waiting(endpoint);
    if (endpoint->timer.timer_set) {
        ngx_del_timer(&endpoint->timer);
    }
    if (endpoint->watch)
        ngx_close_connection(endpoint->watch); /* and with it the descriptor */
    endpoint->watch = NULL;
    endpoint->events = -1;
    endpoint->client = etag_client_close(endpoint->client);
}
