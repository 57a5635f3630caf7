/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What being right costs: etag_evaluate() beside a comparison of the same bytes after the same
 * kind of call, on `If-None-Match: "..."` with a tag of 20 bytes; and how it grows with the list,
 * to 64 KiB without a match.
 *
 * Both take turns in rounds of one run, and what counts is the ratio within a round. Requests are
 * drawn from a small set, of which half match, in an order that no branch predictor knows.
 */
#include "evaluate_peer.h"
#include "figures.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TAG_BYTES 20u
#define REQUESTS 64u
#define ORDER 4096u /* requests in one run of a round */
#define ROUNDS_DEFAULT 200u
#define LIST_BYTES_MAX 65536u
#define SIZES 4u
static const size_t list_bytes[SIZES] = {256, 4096, 16384, LIST_BYTES_MAX};

typedef etag_verdict evaluation(const etag_request *, const etag_validators *);

struct bench {
    etag_request requests[REQUESTS];
    etag_field fields[REQUESTS];
    char tags[REQUESTS][TAG_BYTES + 1];
    etag_validators validators;
    uint8_t order[ORDER];
    char list[LIST_BYTES_MAX];
    uint64_t rounds;
};

static void bench_make(struct bench *b)
{
    uint32_t random = 1;

    etag_validators_init(&b->validators);
    b->validators.existence = ETAG_EXISTS;
    b->validators.etag = ETAG_LIT("\"0123456789abcdef-0\"");
    for (uint32_t i = 0; i < REQUESTS; i++) {
        memcpy(b->tags[i], b->validators.etag.data, TAG_BYTES);
        if (i % 2)
            b->tags[i][TAG_BYTES - 2] = '1'; /* what differs, differs in its last byte */
        b->fields[i] = (etag_field){ETAG_LIT("If-None-Match"), {b->tags[i], TAG_BYTES}};
        ETAG_INIT(&b->requests[i]);
        b->requests[i].method = ETAG_LIT("GET");
        b->requests[i].fields = &b->fields[i];
        b->requests[i].field_count = 1;
    }
    for (uint32_t i = 0; i < ORDER; i++) {
        random = random * 1664525u + 1013904223u;
        b->order[i] = (uint8_t)(random >> 24) % REQUESTS;
    }
    for (size_t i = 0; i < LIST_BYTES_MAX; i++) /* elements of 20 bytes, and ", " */
        b->list[i] = "\"fedcba9876543210-0\", "[i % (TAG_BYTES + 1)];
}

/* Nanoseconds of one evaluation, over the whole order. */
static double round_measure(const struct bench *b, evaluation *evaluate, size_t *matches)
{
    size_t found = 0;
    const uint64_t start = now_ns();

    for (uint32_t i = 0; i < ORDER; i++)
        found += evaluate(&b->requests[b->order[i]], &b->validators) == ETAG_NOT_MODIFIED;
    const uint64_t took = now_ns() - start;
    *matches += found;
    return (double)took / ORDER;
}

static void compare(const struct bench *b, struct pair *rounds)
{
    size_t matches[2] = {0};

    for (size_t round = 0; round < b->rounds; round++) {
        if (round % 2) /* none always comes first */
            rounds[round].ours = round_measure(b, etag_evaluate, &matches[0]);
        rounds[round].theirs = round_measure(b, peer_memcmp, &matches[1]);
        if (round % 2 == 0)
            rounds[round].ours = round_measure(b, etag_evaluate, &matches[0]);
    }
    if (matches[0] != matches[1])
        bench_die("evaluate", "the two do not agree");
    const struct comparison c = {
        "evaluate", "a tag of 20 bytes", "memcmp and branch", "ns", 3, rounds, b->rounds};
    comparison_print(&c);
}

/* Picoseconds a byte of one list of so many bytes, all of it read. */
static double list_measure(const struct bench *b, size_t bytes)
{
    const etag_field field = {ETAG_LIT("If-None-Match"),
                              {b->list, bytes / (TAG_BYTES + 1) * (TAG_BYTES + 1) - 1}};
    etag_request request = b->requests[0];

    request.fields = &field;
    const size_t calls = 1 + LIST_BYTES_MAX / bytes;
    size_t proceeds = 0;
    const uint64_t start = now_ns();
    for (size_t i = 0; i < calls; i++)
        proceeds += etag_evaluate(&request, &b->validators) == ETAG_PROCEED;
    const uint64_t took = now_ns() - start;
    if (proceeds != calls)
        bench_die("evaluate", "a list matched");
    return (double)took * 1e3 / (double)calls / (double)bytes;
}

static void grow(const struct bench *b, size_t bytes, struct pair *rounds)
{
    char figure[64];

    for (size_t round = 0; round < b->rounds; round++)
        rounds[round] = (struct pair){list_measure(b, bytes), list_measure(b, list_bytes[0])};
    snprintf(figure, sizeof(figure), "a byte of a list of %zu bytes", bytes);
    const struct comparison c = {"evaluate", figure, "of a list of 256", "ps",
                                 1.2,        rounds, b->rounds};
    comparison_print(&c);
}

int main(int argc, char **argv)
{
    static struct bench bench = {.rounds = ROUNDS_DEFAULT};
    const struct bench_option options[] = {{"rounds", .count = &bench.rounds}, {0}};

    bench_options(argc, argv, options, "bench_evaluate [--rounds N]");
    struct pair *rounds = memory_new(bench.rounds, sizeof(*rounds));
    bench_make(&bench);
    compare(&bench, rounds);
    for (size_t i = 1; i < SIZES; i++)
        grow(&bench, list_bytes[i], rounds);
    free(rounds);
    return 0;
}
