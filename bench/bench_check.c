/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From the strings of a request to a complete 304: etag_check() of the public library on the index
 * of a running daemon, beside
 *
 *   random load      one dependent load from a region of the same size, on pages of the same kind
 *   ck_ht, LMDB      in this process
 *   Redis, memcached over their Unix sockets, on our CPU and on the other one; one key, and 64 at
 *   once
 *
* All run on the same machine at the same time and take turns in rounds of one run, so that the
 * ratio within a round says more than the nanoseconds do. Each request's place in the list of
 * samples depends on the answer to the one before, so that lookups cannot overlap; a batch of 64 is
 * one request.
 */
#include "chain.h"
#include "cpus.h"
#include "figures.h"
#include "peers.h"

#include <errno.h>
#include <etag/etag.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SAMPLES                                                                                    \
    (1u                                                                                            \
     << 12) /* few enough to stay in the cache, as the strings of a request do that was just read */
#define SAMPLES_OF_SERVERS (PEER_BATCH * 32u)
#define ROUNDS_MAX 200
#define GROUP "lookup"

struct bench {
    etag_client *client;
    uint64_t entries;
    /* "10 k" */
    const char *size_word;
    uint64_t region_bytes;
    bool region_huge;
    uint64_t rounds;
    struct sample *samples;
    struct zipf zipf;
    uint64_t seed;
    int cpus[2], cpu_count;
};

enum draw { DRAW_UNIFORM, DRAW_ZIPF, DRAW_MISSING };
static const char *const draw_words[] = {"uniform", "zipf 0.99", "misses"};

static void samples_draw(struct bench *b, enum draw draw, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        uint64_t number = draw == DRAW_ZIPF ? zipf_next(&b->zipf, &b->seed)
                                            : random_below(&b->seed, b->entries);
        if (draw == DRAW_MISSING)
            number += b->entries;
        sample_of(&b->samples[i], number);
    }
}

/* ---- The sides: each returns nanoseconds a request ---- */

/* A request and what it points to. */
struct asked {
    etag_field condition;
    etag_key key;
    etag_request request;
};

static void ask(struct asked *a, const struct sample *sample)
{
    a->condition = (etag_field){ETAG_LIT("If-None-Match"), {sample->texts.etag, sample->etag_len}};
    a->key = (etag_key){sizeof(a->key),
                        {ETAG_LIT(WORLD_HOST), etag_str_of(sample->texts.target)},
                        {ETAG_SCOPE_NAMED, etag_str_of(sample->texts.scope)}};
    a->request = (etag_request){.size = sizeof(a->request),
                                .method = ETAG_LIT("GET"),
                                .key = &a->key,
                                .fields = &a->condition,
                                .field_count = 1};
}

static etag_verdict check_one(struct bench *b, const struct sample *sample, etag_answer *answer)
{
    struct asked asked;

    ask(&asked, sample);
    ETAG_INIT(answer);
    return etag_check(b->client, &asked.request, etag_token_now(b->client), answer);
}

static double run_ours(struct bench *b, etag_verdict expected, size_t count)
{
    etag_answer answer;
    size_t wrong = 0;
    const uint64_t start = now_ns();

    for (size_t i = 0; i < count;) {
        const etag_verdict verdict = check_one(b, &b->samples[i], &answer);
        wrong += verdict != expected;
        i += 1 + ((unsigned)verdict >> 8); /* 0; the library does not tell the compiler */
    }
    const uint64_t took = now_ns() - start;
    if (wrong > count / 100) /* a lease may end meanwhile */
        bench_die("etag_check", etag_reason_text(answer.reason));
    return (double)took / (double)count;
}

/* The same with etag_check_many(), 'batch' at a time. */
static double run_many(struct bench *b, size_t batch, size_t count)
{
    struct asked asked[ETAG_CHECKS_MAX];
    etag_request requests[ETAG_CHECKS_MAX];
    etag_answer answers[ETAG_CHECKS_MAX];
    size_t wrong = 0;
    const uint64_t start = now_ns();

    for (size_t i = 0; i < count; i += batch) {
        for (size_t n = 0; n < batch; n++) {
            ask(&asked[n], &b->samples[i + n]);
            requests[n] = asked[n].request;
            ETAG_INIT(&answers[n]);
        }
        if (etag_check_many(b->client, requests, batch, etag_token_now(b->client), answers) !=
            ETAG_OK)
            bench_die("etag_check_many", etag_client_error(b->client));
        for (size_t n = 0; n < batch; n++)
            wrong += answers[n].verdict != ETAG_NOT_MODIFIED;
    }
    const uint64_t took = now_ns() - start;
    if (wrong > count / 100)
        bench_die("etag_check_many", etag_reason_text(answers[0].reason));
    return (double)took / (double)count;
}

/* The same with keys that were prepared before. */
static double run_prepared(struct bench *b, etag_prepared_key *prepared, size_t count)
{
    etag_answer answer;
    size_t wrong = 0;

    for (size_t i = 0; i < count; i++) {
        struct asked asked;
        ask(&asked, &b->samples[i]);
        ETAG_INIT(&prepared[i]);
        if (etag_key_prepare(b->client, &asked.key, &prepared[i]) != ETAG_OK)
            bench_die("etag_key_prepare", etag_client_error(b->client));
    }
    const uint64_t start = now_ns();
    for (size_t i = 0; i < count;) {
        struct asked asked;
        ask(&asked, &b->samples[i]);
        asked.request.prepared = &prepared[i];
        ETAG_INIT(&answer);
        const etag_verdict verdict = etag_check(b->client, &asked.request,
                                                etag_token_now(b->client), &answer);
        wrong += verdict != ETAG_NOT_MODIFIED;
        i += 1 + ((unsigned)verdict >> 8);
    }
    const uint64_t took = now_ns() - start;
    if (wrong > count / 100)
        bench_die("etag_check", etag_reason_text(answer.reason));
    return (double)took / (double)count;
}

static double run_peer(struct bench *b, const struct peer *peer, size_t count)
{
    unsigned wrong = 0;
    const uint64_t start = now_ns();

    for (size_t i = 0; i < count;) {
        const unsigned one = peer->get(peer->state, &b->samples[i]);
        wrong |= one;
        i += 1 + (one >> 8);
    }
    const uint64_t took = now_ns() - start;
    if (wrong)
        bench_die(peer->name, "an entry is missing");
    return (double)took / (double)count;
}

static double run_batches(struct bench *b, const struct peer *peer, size_t count)
{
    unsigned wrong = 0;
    const uint64_t start = now_ns();

    for (size_t i = 0; i < count; i += PEER_BATCH)
        wrong |= peer->get_batch(peer->state, &b->samples[i]);
    const uint64_t took = now_ns() - start;
    if (wrong)
        bench_die(peer->name, "a batch is missing entries");
    return (double)took / (double)count;
}

static double run_chain(struct chain *chain, size_t loads)
{
    const uint64_t start = now_ns();

    chain_run(chain, loads);
    return (double)(now_ns() - start) / (double)loads;
}

/* ---- Comparisons ---- */

static void tell(const struct bench *b, const char *what, enum draw draw, const char *peer,
                 double goal, const struct pair *rounds)
{
    char figure[120];

    snprintf(figure, sizeof(figure), "%s, %s entries, %s", what, b->size_word, draw_words[draw]);
    const struct comparison c = {GROUP, figure, peer, "ns", goal, rounds, b->rounds};
    comparison_print(&c);
}

static void beside_peer(struct bench *b, const struct peer *peer, double goal)
{
    struct pair rounds[ROUNDS_MAX];
    const size_t count = peer->pid ? SAMPLES_OF_SERVERS : SAMPLES;

    for (size_t round = 0; round < b->rounds; round++) {
        samples_draw(b, DRAW_UNIFORM, count);
        if (round % 2)
            rounds[round].ours = run_ours(b, ETAG_NOT_MODIFIED, count);
        rounds[round].theirs = run_peer(b, peer, count);
        if (round % 2 == 0) {
            samples_draw(b, DRAW_UNIFORM, count);
            rounds[round].ours = run_ours(b, ETAG_NOT_MODIFIED, count);
        }
    }
    tell(b, "304", DRAW_UNIFORM, peer->name, goal, rounds);
}

static void beside_chain(struct bench *b, struct chain *chain, enum draw draw, double goal)
{
    struct pair rounds[ROUNDS_MAX];
    char peer[64];

    snprintf(peer, sizeof(peer), "random load, %" PRIu64 " MiB (%u %% huge)", b->region_bytes >> 20,
             chain_huge_percent(chain));
    for (size_t round = 0; round < b->rounds; round++) {
        samples_draw(b, draw, SAMPLES);
        rounds[round].theirs = run_chain(chain, SAMPLES);
        rounds[round].ours = run_ours(b, draw == DRAW_MISSING ? ETAG_UNKNOWN : ETAG_NOT_MODIFIED,
                                      SAMPLES);
    }
    tell(b, draw == DRAW_MISSING ? "no entry" : "304", draw, peer, goal, rounds);
}

static void miss_beside_hit(struct bench *b)
{
    struct pair rounds[ROUNDS_MAX];

    for (size_t round = 0; round < b->rounds; round++) {
        samples_draw(b, DRAW_MISSING, SAMPLES);
        rounds[round].ours = run_ours(b, ETAG_UNKNOWN, SAMPLES);
        samples_draw(b, DRAW_UNIFORM, SAMPLES);
        rounds[round].theirs = run_ours(b, ETAG_NOT_MODIFIED, SAMPLES);
    }
    tell(b, "no entry", DRAW_UNIFORM, "304", 1, rounds);
}

static void many_beside_one(struct bench *b)
{
    static const struct {
        size_t batch;
        double goal;
    } batches[] = {{8, 0}, {16, 0.4}, {64, 0}};
    struct pair rounds[ROUNDS_MAX];

    for (size_t i = 0; i < sizeof(batches) / sizeof(batches[0]); i++) {
        char figure[64];
        for (size_t round = 0; round < b->rounds; round++) {
            samples_draw(b, DRAW_UNIFORM, SAMPLES);
            rounds[round].ours = run_many(b, batches[i].batch, SAMPLES);
            samples_draw(b, DRAW_UNIFORM, SAMPLES);
            rounds[round].theirs = run_ours(b, ETAG_NOT_MODIFIED, SAMPLES);
        }
        snprintf(figure, sizeof(figure), "304, a key, %zu at once", batches[i].batch);
        tell(b, figure, DRAW_UNIFORM, "one at a time", batches[i].goal, rounds);
    }
}

static void prepared_beside_strings(struct bench *b)
{
    struct pair rounds[ROUNDS_MAX];
    etag_prepared_key *prepared = memory_new(SAMPLES, sizeof(*prepared));

    for (size_t round = 0; round < b->rounds; round++) {
        samples_draw(b, DRAW_UNIFORM, SAMPLES);
        rounds[round].ours = run_prepared(b, prepared, SAMPLES);
        samples_draw(b, DRAW_UNIFORM, SAMPLES);
        rounds[round].theirs = run_ours(b, ETAG_NOT_MODIFIED, SAMPLES);
    }
    tell(b, "304, prepared", DRAW_UNIFORM, "from strings", 0, rounds);
    free(prepared);
}

static void beside_server(struct bench *b, const struct peer *peer)
{
    struct pair rounds[ROUNDS_MAX];
    char name[64];

    for (int place = 0; place < b->cpu_count; place++) {
        cpus_pin_process(peer->pid, b->cpus[place]);
        snprintf(name, sizeof(name), "%s, %s", peer->name, place == 0 ? "same CPU" : "other CPU");
        struct peer placed = *peer;
        placed.name = name;
        beside_peer(b, &placed, place == 0 ? 1.0 / 60 : 1.0 / 200);
        for (size_t round = 0; round < b->rounds; round++) {
            samples_draw(b, DRAW_UNIFORM, SAMPLES_OF_SERVERS);
            rounds[round].theirs = run_batches(b, peer, SAMPLES_OF_SERVERS);
            samples_draw(b, DRAW_UNIFORM, SAMPLES_OF_SERVERS);
            rounds[round].ours = run_many(b, PEER_BATCH, SAMPLES_OF_SERVERS);
        }
        snprintf(name, sizeof(name), "%s, %d at once, %s", peer->name, PEER_BATCH,
                 place == 0 ? "same CPU" : "other CPU");
        tell(b, "304, a key", DRAW_UNIFORM, name, 0.1, rounds);
    }
}

/* ---- Main ---- */

struct options {
    const char *etagd, *redis, *memcached, *lmdb;
    uint64_t memcached_pid;
    bool ck;
    double goal_uniform, goal_zipf;
};

static void run(struct bench *b, const struct options *o)
{
    if (o->ck) {
        const struct peer peer = peer_ck(b->entries);
        beside_peer(b, &peer, b->entries <= 10000 ? 1 : 0);
    }
    if (o->lmdb) {
        const struct peer peer = peer_lmdb(o->lmdb, b->entries);
        beside_peer(b, &peer, 1.0 / 3);
    }
    if (b->region_bytes > 0) {
        struct chain *chain = chain_open(b->region_bytes, b->region_huge);
        beside_chain(b, chain, DRAW_UNIFORM, o->goal_uniform);
        beside_chain(b, chain, DRAW_ZIPF, o->goal_zipf);
        chain_close(chain);
    }
    miss_beside_hit(b);
    many_beside_one(b);
    prepared_beside_strings(b);
    if (o->redis) {
        const struct peer peer = peer_redis(o->redis, b->entries);
        beside_server(b, &peer);
    }
    if (o->memcached) {
        const struct peer peer = peer_memcached(o->memcached, o->memcached_pid, b->entries);
        beside_server(b, &peer);
    }
}

int main(int argc, char **argv)
{
    static struct bench bench = {.rounds = 15, .size_word = "?", .seed = 1};
    struct options options = {0};
    const struct bench_option names[] = {{"etagd", .text = &options.etagd},
                                         {"entries", .count = &bench.entries},
                                         {"size-word", .text = &bench.size_word},
                                         {"region", .count = &bench.region_bytes},
                                         {"region-huge", .flag = &bench.region_huge},
                                         {"rounds", .count = &bench.rounds},
                                         {"ck", .flag = &options.ck},
                                         {"lmdb", .text = &options.lmdb},
                                         {"redis", .text = &options.redis},
                                         {"memcached", .text = &options.memcached},
                                         {"memcached-pid", .count = &options.memcached_pid},
                                         {"goal", .ratio = &options.goal_uniform},
                                         {"goal-zipf", .ratio = &options.goal_zipf},
                                         {0}};
    static const char usage[] =
        "bench_check --etagd SOCKET --entries N --size-word WORD [--rounds N] [--ck]\n"
        "    [--region BYTES [--region-huge] [--goal RATIO] [--goal-zipf RATIO]]\n"
        "    [--lmdb DIRECTORY] [--redis SOCKET] [--memcached SOCKET --memcached-pid PID]";

    bench_options(argc, argv, names, usage);
    if (!options.etagd || bench.entries == 0 || bench.rounds > ROUNDS_MAX)
        bench_die("usage", usage);
    bench.samples = memory_new(SAMPLES, sizeof(*bench.samples));
    bench.zipf = zipf_of(bench.entries);
    bench.cpu_count = cpus_find(bench.cpus);
    bench.client = world_client(options.etagd);
    cpus_pin_thread(0, bench.cpus[0]);
    run(&bench, &options);
    etag_client_close(bench.client);
    return 0;
}
