/* SPDX-License-Identifier: Apache-2.0 */
#include "loop_fixture.h"

void on_accepted(void *ctx, int fd)
{
    struct harness *const h = ctx;

    h->accepted[h->accepted_count++] = fd;
    if (h->on_accepted)
        h->on_accepted(h, fd);
}

void on_accept_failed(void *ctx, int error)
{
    struct harness *const h = ctx;

    h->accept_failed_count++;
    h->accept_error = error;
}

void on_received(void *ctx, void *owner, etag_str bytes)
{
    struct side *const side = owner;

    assert_ptr_equal(ctx, side->harness);
    assert_non_null(side->stream); /* closed streams get no calls */
    assert_int_equal(side->ended_count, 0);
    assert_true(bytes.len > 0);
    if (side->got_len + bytes.len > side->got_capacity) {
        side->got_capacity = 2 * (side->got_len + bytes.len);
        side->got = realloc(side->got, side->got_capacity);
        assert_non_null(side->got);
    }
    memcpy(side->got + side->got_len, bytes.data, bytes.len);
    side->got_len += bytes.len;
    if (side->on_received)
        side->on_received(side, bytes);
}

void on_ended(void *ctx, void *owner, int error)
{
    struct side *const side = owner;

    assert_non_null(side->stream);
    side->ended_count++;
    side->ended_error = error;
    if (side->on_ended)
        side->on_ended(side);
}

void on_woken(void *ctx, int fd)
{
    struct harness *const h = ctx;

    h->woken_count++;
    h->watched_fd = fd;
    if (h->on_woken)
        h->on_woken(h);
}

void turn(struct harness *h)
{
    assert_int_equal(loop_turn(h->loop, TURN_NS), 0);
}

void settle(struct harness *h)
{
    for (int i = 0; i < 5; i++)
        assert_int_equal(loop_turn(h->loop, NS_PER_MS), 0);
}

void assert_quiet(struct harness *h)
{
    const uint64_t until = time_ns_of(CLOCK_MONOTONIC) + 50 * NS_PER_MS;
    int turns = 0;

    for (; time_ns_of(CLOCK_MONOTONIC) < until; turns++)
        assert_int_equal(loop_turn(h->loop, 50 * NS_PER_MS), 0);
    assert_in_range(turns, 1, 5);
}

void send_text(struct side *side, const char *text, size_t len)
{
    assert_int_equal(loop_stream_send(side->stream, (etag_str){text, len}, NULL, 0), 0);
}

void close_side(struct side *side)
{
    if (side->stream)
        loop_stream_close(side->stream);
    side->stream = NULL;
}

void echo(struct side *side, etag_str bytes)
{
    send_text(side, bytes.data, bytes.len);
}

struct side *side_open(struct harness *h)
{
    int pair[2];

    assert_true(h->side_count < SIDES_MAX);
    struct side *const side = &h->sides[h->side_count++];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    side->harness = h;
    side->peer = pair[1];
    assert_int_equal(fcntl(side->peer, F_SETFL, O_NONBLOCK), 0);
    assert_int_equal(loop_stream_open(h->loop, pair[0], side, &side->stream), 0);
    return side;
}

void far_close(struct side *side)
{
    cleanup_fd(&side->peer);
    side->peer = -1;
}

void far_write(struct side *side, const char *text, size_t len)
{
    assert_int_equal(send(side->peer, text, len, MSG_NOSIGNAL), len);
}

ssize_t far_read(struct side *side, char *out, size_t room)
{
    return recv(side->peer, out, room, MSG_DONTWAIT);
}

void far_read_all(struct side *side, char *out, size_t len)
{
    const uint64_t until = time_ns_of(CLOCK_MONOTONIC) + PATIENCE_NS;
    size_t have = 0;

    while (have < len) {
        assert_true(time_ns_of(CLOCK_MONOTONIC) < until);
        const ssize_t n = far_read(side, out + have, len - have);
        if (n < 0)
            assert_int_equal(errno, EAGAIN);
        assert_true(n != 0);
        if (n > 0)
            have += (size_t)n;
        else
            assert_int_equal(loop_turn(side->harness->loop, NS_PER_MS), 0);
    }
}

void far_expect_end(struct side *side)
{
    char byte;
    const uint64_t until = time_ns_of(CLOCK_MONOTONIC) + PATIENCE_NS;

    for (;;) {
        const ssize_t n = far_read(side, &byte, 1);
        if (n == 0 || (n < 0 && errno == ECONNRESET))
            return;
        assert_true(n < 0 && errno == EAGAIN);
        assert_true(time_ns_of(CLOCK_MONOTONIC) < until);
        assert_int_equal(loop_turn(side->harness->loop, NS_PER_MS), 0);
    }
}

void fill_pattern(char *out, size_t len, uint64_t seed)
{
    for (size_t i = 0; i < len; i++)
        out[i] = (char)random_mix(seed + i);
}

int count_descriptors(void)
{
    DIR *const directory = opendir("/proc/self/fd");
    int count = 0;

    assert_non_null(directory);
    while (readdir(directory))
        count++;
    closedir(directory);
    return count;
}

struct harness *harness_open(void **state)
{
    struct harness *const h = calloc(1, sizeof(*h));
    enum loop_kind used;

    assert_non_null(h);
    h->descriptors = count_descriptors();
    h->listen_fd = -1;
    h->kind = *(const enum loop_kind *)*state;
    const int r = loop_open(&h->loop, h->kind, &handler, h, &used, NULL);
    if (r < 0 && h->kind == LOOP_URING) {
        print_message("skipped: io_uring is refused: %s\n", strerror(-r));
        free(h);
        skip();
        return NULL;
    }
    assert_int_equal(r, 0);
    assert_int_equal(used, h->kind);
    return h;
}

void harness_close(struct harness *h)
{
    h->loop = loop_close(h->loop);
    assert_null(h->loop);
    for (size_t i = 0; i < h->side_count; i++) {
        far_close(&h->sides[i]);
        free(h->sides[i].got);
    }
    cleanup_fd(&h->listen_fd);
    assert_int_equal(count_descriptors(), h->descriptors);
    free(h);
}
