/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What publishing an invalidation costs a writer that waits for it: etag_invalidate() beside
 *
 *   ping-pong   64 bytes to another process and back over a Unix socket, blocking on both sides: the floor of
 *               anything that asks another process
 *   Redis SET   the same question to a server that does the same kind of work: take a name, change memory, answer
 *
 * A number alone says little on a machine that others use too. So the three take turns in rounds of one run, with
 * client and server on one CPU and then on two, and what counts is the ratio within a round. Servers are moved to
 * their CPU by their pid, which the kernel tells of each socket.
 */
#include "figures.h"

#include <dirent.h>
#include <errno.h>
#include <etag/etag.h>
#include <getopt.h>
#include <hiredis/hiredis.h>
#include <inttypes.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define NAMES 1024u    /* surrogate keys and Redis keys, used in turn */
#define PING_BYTES 64u /* about what an invalidation of one name takes */
#define WARM_UP_ROUND_TRIPS 2000u

/* ---- The three that are asked ------------------------------------------------------------------- */

enum side { SIDE_ETAGD, SIDE_PING_PONG, SIDE_REDIS, SIDES };
static const char *const side_words[SIDES] = {"etagd", "ping_pong", "redis_set"};

struct bench {
    etag_client *etagd;
    redisContext *redis;
    int ping_fd;
    pid_t ping_pid;
    char names[NAMES][32];
    uint32_t rounds, per_round;
    const char *etagd_socket, *redis_socket, *json_path;
};

static _Noreturn void die(const char *doing, const char *why)
{
    fprintf(stderr, "bench_invalidate: %s: %s\n", doing, why);
    exit(1);
}

static void invalidate_once(struct bench *bench, uint32_t i)
{
    const etag_str name = etag_str_of(bench->names[i % NAMES]);
    etag_targets targets;

    ETAG_INIT(&targets);
    targets.surrogates = &name;
    targets.surrogate_count = 1;
    if (etag_invalidate(bench->etagd, &targets, NULL) != ETAG_OK)
        die("invalidate", etag_client_error(bench->etagd));
}

static void transfer(int fd, char bytes[PING_BYTES], bool out)
{
    for (size_t done = 0; done < PING_BYTES;) {
        const ssize_t n = out ? write(fd, bytes + done, PING_BYTES - done)
                              : read(fd, bytes + done, PING_BYTES - done);
        if (n <= 0)
            die("ping-pong", n < 0 ? strerror(errno) : "the other end is gone");
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
        die("redis SET", reply ? reply->str : bench->redis->errstr);
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

/* ---- Opening -------------------------------------------------------------------------------------- */

static _Noreturn void echo_run(int fd)
{
    char bytes[PING_BYTES];

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    while (read(fd, bytes, sizeof(bytes)) == (ssize_t)sizeof(bytes))
        if (write(fd, bytes, sizeof(bytes)) != (ssize_t)sizeof(bytes))
            break;
    _exit(0);
}

/* First of all three, so that the child holds nobody else's socket. */
static void ping_open(struct bench *bench)
{
    int fds[2];

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
        die("socketpair", strerror(errno));
    bench->ping_pid = fork();
    if (bench->ping_pid < 0)
        die("fork", strerror(errno));
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
        die("etagd", "cannot open a client");
    invalidate_once(bench, 0);
    bench->redis = redisConnectUnix(bench->redis_socket);
    if (!bench->redis || bench->redis->err)
        die("redis", bench->redis ? bench->redis->errstr : "no memory");
}

static void bench_close(struct bench *bench)
{
    etag_client_close(bench->etagd);
    redisFree(bench->redis);
    close(bench->ping_fd);
    waitpid(bench->ping_pid, NULL, 0);
}

/* ---- CPUs ----------------------------------------------------------------------------------------- */

enum placement { PLACEMENT_ONE_CPU, PLACEMENT_TWO_CPUS, PLACEMENTS };
static const char *const placement_words[PLACEMENTS] = {"one_cpu", "two_cpus"};

/* The first CPUs that we may use; returns how many of the two there are. */
static int cpus_find(int cpus[2])
{
    cpu_set_t set;
    int count = 0;

    if (sched_getaffinity(0, sizeof(set), &set) < 0)
        die("sched_getaffinity", strerror(errno));
    for (int cpu = 0; cpu < CPU_SETSIZE && count < 2; cpu++)
        if (CPU_ISSET(cpu, &set))
            cpus[count++] = cpu;
    return count;
}

static void pin_thread(pid_t tid, int cpu)
{
    cpu_set_t set;

    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    /* A thread that ended meanwhile needs no CPU. */
    if (sched_setaffinity(tid, sizeof(set), &set) < 0 && errno != ESRCH)
        die("sched_setaffinity", strerror(errno));
}

static void pin_process(pid_t pid, int cpu)
{
    char path[64];
    const struct dirent *entry;

    snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
    DIR *threads = opendir(path);
    if (!threads)
        die(path, strerror(errno));
    while ((entry = readdir(threads)))
        if (entry->d_name[0] != '.')
            pin_thread((pid_t)strtol(entry->d_name, NULL, 10), cpu);
    closedir(threads);
}

static pid_t server_of(int fd)
{
    struct ucred peer;
    socklen_t len = sizeof(peer);

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0)
        die("SO_PEERCRED", strerror(errno));
    return peer.pid;
}

static void place(const struct bench *bench, enum placement placement, const int cpus[2])
{
    const int server_cpu = placement == PLACEMENT_ONE_CPU ? cpus[0] : cpus[1];

    pin_thread(0, cpus[0]);
    pin_process(bench->ping_pid, server_cpu);
    pin_process(server_of(etag_client_fd(bench->etagd)), server_cpu);
    pin_process(server_of(bench->redis->fd), server_cpu);
}

/* ---- Figures -------------------------------------------------------------------------------------- */

struct figures {
    struct spread ns[SIDES];
    struct spread ratio[SIDES]; /* etagd to that side, of the rounds' medians */
};

static double *values_new(size_t count)
{
    double *values = calloc(count, sizeof(values[0]));

    if (!values)
        die("memory", strerror(errno));
    return values;
}

static void round_measure(struct bench *bench, enum side side, double *ns)
{
    for (uint32_t i = 0; i < bench->per_round; i++) {
        const uint64_t start = now_ns();
        ask(bench, side, i);
        ns[i] = (double)(now_ns() - start);
    }
}

static struct figures measure(struct bench *bench)
{
    const size_t total = (size_t)bench->rounds * bench->per_round;
    double *ns[SIDES], *medians[SIDES];
    struct figures figures = {0};

    for (int side = 0; side < SIDES; side++) {
        ns[side] = values_new(total);
        medians[side] = values_new(bench->rounds);
        for (uint32_t i = 0; i < WARM_UP_ROUND_TRIPS; i++)
            ask(bench, (enum side)side, i);
    }
    for (uint32_t round = 0; round < bench->rounds; round++)
        for (int turn = 0; turn < SIDES; turn++) {
            /* Nobody always comes first. */
            const enum side side = (enum side)((round + (uint32_t)turn) % SIDES);
            double *mine = ns[side] + (size_t)round * bench->per_round;
            round_measure(bench, side, mine);
            medians[side][round] = spread_of(mine, bench->per_round).median;
        }
    for (int side = SIDES - 1; side >= 0; side--) {
        for (uint32_t round = 0; round < bench->rounds; round++)
            medians[side][round] = medians[SIDE_ETAGD][round] / medians[side][round];
        figures.ratio[side] = spread_of(medians[side], bench->rounds);
        figures.ns[side] = spread_of(ns[side], total);
        free(medians[side]);
        free(ns[side]);
    }
    return figures;
}

/* ---- Output: one row a comparison, for scripts/bench and for eyes ------------------------------- */

static void rows_print(enum placement placement, const struct figures *figures)
{
    static const char *const words[PLACEMENTS] = {"one CPU", "two CPUs"};
    static const char *const peers[SIDES] = {
        [SIDE_PING_PONG] = "socket ping-pong", [SIDE_REDIS] = "Redis SET"};

    for (int side = SIDE_PING_PONG; side < SIDES; side++) {
        char figure[64];
        snprintf(figure, sizeof(figure), "invalidate, %s", words[placement]);
        row_print(figure, figures->ns[SIDE_ETAGD], peers[side], figures->ns[side],
                  figures->ratio[side], 1e3, "us");
    }
}

static void json_write(const struct bench *bench, const struct figures *figures, int placements)
{
    FILE *f = fopen(bench->json_path, "we");

    if (!f)
        die(bench->json_path, strerror(errno));
    fprintf(f, "{\"rounds\": %" PRIu32 ", \"per_round\": %" PRIu32, bench->rounds,
            bench->per_round);
    for (int placement = 0; placement < placements; placement++) {
        fprintf(f, ",\n \"%s\": {\"ns\": {", placement_words[placement]);
        for (int side = 0; side < SIDES; side++)
            spread_write(f, side_words[side], figures[placement].ns[side],
                         side + 1 < SIDES ? ", " : "},\n  \"ratio\": {");
        for (int side = SIDE_PING_PONG; side < SIDES; side++)
            spread_write(f, side_words[side], figures[placement].ratio[side],
                         side + 1 < SIDES ? ", " : "}}");
    }
    fputs("}\n", f);
    if (fclose(f) != 0)
        die(bench->json_path, strerror(errno));
}

/* ---- Main ------------------------------------------------------------------------------------------ */

static uint32_t count_of(const char *text)
{
    char *end;
    const unsigned long n = strtoul(text, &end, 10);

    if (*end != '\0' || n < 1 || n > 1000000)
        die(text, "not a count of 1 to 1000000");
    return (uint32_t)n;
}

static void options_read(struct bench *bench, int argc, char **argv)
{
    static const struct option options[] = {
        {"etagd", required_argument, NULL, 'e'},  {"redis", required_argument, NULL, 'r'},
        {"rounds", required_argument, NULL, 'n'}, {"per-round", required_argument, NULL, 'p'},
        {"json", required_argument, NULL, 'j'},   {0},
    };
    int option;

    bench->rounds = 30;
    bench->per_round = 2000;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1)
        switch (option) {
        case 'e':
            bench->etagd_socket = optarg;
            break;
        case 'r':
            bench->redis_socket = optarg;
            break;
        case 'n':
            bench->rounds = count_of(optarg);
            break;
        case 'p':
            bench->per_round = count_of(optarg);
            break;
        case 'j':
            bench->json_path = optarg;
            break;
        default:
            exit(2);
        }
    if (!bench->etagd_socket || !bench->redis_socket || optind < argc) {
        fputs("usage: bench_invalidate --etagd SOCKET --redis SOCKET [--rounds N] [--per-round N] "
              "[--json FILE]\n",
              stderr);
        exit(2);
    }
}

int main(int argc, char **argv)
{
    static struct bench bench;
    struct figures figures[PLACEMENTS] = {0};
    int cpus[2];

    options_read(&bench, argc, argv);
    bench_open(&bench);
    const int placements = cpus_find(cpus);
    for (int placement = 0; placement < placements && placement < PLACEMENTS; placement++) {
        place(&bench, (enum placement)placement, cpus);
        figures[placement] = measure(&bench);
        rows_print((enum placement)placement, &figures[placement]);
    }
    if (bench.json_path)
        json_write(&bench, figures, placements);
    bench_close(&bench);
    return 0;
}
