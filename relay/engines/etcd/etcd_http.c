/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libcurl tells which descriptors it waits for; they are in an epoll descriptor of ours, which is
 * the one that our caller waits for. Its timer is our timeout.
 *
 * HTTP/1.1, so that an answer that does not end has a connection of its own. No proxy, no redirect,
 * no other protocol, whatever the environment says: what answers is what the configuration names.
 */
#include "etcd_http.h"

#include "clocktime.h"
#include "numbers.h"
#include "text.h"

#include <curl/curl.h>
#include <errno.h>
#include <sys/epoll.h>

#define EVENTS_AT_ONCE 16
#define HEADER_BYTES 4224 /* a token, and its name */
#define CONNECT_MS_MAX 5000
#define KEEPALIVE_S 5L

struct exchange {
    CURL *easy;
    struct curl_slist *headers;
    char *sent;
    bool under_way, over;
    CURLcode code;
    char error[CURL_ERROR_SIZE];
};

struct etcd_http {
    CURLM *multi;
    struct etcd_tls tls;
    int epoll_fd;
    /* CLOCK_MONOTONIC; 0: no timer */
    uint64_t due_ns;
    struct exchange call, stream;
    char *body;
    size_t body_len, body_capacity;
    bool body_too_large;
    uint64_t lines;
};

/* ---- What libcurl calls ---------------------------------------------------------------------- */

static int socket_changed(CURL *easy, curl_socket_t fd, int what, void *context, void *known)
{
    struct etcd_http *const http = context;
    struct epoll_event event = {.data.fd = fd};

    (void)easy;
    (void)known;
    if (what == CURL_POLL_REMOVE) { /* it may be closed already, and so be gone from there */
        (void)epoll_ctl(http->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
        return 0;
    }
    event.events = (what & CURL_POLL_IN ? EPOLLIN : 0u) | (what & CURL_POLL_OUT ? EPOLLOUT : 0u);
    if (epoll_ctl(http->epoll_fd, EPOLL_CTL_MOD, fd, &event) == 0)
        return 0;
    return epoll_ctl(http->epoll_fd, EPOLL_CTL_ADD, fd, &event);
}

static int timer_changed(CURLM *multi, long ms, void *context)
{
    struct etcd_http *const http = context;

    (void)multi;
    http->due_ns = ms < 0 ? 0 : time_ns_of(CLOCK_MONOTONIC) + (uint64_t)ms * NS_PER_MS;
    return 0;
}

static bool body_reserve(struct etcd_http *http, size_t more)
{
    if (more > ETCD_BODY_BYTES_MAX - http->body_len) {
        http->body_too_large = true;
        return false;
    }
    if (more <= http->body_capacity - http->body_len)
        return true;
    const size_t capacity = min_of(max_of(4096, (http->body_len + more) * 2), ETCD_BODY_BYTES_MAX);
    char *const body = realloc(http->body, capacity);
    if (!body)
        return false;
    http->body = body;
    http->body_capacity = capacity;
    return true;
}

static size_t body_came(char *bytes, size_t size, size_t count, void *context)
{
    struct etcd_http *const http = context;
    const size_t len = size * count;

    if (!body_reserve(http, len))
        return len == 0 ? 1 : 0; /* ends the request */
    copy_bytes(http->body + http->body_len, bytes, len);
    http->body_len += len;
    return len;
}

/* What a watch says is only that there is something to read. */
static size_t stream_came(char *bytes, size_t size, size_t count, void *context)
{
    struct etcd_http *const http = context;
    const size_t len = size * count;

    for (size_t i = 0; i < len; i++)
        http->lines += bytes[i] == '\n';
    return len;
}

/* ---- Open, close ----------------------------------------------------------------------------- */

static void exchange_end(struct etcd_http *http, struct exchange *exchange)
{
    if (exchange->under_way)
        (void)curl_multi_remove_handle(http->multi, exchange->easy);
    exchange->under_way = false;
    curl_slist_free_all(take_ptr(exchange->headers));
    free(take_ptr(exchange->sent));
}

static void exchange_deinit(struct etcd_http *http, struct exchange *exchange)
{
    exchange_end(http, exchange);
    curl_easy_cleanup(exchange->easy);
}

struct etcd_http *etcd_http_close(struct etcd_http *http)
{
    if (!http)
        return NULL;
    exchange_deinit(http, &http->call);
    exchange_deinit(http, &http->stream);
    (void)curl_multi_cleanup(http->multi);
    if (http->epoll_fd >= 0)
        close(http->epoll_fd);
    free(http->body);
    free(http);
    curl_global_cleanup();
    return NULL;
}

static void cleanup_http(struct etcd_http **http)
{
    (void)etcd_http_close(*http);
}

int etcd_http_open(struct etcd_http **out, const struct etcd_tls *tls, struct why *why)
{
    *out = NULL;
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
        return why_set(why, "libcurl cannot be used"), -EINVAL;
    CLEANUP(cleanup_http) struct etcd_http *http = calloc(1, sizeof(*http));
    if (!http) {
        curl_global_cleanup();
        return -ENOMEM;
    }
    http->tls = *tls;
    http->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    http->multi = curl_multi_init();
    http->call.easy = curl_easy_init();
    http->stream.easy = curl_easy_init();
    if (http->epoll_fd < 0 || !http->multi || !http->call.easy || !http->stream.easy)
        return why_set(why, "no memory, or no descriptor left"), -ENOMEM;
    (void)curl_multi_setopt(http->multi, CURLMOPT_SOCKETFUNCTION, socket_changed);
    (void)curl_multi_setopt(http->multi, CURLMOPT_SOCKETDATA, http);
    (void)curl_multi_setopt(http->multi, CURLMOPT_TIMERFUNCTION, timer_changed);
    (void)curl_multi_setopt(http->multi, CURLMOPT_TIMERDATA, http);
    *out = take_ptr(http);
    return 0;
}

/* ---- Requests -------------------------------------------------------------------------------- */

static int headers_make(struct exchange *exchange, const char *token)
{
    char line[HEADER_BYTES];

    exchange->headers = curl_slist_append(NULL, "Content-Type: application/json");
    if (exchange->headers && token) {
        (void)snprintf(line, sizeof(line), "Authorization: %s", token);
        struct curl_slist *const longer = curl_slist_append(exchange->headers, line);
        explicit_bzero(line, sizeof(line));
        return longer ? 0 : -ENOMEM;
    }
    return exchange->headers ? 0 : -ENOMEM;
}

static bool is_given(const char *path)
{
    return path && *path;
}

static void tls_set(CURL *easy, const struct etcd_tls *tls)
{
    if (is_given(tls->ca_file)) {
        (void)curl_easy_setopt(easy, CURLOPT_CAINFO, tls->ca_file);
        (void)curl_easy_setopt(easy, CURLOPT_CAPATH, NULL);
    }
    if (is_given(tls->cert_file))
        (void)curl_easy_setopt(easy, CURLOPT_SSLCERT, tls->cert_file);
    if (is_given(tls->key_file))
        (void)curl_easy_setopt(easy, CURLOPT_SSLKEY, tls->key_file);
}

/* curl_easy_reset() keeps connections. */
static int exchange_begin(struct etcd_http *http, struct exchange *exchange,
                          const struct etcd_request *request)
{
    CURL *const easy = exchange->easy;

    exchange_end(http, exchange);
    exchange->over = false;
    exchange->error[0] = '\0';
    exchange->sent = malloc(request->body.len + 1);
    if (!exchange->sent || headers_make(exchange, request->token) < 0)
        return -ENOMEM;
    copy_bytes(exchange->sent, request->body.data, request->body.len);
    curl_easy_reset(easy);
    tls_set(easy, &http->tls);
    (void)curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    (void)curl_easy_setopt(easy, CURLOPT_PROXY, "");
    (void)curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    (void)curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    (void)curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)CONNECT_MS_MAX);
    (void)curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)request->timeout_ms);
    (void)curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
    (void)curl_easy_setopt(easy, CURLOPT_TCP_KEEPIDLE, KEEPALIVE_S);
    (void)curl_easy_setopt(easy, CURLOPT_TCP_KEEPINTVL, KEEPALIVE_S);
    (void)curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, exchange->error);
    (void)curl_easy_setopt(easy, CURLOPT_URL, request->url);
    (void)curl_easy_setopt(easy, CURLOPT_HTTPHEADER, exchange->headers);
    (void)curl_easy_setopt(easy, CURLOPT_POST, 1L);
    (void)curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)request->body.len);
    (void)curl_easy_setopt(easy, CURLOPT_POSTFIELDS, exchange->sent);
    (void)curl_easy_setopt(easy, CURLOPT_WRITEDATA, http);
    (void)curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION,
                           exchange == &http->call ? body_came : stream_came);
    exchange->under_way = curl_multi_add_handle(http->multi, easy) == CURLM_OK;
    return exchange->under_way ? 0 : -ENOMEM;
}

int etcd_http_send(struct etcd_http *http, const struct etcd_request *request)
{
    http->body_len = 0;
    http->body_too_large = false;
    return exchange_begin(http, &http->call, request);
}

static void outcome_fill(struct etcd_http *http, struct etcd_outcome *outcome)
{
    const struct exchange *const call = &http->call;

    *outcome = (struct etcd_outcome){.transport = ETCD_HTTP_FAILED};
    outcome->text = call->error[0] ? call->error : curl_easy_strerror(call->code);
    if (http->body_too_large)
        outcome->transport = ETCD_HTTP_TOO_LARGE;
    else if (call->code == CURLE_GOT_NOTHING)
        outcome->transport = ETCD_HTTP_EMPTY;
    else if (call->code == CURLE_OK)
        outcome->transport = ETCD_HTTP_ANSWERED;
    (void)curl_easy_getinfo(call->easy, CURLINFO_RESPONSE_CODE, &outcome->status);
    outcome->body = (etag_str){http->body ? http->body : "", http->body_len};
}

bool etcd_http_take(struct etcd_http *http, struct etcd_outcome *outcome)
{
    if (!http->call.over)
        return false;
    outcome_fill(http, outcome);
    exchange_end(http, &http->call);
    return true;
}

int etcd_http_stream(struct etcd_http *http, const struct etcd_request *request)
{
    return exchange_begin(http, &http->stream, request);
}

bool etcd_http_streams(const struct etcd_http *http)
{
    return http->stream.under_way && !http->stream.over;
}

uint64_t etcd_http_lines(struct etcd_http *http)
{
    const uint64_t lines = http->lines;

    http->lines = 0;
    return lines;
}

/* ---- The loop -------------------------------------------------------------------------------- */

int etcd_http_fd(const struct etcd_http *http)
{
    return http->epoll_fd;
}

int etcd_http_timeout_ms(const struct etcd_http *http)
{
    const uint64_t now_ns = time_ns_of(CLOCK_MONOTONIC);

    if (http->due_ns == 0)
        return -1;
    return http->due_ns <= now_ns
               ? 0
               : (int)min_of((http->due_ns - now_ns + NS_PER_MS - 1) / NS_PER_MS, 60000);
}

static void messages_take(struct etcd_http *http)
{
    CURLMsg *message;
    int left;

    while ((message = curl_multi_info_read(http->multi, &left))) {
        struct exchange *const of = message->easy_handle == http->call.easy ? &http->call
                                                                            : &http->stream;
        of->over = message->msg == CURLMSG_DONE;
        of->code = message->data.result;
    }
}

void etcd_http_dispatch(struct etcd_http *http)
{
    struct epoll_event events[EVENTS_AT_ONCE];
    int running;
    const int count = epoll_wait(http->epoll_fd, events, EVENTS_AT_ONCE, 0);

    for (int i = 0; i < count; i++) {
        const int what = (events[i].events & EPOLLIN ? CURL_CSELECT_IN : 0) |
                         (events[i].events & EPOLLOUT ? CURL_CSELECT_OUT : 0) |
                         (events[i].events & (EPOLLERR | EPOLLHUP) ? CURL_CSELECT_ERR : 0);
        (void)curl_multi_socket_action(http->multi, events[i].data.fd, what, &running);
    }
    if (http->due_ns != 0 && time_ns_of(CLOCK_MONOTONIC) >= http->due_ns) {
        http->due_ns = 0;
        (void)curl_multi_socket_action(http->multi, CURL_SOCKET_TIMEOUT, 0, &running);
    }
    messages_take(http);
}
