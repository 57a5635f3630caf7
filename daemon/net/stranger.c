/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A small server of its own: one epoll, a table of fixed size, fixed buffers. It answers a
 * stranger's request before it reads the next one, and reads nothing from a stranger while an
 * answer does not fit into the socket. After each round it rests four times as long, so that
 * strangers get at most a fifth of a CPU, however many they are.
 *
 * If a peer sends a descriptor (SCM_RIGHTS), the kernel closes it when a thread reads or discards
 * the bytes that came with it, in that thread. That close may sleep: a TCP socket with SO_LINGER
 * and unsent data sleeps as long as its owner has set. Therefore the loop thread neither reads from
 * strangers nor closes them. In this thread a timer's signal ends such a sleep, which is
 * interruptible, after two milliseconds. If the kernel has SO_PASSRIGHTS, no descriptors arrive
 * (endpoint.c).
 */
#include "stranger.h"

#include "clocktime.h"
#include "greeting.h"
#include "numbers.h"
#include "thread.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define ARRIVALS_PER_ROUND 32
#define FRAMES_PER_ROUND 16 /* of one stranger */
#define TICK_NS (2 * NS_PER_MS)
#define REST_SHARE 4 /* of a round's time */
#define REST_NS_MAX (10 * NS_PER_MS)
#define WAIT_MS 1000 /* for limits of time */
#define TICK_SIGNAL SIGURG
#define FRAME_ROOM (FRAME_HEADER_BYTES + STRANGER_FRAME_BYTES_MAX)
#define ARENA_STRANGER_BYTES_MAX (64u * 1024u)

struct stranger {
    /* -1: a free place */
    int fd;
    uint32_t pid, uid;
    uint64_t idle_ns;
    /* by which it was found to have no role */
    uint64_t rules;
    bool greeted;
    /* after what is to be sent */
    bool closes;
    /* whole frames may be left in 'in' */
    bool more;
    uint32_t events;
    uint64_t opened_ns, last_ns;
    /* 0: no unfinished frame */
    uint64_t partial_since_ns;
    size_t in_len, out_len, out_sent;
    uint8_t in[FRAME_ROOM];
    uint8_t out[STRANGER_REPLY_BYTES_MAX];
};

struct strangers {
    struct strangers_options options;
    pthread_t thread;
    int epoll_fd, wake_fd;
    timer_t timer;
    bool has_timer;

    /* of what follows up to the figures */
    pthread_mutex_t lock;
    struct arrival {
        struct stranger_arrival from_loop;
        uint64_t rules;
    } arrivals[STRANGERS_WAITING_MAX];
    size_t arrival_count;
    /* how often the rules of roles were changed */
    uint64_t rules;
    bool stopped;
    struct strangers_figures figures;

    /* the thread's alone */
    struct stranger table[STRANGERS_MAX];
    struct arena arena;
    struct buffer scratch;
};

/* ---- Counting ---- */

static void count(struct strangers *s, uint64_t *figure)
{
    pthread_mutex_lock(&s->lock);
    ++*figure;
    pthread_mutex_unlock(&s->lock);
}

/* ---- One stranger ---- */

static void stranger_close(struct strangers *s, struct stranger *one)
{
    close(one->fd);
    one->fd = -1;
    one->more = false;
    pthread_mutex_lock(&s->lock);
    s->figures.count--;
    pthread_mutex_unlock(&s->lock);
}

static void stranger_await(struct strangers *s, struct stranger *one, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = one};

    if (events == one->events)
        return;
    if (epoll_ctl(s->epoll_fd, one->events ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, one->fd, &event) < 0)
        stranger_close(s, one);
    else
        one->events = events;
}

/* Sends what the socket takes. Closed afterwards, where it has to be. */
static void stranger_flush(struct strangers *s, struct stranger *one)
{
    while (one->out_sent < one->out_len) {
        const ssize_t n = send(one->fd, one->out + one->out_sent, one->out_len - one->out_sent,
                               MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN && !one->closes) {
            stranger_await(s, one, EPOLLOUT);
            return;
        }
        if (n < 0) {
            stranger_close(s, one);
            return;
        }
        one->out_sent += (size_t)n;
    }
    one->out_len = one->out_sent = 0;
    if (one->closes)
        stranger_close(s, one);
    else
        stranger_await(s, one, EPOLLIN);
}

static void stranger_reply(struct strangers *s, struct stranger *one, const struct reply *reply)
{
    assert(one->out_len == 0);
    s->scratch.len = 0;
    if (reply_encode(&s->scratch, reply) < 0 || s->scratch.len > sizeof(one->out)) {
        stranger_close(s, one);
        return;
    }
    memcpy(one->out, s->scratch.bytes, s->scratch.len);
    one->out_len = s->scratch.len;
    stranger_flush(s, one);
}

static void stranger_refuse(struct strangers *s, struct stranger *one, uint64_t request_id,
                            enum wire_error code, const char *text)
{
    const struct reply reply = {
        .id = request_id,
        .kind = REPLY_ERROR,
        .error = {.code = code, .text = str_of(text)},
    };

    stranger_reply(s, one, &reply);
}

/* Says why, unless it has not even read the last answer, and closes. */
static void stranger_end(struct strangers *s, struct stranger *one, enum wire_error code,
                         const char *text)
{
    one->closes = true;
    if (one->out_len > 0)
        stranger_close(s, one);
    else
        stranger_refuse(s, one, 0, code, text);
}

static void stranger_break(struct strangers *s, struct stranger *one, enum wire_error code,
                           const char *text)
{
    count(s, &s->figures.protocol_errors);
    log_limited(s->options.log, LOG_WARN, "peer_broke_protocol", log_number("pid", one->pid),
                log_number("uid", one->uid), log_text("reason", text));
    stranger_end(s, one, code, text);
}

/* ---- What it asks ---- */

static void handle_hello(struct strangers *s, struct stranger *one, const struct request *request)
{
    char text[ERROR_TEXT_BYTES_MAX];
    const char *wrong = greeting_check(request->hello.protocol, text);

    if (wrong) {
        one->closes = true;
        stranger_refuse(s, one, request->id, WIRE_ERROR_VERSION, wrong);
        return;
    }
    struct reply reply = s->options.hello;
    reply.id = request->id;
    reply.hello.clock_ns = time_coarse_ns();
    one->greeted = true;
    stranger_reply(s, one, &reply);
}

static void frame_handle(struct strangers *s, struct stranger *one, etag_str payload)
{
    struct request request;

    arena_reset(&s->arena);
    const char *wrong = request_decode(&request, &s->arena, payload);
    const bool is_hello = !wrong && request.kind == REQUEST_HELLO;
    if (wrong) {
        stranger_break(s, one, WIRE_ERROR_MALFORMED, wrong);
    } else if (is_hello == one->greeted) {
        stranger_break(s, one, is_hello ? WIRE_ERROR_MALFORMED : WIRE_ERROR_NO_HELLO,
                       is_hello ? TEXT_SECOND_HELLO : TEXT_NO_HELLO);
    } else if (is_hello) {
        handle_hello(s, one, &request);
    } else if (request.kind == REQUEST_PING) {
        stranger_reply(s, one, &(struct reply){.id = request.id, .kind = REPLY_DONE});
    } else if (request.kind == REQUEST_NONE) {
        stranger_refuse(s, one, request.id, WIRE_ERROR_INVALID, TEXT_UNKNOWN_REQUEST);
    } else {
        stranger_refuse(s, one, request.id, WIRE_ERROR_DENIED,
                        "this user has no role: see 'roles' in the daemon's configuration");
    }
}

/* What is left after the frames that were handled. False: it is closed for it. */
static bool rest_check(struct strangers *s, struct stranger *one, bool handled)
{
    if (one->in_len >= FRAME_HEADER_BYTES && !one->more && one->out_len == 0) {
        uint32_t len;
        memcpy(&len, one->in, sizeof(len));
        if (len > STRANGER_FRAME_BYTES_MAX) {
            stranger_break(s, one, WIRE_ERROR_DENIED,
                           "so large a request wants a role, and this user has none");
            return false;
        }
    }
    if (one->in_len == 0)
        one->partial_since_ns = 0;
    else if (handled || one->partial_since_ns == 0)
        one->partial_since_ns = one->last_ns;
    return true;
}

/* Handles whole frames until an answer waits for room or its share of the round is used up. */
static void frames_handle(struct strangers *s, struct stranger *one)
{
    etag_str rest = {(const char *)one->in, one->in_len}, payload;
    int handled = 0;
    int r = 0;

    for (; handled < FRAMES_PER_ROUND && one->fd >= 0 && !one->closes && one->out_len == 0;
         handled++) {
        r = frame_next(rest, &payload);
        if (r <= 0)
            break;
        rest = str_skip(rest, FRAME_HEADER_BYTES + payload.len);
        frame_handle(s, one, payload);
    }
    if (one->fd < 0 || one->closes)
        return;
    if (r < 0) {
        stranger_break(s, one, WIRE_ERROR_MALFORMED, TEXT_FRAMING_LOST);
        return;
    }
    one->more = handled == FRAMES_PER_ROUND;
    one->in_len = rest.len;
    memmove(one->in, rest.data, rest.len);
    (void)rest_check(s, one, handled > 0);
}

static void stranger_read(struct strangers *s, struct stranger *one)
{
    const ssize_t n = recv(one->fd, one->in + one->in_len, sizeof(one->in) - one->in_len,
                           MSG_DONTWAIT);

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        stranger_close(s, one);
        return;
    }
    one->last_ns = time_coarse_ns();
    one->in_len += (size_t)n;
}

static void stranger_event(struct strangers *s, struct stranger *one, uint32_t events)
{
    if (one->fd < 0)
        return;
    if (one->out_len > 0)
        stranger_flush(s, one);
    else if (events && one->in_len < sizeof(one->in))
        stranger_read(s, one);
    if (one->fd >= 0 && one->out_len == 0)
        frames_handle(s, one);
}

/* ---- Arrival ---- */

static struct stranger *free_place(struct strangers *s)
{
    for (size_t i = 0; i < STRANGERS_MAX; i++)
        if (s->table[i].fd < 0)
            return &s->table[i];
    return NULL;
}

static void arrival_refuse(struct strangers *s, const struct stranger_arrival *arrival,
                           const char *why)
{
    if (arrival->fd >= 0)
        close(arrival->fd);
    count(s, &s->figures.refused);
    log_limited(s->options.log, LOG_WARN, "peer_refused", log_text("reason", why),
                log_number("pid", arrival->pid), log_number("uid", arrival->uid));
}

static void arrival_serve(struct strangers *s, const struct stranger_arrival *arrival,
                          uint64_t rules)
{
    const int bytes = STRANGER_SOCKET_BYTES;
    struct stranger *one = arrival->refusal ? NULL : free_place(s);

    if (!one) {
        arrival_refuse(s, arrival,
                       arrival->refusal ? arrival->refusal : "too many peers without a role");
        return;
    }
    (void)setsockopt(arrival->fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes));
    *one = (struct stranger){
        .fd = arrival->fd,
        .pid = arrival->pid,
        .uid = arrival->uid,
        .idle_ns = arrival->idle_ns,
        .rules = rules,
        .opened_ns = time_coarse_ns(),
        .last_ns = time_coarse_ns(),
    };
    pthread_mutex_lock(&s->lock);
    s->figures.count++;
    s->figures.accepted++;
    pthread_mutex_unlock(&s->lock);
    stranger_await(s, one, EPOLLIN);
}

static void arrivals_serve(struct strangers *s)
{
    struct arrival batch[ARRIVALS_PER_ROUND];

    pthread_mutex_lock(&s->lock);
    const size_t n = min_of(s->arrival_count, ARRIVALS_PER_ROUND);
    memcpy(batch, s->arrivals, n * sizeof(batch[0]));
    s->arrival_count -= n;
    memmove(s->arrivals, s->arrivals + n, s->arrival_count * sizeof(batch[0]));
    pthread_mutex_unlock(&s->lock);
    for (size_t i = 0; i < n; i++)
        arrival_serve(s, &batch[i].from_loop, batch[i].rules);
}

/* ---- Limits of time, and the end ---- */

static const char *overdue(const struct stranger *one, uint64_t now_ns)
{
    if (!one->greeted && now_ns - one->opened_ns > PEER_HELLO_MS_MAX * NS_PER_MS)
        return TEXT_HELLO_LATE;
    if (one->partial_since_ns != 0 &&
        now_ns - one->partial_since_ns > PEER_PARTIAL_MS_MAX * NS_PER_MS)
        return TEXT_FRAME_LATE;
    if (one->idle_ns != 0 && now_ns - one->last_ns > one->idle_ns)
        return TEXT_IDLE;
    return NULL;
}

static void strangers_expire(struct strangers *s)
{
    const uint64_t now_ns = time_coarse_ns();

    for (size_t i = 0; i < STRANGERS_MAX; i++) {
        const char *why = s->table[i].fd >= 0 ? overdue(&s->table[i], now_ns) : NULL;
        if (!why)
            continue;
        count(s, &s->figures.slow);
        stranger_break(s, &s->table[i], WIRE_ERROR_SLOW, why);
    }
}

static bool is_outdated(const struct stranger *one, uint64_t rules)
{
    return one->fd >= 0 && one->rules != rules;
}

static uint64_t rules_now(struct strangers *s)
{
    pthread_mutex_lock(&s->lock);
    const uint64_t rules = s->rules;
    pthread_mutex_unlock(&s->lock);
    return rules;
}

/* A peer that came after the change was judged by the new rules, and stays. */
static void outdated_end(struct strangers *s)
{
    const uint64_t rules = rules_now(s);

    for (size_t i = 0; i < STRANGERS_MAX; i++)
        if (is_outdated(&s->table[i], rules))
            stranger_end(s, &s->table[i], WIRE_ERROR_ROLES, TEXT_ROLES_CHANGED);
}

/* ---- The thread ---- */

/* While it runs nothing sleeps for longer than this. */
static void tick(struct strangers *s, uint64_t ns)
{
    const struct timespec every = {.tv_nsec = (long)ns};
    const struct itimerspec timer = {.it_interval = every, .it_value = every};

    if (s->has_timer)
        (void)timer_settime(s->timer, 0, &timer, NULL);
}

static void wake_take(struct strangers *s)
{
    eventfd_t unused;

    (void)eventfd_read(s->wake_fd, &unused);
}

/* False: there is nothing left to do at present. */
static bool work_left(struct strangers *s)
{
    pthread_mutex_lock(&s->lock);
    bool left = s->arrival_count > 0;
    const uint64_t rules = s->rules;
    pthread_mutex_unlock(&s->lock);
    for (size_t i = 0; i < STRANGERS_MAX; i++) {
        const struct stranger *one = &s->table[i];
        left |= is_outdated(one, rules) || (one->fd >= 0 && one->more && one->out_len == 0);
    }
    return left;
}

static void round_do(struct strangers *s, const struct epoll_event *events, int n)
{
    for (int i = 0; i < n; i++) {
        if (events[i].data.ptr)
            stranger_event(s, events[i].data.ptr, events[i].events);
        else
            wake_take(s);
    }
    for (size_t i = 0; i < STRANGERS_MAX; i++)
        if (s->table[i].more)
            stranger_event(s, &s->table[i], 0);
    arrivals_serve(s);
    outdated_end(s);
}

static void rest(uint64_t worked_ns)
{
    const uint64_t ns = min_of(worked_ns * REST_SHARE, REST_NS_MAX);
    const struct timespec pause = {.tv_nsec = (long)ns};

    (void)nanosleep(&pause, NULL);
}

static bool is_stopped(struct strangers *s)
{
    pthread_mutex_lock(&s->lock);
    const bool stopped = s->stopped;
    pthread_mutex_unlock(&s->lock);
    return stopped;
}

static void strangers_close_all(struct strangers *s)
{
    tick(s, TICK_NS);
    for (size_t i = 0; i < STRANGERS_MAX; i++)
        if (s->table[i].fd >= 0)
            stranger_close(s, &s->table[i]);
    for (size_t i = 0; i < s->arrival_count; i++)
        cleanup_fd(&s->arrivals[i].from_loop.fd);
    tick(s, 0);
}

static void *strangers_run(void *argument)
{
    struct strangers *s = argument;
    struct epoll_event events[STRANGERS_MAX + 1];
    uint64_t expired_ns = time_coarse_ns();
    sigset_t ticks;

    sigemptyset(&ticks);
    sigaddset(&ticks, TICK_SIGNAL);
    pthread_sigmask(SIG_UNBLOCK, &ticks, NULL);
    struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = TICK_SIGNAL};
    event._sigev_un._tid = gettid();
    s->has_timer = timer_create(CLOCK_MONOTONIC, &event, &s->timer) == 0;
    while (!is_stopped(s)) {
        const int n = epoll_wait(s->epoll_fd, events, STRANGERS_MAX + 1,
                                 work_left(s) ? 0 : WAIT_MS);
        const uint64_t began_ns = time_ns_of(CLOCK_MONOTONIC);
        tick(s, TICK_NS);
        round_do(s, events, n);
        if (began_ns - expired_ns > NS_PER_S) {
            strangers_expire(s);
            expired_ns = began_ns;
        }
        tick(s, 0);
        rest(time_ns_of(CLOCK_MONOTONIC) - began_ns);
    }
    strangers_close_all(s);
    if (s->has_timer)
        timer_delete(s->timer);
    return NULL;
}

/* ---- The loop thread's side ---- */

/* It only has to come: that ends a sleep. */
static void on_tick(int signal_number)
{
    (void)signal_number;
}

static struct strangers *strangers_free(struct strangers *s)
{
    cleanup_fd(&s->epoll_fd);
    cleanup_fd(&s->wake_fd);
    buffer_deinit(&s->scratch);
    arena_deinit(&s->arena);
    pthread_mutex_destroy(&s->lock);
    free(s);
    return NULL;
}

static int descriptors_open(struct strangers *s)
{
    struct epoll_event event = {.events = EPOLLIN};

    s->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    s->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (s->epoll_fd < 0 || s->wake_fd < 0 ||
        epoll_ctl(s->epoll_fd, EPOLL_CTL_ADD, s->wake_fd, &event) < 0)
        return -errno;
    return 0;
}

int strangers_start(struct strangers **out, const struct strangers_options *options)
{
    const struct sigaction action = {.sa_handler = on_tick};
    struct strangers *s = calloc(1, sizeof(*s));

    if (!s)
        return -ENOMEM;
    s->options = *options;
    s->epoll_fd = s->wake_fd = -1;
    pthread_mutex_init(&s->lock, NULL);
    arena_init(&s->arena, ARENA_STRANGER_BYTES_MAX);
    for (size_t i = 0; i < STRANGERS_MAX; i++)
        s->table[i].fd = -1;
    int r = descriptors_open(s);
    if (r == 0 && sigaction(TICK_SIGNAL, &action, NULL) < 0)
        r = -errno;
    if (r == 0)
        r = thread_start(&s->thread, "etagd-strangers", strangers_run, s);
    if (r < 0) {
        strangers_free(s);
        return r;
    }
    *out = s;
    return 0;
}

static void wake(struct strangers *s)
{
    (void)eventfd_write(s->wake_fd, 1);
}

struct strangers *strangers_stop(struct strangers *s)
{
    if (!s)
        return NULL;
    pthread_mutex_lock(&s->lock);
    s->stopped = true;
    pthread_mutex_unlock(&s->lock);
    wake(s);
    pthread_join(s->thread, NULL);
    return strangers_free(s);
}

void strangers_take(struct strangers *s, const struct stranger_arrival *arrival)
{
    pthread_mutex_lock(&s->lock);
    assert(s->arrival_count < STRANGERS_WAITING_MAX);
    s->arrivals[s->arrival_count++] = (struct arrival){*arrival, s->rules};
    pthread_mutex_unlock(&s->lock);
    wake(s);
}

bool strangers_have_room(struct strangers *s)
{
    pthread_mutex_lock(&s->lock);
    const bool room = s->arrival_count < STRANGERS_WAITING_MAX;
    pthread_mutex_unlock(&s->lock);
    return room;
}

void strangers_dismiss(struct strangers *s)
{
    pthread_mutex_lock(&s->lock);
    s->rules++;
    pthread_mutex_unlock(&s->lock);
    wake(s);
}

struct strangers_figures strangers_figures(struct strangers *s)
{
    pthread_mutex_lock(&s->lock);
    const struct strangers_figures figures = s->figures;
    pthread_mutex_unlock(&s->lock);
    return figures;
}
