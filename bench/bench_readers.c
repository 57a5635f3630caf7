/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Do readers disturb each other, and does a writer disturb them? Nanoseconds a lookup of a reader
 * on the first CPU, in rounds of a fifth of a second:
 *
 *   with a reader of its own process on the second CPU, beside alone
 *   with invalidations and the daemon on the second CPU, beside alone
 */
#include "cpus.h"
#include "figures.h"
#include "world.h"

#include <errno.h>
#include <etag/etag.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define ROUND_MS 200
#define SAMPLES (1u << 15)
#define WRITER_OPEN 64u
#define ROUNDS_MAX 200

/* Between the processes. */
struct board {
    /* which of them are to run: bits */
    volatile int go;
    /* by the writer */
    volatile uint64_t invalidated;
};

enum { GO_READER = 1, GO_WRITER = 2 };

struct bench {
    const char *etagd;
    uint64_t entries, rate;
    uint64_t rounds;
    struct board *board;
    int cpus[2];
};

/* ---- A reader ---- */

struct reader {
    etag_client *client;
    struct world_texts *samples;
    size_t at;
};

static struct reader reader_new(const struct bench *b, uint64_t seed)
{
    struct reader r = {world_client(b->etagd), memory_new(SAMPLES, sizeof(struct world_texts)), 0};

    for (size_t i = 0; i < SAMPLES; i++)
        world_texts(&r.samples[i], random_below(&seed, b->entries));
    return r;
}

static void read_some(struct reader *r, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const struct world_texts *texts = &r->samples[r->at++ % SAMPLES];
        const etag_key key = world_key(texts);
        const etag_field condition = {ETAG_LIT("If-None-Match"), etag_str_of(texts->etag)};
        etag_request request;
        etag_answer answer;
        ETAG_INIT(&request);
        ETAG_INIT(&answer);
        request.method = ETAG_LIT("GET");
        request.key = &key;
        request.fields = &condition;
        request.field_count = 1;
        etag_check(r->client, &request, etag_token_now(r->client), &answer);
    }
}

/* Nanoseconds a lookup. */
static double read_round(struct reader *r)
{
    size_t count = 0;
    const uint64_t start = now_ns();
    uint64_t now = start;

    for (; now < start + ROUND_MS * UINT64_C(1000000); now = now_ns()) {
        read_some(r, 1000);
        count += 1000;
    }
    return (double)(now - start) / (double)count;
}

/* ---- The other processes ---- */

static void other_reader(const struct bench *b)
{
    struct reader r = reader_new(b, 2);

    for (;;) {
        if (b->board->go & GO_READER)
            read_some(&r, 1000);
        else
            usleep(500);
    }
}

/* Invalidations of keys that nothing depends on, at a fixed rate, in bursts of a millisecond. */
static void other_writer(const struct bench *b)
{
    etag_client *client = world_client(b->etagd);
    etag_op *open[WRITER_OPEN] = {NULL};
    uint64_t started = 0, done = 0, since = 0, base = 0;

    while (true) {
        if (!(b->board->go & GO_WRITER)) {
            since = 0;
            usleep(500);
            continue;
        }
        if (since == 0) {
            since = now_ns();
            base = started;
        }
        const uint64_t due = base + (now_ns() - since) * b->rate / 1000000000u;
        for (; started < due && started - done < WRITER_OPEN; started++) {
            char name[32];
            snprintf(name, sizeof(name), "other:%" PRIu64, started % 100000);
            const etag_str surrogate = etag_str_of(name);
            etag_targets targets;
            ETAG_INIT(&targets);
            targets.surrogates = &surrogate;
            targets.surrogate_count = 1;
            if (etag_invalidate_start(client, &targets, &open[started % WRITER_OPEN]) != ETAG_OK)
                bench_die("etag_invalidate_start", etag_client_error(client));
        }
        while (done < started && etag_op_result(open[done % WRITER_OPEN], NULL) == ETAG_OK)
            done++;
        b->board->invalidated = done;
        struct pollfd p = {.fd = etag_client_fd(client), .events = etag_client_events(client)};
        poll(&p, 1, 1);
        if (etag_client_dispatch(client) != ETAG_OK)
            bench_die("etagd", etag_client_error(client));
    }
}

static pid_t other_start(const struct bench *b, void (*run)(const struct bench *))
{
    const pid_t pid = fork();

    if (pid < 0)
        bench_die("fork", strerror(errno));
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        cpus_pin_thread(0, b->cpus[1]);
        run(b);
        _exit(0);
    }
    return pid;
}

/* ---- Rounds ---- */

static void beside_alone(const struct bench *b, struct reader *r, int go, const char *figure,
                         double goal)
{
    struct pair rounds[ROUNDS_MAX];

    for (size_t round = 0; round < b->rounds; round++) {
        rounds[round].theirs = read_round(r);
        b->board->go = go;
        usleep(20000);
        rounds[round].ours = read_round(r);
        b->board->go = 0;
        usleep(20000);
    }
    const struct comparison c = {"readers", figure, "alone", "ns", goal, rounds, b->rounds};
    comparison_print(&c);
}

static void run(struct bench *b)
{
    const pid_t reader_pid = other_start(b, other_reader);
    const pid_t writer_pid = other_start(b, other_writer);

    cpus_pin_thread(0, b->cpus[0]);
    struct reader r = reader_new(b, 1);
    cpus_pin_process(cpus_server_of(etag_client_fd(r.client)), b->cpus[1]);
    read_round(&r);
    beside_alone(b, &r, GO_READER, "a lookup with another reader", 2 / 1.9);
    const uint64_t before = b->board->invalidated, start = now_ns();
    beside_alone(b, &r, GO_WRITER, "a lookup with invalidations", 1 / 0.9);
    const double seconds = (double)(now_ns() - start) / 1e9;
    /* The writer runs in half of the rounds. */
    value_print("readers", "invalidations meanwhile",
                (double)(b->board->invalidated - before) / (seconds / 2), "/s", 0);
    kill(reader_pid, SIGKILL);
    kill(writer_pid, SIGKILL);
    waitpid(reader_pid, NULL, 0);
    waitpid(writer_pid, NULL, 0);
}

int main(int argc, char **argv)
{
    static struct bench b = {.rounds = 15, .rate = 100000};
    const struct bench_option options[] = {{"etagd", .text = &b.etagd},
                                           {"entries", .count = &b.entries},
                                           {"rounds", .count = &b.rounds},
                                           {"rate", .count = &b.rate},
                                           {0}};
    static const char usage[] = "bench_readers --etagd SOCKET --entries N [--rounds N] [--rate N]";

    bench_options(argc, argv, options, usage);
    if (!b.etagd || b.entries == 0 || b.rounds > ROUNDS_MAX)
        bench_die("usage", usage);
    if (cpus_find(b.cpus) < 2)
        bench_die("readers", "two CPUs are needed");
    b.board = mmap(NULL, sizeof(*b.board), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
                   0);
    if (b.board == MAP_FAILED)
        bench_die("memory", strerror(errno));
    run(&b);
    return 0;
}
