/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the tests of the loop share. Every test runs for both backends (skipped where the kernel
 * refuses io_uring), and counts descriptors at its end. A "side" is a stream of the loop with the
 * test's own end of the connection.
 */
#ifndef ETAG_TESTS_LOOP_FIXTURE_H
#define ETAG_TESTS_LOOP_FIXTURE_H

#include "cleanup.h"
#include "clocktime.h"
#include "loop.h"
#include "testing.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define SIDES_MAX 400
#define TURN_NS (100 * NS_PER_MS)
#define PATIENCE_NS (20 * NS_PER_S)

struct harness;

struct side {
    struct harness *harness;
    struct loop_stream *stream;
    int peer;
    char *got;
    size_t got_len, got_capacity;
    int ended_count, ended_error;
    void (*on_received)(struct side *side, etag_str bytes);
    void (*on_ended)(struct side *side);
};

struct harness {
    struct loop *loop;
    struct side sides[SIDES_MAX];
    size_t side_count;
    /* before */
    int descriptors;
    enum loop_kind kind;
    int listen_fd;
    int accepted[SIDES_MAX];
    size_t accepted_count;
    int accept_failed_count, accept_error;
    int woken_count;
    int watched_fd;
    void (*on_accepted)(struct harness *harness, int fd);
    void (*on_woken)(struct harness *harness);
};

/* ---- The loop's side ---- */

void on_accepted(void *ctx, int fd);

void on_accept_failed(void *ctx, int error);

void on_received(void *ctx, void *owner, etag_str bytes);

void on_ended(void *ctx, void *owner, int error);

void on_woken(void *ctx, int fd);

static const struct loop_handler handler = {on_accepted, on_accept_failed, on_received, on_ended,
                                            on_woken};

void turn(struct harness *h);

/* Turns until the condition holds; fails when patience is over. */
#define TURN_UNTIL(h, condition)                                                                   \
    do {                                                                                           \
        const uint64_t until_ = time_ns_of(CLOCK_MONOTONIC) + PATIENCE_NS;                         \
        while (!(condition)) {                                                                     \
            assert_true(time_ns_of(CLOCK_MONOTONIC) < until_);                                     \
            turn(h);                                                                               \
        }                                                                                          \
    } while (0)

/* Enough turns for anything that is still to come. */
void settle(struct harness *h);

/* The loop has nothing to do: turns wait. (One may end early by a signal of the kernel's own.) */
void assert_quiet(struct harness *h);

void send_text(struct side *side, const char *text, size_t len);

void close_side(struct side *side);

/* For on_received. */
void echo(struct side *side, etag_str bytes);

struct side *side_open(struct harness *h);

/* ---- The peer's side ---- */

void far_close(struct side *side);

void far_write(struct side *side, const char *text, size_t len);

/* What there is to read now: bytes, 0 at the end, -1 with errno. */
ssize_t far_read(struct side *side, char *out, size_t room);

/* Reads exactly so many bytes, turning meanwhile. */
void far_read_all(struct side *side, char *out, size_t len);

/* The peer finds the end, or the reset that stands for it where the loop left bytes unread. */
void far_expect_end(struct side *side);

void fill_pattern(char *out, size_t len, uint64_t seed);

/* ---- Before and after each test ---- */

int count_descriptors(void);

/* A loop of the kind that the test is run for; skips where there is none. */
struct harness *harness_open(void **state);

void harness_close(struct harness *h);

/* ---- Each test for both ---- */

static enum loop_kind uring __attribute__((unused)) = LOOP_URING;
static enum loop_kind epoll __attribute__((unused)) = LOOP_EPOLL;

#define LOOP_TEST(test_)                                                                           \
    static void test_(struct harness *h);                                                          \
    static void test_##_run(void **state)                                                          \
    {                                                                                              \
        struct harness *const h = harness_open(state);                                             \
        test_(h);                                                                                  \
        harness_close(h);                                                                          \
    }

#define ON_LOOP(test_, kind_)                                                                      \
    TEST_REGISTER(test_##_##kind_, .name = #test_ "(" #kind_ ")", .test_func = test_##_run,        \
                  .initial_state = &(kind_))

#define ONE(test_, kind_)                                                                          \
    LOOP_TEST(test_)                                                                               \
    ON_LOOP(test_, kind_)                                                                          \
    static void test_(struct harness *h)

#define BOTH(test_)                                                                                \
    LOOP_TEST(test_)                                                                               \
    ON_LOOP(test_, uring)                                                                          \
    ON_LOOP(test_, epoll)                                                                          \
    static void test_(struct harness *h)

#endif
