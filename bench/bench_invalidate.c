/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What publishing an invalidation costs a writer that waits for it: etag_invalidate() beside
 *
 *   ping-pong   64 bytes to another process and back over a Unix socket, blocking on both sides:
 *               the floor of anything that asks another process
 *   Redis SET   the same question to a server that does the same kind of work: take a name, change
 *               memory, answer
 *
 * A number alone says little on a machine that others use too. So the three take turns in rounds of
 * one run, with client and server on one CPU and then on two, and what counts is the ratio within a
 * round.
 */
#include "cpus.h"
#include "figures.h"

#include <errno.h>
#include <etag/etag.h>
#include <hiredis/hiredis.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define NAMES 1024u    /* surrogate keys and Redis keys, used in turn */
#define PING_BYTES 64u /* about what an invalidation of one name takes */
#define WARM_UP_ROUND_TRIPS 2000u

/* ---- The three that are asked ---------------------------------------------------------------- */

enum side { SIDE_ETAGD, SIDE_PING_PONG, SIDE_REDIS, SIDES };

struct bench {
    etag_client *etagd;
    redisContext *redis;
    int ping_fd;
    pid_t ping_pid;
    char names[NAMES][32];
    uint64_t rounds, per_round;
    const char *etagd_socket, *redis_socket;
};

static void invalidate_once(struct bench *bench, uint32_t i)
{
    const etag_str name = etag_str_of(bench->names[i % NAMES]);
    etag_targets targets;

    ETAG_INIT(&targets);
    targets.surrogates = &name;
    targets.surrogate_count = 1;
    if (etag_invalidate(bench->etagd, &targets, NULL) != ETAG_OK)
        bench_die("invalidate", etag_client_error(bench->etagd));
}

static void transfer(int fd, char bytes[PING_BYTES], bool out)
{
    for (size_t done = 0; done < PING_BYTES;) {
        const ssize_t n = out ? write(fd, bytes + done, PING_BYTES - done)
                              : read(fd, bytes + done, PING_BYTES - done);
        if (n <= 0)
            bench_die("ping-pong", n < 0 ? strerror(errno) : "the other end is gone");
        done += (size_t)n;
    }
}

static void ping_once(struct bench *bench, uint32_t i)
{
    char bytes[PING_BYTES] = {(char)i};

    transfer(bench->ping_fd, bytes, true);
    transfer(bench->ping_fd, bytes, false);
}

static void redis_once(struct bench *bench, uint32_t i)
{
    redisReply *reply = redisCommand(bench->redis, "SET %s %b", bench->names[i % NAMES], "v",
                                     (size_t)1);

    if (!reply || reply->type == REDIS_REPLY_ERROR)
        bench_die("redis SET", reply ? reply->str : bench->redis->errstr);
    freeReplyObject(reply);
}

static void ask(struct bench *bench, enum side side, uint32_t i)
{
    switch (side) {
    case SIDE_ETAGD:
        invalidate_once(bench, i);
        break;
    case SIDE_PING_PONG:
        ping_once(bench, i);
        break;
    default:
        redis_once(bench, i);
        break;
    }
}

/* ---- Opening --------------------------------------------------------------------------------- */

static _Noreturn void echo_run(int fd)
{
    char bytes[PING_BYTES];

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    while (read(fd, bytes, sizeof(bytes)) == (ssize_t)sizeof(bytes))
        if (write(fd, bytes, sizeof(bytes)) != (ssize_t)sizeof(bytes))
            break;
    _exit(0);
}

/* First of all three, so that the child holds no other socket. */
static void ping_open(struct bench *bench)
{
    int fds[2];

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
        bench_die("socketpair", strerror(errno));
    bench->ping_pid = fork();
    if (bench->ping_pid < 0)
        bench_die("fork", strerror(errno));
    if (bench->ping_pid == 0) {
        close(fds[0]);
        echo_run(fds[1]);
    }
    close(fds[1]);
    bench->ping_fd = fds[0];
}

static void bench_open(struct bench *bench)
{
    etag_client_options options;

    for (uint32_t i = 0; i < NAMES; i++)
        snprintf(bench->names[i], sizeof(bench->names[i]), "upload:%" PRIu32, i);
    ping_open(bench);
    ETAG_INIT(&options);
    options.socket_path = bench->etagd_socket;
    options.connect_timeout_ms = options.timeout_ms = 5000;
    if (etag_client_open(&bench->etagd, &options) != ETAG_OK)
        bench_die("etagd", "cannot open a client");
    invalidate_once(bench, 0);
    bench->redis = redisConnectUnix(bench->redis_socket);
    if (!bench->redis || bench->redis->err)
        bench_die("redis", bench->redis ? bench->redis->errstr : "no memory");
}

static void bench_close(struct bench *bench)
{
    etag_client_close(bench->etagd);
    redisFree(bench->redis);
    close(bench->ping_fd);
    waitpid(bench->ping_pid, NULL, 0);
}

/* ---- CPUs ------------------------------------------------------------------------------------ */

enum placement { PLACEMENT_ONE_CPU, PLACEMENT_TWO_CPUS, PLACEMENTS };
static const char *const placement_words[PLACEMENTS] = {"same CPU", "other CPU"};

static void place(const struct bench *bench, enum placement placement, const int cpus[2])
{
    const int server_cpu = placement == PLACEMENT_ONE_CPU ? cpus[0] : cpus[1];

    cpus_pin_thread(0, cpus[0]);
    cpus_pin_process(bench->ping_pid, server_cpu);
    cpus_pin_process(cpus_server_of(etag_client_fd(bench->etagd)), server_cpu);
    cpus_pin_process(cpus_server_of(bench->redis->fd), server_cpu);
}

/* ---- Rounds ---------------------------------------------------------------------------------- */

/* The median of a round's calls, in microseconds: what one writer sees, not what a hiccup of the
 * machine makes of the mean. */
static double round_measure(struct bench *bench, enum side side, double *us)
{
    for (uint32_t i = 0; i < bench->per_round; i++) {
        const uint64_t start = now_ns();
        ask(bench, side, i);
        us[i] = (double)(now_ns() - start) / 1e3;
    }
    return spread_of(us, bench->per_round).median;
}

static void measure(struct bench *bench, const char *place_word)
{
    static const struct {
        const char *name;
        double goal;
    } peers[SIDES] = {
        [SIDE_PING_PONG] = {"socket ping-pong", 1.6}, [SIDE_REDIS] = {"Redis SET", 0}};
    struct pair *rounds[SIDES];
    double *us = memory_new(bench->per_round, sizeof(*us));
    char figure[64];

    for (int side = 0; side < SIDES; side++) {
        rounds[side] = memory_new(bench->rounds, sizeof(*rounds[side]));
        for (uint32_t i = 0; i < WARM_UP_ROUND_TRIPS; i++)
            ask(bench, (enum side)side, i);
    }
    for (uint64_t round = 0; round < bench->rounds; round++) {
        double of[SIDES];
        for (int turn = 0; turn < SIDES; turn++) {
            /* None always comes first. */
            const enum side side = (enum side)((round + (uint32_t)turn) % SIDES);
            of[side] = round_measure(bench, side, us);
        }
        for (int side = 0; side < SIDES; side++)
            rounds[side][round] = (struct pair){of[SIDE_ETAGD], of[side]};
    }
    snprintf(figure, sizeof(figure), "one name, one at a time, %s", place_word);
    for (int side = SIDE_PING_PONG; side < SIDES; side++) {
        const struct comparison c = {"invalidate",     figure,       peers[side].name, "us",
                                     peers[side].goal, rounds[side], bench->rounds};
        comparison_print(&c);
    }
    for (int side = 0; side < SIDES; side++)
        free(rounds[side]);
    free(us);
}

/* ---- Main ------------------------------------------------------------------------------------ */

int main(int argc, char **argv)
{
    static struct bench bench = {.rounds = 30, .per_round = 2000};
    int cpus[2];
    const struct bench_option options[] = {{"etagd", .text = &bench.etagd_socket},
                                           {"redis", .text = &bench.redis_socket},
                                           {"rounds", .count = &bench.rounds},
                                           {"per-round", .count = &bench.per_round},
                                           {0}};
    static const char usage[] =
        "bench_invalidate --etagd SOCKET --redis SOCKET [--rounds N] [--per-round N]";

    bench_options(argc, argv, options, usage);
    if (!bench.etagd_socket || !bench.redis_socket)
        bench_die("usage", usage);
    bench_open(&bench);
    const int placements = cpus_find(cpus);
    for (int placement = 0; placement < placements && placement < PLACEMENTS; placement++) {
        place(&bench, (enum placement)placement, cpus);
        measure(&bench, placement_words[placement]);
    }
    bench_close(&bench);
    return 0;
}
