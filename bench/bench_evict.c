/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a full index keeps: the part of the requests that it answers, under zipf traffic with scans,
 * beside random replacement (simulated, of the same capacity, for the same requests). A request
 * that is not answered fills. One request in ten is part of a scan over entries that no other
 * request asks for.
 */
#include "figures.h"
#include "world.h"

#include <etag/etag.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KEYS_PER_CAPACITY 4u /* that zipf traffic asks for */
#define SCAN_PART 10u
#define SETTLE_EVERY 128u /* fills, after which the last one is waited for */

struct bench {
    etag_client *client;
    uint64_t capacity, keys, scanned;
    uint64_t seed, victim_seed;
    struct zipf zipf;
    /* Random replacement: which number is where, and where a number is (0: nowhere). */
    uint64_t *resident;
    uint32_t *place;
    uint64_t resident_count, place_count;
};

static uint64_t request_next(struct bench *b)
{
    if (random_below(&b->seed, SCAN_PART) == 0)
        return b->keys + b->scanned++ % (b->place_count - b->keys);
    return zipf_next(&b->zipf, &b->seed);
}

static bool ours_has(struct bench *b, uint64_t number)
{
    struct world_texts texts;
    etag_request request;
    etag_answer answer;

    world_texts(&texts, number);
    const etag_key key = world_key(&texts);
    ETAG_INIT(&request);
    ETAG_INIT(&answer);
    request.method = ETAG_LIT("GET");
    request.key = &key;
    return etag_check(b->client, &request, etag_token_now(b->client), &answer) != ETAG_UNKNOWN;
}

/* Also fills. */
static bool random_has(struct bench *b, uint64_t number)
{
    if (b->place[number] != 0)
        return true;
    uint64_t at = b->resident_count;
    if (at < b->capacity) {
        b->resident_count++;
    } else {
        at = random_below(&b->victim_seed, b->capacity);
        b->place[b->resident[at]] = 0;
    }
    b->resident[at] = number;
    b->place[number] = (uint32_t)(at + 1);
    return false;
}

/* The parts of 'requests' that each answers. */
static struct pair run(struct bench *b, uint64_t requests)
{
    uint64_t ours = 0, theirs = 0, misses = 0;

    for (uint64_t i = 0; i < requests; i++) {
        const uint64_t number = request_next(b);
        theirs += random_has(b, number);
        if (ours_has(b, number))
            ours++;
        else
            world_fill_one(b->client, number, ++misses % SETTLE_EVERY == 0);
    }
    return (struct pair){100.0 * (double)ours / (double)requests,
                         100.0 * (double)theirs / (double)requests};
}

int main(int argc, char **argv)
{
    static struct bench b = {.seed = 1, .victim_seed = 2};
    const char *etagd = NULL;
    uint64_t rounds = 10;
    const struct bench_option options[] = {{"etagd", .text = &etagd},
                                           {"capacity", .count = &b.capacity},
                                           {"rounds", .count = &rounds},
                                           {0}};
    static const char usage[] =
        "bench_evict --etagd SOCKET --capacity N (of that daemon) [--rounds N]";

    bench_options(argc, argv, options, usage);
    if (!etagd || b.capacity == 0 || b.capacity > UINT32_MAX / 64)
        bench_die("usage", usage);
    b.client = world_client(etagd);
    b.keys = KEYS_PER_CAPACITY * b.capacity;
    b.place_count = b.keys + 8 * b.capacity;
    b.zipf = zipf_of(b.keys);
    b.resident = memory_new(b.capacity, sizeof(*b.resident));
    b.place = memory_new(b.place_count, sizeof(*b.place));
    struct pair *values = memory_new(rounds, sizeof(*values));
    (void)run(&b, 10 * b.capacity); /* until both are full */
    for (uint64_t i = 0; i < rounds; i++)
        values[i] = run(&b, 2 * b.capacity);
    const struct comparison c = {"memory",
                                 "requests answered by a full index, zipf 0.99 with scans",
                                 "random replacement",
                                 "%",
                                 0,
                                 values,
                                 rounds};
    comparison_print(&c);
    etag_client_close(b.client);
    return 0;
}
