/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A daemon for tests of the library: a real index and real messages, but it answers as the test
 * wants. It runs in a thread, or not at all (then the socket accepts connections, as that of a
 * stopped daemon does, and nobody answers).
 */
#ifndef ETAG_TESTS_FAKE_DAEMON_H
#define ETAG_TESTS_FAKE_DAEMON_H

#include "clocktime.h"
#include "counters.h"
#include "index.h"
#include "message.h"
#include "testing.h"
#include "text.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define FAKE_PEERS_MAX 8
#define FAKE_INCARNATION UINT64_C(0x1234567890abcdef)
#define FAKE_LEASE_NS (10 * NS_PER_S)

enum fake_mood {
    FAKE_ANSWERS = 0,
    /* says hello, then reads and never answers */
    FAKE_SILENT,
    /* closes on the next request, then answers */
    FAKE_CLOSES_ONCE,
    /* closes on every request */
    FAKE_CLOSES_ALWAYS,
    /* WIRE_ERROR_SLOW on the next request, closes, then answers */
    FAKE_SENDS_AWAY,
    /* WIRE_ERROR_MALFORMED, closes */
    FAKE_SAYS_MALFORMED,
    /* WIRE_ERROR_STORE */
    FAKE_REFUSES,
    /* bytes that are no frame */
    FAKE_NONSENSE,
    /* its hello has another version */
    FAKE_OTHER_VERSION,
    /* WIRE_ERROR_VERSION to the hello */
    FAKE_REFUSES_HELLO,
    /* forgets the counters' descriptor */
    FAKE_FEW_FDS,
    /* sends descriptors that nobody wants, with hello and answers */
    FAKE_MANY_FDS,
    /* an index that can be truncated */
    FAKE_UNSEALED,
    /* WIRE_ERROR_BUSY */
    FAKE_BUSY,
    /* WIRE_ERROR_DENIED */
    FAKE_DENIES,
    /* answers late_ms after the request */
    FAKE_SLOW,
    /* "host" at once, "everywhere" late_ms after it */
    FAKE_TWO_RECEIPTS,
};

struct fake_daemon {
    char dir[64], path[96];
    int listener;
    struct index *index;
    uint64_t incarnation_id;
    uint32_t roles;
    int64_t clock_shift_ns;
    /* atomic */
    enum fake_mood mood;
    etag_reason fill_reason;
    /* for its hello */
    uint64_t spool_id, linger_ns;
    int late_ms;
    /* what it saw: atomic */
    int hellos, fills, retires, invalidations, connections;
    uint64_t last_fill_lsn;
    int last_surrogate_count;
    int begins, confirms, commits, aborts;
    /* of a relay */
    struct fake_relay {
        int relay_hellos, parts, batches, dones;
        /* 0: none */
        enum wire_error refuse_hello, refuse_batch;
        /* batches are not answered */
        bool no_receipt;
        /* what it tells, and what it was told last */
        etag_str cursor, log_id;
        uint8_t last_cursor[64];
        size_t last_cursor_len;
        uint32_t l_net_ms;
        /* of each part: how many events, the position of the last one, who wrote them */
        uint64_t last_hold_ms, part_targets[16], part_positions[16];
        char part_writers[16][RELAY_WRITERS_BYTES_MAX + 1];
        bool last_everything, last_member;
        char last_reason[64];
        uint64_t last_done_token;
        enum relay_outcome last_outcome;
        char last_text[64];
        /* given to it after its hello; 0: nothing */
        uint64_t publish_token;
        etag_targets publish;
    } relay;
    uint64_t last_guard_low;
    uint32_t last_hold_ms;
    /* the thread's */
    bool running;
    pthread_t thread;
    int stop[2];
    int peers[FAKE_PEERS_MAX];
    struct buffer in[FAKE_PEERS_MAX];
    uint64_t lsn;
    /* of the last hello */
    int counters_fd;
};

#define fake_set(d, member, value) __atomic_store_n(&(d)->member, value, __ATOMIC_SEQ_CST)
#define fake_get(d, member) __atomic_load_n(&(d)->member, __ATOMIC_SEQ_CST)

void fake_send(int fd, const struct reply *reply, const int *fds, size_t fd_count);

int fake_memory(size_t bytes, unsigned seals);

struct index *fake_index(uint64_t incarnation_id);

/* Listens, and answers if 'running'. */
void fake_start(struct fake_daemon *d, bool running);

/* A stopped one goes on. */
void fake_continue(struct fake_daemon *d);

void fake_init(struct fake_daemon *d);

/* As a process that was killed: the socket file stays. */
void fake_kill(struct fake_daemon *d);

void fake_deinit(struct fake_daemon *d);

/* Waits until the daemon's thread has counted that far. */
#define fake_await(d, member, count)                                                               \
    do {                                                                                           \
        for (int ms_ = 0; fake_get(d, member) < (count) && ms_ < 10000; ms_++)                     \
            poll(NULL, 0, 1);                                                                      \
        assert_int_equal(fake_get(d, member), (count));                                            \
    } while (0)

int open_descriptors(void);

#endif
