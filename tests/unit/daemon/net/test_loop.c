/* SPDX-License-Identifier: Apache-2.0 */
/* The loop itself: waiting and watching, accepting, and which backend is chosen. Streams stand in
 * test_loop_stream.c. */
#include "loop_fixture.h"
#include "numbers.h"

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>

/* ---- Waiting and watching ---- */

BOTH(turns_last_as_long_as_said)
{
    settle(h);
    assert_quiet(h);
    const uint64_t before = time_ns_of(CLOCK_MONOTONIC);
    for (int i = 0; i < 10; i++)
        assert_int_equal(loop_turn(h->loop, 0), 0);
    assert_true(time_ns_of(CLOCK_MONOTONIC) - before < 5 * NS_PER_S);
    struct side *const side = side_open(h);
    far_write(side, "x", 1);
    while (side->got_len == 0)
        assert_int_equal(loop_turn(h->loop, UINT64_MAX), 0); /* "for ever", but something comes */
}

static void read_watched(struct harness *h)
{
    uint64_t count;

    assert_int_equal(read(h->watched_fd, &count, sizeof(count)), sizeof(count));
}

BOTH(watching_is_level_triggered)
{
    const int watched = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    const int other = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

    assert_int_equal(loop_watch(h->loop, watched), 0);
    assert_int_equal(loop_watch(h->loop, other), 0);
    settle(h);
    assert_int_equal(h->woken_count, 0);
    assert_int_equal(eventfd_write(watched, 1), 0);
    TURN_UNTIL(h, h->woken_count == 1);
    assert_int_equal(h->watched_fd, watched);
    TURN_UNTIL(h, h->woken_count == 3); /* not read: again */
    h->on_woken = read_watched;
    TURN_UNTIL(h, h->woken_count == 4);
    settle(h);
    assert_int_equal(h->woken_count, 4);
    for (int i = 5; i < 105; i++) {
        assert_int_equal(eventfd_write(other, 1), 0);
        TURN_UNTIL(h, h->woken_count == i);
        assert_int_equal(h->watched_fd, other);
    }
    close(watched);
    close(other);
}

BOTH(watches_are_bounded)
{
    int fds[100];
    size_t count = 0;
    int r = 0;

    for (; count < 100 && r == 0; count++) {
        fds[count] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        r = loop_watch(h->loop, fds[count]);
    }
    assert_int_equal(r, -ENOSPC);
    assert_true(count > 3);
    for (size_t i = 0; i < count; i++)
        close(fds[i]);
}

/* ---- Accepting ---- */

/* On an address that the kernel chooses. */
static void listen_somewhere(struct harness *h, int type_flags)
{
    const struct sockaddr_un nameless = {.sun_family = AF_UNIX};

    h->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | type_flags, 0);
    assert_true(h->listen_fd >= 0);
    assert_int_equal(bind(h->listen_fd, (const struct sockaddr *)&nameless, sizeof(sa_family_t)),
                     0);
    assert_int_equal(listen(h->listen_fd, 100), 0);
    assert_int_equal(loop_listen(h->loop, h->listen_fd), 0);
}

static int connect_to(const struct harness *h)
{
    struct sockaddr_un address;
    socklen_t len = sizeof(address);

    assert_int_equal(getsockname(h->listen_fd, (struct sockaddr *)&address, &len), 0);
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (const struct sockaddr *)&address, len), 0);
    return fd;
}

static void connections_are_accepted(struct harness *h, int type_flags)
{
    int peers[150];

    listen_somewhere(h, type_flags);
    settle(h);
    for (size_t i = 0; i < 150; i++) {
        peers[i] = connect_to(h);
        if (i == 99)
            TURN_UNTIL(h, h->accepted_count == 100);
    }
    TURN_UNTIL(h, h->accepted_count == 150);
    assert_int_equal(h->accept_failed_count, 0);
    for (size_t i = 0; i < 150; i++) {
        assert_int_equal(fcntl(h->accepted[i], F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
        close(h->accepted[i]);
        close(peers[i]);
    }
}

BOTH(connections_are_accepted_on_a_blocking_socket)
{
    connections_are_accepted(h, 0);
}

BOTH(connections_are_accepted_on_a_non_blocking_socket)
{
    connections_are_accepted(h, SOCK_NONBLOCK);
}

static void unlisten_now(struct harness *h, int fd)
{
    loop_unlisten(h->loop);
}

BOTH(unlisten_ends_accepting)
{
    listen_somewhere(h, 0);
    const int first = connect_to(h);
    const int second = connect_to(h);
    h->on_accepted = unlisten_now; /* from inside: the second of the same turn is not handed over */
    TURN_UNTIL(h, h->accepted_count == 1);
    settle(h);
    const int third = connect_to(h);
    settle(h);
    assert_int_equal(h->accepted_count, 1);
    h->on_accepted = NULL;
    assert_int_equal(loop_listen(h->loop, h->listen_fd), 0);
    TURN_UNTIL(h, h->accepted_count >= 2);
    loop_unlisten(h->loop);
    loop_unlisten(h->loop);
    settle(h);
    for (size_t i = 0; i < h->accepted_count; i++)
        close(h->accepted[i]);
    close(first);
    close(second);
    close(third);
}

BOTH(unaccepted_connections_are_no_leak)
{
    int peers[20];

    listen_somewhere(h, 0);
    settle(h);
    for (int i = 0; i < 20; i++)
        peers[i] = connect_to(h);
    h->loop = loop_close(h->loop);
    assert_int_equal(h->accepted_count, 0);
    for (int i = 0; i < 20; i++)
        close(peers[i]);
}

BOTH(a_turn_accepts_a_bounded_number)
{
    int peers[2 * LOOP_ACCEPTS_MAX];

    listen_somewhere(h, 0);
    settle(h);
    for (size_t i = 0; i < LOOP_ACCEPTS_MAX + 30; i++)
        peers[i] = connect_to(h);
    while (h->accepted_count < LOOP_ACCEPTS_MAX + 30) {
        const size_t before = h->accepted_count;
        turn(h);
        assert_true(h->accepted_count - before <= LOOP_ACCEPTS_MAX);
    }
    for (size_t i = 0; i < LOOP_ACCEPTS_MAX + 30; i++) {
        close(h->accepted[i]);
        close(peers[i]);
    }
}

static void pause_now(struct harness *h, int fd)
{
    loop_accept_pause(h->loop, NS_PER_S / 5);
}

BOTH(accepting_pauses_at_once_and_goes_on)
{
    int peers[3];

    listen_somewhere(h, 0);
    h->on_accepted = pause_now;
    const uint64_t before = time_ns_of(CLOCK_MONOTONIC);
    for (size_t i = 0; i < 3; i++)
        peers[i] = connect_to(h);
    TURN_UNTIL(h, h->accepted_count == 1);
    turn(h);
    assert_true(h->accepted_count == 1 || time_ns_of(CLOCK_MONOTONIC) - before >= NS_PER_S / 5);
    TURN_UNTIL(h, h->accepted_count == 3);
    assert_true(time_ns_of(CLOCK_MONOTONIC) - before >= 2 * (NS_PER_S / 5));
    assert_int_equal(h->accept_failed_count, 0);
    for (size_t i = 0; i < 3; i++) {
        close(h->accepted[i]);
        close(peers[i]);
    }
}

/* Runs body in a child of its own; its asserts become the child's exit status. */
static void in_child(int (*body)(enum loop_kind kind), enum loop_kind kind)
{
    int status;
    const pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0)
        _exit(body(kind));
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

/* In a child a failed expectation ends it with the line as its status. */
#define expect(condition)                                                                          \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "child: %s:%d: not so: %s\n", __FILE__, __LINE__, #condition);         \
            return 1;                                                                              \
        }                                                                                          \
    } while (0)

#define EXPECT_TURNS(h, condition)                                                                 \
    do {                                                                                           \
        const uint64_t until_ = time_ns_of(CLOCK_MONOTONIC) + PATIENCE_NS;                         \
        while (!(condition)) {                                                                     \
            expect(time_ns_of(CLOCK_MONOTONIC) < until_);                                          \
            expect(loop_turn((h)->loop, TURN_NS) == 0);                                            \
        }                                                                                          \
    } while (0)

/* Takes every descriptor that the limit leaves. */
static size_t exhaust_descriptors(int *out, size_t room)
{
    size_t count = 0;
    int fd;

    while (count < room && (fd = dup(STDERR_FILENO)) >= 0)
        out[count++] = fd;
    return count;
}

static int run_out_of_descriptors(enum loop_kind kind)
{
    static struct harness h;
    static int hoard[256];
    enum loop_kind used;
    char byte = 0;

    expect(setrlimit(RLIMIT_NOFILE, &(struct rlimit){256, 256}) == 0);
    expect(loop_open(&h.loop, kind, &handler, &h, &used, NULL) == 0);
    struct side *const side = side_open(&h);
    side->on_received = echo;
    listen_somewhere(&h, 0);
    const int first = connect_to(&h);
    const int second = connect_to(&h);
    const size_t hoarded = exhaust_descriptors(hoard, 256);
    expect(hoarded > 2);

    EXPECT_TURNS(&h, h.accept_failed_count > 0);
    expect(h.accept_error == -EMFILE);
    expect(h.accepted_count == 0);
    /* Others are not disturbed, and it is said once, though accepting was tried again. */
    for (int i = 0; i < 3; i++) {
        expect(send(side->peer, "x", 1, 0) == 1);
        EXPECT_TURNS(&h, recv(side->peer, &byte, 1, MSG_DONTWAIT) == 1);
    }
    const uint64_t until = time_ns_of(CLOCK_MONOTONIC) + 1300 * NS_PER_MS;
    int turns = 0;
    while (time_ns_of(CLOCK_MONOTONIC) < until) {
        expect(loop_turn(h.loop, TURN_NS) == 0);
        turns++;
    }
    expect(turns < 100); /* it waits; it does not spin */
    expect(h.accept_failed_count == 1);

    for (size_t i = 0; i < hoarded; i++)
        close(hoard[i]);
    const uint64_t before = time_ns_of(CLOCK_MONOTONIC);
    EXPECT_TURNS(&h, h.accepted_count == 2);
    expect(time_ns_of(CLOCK_MONOTONIC) - before < 3 * NS_PER_S);

    /* A second episode is said again. */
    const size_t again = exhaust_descriptors(hoard, 256);
    close(hoard[0]);
    const int third = connect_to(&h);
    expect(again > 0 && third >= 0);
    EXPECT_TURNS(&h, h.accept_failed_count == 2);
    loop_close(h.loop);
    close(first);
    close(second);
    return 0;
}

static void running_out_of_descriptors_pauses_accepting_run(void **state)
{
    if (under_valgrind())
        skip();
    harness_close(harness_open(state)); /* skips where there is no such loop */
    in_child(run_out_of_descriptors, *(const enum loop_kind *)*state);
}
ON_LOOP(running_out_of_descriptors_pauses_accepting, uring)
ON_LOOP(running_out_of_descriptors_pauses_accepting, epoll)

/* ---- Choosing a backend ---- */

BOTH(name_and_kind_agree)
{
    assert_string_equal(loop_name(h->loop), h->kind == LOOP_URING ? "io_uring" : "epoll");
}

/* From here on the system call fails with EPERM, as container profiles make it. */
static int refuse_call(unsigned number)
{
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const struct sock_fprog program = {COUNT_OF(filter), filter};

    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return -errno;
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0 ? -errno : 0;
}

static int open_where_refused(unsigned number)
{
    static struct harness h;
    enum loop_kind used = LOOP_AUTO;
    int refused = 0;
    const int before = count_descriptors();

    expect(refuse_call(number) == 0);
    expect(loop_open(&h.loop, LOOP_URING, &handler, &h, &used, &refused) == -EPERM);
    expect(loop_open(&h.loop, LOOP_AUTO, &handler, &h, &used, &refused) == 0);
    expect(used == LOOP_EPOLL);
    expect(refused == EPERM);
    expect(loop_turn(h.loop, 0) == 0);
    loop_close(h.loop);
    expect(count_descriptors() == before);
    return 0;
}

static int setup_is_refused(enum loop_kind kind)
{
    return open_where_refused(SYS_io_uring_setup);
}

static int register_is_refused(enum loop_kind kind)
{
    return open_where_refused(SYS_io_uring_register);
}

static int enter_is_refused(enum loop_kind kind)
{
    return open_where_refused(SYS_io_uring_enter);
}

ONE(refused_io_uring_means_epoll, uring)
{
    in_child(setup_is_refused, LOOP_AUTO);
    in_child(register_is_refused, LOOP_AUTO);
    in_child(enter_is_refused, LOOP_AUTO);
}

ONE(auto_prefers_io_uring, uring)
{
    struct loop *loop;
    enum loop_kind used;
    int refused = 1;

    assert_int_equal(loop_open(&loop, LOOP_AUTO, &handler, h, &used, &refused), 0);
    assert_int_equal(used, LOOP_URING);
    assert_int_equal(refused, 0);
    assert_null(loop_close(loop));
    assert_null(loop_close(NULL));
}
