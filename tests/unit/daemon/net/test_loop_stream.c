/* SPDX-License-Identifier: Apache-2.0 */
/* Streams of the loop: bytes and descriptors that they carry, how they end, and how they are
 * closed. */
#include "bytes.h"
#include "loop_fixture.h"

#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define BIG_BYTES (1024u * 1024u)

/* ---- Bytes ---- */

BOTH(bytes_go_both_ways)
{
    struct side *const side = side_open(h);
    char out[5];

    side->on_received = echo;
    far_write(side, "hello", 5);
    far_read_all(side, out, 5);
    assert_memory_equal(out, "hello", 5);
    assert_memory_equal(side->got, "hello", 5);
    assert_int_equal(loop_stream_queued(side->stream), 0);
}

BOTH(non_blocking_sockets_are_taken)
{
    struct side *const side = &h->sides[h->side_count++];
    int pair[2];
    char out[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), 0);
    *side = (struct side){.harness = h, .peer = pair[1], .on_received = echo};
    assert_int_equal(loop_stream_open(h->loop, pair[0], side, &side->stream), 0);
    settle(h); /* nothing is there yet */
    assert_int_equal(side->ended_count, 0);
    far_write(side, "ab", 2);
    far_read_all(side, out, 2);
}

BOTH(sends_wait_for_the_turn)
{
    struct side *const side = side_open(h);
    char out[8];

    send_text(side, "one", 3);
    send_text(side, "", 0);
    send_text(side, "two", 3);
    assert_int_equal(loop_stream_queued(side->stream), 6);
    assert_int_equal(far_read(side, out, sizeof(out)), -1);
    assert_int_equal(loop_turn(h->loop, 0), 0);
    assert_int_equal(far_read(side, out, sizeof(out)), 6);
    assert_memory_equal(out, "onetwo", 6);
    TURN_UNTIL(h, loop_stream_queued(side->stream) == 0);
}

BOTH(large_messages_go_both_ways)
{
    struct side *const side = side_open(h);
    char *const in = malloc(BIG_BYTES);
    char *const out = malloc(BIG_BYTES);
    size_t written = 0;

    assert_non_null(in);
    assert_non_null(out);
    fill_pattern(in, BIG_BYTES, 1);
    while (written < BIG_BYTES) {
        const ssize_t n = send(side->peer, in + written, BIG_BYTES - written, MSG_NOSIGNAL);
        if (n > 0)
            written += (size_t)n;
        else
            assert_int_equal(loop_turn(h->loop, 0), 0);
    }
    TURN_UNTIL(h, side->got_len == BIG_BYTES);
    assert_memory_equal(side->got, in, BIG_BYTES);

    send_text(side, in, BIG_BYTES);
    turn(h);
    assert_true(loop_stream_queued(side->stream) > 0);
    far_read_all(side, out, BIG_BYTES);
    assert_memory_equal(out, in, BIG_BYTES);
    TURN_UNTIL(h, loop_stream_queued(side->stream) == 0);
    free(in);
    free(out);
}

/* Thousands of small messages, answered as they come: order and number are kept. */
BOTH(small_messages_are_pipelined)
{
    enum { COUNT = 20000, BYTES = 8 };
    struct side *const side = side_open(h);
    uint64_t sent = 0;
    uint64_t received = 0;
    char in[BYTES];
    char out[BYTES];
    side->on_received = echo;
    while (received < COUNT) {
        for (; sent < COUNT; sent++) {
            store_u64(in, sent);
            if (send(side->peer, in, BYTES, MSG_NOSIGNAL) < 0)
                break;
        }
        assert_int_equal(loop_turn(h->loop, 0), 0);
        for (; received < sent && far_read(side, out, BYTES) == BYTES; received++)
            assert_int_equal(load_u64(out), received);
    }
    assert_int_equal(side->got_len, COUNT * BYTES);
}

/* More streams than there are submissions and buffers, all busy in one turn. */
BOTH(many_streams_in_one_turn)
{
    enum { COUNT = 350, BYTES = 40000 };
    char *const in = malloc(BYTES);
    char *const out = malloc(BYTES);
    assert_non_null(in);
    assert_non_null(out);
    fill_pattern(in, BYTES, 2);
    for (int i = 0; i < COUNT; i++) {
        struct side *const side = side_open(h);
        side->on_received = echo;
        far_write(side, in, BYTES);
    }
    for (int i = 0; i < COUNT; i++) {
        far_read_all(&h->sides[i], out, BYTES);
        assert_memory_equal(out, in, BYTES);
    }
    free(in);
    free(out);
}

BOTH(busy_peers_leave_room_for_others)
{
    struct side *const busy = side_open(h);
    struct side *const quiet = side_open(h);
    static char flood[BIG_BYTES];

    far_write(quiet, "x", 1);
    for (int i = 0; i < 4 && quiet->got_len == 0; i++) {
        while (send(busy->peer, flood, sizeof(flood), MSG_NOSIGNAL) > 0)
            ;
        turn(h);
    }
    assert_int_equal(quiet->got_len, 1);
}

/* ---- Descriptors ---- */

/* Reads two bytes; returns how many descriptors came along. */
static size_t read_pair(struct side *side, char *out, int *fds)
{
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(4 * sizeof(int))];
    struct iovec part = {out, 2};
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = control,
                             .msg_controllen = sizeof(control)};
    assert_int_equal(recvmsg(side->peer, &message, MSG_CMSG_CLOEXEC), 2);
    const struct cmsghdr *const header = CMSG_FIRSTHDR(&message);
    if (!header)
        return 0;
    assert_int_equal(header->cmsg_type, SCM_RIGHTS);
    const size_t bytes = header->cmsg_len - CMSG_LEN(0);
    memcpy(fds, CMSG_DATA(header), bytes);
    return bytes / sizeof(int);
}

static uint64_t inode_of(int fd)
{
    struct stat status;

    assert_int_equal(fstat(fd, &status), 0);
    return status.st_ino;
}

BOTH(descriptors_travel_with_their_bytes)
{
    struct side *const side = side_open(h);
    int mine[2] = {memfd_create("a", MFD_CLOEXEC), memfd_create("b", MFD_CLOEXEC)};
    const uint64_t inodes[2] = {inode_of(mine[0]), inode_of(mine[1])};
    int theirs[4] = {-1, -1, -1, -1};
    char out[2];

    send_text(side, "aa", 2);
    assert_int_equal(loop_stream_send(side->stream, ETAG_LIT("bb"), mine, 2), 0);
    assert_int_equal(loop_stream_send(side->stream, ETAG_LIT("cc"), mine + 1, 1), 0);
    send_text(side, "dd", 2);
    close(mine[0]);
    close(mine[1]);
    TURN_UNTIL(h, loop_stream_queued(side->stream) == 0);
    assert_int_equal(read_pair(side, out, theirs), 0);
    assert_memory_equal(out, "aa", 2);
    assert_int_equal(read_pair(side, out, theirs), 2);
    assert_memory_equal(out, "bb", 2);
    assert_int_equal(inode_of(theirs[0]), inodes[0]);
    assert_int_equal(inode_of(theirs[1]), inodes[1]);
    close(theirs[0]);
    close(theirs[1]);
    assert_int_equal(read_pair(side, out, theirs), 1);
    assert_memory_equal(out, "cc", 2);
    assert_int_equal(inode_of(theirs[0]), inodes[1]);
    close(theirs[0]);
    assert_int_equal(read_pair(side, out, theirs), 0);
    assert_memory_equal(out, "dd", 2);
}

BOTH(unsent_descriptors_are_closed)
{
    struct side *const side = side_open(h);
    struct side *const gone = side_open(h);
    const int fd = memfd_create("a", MFD_CLOEXEC);

    assert_int_equal(loop_stream_send(side->stream, ETAG_LIT("x"), &fd, 1), 0);
    assert_int_equal(loop_stream_send(gone->stream, ETAG_LIT("x"), &fd, 1), 0);
    far_close(gone);
    close_side(gone);
    close(fd);
}

BOTH(descriptors_of_peers_are_not_taken)
{
    struct side *const side = side_open(h);
    const int before = count_descriptors();

    _Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {0};
    struct iovec part = {(char[]){'x'}, 1};
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = control,
                             .msg_controllen = sizeof(control)};
    struct cmsghdr *const header = CMSG_FIRSTHDR(&message);
    *header = (struct cmsghdr){CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS};
    memcpy(CMSG_DATA(header), &side->peer, sizeof(int));
    assert_int_equal(sendmsg(side->peer, &message, MSG_NOSIGNAL), 1);
    TURN_UNTIL(h, side->got_len == 1);
    assert_int_equal(count_descriptors(), before);
}

/* ---- Bounds of a turn ---- */

BOTH(a_turn_takes_a_bounded_part_of_a_stream)
{
    struct side *const side = side_open(h);
    static char text[8 * LOOP_RECEIVE_BYTES];
    size_t written = 0;

    settle(h);
    while (written < 4 * LOOP_RECEIVE_BYTES) {
        const ssize_t n = send(side->peer, text, sizeof(text) - written, MSG_NOSIGNAL);
        assert_true(n > 0);
        written += (size_t)n;
    }
    while (side->got_len < written) {
        const size_t before = side->got_len;
        turn(h);
        assert_true(side->got_len - before <= LOOP_RECEIVE_BYTES);
    }
}

static void hold_now(struct side *side, etag_str bytes)
{
    loop_stream_hold(side->stream, true);
}

BOTH(held_streams_are_not_read)
{
    struct side *const side = side_open(h);
    char out[6];

    side->on_received = hold_now;
    far_write(side, "first", 5);
    TURN_UNTIL(h, side->got_len == 5);
    settle(h);
    /* What comes waits in the socket, the loop has nothing to do, and sending goes on. */
    far_write(side, "second", 6);
    settle(h);
    assert_quiet(h);
    assert_int_equal(side->got_len, 5);
    send_text(side, "answer", 6);
    far_read_all(side, out, 6);
    assert_int_equal(side->got_len, 5);
    side->on_received = NULL;
    loop_stream_hold(side->stream, false);
    TURN_UNTIL(h, side->got_len == 11);
    far_close(side);
    TURN_UNTIL(h, side->ended_count == 1);
}

/* Its end is told when it is read again; the loop does not spin until then. */
BOTH(held_streams_whose_peer_has_gone_are_quiet)
{
    struct side *const side = side_open(h);

    side->on_received = hold_now;
    far_write(side, "first", 5);
    TURN_UNTIL(h, side->got_len == 5);
    settle(h);
    far_write(side, "last", 4);
    far_close(side);
    settle(h);
    assert_quiet(h);
    assert_int_equal(side->ended_count, 0);
    side->on_received = NULL;
    loop_stream_hold(side->stream, false);
    TURN_UNTIL(h, side->ended_count == 1);
    assert_int_equal(side->got_len, 9);
}

BOTH(held_streams_that_cannot_be_sent_to_end)
{
    struct side *const side = side_open(h);

    side->on_received = hold_now;
    far_write(side, "first", 5);
    TURN_UNTIL(h, side->got_len == 5);
    far_close(side);
    send_text(side, "answer", 6);
    TURN_UNTIL(h, side->ended_count == 1);
    assert_true(side->ended_error < 0);
}

BOTH(what_all_streams_have_queued_is_known)
{
    static char text[BIG_BYTES];
    struct side *const one = side_open(h);
    struct side *const other = side_open(h);

    assert_int_equal(loop_queued(h->loop), 0);
    send_text(one, text, sizeof(text));
    send_text(other, text, 100);
    assert_int_equal(loop_queued(h->loop), sizeof(text) + 100);
    settle(h);
    assert_true(loop_stream_queued(one->stream) > 0);
    assert_int_equal(loop_queued(h->loop), loop_stream_queued(one->stream));
    close_side(one);
    TURN_UNTIL(h, loop_queued(h->loop) == 0);
}

/* ---- Ends ---- */

BOTH(half_closed_peers_get_their_answer)
{
    struct side *const side = side_open(h);
    char out[6];

    far_write(side, "question", 8);
    assert_int_equal(shutdown(side->peer, SHUT_WR), 0);
    TURN_UNTIL(h, side->ended_count > 0);
    assert_int_equal(side->ended_error, 0);
    assert_int_equal(side->got_len, 8);
    settle(h);
    assert_int_equal(side->ended_count, 1);
    send_text(side, "answer", 6);
    far_read_all(side, out, 6);
    assert_memory_equal(out, "answer", 6);
    close_side(side);
    far_expect_end(side);
}

/* A stream that ended costs no turns. */
BOTH(ended_streams_are_quiet)
{
    struct side *const side = side_open(h);

    far_close(side);
    TURN_UNTIL(h, side->ended_count > 0);
    settle(h);
    assert_quiet(h);
    assert_int_equal(side->ended_count, 1);
    send_text(side, "nobody", 6);
    settle(h);
    assert_int_equal(side->ended_count, 1);
    assert_quiet(h);
    assert_int_equal(loop_stream_queued(side->stream), 0);
}

/* Nor does one that ended while its peer's socket was full. */
BOTH(blocked_streams_that_end_are_quiet)
{
    struct side *const side = side_open(h);
    static char text[BIG_BYTES];

    send_text(side, text, sizeof(text));
    settle(h);
    assert_true(loop_stream_queued(side->stream) > 0);
    assert_int_equal(shutdown(side->peer, SHUT_WR), 0);
    TURN_UNTIL(h, side->ended_count > 0);
    assert_quiet(h);
    far_close(side);
    TURN_UNTIL(h, loop_stream_queued(side->stream) == 0);
    assert_quiet(h);
    assert_int_equal(side->ended_count, 1);
}

BOTH(resets_are_told_once)
{
    struct side *const side = side_open(h);

    send_text(side, "unread", 6);
    TURN_UNTIL(h, loop_stream_queued(side->stream) == 0);
    far_close(side); /* with unread bytes: a reset */
    TURN_UNTIL(h, side->ended_count > 0);
    assert_int_equal(side->ended_error, -ECONNRESET);
    settle(h);
    assert_int_equal(side->ended_count, 1);
}

/* A writer that is gone before its answer could be sent: what it wrote still counts. */
BOTH(last_words_arrive_before_the_end)
{
    struct side *const side = side_open(h);

    turn(h);
    far_write(side, "last words", 10);
    far_close(side);
    send_text(side, "welcome", 7);
    TURN_UNTIL(h, side->ended_count > 0);
    assert_int_equal(side->got_len, 10);
    assert_memory_equal(side->got, "last words", 10);
    settle(h);
    assert_int_equal(side->ended_count, 1);
    assert_int_equal(loop_stream_queued(side->stream), 0);
    send_text(side, "again", 5);
    settle(h);
    assert_int_equal(side->ended_count, 1);
}

/* The peer reads no more, but stays: sending fails, and that ends the stream. */
BOTH(peers_that_stop_reading_end_the_stream)
{
    struct side *const side = side_open(h);

    assert_int_equal(shutdown(side->peer, SHUT_RD), 0);
    send_text(side, "x", 1);
    TURN_UNTIL(h, side->ended_count > 0);
    assert_int_equal(side->ended_error, -EPIPE);
    settle(h);
    assert_int_equal(side->ended_count, 1);
}

/* ---- Closing ---- */

static void say_goodbye(struct side *side, etag_str bytes)
{
    send_text(side, "goodbye", 7);
    close_side(side);
}

BOTH(goodbyes_are_delivered)
{
    struct side *const side = side_open(h);
    char out[7];

    side->on_received = say_goodbye;
    far_write(side, "nonsense", 8);
    far_read_all(side, out, 7);
    assert_memory_equal(out, "goodbye", 7);
    far_expect_end(side);
}

/* An answer may be on its way in the kernel when the goodbye is queued behind it. */
BOTH(goodbyes_come_after_earlier_answers)
{
    struct side *const side = side_open(h);
    char out[13];

    send_text(side, "answer", 6);
    far_write(side, "nonsense", 8);
    side->on_received = say_goodbye;
    far_read_all(side, out, 13);
    assert_memory_equal(out, "answergoodbye", 13);
    far_expect_end(side);
}

BOTH(closing_the_loop_delivers_goodbyes)
{
    struct side *const side = side_open(h);
    char out[8];

    turn(h);
    send_text(side, "goodbye", 7);
    h->loop = loop_close(h->loop);
    assert_int_equal(far_read(side, out, sizeof(out)), 7);
    assert_int_equal(far_read(side, out, sizeof(out)), 0);
}

/* A peer that does not read keeps neither the stream nor its descriptor. */
BOTH(closing_does_not_wait_for_the_peer)
{
    struct side *const side = side_open(h);
    char *const text = malloc(4 * BIG_BYTES);

    assert_non_null(text);
    fill_pattern(text, 4 * BIG_BYTES, 3);
    send_text(side, text, 4 * BIG_BYTES);
    settle(h);
    assert_true(loop_stream_queued(side->stream) > 0);
    const int before = count_descriptors();
    close_side(side);
    TURN_UNTIL(h, count_descriptors() == before - 1);
    size_t have = 0;
    ssize_t n;
    char *const out = malloc(4 * BIG_BYTES);
    assert_non_null(out);
    while ((n = far_read(side, out + have, 4 * BIG_BYTES - have)) > 0)
        have += (size_t)n;
    assert_int_equal(n, 0);
    assert_true(have > 0 && have < 4 * BIG_BYTES);
    assert_memory_equal(out, text, have);
    free(out);
    free(text);
}

BOTH(nothing_comes_after_close)
{
    struct side *const side = side_open(h);
    struct side *const unarmed = side_open(h);

    turn(h);
    far_write(side, "late", 4);
    close_side(side);
    close_side(unarmed);
    settle(h);
    far_close(side);
    settle(h); /* on_received and on_ended would fail */
    assert_int_equal(side->got_len, 0);
    struct side *const fresh = side_open(h);
    close_side(fresh); /* in the turn in which it was opened */
    settle(h);
}

static void close_all(struct side *side, etag_str bytes)
{
    struct harness *const h = side->harness;

    for (size_t i = 0; i < h->side_count; i++)
        close_side(&h->sides[i]);
}

static void close_all_at_end(struct side *side)
{
    close_all(side, ETAG_LIT(""));
}

static size_t sides_with(const struct harness *h, bool ended)
{
    size_t count = 0;

    for (size_t i = 0; i < h->side_count; i++)
        count += ended ? h->sides[i].ended_count > 0 : h->sides[i].got_len > 0;
    return count;
}

/* All have something to say in one turn; the first to be heard closes all. */
BOTH(callbacks_close_other_streams)
{
    for (int i = 0; i < 10; i++) {
        struct side *const side = side_open(h);
        side->on_received = close_all;
        far_write(side, "x", 1);
        send_text(side, "x", 1);
    }
    settle(h);
    assert_int_equal(sides_with(h, false), 1);
    for (int i = 0; i < 10; i++) {
        struct side *const side = side_open(h);
        side->on_ended = close_all_at_end;
        far_close(side);
        send_text(side, "x", 1);
    }
    settle(h);
    assert_int_equal(sides_with(h, true), 1);
}

static void open_another(struct side *side, etag_str bytes)
{
    struct side *const other = side_open(side->harness);

    close_side(side);
    send_text(other, "opened", 6);
}

BOTH(callbacks_open_streams)
{
    struct side *const side = side_open(h);
    char out[6];

    side->on_received = open_another;
    far_write(side, "x", 1);
    TURN_UNTIL(h, h->side_count == 2);
    far_read_all(&h->sides[1], out, 6);
    far_expect_end(side);
}

BOTH(loop_closes_with_everything_open)
{
    static char text[BIG_BYTES];
    struct side *const blocked = side_open(h);
    struct side *const closing = side_open(h);
    struct side *const armed = side_open(h);
    const int watched = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

    assert_int_equal(loop_watch(h->loop, watched), 0);
    send_text(blocked, text, sizeof(text));
    send_text(closing, text, sizeof(text));
    settle(h);
    close_side(closing);
    far_write(armed, "unheard", 7);
    (void)side_open(h); /* never armed */
    h->loop = loop_close(h->loop);
    assert_int_equal(armed->got_len, 0);
    close(watched);
}
