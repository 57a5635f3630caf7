/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How many changes the daemon takes in a second, and what their size costs.
 *
 *   pipelined     so many operations open on one connection, beside Redis SET pipelined as deep
 *   ten names     calls that name ten surrogate keys, beside calls that name one
 *   dependents    a surrogate key that a million entries depend on, beside one that one does
 *   power         with durability power: 64 writers at once, beside one
 *   tail          the distribution of a waiting call while fills come in
 */
#include "cpus.h"
#include "figures.h"
#include "world.h"

#include <etag/etag.h>
#include <hiredis/hiredis.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAMES 1024u
#define OPEN_AT_ONCE 64u
#define MANY_NAMES 10u
#define WRITERS 64u
#define GROUP "invalidate"

struct bench {
    const char *etagd;
    etag_client *client;
    char names[NAMES][32];
    /* wraps around */
    etag_str name_strs[NAMES + OPEN_AT_ONCE];
    uint64_t rounds;
};

static etag_targets targets_of(const etag_str *names, size_t count)
{
    etag_targets targets;

    ETAG_INIT(&targets);
    targets.surrogates = names;
    targets.surrogate_count = count;
    return targets;
}

static etag_op *op_start(etag_client *client, const etag_str *names, size_t count)
{
    const etag_targets targets = targets_of(names, count);
    etag_op *op = NULL;

    if (etag_invalidate_start(client, &targets, &op) != ETAG_OK)
        bench_die("etag_invalidate_start", etag_client_error(client));
    return op;
}

static void client_wait(etag_client *client)
{
    struct pollfd p = {.fd = etag_client_fd(client), .events = etag_client_events(client)};

    poll(&p, 1, etag_client_timeout_ms(client));
    if (etag_client_dispatch(client) != ETAG_OK)
        bench_die("etagd", etag_client_error(client));
}

static bool op_is_done(etag_client *client, etag_op *op)
{
    const etag_status status = etag_op_result(op, NULL);

    if (status != ETAG_OK && status != ETAG_AGAIN)
        bench_die("etag_op_result", etag_client_error(client));
    return status == ETAG_OK;
}

/* ---- One connection, many operations ---- */

/* Microseconds a call of 'names' names, OPEN_AT_ONCE of them open. */
static double run_pipelined(const struct bench *b, size_t names, size_t calls)
{
    etag_op *open[OPEN_AT_ONCE];
    const uint64_t start = now_ns();
    size_t done = 0, started = 0;

    while (done < calls) {
        while (started < calls && started - done < OPEN_AT_ONCE) {
            open[started % OPEN_AT_ONCE] = op_start(b->client,
                                                    b->name_strs + started * names % NAMES, names);
            started++;
        }
        /* Answers come in the order of the operations. */
        while (done < started && op_is_done(b->client, open[done % OPEN_AT_ONCE]))
            done++;
        if (done < calls && started - done == OPEN_AT_ONCE)
            client_wait(b->client);
        else if (started == calls && done < calls)
            client_wait(b->client);
    }
    return (double)(now_ns() - start) / 1e3 / (double)calls;
}

static double run_redis(const struct bench *b, redisContext *redis, size_t calls)
{
    const uint64_t start = now_ns();

    for (size_t done = 0; done < calls; done += OPEN_AT_ONCE) {
        for (size_t i = 0; i < OPEN_AT_ONCE; i++)
            redisAppendCommand(redis, "SET %s v", b->names[(done + i) % NAMES]);
        for (size_t i = 0; i < OPEN_AT_ONCE; i++) {
            void *reply = NULL;
            if (redisGetReply(redis, &reply) != REDIS_OK)
                bench_die("redis", redis->errstr);
            freeReplyObject(reply);
        }
    }
    return (double)(now_ns() - start) / 1e3 / (double)calls;
}

static void pipelined(struct bench *b, const char *redis_socket)
{
    const size_t calls = OPEN_AT_ONCE * 100;
    struct pair *beside_redis = memory_new(b->rounds, sizeof(*beside_redis));
    struct pair *beside_one = memory_new(b->rounds, sizeof(*beside_one));
    struct pair *batches = memory_new(b->rounds, sizeof(*batches));
    redisContext *redis = redisConnectUnix(redis_socket);

    if (!redis || redis->err)
        bench_die("redis", redis ? redis->errstr : "no memory");
    for (size_t round = 0; round < b->rounds; round++) {
        const double one = run_pipelined(b, 1, calls);
        beside_redis[round] = (struct pair){one, run_redis(b, redis, calls)};
        beside_one[round] = (struct pair){run_pipelined(b, MANY_NAMES, calls), one};
        batches[round] = (struct pair){run_pipelined(b, OPEN_AT_ONCE, calls / 10) / OPEN_AT_ONCE,
                                       run_redis(b, redis, calls)};
    }
    const struct comparison with_redis = {
        GROUP,    "pipelined, 64 open", "Redis SET, pipelined by 64", "us", 1.5, beside_redis,
        b->rounds};
    const struct comparison with_one = {
        GROUP,    "a call of 10 names, pipelined", "a call of 1 name", "us", 1.2, beside_one,
        b->rounds};
    comparison_print(&with_redis);
    comparison_print(&with_one);
    const struct comparison with_batch = {
        GROUP,    "a name, 64 names a call", "Redis SET, pipelined by 64", "us", 1.0 / 3, batches,
        b->rounds};
    comparison_print(&with_batch);
    redisFree(redis);
    free(beside_redis);
    free(beside_one);
    free(batches);
}

/* ---- One at a time ---- */

static double run_single(etag_client *client, const etag_str *name, size_t calls)
{
    const etag_targets targets = targets_of(name, 1);
    const uint64_t start = now_ns();

    for (size_t i = 0; i < calls; i++)
        if (etag_invalidate(client, &targets, NULL) != ETAG_OK)
            bench_die("etag_invalidate", etag_client_error(client));
    return (double)(now_ns() - start) / 1e3 / (double)calls;
}

/* WORLD_SHARED is a key of every entry that was filled. */
static void dependents(struct bench *b, uint64_t entries)
{
    const etag_str shared = ETAG_LIT(WORLD_SHARED), lonely = ETAG_LIT("upload:0");
    struct pair *rounds = memory_new(b->rounds, sizeof(*rounds));
    char figure[80];

    for (size_t round = 0; round < b->rounds; round++)
        rounds[round] = (struct pair){run_single(b->client, &shared, 1000),
                                      run_single(b->client, &lonely, 1000)};
    snprintf(figure, sizeof(figure), "a key with %" PRIu64 " dependents", entries);
    const struct comparison c = {GROUP, figure, "a key with 1", "us", 1.2, rounds, b->rounds};
    comparison_print(&c);
    free(rounds);
}

static void tail(const struct bench *b)
{
    const size_t count = 50000;
    const etag_targets targets = targets_of(b->name_strs, 1);
    double *us = memory_new(count, sizeof(*us));

    for (size_t i = 0; i < count; i++) {
        const uint64_t start = now_ns();
        if (etag_invalidate(b->client, &targets, NULL) != ETAG_OK)
            bench_die("etag_invalidate", etag_client_error(b->client));
        us[i] = (double)(now_ns() - start) / 1e3;
    }
    spread_of(us, count);
    value_print(GROUP, "call to no 304 anywhere, median", us[count / 2], "us", 0);
    value_print(GROUP, "call to no 304 anywhere, p99", us[count / 100 * 99], "us", 0);
    value_print(GROUP, "call to no 304 anywhere, p99.9", us[count / 1000 * 999], "us", 0);
    free(us);
}

/* ---- Durability power ---- */

static void power(struct bench *b)
{
    etag_client *writers[WRITERS];
    etag_op *ops[WRITERS] = {NULL};
    struct pair *rounds = memory_new(b->rounds, sizeof(*rounds));
    const size_t each = 16;

    for (size_t w = 0; w < WRITERS; w++)
        writers[w] = world_client(b->etagd);
    for (size_t round = 0; round < b->rounds; round++) {
        rounds[round].theirs = run_single(b->client, b->name_strs, each);
        const uint64_t start = now_ns();
        for (size_t i = 0; i < each; i++) {
            for (size_t w = 0; w < WRITERS; w++)
                ops[w] = op_start(writers[w], b->name_strs + w, 1);
            for (size_t w = 0; w < WRITERS; w++)
                while (!op_is_done(writers[w], ops[w]))
                    client_wait(writers[w]);
        }
        rounds[round].ours = (double)(now_ns() - start) / 1e3 / (double)(each * WRITERS);
    }
    const struct comparison c = {
        GROUP,    "durability power, 64 writers, a call", "1 writer", "us", 1.0 / 20, rounds,
        b->rounds};
    comparison_print(&c);
    for (size_t w = 0; w < WRITERS; w++)
        etag_client_close(writers[w]);
    free(rounds);
}

/* ---- Main ---- */

int main(int argc, char **argv)
{
    static struct bench b = {.rounds = 15};
    const char *redis = NULL;
    uint64_t entries = 0;
    bool of_power = false, of_tail = false;
    const struct bench_option options[] = {{"etagd", .text = &b.etagd},
                                           {"redis", .text = &redis},
                                           {"rounds", .count = &b.rounds},
                                           {"dependents", .count = &entries},
                                           {"power", .flag = &of_power},
                                           {"tail", .flag = &of_tail},
                                           {0}};
    static const char usage[] = "bench_rate --etagd SOCKET [--redis SOCKET] [--dependents ENTRIES] "
                                "[--power] [--tail] [--rounds N]";

    bench_options(argc, argv, options, usage);
    if (!b.etagd)
        bench_die("usage", usage);
    for (size_t i = 0; i < NAMES + OPEN_AT_ONCE; i++) {
        snprintf(b.names[i % NAMES], sizeof(b.names[0]), "upload:%zu", i % NAMES);
        b.name_strs[i] = etag_str_of(b.names[i % NAMES]);
    }
    b.client = world_client(b.etagd);
    if (redis)
        pipelined(&b, redis);
    if (entries > 0)
        dependents(&b, entries);
    if (of_power)
        power(&b);
    if (of_tail)
        tail(&b);
    etag_client_close(b.client);
    return 0;
}
