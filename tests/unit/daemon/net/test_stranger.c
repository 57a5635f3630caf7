/* SPDX-License-Identifier: Apache-2.0 */
/* Peers without a role, by real sockets: what they are told, and that nothing they do costs more
 * than their own. */
#include "stranger.h"

#include "bytes.h"
#include "clocktime.h"
#include "greeting.h"
#include "log_sink.h"
#include "numbers.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#define PATIENCE_MS 20000

struct fixture {
    struct strangers *strangers;
    struct sink *sink;
    struct arena arena;
    struct buffer buffer;
};

static int setup(void **state)
{
    struct fixture *const f = calloc(1, sizeof(*f));
    void *sink;

    if (!f || sink_open(&sink) < 0)
        return -1;
    f->sink = sink;
    arena_init(&f->arena, ARENA_BYTES_MAX);
    const struct strangers_options options = {
        .hello = {.kind = REPLY_HELLO,
                  .hello = {.protocol = PROTOCOL_VERSION, .software = ETAG_LIT(DAEMON_SOFTWARE)}},
        .log = &f->sink->limit,
    };
    *state = f;
    return strangers_start(&f->strangers, &options);
}

static int teardown(void **state)
{
    struct fixture *const f = *state;

    strangers_stop(f->strangers);
    arena_deinit(&f->arena);
    buffer_deinit(&f->buffer);
    void *sink = f->sink;
    (void)sink_close(&sink);
    free(f);
    return 0;
}

#define CASE(name) TEST_OF(name, struct fixture *f, setup, teardown)

/* ---- The other end ---- */

static int arrive(struct fixture *f)
{
    int pair[2];
    const struct timeval patience = {.tv_sec = PATIENCE_MS / 1000};

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    assert_int_equal(setsockopt(pair[1], SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)), 0);
    while (!strangers_have_room(f->strangers))
        poll(NULL, 0, 1);
    strangers_take(f->strangers, &(struct stranger_arrival){.fd = pair[0], .pid = 77, .uid = 4242});
    return pair[1];
}

static void say(struct fixture *f, int fd, const struct request *request)
{
    f->buffer.len = 0;
    assert_int_equal(request_encode(&f->buffer, request), 0);
    assert_int_equal(send(fd, f->buffer.bytes, f->buffer.len, MSG_NOSIGNAL), f->buffer.len);
}

/* The next reply; false: closed. */
static bool hear(struct fixture *f, int fd, struct reply *reply)
{
    char frame[FRAME_HEADER_BYTES + STRANGER_REPLY_BYTES_MAX];
    const ssize_t n = recv(fd, frame, FRAME_HEADER_BYTES, MSG_WAITALL);

    if (n == 0 || (n < 0 && errno == ECONNRESET))
        return false;
    assert_int_equal(n, FRAME_HEADER_BYTES);
    const uint32_t len = load_u32(frame);
    assert_true(len <= STRANGER_REPLY_BYTES_MAX);
    assert_int_equal(recv(fd, frame + n, len, MSG_WAITALL), len);
    arena_reset(&f->arena);
    assert_null(reply_decode(reply, &f->arena, (etag_str){frame + n, len}));
    return true;
}

static void expect_error(struct fixture *f, int fd, enum wire_error code)
{
    struct reply reply;

    assert_true(hear(f, fd, &reply));
    assert_int_equal(reply.kind, REPLY_ERROR);
    assert_int_equal(reply.error.code, code);
}

static void expect_closed(struct fixture *f, int fd)
{
    struct reply reply;

    assert_false(hear(f, fd, &reply));
    close(fd);
}

static int arrive_and_greet(struct fixture *f)
{
    struct reply reply;
    const int fd = arrive(f);

    say(f, fd,
        &(struct request){.id = 1, .kind = REQUEST_HELLO, .hello = {.protocol = PROTOCOL_VERSION}});
    assert_true(hear(f, fd, &reply));
    assert_int_equal(reply.kind, REPLY_HELLO);
    assert_int_equal(reply.hello.roles, 0);
    assert_int_equal(reply.hello.index_bytes, 0);
    assert_true(reply.hello.clock_ns > 0);
    return fd;
}

static void ping(struct fixture *f, int fd)
{
    struct reply reply;

    say(f, fd, &(struct request){.id = 9, .kind = REQUEST_PING});
    assert_true(hear(f, fd, &reply));
    assert_int_equal(reply.kind, REPLY_DONE);
    assert_int_equal(reply.id, 9);
}

#define WAIT_UNTIL(condition)                                                                      \
    do {                                                                                           \
        int left_ = PATIENCE_MS;                                                                   \
        for (; !(condition) && left_ > 0; left_--)                                                 \
            poll(NULL, 0, 1);                                                                      \
        assert_true(left_ > 0);                                                                    \
    } while (0)

static size_t log_lines(struct fixture *f)
{
    size_t lines = 0;

    for (const char *at = sink_read(f->sink); (at = strchr(at, '\n')); at++)
        lines++;
    return lines;
}

/* ---- What they get ---- */

CASE(strangers_are_told_that_they_have_no_role)
{
    const int fd = arrive_and_greet(f);

    ping(f, fd);
    static const enum request_kind kinds[] = {REQUEST_INVALIDATE, REQUEST_STATUS, REQUEST_PAUSE,
                                              REQUEST_WATCH, REQUEST_LOG};
    for (size_t i = 0; i < COUNT_OF(kinds); i++) {
        struct request request = {.id = 5, .kind = kinds[i]};
        if (request.kind == REQUEST_INVALIDATE)
            ETAG_INIT(&request.targets);
        say(f, fd, &request);
        expect_error(f, fd, WIRE_ERROR_DENIED);
    }
    ping(f, fd);
    assert_int_equal(strangers_figures(f->strangers).count, 1);
    close(fd);
    WAIT_UNTIL(strangers_figures(f->strangers).count == 0);
}

CASE(strangers_break_the_protocol_only_for_themselves)
{
    const int other = arrive_and_greet(f);
    int fd = arrive(f);

    say(f, fd, &(struct request){.id = 9, .kind = REQUEST_PING});
    expect_error(f, fd, WIRE_ERROR_NO_HELLO);
    expect_closed(f, fd);
    fd = arrive(f);
    say(f, fd, &(struct request){.id = 1, .kind = REQUEST_HELLO, .hello = {.protocol = 99}});
    expect_error(f, fd, WIRE_ERROR_VERSION);
    expect_closed(f, fd);
    fd = arrive_and_greet(f);
    say(f, fd,
        &(struct request){.id = 1, .kind = REQUEST_HELLO, .hello = {.protocol = PROTOCOL_VERSION}});
    expect_error(f, fd, WIRE_ERROR_MALFORMED);
    expect_closed(f, fd);
    fd = arrive_and_greet(f);
    assert_int_equal(send(fd, "\3\0\0\0\377\377\377", 7, MSG_NOSIGNAL), 7);
    expect_error(f, fd, WIRE_ERROR_MALFORMED);
    expect_closed(f, fd);
    assert_int_equal(strangers_figures(f->strangers).protocol_errors, 3);
    ping(f, other);
    close(other);
}

CASE(large_requests_want_a_role)
{
    const int fd = arrive_and_greet(f);
    char head[FRAME_HEADER_BYTES];

    store_u32(head, STRANGER_FRAME_BYTES_MAX + 1);
    assert_int_equal(send(fd, head, sizeof(head), MSG_NOSIGNAL), sizeof(head));
    expect_error(f, fd, WIRE_ERROR_DENIED);
    expect_closed(f, fd);
}

CASE(a_crowd_is_bounded_and_may_come_again)
{
    int fds[STRANGERS_MAX];

    for (size_t i = 0; i < STRANGERS_MAX; i++)
        fds[i] = arrive_and_greet(f);
    for (size_t i = 0; i < 500; i++)
        expect_closed(f, arrive(f));
    WAIT_UNTIL(strangers_figures(f->strangers).refused == 500);
    assert_int_equal(strangers_figures(f->strangers).count, STRANGERS_MAX);
    close(fds[0]);
    WAIT_UNTIL(strangers_figures(f->strangers).count == STRANGERS_MAX - 1);
    fds[0] = arrive_and_greet(f);
    for (size_t i = 0; i < STRANGERS_MAX; i++)
        close(fds[i]);
}

/* The lines of the log: row 5 of the attack. */
CASE(lengths_of_nothing_do_not_fill_the_log)
{
    for (size_t i = 0; i < 300; i++) {
        const int fd = arrive(f);
        assert_int_equal(send(fd, "\0\0\0\0", 4, MSG_NOSIGNAL), 4);
        expect_error(f, fd, WIRE_ERROR_MALFORMED);
        expect_closed(f, fd);
    }
    assert_int_equal(strangers_figures(f->strangers).protocol_errors, 300);
    /* A minute's worth at most, whatever the machine took for it. */
    assert_in_range(log_lines(f), 1, LOG_LIMITED_LINES + 6);
}

/* ---- What they do not read ---- */

/* Row 4 of the attack: it is not served beyond what its socket takes, and the rest of what it sends
 * waits in its own. */
CASE(a_stranger_that_reads_nothing_is_not_read)
{
    const int fd = arrive_and_greet(f);
    struct pollfd writable = {.fd = fd, .events = POLLOUT};
    size_t sent = 0;
    char frames[600];

    for (size_t i = 0; i < sizeof(frames); i += 6)
        memcpy(frames + i, "\2\0\0\0\x4a\0", 6); /* status, id 0: a refusal */
    /* Full for a while: nobody takes anything out. */
    while (poll(&writable, 1, 300) == 1) {
        const ssize_t n = send(fd, frames, sizeof(frames), MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n > 0)
            sent += (size_t)n;
    }
    assert_true(sent > sizeof(frames) && sent < 1000000);
    const int other = arrive_and_greet(f);
    ping(f, other);
    close(other);
    /* It reads: each request that was whole is answered. */
    for (size_t i = 0; i < sent / 6; i++)
        expect_error(f, fd, WIRE_ERROR_DENIED);
    close(fd);
}

CASE(pipelined_pings_leave_room_for_others)
{
    int fds[STRANGERS_MAX - 1];
    static char pings[6 * 1000];

    for (size_t i = 0; i < sizeof(pings); i += 6)
        memcpy(pings + i, "\2\0\0\0\x2a\0", 6);
    for (size_t i = 0; i < STRANGERS_MAX - 1; i++) {
        fds[i] = arrive_and_greet(f);
        assert_true(send(fds[i], pings, sizeof(pings), MSG_NOSIGNAL | MSG_DONTWAIT) > 0);
    }
    const int other = arrive_and_greet(f);
    ping(f, other);
    close(other);
    for (size_t i = 0; i < STRANGERS_MAX - 1; i++)
        close(fds[i]);
    WAIT_UNTIL(strangers_figures(f->strangers).count == 0);
}

/* ---- What they send along ---- */

/* A TCP socket whose last close sleeps for an hour: unsent data, and SO_LINGER. */
static int lingering_socket(int *listener)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(address);
    static char bytes[65536];
    const int small = 4096;

    *listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(setsockopt(*listener, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small)), 0);
    assert_int_equal(bind(*listener, (struct sockaddr *)&address, len), 0);
    assert_int_equal(listen(*listener, 1), 0);
    assert_int_equal(getsockname(*listener, (struct sockaddr *)&address, &len), 0);
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const struct linger linger = {.l_onoff = 1, .l_linger = 3600};
    assert_int_equal(connect(fd, (struct sockaddr *)&address, len), 0);
    while (send(fd, bytes, sizeof(bytes), MSG_DONTWAIT | MSG_NOSIGNAL) > 0)
        ;
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)), 0);
    return fd;
}

static void send_along(int fd, const char *bytes, size_t len, int passed)
{
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {0};
    char copy[16];
    memcpy(copy, bytes, len);
    struct iovec part = {copy, len};
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = control,
                             .msg_controllen = sizeof(control)};
    struct cmsghdr *const header = CMSG_FIRSTHDR(&message);
    *header = (struct cmsghdr){CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS};
    memcpy(CMSG_DATA(header), &passed, sizeof(int));
    assert_int_equal(sendmsg(fd, &message, MSG_NOSIGNAL), len);
}

/* The server may have closed its copy already: then this is the close that sleeps, until the
 * listener is closed. */
static void *close_run(void *argument)
{
    close((int)(intptr_t)argument);
    return NULL;
}

/* Row 1 of the attack. Read with a request, and left unread in a socket that is closed. */
CASE(descriptors_whose_closing_sleeps_hold_up_nobody)
{
    const int other = arrive_and_greet(f);
    int listeners[20];
    pthread_t closers[20];

    for (size_t i = 0; i < 20; i++) {
        const int passed = lingering_socket(&listeners[i]);
        const int fd = i % 2 ? arrive_and_greet(f) : arrive(f);
        send_along(fd, "\2\0\0\0\x2a\0", 6, passed);
        assert_int_equal(pthread_create(&closers[i], NULL, close_run, (void *)(intptr_t)passed), 0);
        close(fd);
    }
    ping(f, other);
    WAIT_UNTIL(strangers_figures(f->strangers).count == 1);
    close(other);
    for (size_t i = 0; i < 20; i++) {
        close(listeners[i]);
        pthread_join(closers[i], NULL);
    }
}

/* ---- Other rules ---- */

CASE(all_are_told_when_roles_changed)
{
    const int greeted = arrive_and_greet(f);
    const int fresh = arrive(f); /* may still wait to be served */

    strangers_dismiss(f->strangers);
    expect_error(f, greeted, WIRE_ERROR_ROLES);
    expect_closed(f, greeted);
    expect_error(f, fresh, WIRE_ERROR_ROLES);
    expect_closed(f, fresh);
    const int again = arrive_and_greet(f);
    ping(f, again);
    close(again);
}

/* A peer that connects as soon as it hears of the change may be taken before the thread has ended
 * the former ones. */
CASE(who_comes_after_the_change_stays)
{
    for (int i = 0; i < 20; i++) {
        const int before = arrive(f);
        strangers_dismiss(f->strangers);
        const int after = arrive_and_greet(f);
        ping(f, after);
        expect_error(f, before, WIRE_ERROR_ROLES);
        expect_closed(f, before);
        close(after);
    }
}

CASE(stopping_closes_all)
{
    const int greeted = arrive_and_greet(f);
    const int fresh = arrive(f);

    f->strangers = strangers_stop(f->strangers);
    expect_closed(f, greeted);
    expect_closed(f, fresh);
    assert_null(strangers_stop(NULL));
}
