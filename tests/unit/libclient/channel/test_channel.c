/* SPDX-License-Identifier: Apache-2.0 */
/* The connection: hello and its descriptors, calls, deadlines, a full socket, and every way a
 * daemon may misbehave. */
#include "channel.h"
#include "fake_daemon.h"

#include <signal.h>
#include <sys/time.h>

struct fixture {
    struct fake_daemon daemon;
    struct channel channel;
    struct fault fault;
    /* open at the beginning */
    int descriptors;
    int handed_over, closed;
    uint64_t last_id;
    /* 'sent', when the connection was closed */
    bool was_sent;
    struct channel_sent sent;
};

static void on_reply(void *context, const struct reply *reply)
{
    struct fixture *f = context;

    f->handed_over++;
    f->last_id = reply->id;
}

static void on_closed(void *context)
{
    struct fixture *f = context;

    f->closed++;
    f->was_sent = channel_was_sent(&f->channel, &f->sent);
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));

    f->descriptors = open_descriptors();
    fake_init(&f->daemon);
    const struct channel_handler handler = {on_reply, on_closed, f};
    assert_true(channel_init(&f->channel, f->daemon.path, &handler));
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    channel_deinit(&f->channel);
    fake_deinit(&f->daemon);
    assert_int_equal(open_descriptors(), f->descriptors);
    free(f);
    return 0;
}

#define CASE(name) TEST_OF(name, struct fixture *f, setup, teardown)

static uint64_t in_ms(uint64_t ms)
{
    return channel_now_ns() + ms * NS_PER_MS;
}

static void expect_text(const struct fixture *f, const char *part)
{
    if (!strstr(f->fault.text, part))
        fail_msg("\"%s\" is not in \"%s\"", part, f->fault.text);
}

static void start(struct fixture *f)
{
    fake_start(&f->daemon, true);
    assert_int_equal(channel_connect(&f->channel, in_ms(5000), &f->fault), ETAG_OK);
    assert_int_equal(f->channel.state, CHANNEL_READY);
}

static etag_status call(struct fixture *f, uint64_t ms, struct reply *reply)
{
    etag_str name = ETAG_LIT("customer:7");
    struct request request = {.kind = REQUEST_INVALIDATE,
                              .targets = {.surrogates = &name, .surrogate_count = 1}};

    return channel_call(&f->channel, &request, in_ms(ms), &f->sent, reply, &f->fault);
}

CASE(refuses_paths)
{
    struct channel channel;
    char path[CHANNEL_PATH_BYTES_MAX + 1];

    memset(path, 'p', sizeof(path));
    path[sizeof(path) - 1] = '\0';
    assert_false(channel_init(&channel, path, NULL));
    assert_false(channel_init(&channel, "", NULL));
    path[sizeof(path) - 2] = '\0';
    assert_true(channel_init(&channel, path, NULL));
    channel_deinit(&channel);
}

CASE(nobody_listens)
{
    struct reply reply;

    assert_int_equal(channel_connect_start(&f->channel, &f->fault), ETAG_UNAVAILABLE);
    expect_text(f, f->daemon.path);
    assert_int_equal(channel_connect(&f->channel, in_ms(5000), &f->fault), ETAG_UNAVAILABLE);
    assert_int_equal(call(f, 5000, &reply), ETAG_UNAVAILABLE);
    assert_int_equal(channel_pump(&f->channel, &f->fault), ETAG_UNAVAILABLE);
    assert_int_equal(channel_events(&f->channel), 0);
    assert_int_equal(f->channel.fd, -1);
}

CASE(says_hello)
{
    struct channel_hello hello;

    f->daemon.roles = ROLE_READ;
    start(f);
    assert_true(channel_take_hello(&f->channel, &hello));
    assert_false(channel_take_hello(&f->channel, &hello));
    assert_string_equal(hello.software, "etagd 9.9");
    assert_int_equal(hello.roles, ROLE_READ);
    assert_int_equal(hello.index_bytes, index_bytes(f->daemon.index));
    assert_true(hello.clock_before_ns <= hello.clock_ns && hello.clock_ns <= hello.clock_after_ns);
    assert_int_equal(fcntl(hello.index_fd, F_GETFD), FD_CLOEXEC);
    assert_int_equal(fcntl(hello.counters_fd, F_GETFD), FD_CLOEXEC);
    assert_int_equal(lseek(hello.index_fd, 0, SEEK_END), index_bytes(f->daemon.index));
    assert_int_equal(lseek(hello.counters_fd, 0, SEEK_END), COUNTERS_BYTES);
    close(hello.index_fd);
    close(hello.counters_fd);
}

/* Descriptors that nobody takes are closed: teardown counts. */
CASE(a_hello_that_nobody_takes)
{
    start(f);
}

CASE(a_role_without_index_gets_no_descriptors)
{
    struct channel_hello hello;

    f->daemon.roles = ROLE_FILL;
    start(f);
    assert_true(channel_take_hello(&f->channel, &hello));
    assert_int_equal(hello.index_fd, -1);
    assert_int_equal(hello.counters_fd, -1);
}

CASE(a_stopped_daemon_costs_the_deadline_only)
{
    fake_start(&f->daemon, false);
    const uint64_t begin = channel_now_ns();
    assert_int_equal(channel_connect(&f->channel, in_ms(60), &f->fault), ETAG_UNAVAILABLE);
    assert_in_range(channel_now_ns() - begin, 60 * NS_PER_MS, 5000 * NS_PER_MS);
    expect_text(f, "no hello");
    assert_int_equal(f->channel.state, CHANNEL_GREETING);
    fake_continue(&f->daemon);
    assert_int_equal(channel_connect(&f->channel, in_ms(5000), &f->fault), ETAG_OK);
    assert_int_equal(fake_get(&f->daemon, connections), 1);
}

CASE(a_full_backlog_is_waited_for)
{
    int others[256], count = 0;
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    memcpy(address.sun_path, f->daemon.path, sizeof(f->daemon.path));
    fake_start(&f->daemon, false);
    for (; count < 256; count++) {
        others[count] = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (connect(others[count], (struct sockaddr *)&address, sizeof(address)) < 0)
            break;
    }
    assert_true(count < 256);
    const uint64_t begin = channel_now_ns();
    assert_int_equal(channel_connect_start(&f->channel, &f->fault), ETAG_UNAVAILABLE);
    assert_int_equal(channel_connect(&f->channel, in_ms(30), &f->fault), ETAG_UNAVAILABLE);
    assert_true(channel_now_ns() - begin >= 30 * NS_PER_MS);
    expect_text(f, "queue is full");
    for (int i = 0; i <= count; i++)
        close(others[i]);
}

CASE(versions_must_agree)
{
    f->daemon.mood = FAKE_OTHER_VERSION;
    fake_start(&f->daemon, true);
    assert_int_equal(channel_connect(&f->channel, in_ms(5000), &f->fault), ETAG_VERSION);
    expect_text(f, "libetag " ETAG_VERSION_STRING " speaks protocol 2");
    expect_text(f, "(etagd 9.9) protocol 77");
    assert_int_equal(f->channel.state, CHANNEL_CLOSED);
    fake_set(&f->daemon, mood, FAKE_REFUSES_HELLO);
    assert_int_equal(channel_connect(&f->channel, in_ms(5000), &f->fault), ETAG_VERSION);
    expect_text(f, "libetag " ETAG_VERSION_STRING " speaks protocol 2");
    expect_text(f, "this daemon speaks protocol 77");
    fake_set(&f->daemon, mood, FAKE_ANSWERS);
    assert_int_equal(channel_connect(&f->channel, in_ms(5000), &f->fault), ETAG_OK);
}

CASE(descriptors_must_be_those_announced)
{
    f->daemon.mood = FAKE_FEW_FDS;
    fake_start(&f->daemon, true);
    assert_int_equal(channel_connect(&f->channel, in_ms(5000), &f->fault), ETAG_PROTOCOL);
    expect_text(f, "1 descriptors instead of 2");
}

/* Those that nobody announced are closed: teardown counts. */
CASE(surplus_descriptors_are_closed)
{
    struct reply reply;

    f->daemon.mood = FAKE_MANY_FDS;
    start(f);
    assert_int_equal(call(f, 5000, &reply), ETAG_OK);
    assert_int_equal(call(f, 5000, &reply), ETAG_OK);
}

CASE(calls)
{
    struct reply reply;

    start(f);
    for (uint64_t i = 1; i <= 100; i++) {
        assert_int_equal(call(f, 5000, &reply), ETAG_OK);
        assert_int_equal(channel_reply_status(&reply, REPLY_RECEIPT, &f->fault), ETAG_OK);
        assert_int_equal(reply.receipt.lsn, i);
        assert_true(channel_was_sent(&f->channel, &f->sent));
    }
    assert_int_equal(channel_reply_status(&reply, REPLY_FILL, &f->fault), ETAG_PROTOCOL);
    fake_set(&f->daemon, mood, FAKE_REFUSES);
    assert_int_equal(call(f, 5000, &reply), ETAG_OK);
    assert_int_equal(channel_reply_status(&reply, REPLY_RECEIPT, &f->fault), ETAG_FAILED);
    expect_text(f, "the disk is full");
    assert_int_equal(f->handed_over, 0);
}

/* The other end of a connection that is ready, in the hands of the test. */
static int other_end(struct fixture *f)
{
    struct reply hello = {.id = 1,
                          .kind = REPLY_HELLO,
                          .hello = {.protocol = PROTOCOL_VERSION, .roles = ROLE_MUTATE}};

    fake_start(&f->daemon, false);
    assert_int_equal(channel_connect_start(&f->channel, &f->fault), ETAG_OK);
    const int fd = accept4(f->daemon.listener, NULL, NULL, SOCK_CLOEXEC);
    fake_send(fd, &hello, NULL, 0);
    assert_int_equal(channel_connect(&f->channel, in_ms(5000), &f->fault), ETAG_OK);
    return fd;
}

CASE(other_replies_go_to_the_handler)
{
    const int fd = other_end(f);
    struct reply reply;

    /* The call's id will be 2. What comes behind its answer stays for later. */
    fake_send(fd, &(struct reply){.kind = REPLY_EVENT}, NULL, 0);
    fake_send(fd, &(struct reply){.id = 999, .kind = REPLY_RECEIPT}, NULL, 0);
    fake_send(fd, &(struct reply){.id = 2, .kind = REPLY_RECEIPT, .receipt.lsn = 5}, NULL, 0);
    fake_send(fd, &(struct reply){.kind = REPLY_EVENT}, NULL, 0);
    assert_int_equal(call(f, 5000, &reply), ETAG_OK);
    assert_int_equal(reply.receipt.lsn, 5);
    assert_int_equal(f->handed_over, 2);
    assert_int_equal(f->last_id, 999);
    assert_true(channel_has_reply(&f->channel));
    assert_int_equal(channel_receive(&f->channel, in_ms(5000), &reply, &f->fault), ETAG_OK);
    assert_int_equal(reply.kind, REPLY_EVENT);
    assert_false(channel_has_reply(&f->channel));
    assert_int_equal(channel_receive(&f->channel, in_ms(20), &reply, &f->fault), ETAG_TIMEOUT);
    close(fd);
}

CASE(replies_may_come_in_pieces)
{
    const int fd = other_end(f);
    struct buffer out = {0};

    assert_int_equal(
        reply_encode(&out, &(struct reply){.id = 7, .kind = REPLY_RECEIPT, .receipt.lsn = 300}), 0);
    assert_int_equal(
        reply_encode(&out, &(struct reply){.id = 8, .kind = REPLY_RECEIPT, .receipt.lsn = 301}), 0);
    for (size_t i = 0; i < out.len; i++) {
        assert_int_equal(send(fd, out.bytes + i, 1, 0), 1);
        assert_int_equal(channel_pump(&f->channel, &f->fault), ETAG_OK);
    }
    assert_int_equal(f->handed_over, 2);
    assert_int_equal(f->last_id, 8);
    buffer_deinit(&out);
    close(fd);
}

static void expect_nonsense(const void *bytes, size_t len)
{
    void *state;

    setup(&state);
    struct fixture *f = state;
    const int fd = other_end(f);
    assert_int_equal(send(fd, bytes, len, 0), len);
    assert_int_equal(channel_pump(&f->channel, &f->fault), ETAG_PROTOCOL);
    expect_text(f, "sent nonsense");
    assert_int_equal(f->channel.state, CHANNEL_CLOSED);
    assert_int_equal(f->closed, 1);
    close(fd);
    teardown(&state);
}

TEST(nonsense_closes_the_connection)
{
    expect_nonsense("\0\0\0\0", 4);
    expect_nonsense("\xff\xff\xff\xff", 4);
    expect_nonsense("\x01\x00\x10\x00", 4); /* FRAME_BYTES_MAX + 1 */
    expect_nonsense("\x03\0\0\0\xff\xff\xff", 7);
}

CASE(an_answer_before_the_hello_is_a_breach)
{
    fake_start(&f->daemon, false);
    assert_int_equal(channel_connect_start(&f->channel, &f->fault), ETAG_OK);
    const int fd = accept4(f->daemon.listener, NULL, NULL, SOCK_CLOEXEC);
    fake_send(fd, &(struct reply){.id = 5, .kind = REPLY_RECEIPT}, NULL, 0);
    assert_int_equal(channel_connect(&f->channel, in_ms(5000), &f->fault), ETAG_PROTOCOL);
    close(fd);
}

CASE(a_silent_daemon_costs_the_deadline_only)
{
    const int fd = other_end(f);
    struct reply reply;
    const uint64_t begin = channel_now_ns();

    assert_int_equal(call(f, 50, &reply), ETAG_TIMEOUT);
    assert_in_range(channel_now_ns() - begin, 50 * NS_PER_MS, 5000 * NS_PER_MS);
    assert_int_equal(f->channel.state, CHANNEL_READY);
    /* The late answer is nobody's. */
    fake_send(fd, &(struct reply){.id = f->sent.id, .kind = REPLY_RECEIPT}, NULL, 0);
    assert_int_equal(channel_pump(&f->channel, &f->fault), ETAG_OK);
    assert_int_equal(f->handed_over, 1);
    close(fd);
}

static void on_alarm(int signal)
{
}

CASE(signals_neither_end_nor_lengthen_a_wait)
{
    const int fd = other_end(f);
    struct reply reply;
    struct sigaction action = {.sa_handler = on_alarm}, former;
    struct itimerval often = {{0, 3000}, {0, 3000}}, never = {0};

    sigaction(SIGALRM, &action, &former);
    setitimer(ITIMER_REAL, &often, NULL);
    const uint64_t begin = channel_now_ns();
    const etag_status status = call(f, 50, &reply);
    const uint64_t took_ns = channel_now_ns() - begin;
    setitimer(ITIMER_REAL, &never, NULL);
    sigaction(SIGALRM, &former, NULL);
    assert_int_equal(status, ETAG_TIMEOUT);
    assert_in_range(took_ns, 50 * NS_PER_MS, 5000 * NS_PER_MS);
    close(fd);
}

CASE(the_end_of_a_connection)
{
    struct reply reply;

    f->daemon.mood = FAKE_CLOSES_ONCE;
    start(f);
    assert_int_equal(call(f, 5000, &reply), ETAG_UNAVAILABLE);
    assert_int_equal(f->closed, 1);
    assert_true(f->was_sent == channel_was_sent(&f->channel, &f->sent));
    assert_true(channel_was_sent(&f->channel, &f->sent));
    /* Usable again. */
    assert_int_equal(channel_connect(&f->channel, in_ms(5000), &f->fault), ETAG_OK);
    assert_int_equal(call(f, 5000, &reply), ETAG_OK);
}

CASE(what_the_daemon_says_at_the_end)
{
    struct reply reply;

    f->daemon.mood = FAKE_SENDS_AWAY;
    start(f);
    assert_int_equal(call(f, 5000, &reply), ETAG_UNAVAILABLE);
    expect_text(f, "idle");
    fake_set(&f->daemon, mood, FAKE_SAYS_MALFORMED);
    assert_int_equal(channel_connect(&f->channel, in_ms(5000), &f->fault), ETAG_OK);
    assert_int_equal(call(f, 5000, &reply), ETAG_PROTOCOL);
    expect_text(f, "what?");
}

/* SIGPIPE would end the test. */
CASE(sending_to_nobody)
{
    struct reply reply;

    close(other_end(f));
    assert_int_equal(call(f, 5000, &reply), ETAG_UNAVAILABLE);
    assert_false(channel_was_sent(&f->channel, &f->sent));
    assert_int_equal(f->closed, 1);
}

static struct request big_request(etag_str *names, size_t count)
{
    static char name[SURROGATE_BYTES_MAX];

    memset(name, 'n', sizeof(name));
    for (size_t i = 0; i < count; i++)
        names[i] = (etag_str){name, sizeof(name)};
    return (struct request){.kind = REQUEST_INVALIDATE,
                            .targets = {.surrogates = names, .surrogate_count = count}};
}

/* Reads as the daemon would: the ids of the requests must come in order, without a hole. */
static void expect_requests(int fd, uint64_t first_id, uint64_t last_id, struct fixture *f)
{
    struct buffer in = {0};
    uint64_t next = first_id;

    while (next <= last_id) {
        etag_str payload;
        assert_int_equal(channel_pump(&f->channel, &f->fault), ETAG_OK);
        assert_int_equal(buffer_reserve(&in, 65536), 0);
        const ssize_t n = recv(fd, in.bytes + in.len, 65536, 0);
        assert_true(n > 0);
        in.len += (size_t)n;
        while (frame_next((etag_str){(char *)in.bytes, in.len}, &payload) == 1) {
            struct arena arena;
            struct request request;
            arena_init(&arena, ARENA_BYTES_MAX);
            assert_null(request_decode(&request, &arena, payload));
            assert_int_equal(request.id, next++);
            arena_deinit(&arena);
            const size_t used = FRAME_HEADER_BYTES + payload.len;
            in.len -= used;
            memmove(in.bytes, in.bytes + used, in.len);
        }
    }
    assert_int_equal(next, last_id + 1);
    assert_int_equal(in.len, 0);
    buffer_deinit(&in);
}

CASE(a_full_socket_is_bounded_and_loses_nothing)
{
    const int fd = other_end(f);
    etag_str names[200];
    struct channel_sent sent;
    uint64_t accepted = 1; /* the hello */
    struct reply reply;

    /* Large ones, then smaller and smaller ones into what is left. */
    for (int round = 0; round < 3; round++) {
        struct request request = big_request(names, round == 0 ? 200 : 1);
        if (round == 2)
            names[0].len = 1;
        etag_status status;
        while ((status = channel_send(&f->channel, &request, &sent, &f->fault)) == ETAG_OK) {
            accepted = sent.id;
            assert_true(accepted < 20000);
        }
        assert_int_equal(status, ETAG_AGAIN);
    }
    assert_true(f->channel.out.len <= CLIENT_OUTGOING_BYTES_MAX);
    assert_true(channel_events(&f->channel) & POLLOUT);
    assert_int_equal(call(f, 20, &reply), ETAG_TIMEOUT);
    assert_int_equal(f->sent.end, 0);
    expect_requests(fd, 1, accepted, f);
    assert_false(channel_events(&f->channel) & POLLOUT);
    close(fd);
}

CASE(a_request_may_be_too_large)
{
    static etag_str names[TARGETS_PER_EVENT_MAX + 200];
    struct request request = big_request(names, TARGETS_PER_EVENT_MAX + 200);
    struct reply reply;

    start(f);
    assert_int_equal(channel_send(&f->channel, &request, NULL, &f->fault), ETAG_INVALID);
    assert_int_equal(call(f, 5000, &reply), ETAG_OK);
}
