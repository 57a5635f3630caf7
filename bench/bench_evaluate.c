/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What being right costs: etag_evaluate() beside a comparison of the same bytes behind the same kind of call, on
 * `If-None-Match: "..."` with a tag of 20 bytes; and how it grows with the list, to 64 KiB without a match.
 *
 * Both take turns in rounds of one run, and what counts is the ratio within a round. Requests are drawn from a small set, of
 * which half match, in an order that no branch predictor knows.
 */
#include "evaluate_peer.h"
#include "figures.h"

#include <getopt.h>
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
    size_t rounds;
    const char *json_path;
};

struct figures {
    struct spread ours_ns, theirs_ns, ratio;
    struct spread list_ns[SIZES], per_byte[SIZES];
};

static void bench_make(struct bench *b)
{
    uint32_t random = 1;
    ETAG_INIT(&b->validators);
    b->validators.existence = ETAG_EXISTS;
    b->validators.etag = ETAG_LIT("\"0123456789abcdef-0\"");
    b->validators.last_modified = ETAG_NO_DATE;
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

static void compare(const struct bench *b, struct figures *out, double *ours, double *theirs,
                    double *ratios)
{
    size_t matches[2] = {0};
    for (size_t round = 0; round < b->rounds; round++) {
        if (round % 2) /* nobody always comes first */
            ours[round] = round_measure(b, etag_evaluate, &matches[0]);
        theirs[round] = round_measure(b, peer_memcmp, &matches[1]);
        if (round % 2 == 0)
            ours[round] = round_measure(b, etag_evaluate, &matches[0]);
        ratios[round] = ours[round] / theirs[round];
    }
    if (matches[0] != matches[1]) {
        fputs("bench_evaluate: the two do not agree\n", stderr);
        exit(1);
    }
    out->ours_ns = spread_of(ours, b->rounds);
    out->theirs_ns = spread_of(theirs, b->rounds);
    out->ratio = spread_of(ratios, b->rounds);
}

/* One list of so many bytes, all of it read. */
static void grow(struct bench *b, size_t bytes, struct spread *ns, struct spread *per_byte,
                 double *values)
{
    const etag_field field = {ETAG_LIT("If-None-Match"),
                              {b->list, bytes / (TAG_BYTES + 1) * (TAG_BYTES + 1) - 1}};
    etag_request request = b->requests[0];
    request.fields = &field;
    const size_t calls = 1 + LIST_BYTES_MAX / bytes;
    for (size_t round = 0; round < b->rounds; round++) {
        size_t proceeds = 0;
        const uint64_t start = now_ns();
        for (size_t i = 0; i < calls; i++)
            proceeds += etag_evaluate(&request, &b->validators) == ETAG_PROCEED;
        values[round] = (double)(now_ns() - start) / (double)calls;
        if (proceeds != calls)
            exit(1);
    }
    *ns = spread_of(values, b->rounds);
    *per_byte = (struct spread){ns->p10 / (double)bytes, ns->median / (double)bytes,
                                ns->p90 / (double)bytes};
}

static void rows_print(const struct figures *f)
{
    char figure[64];
    row_print("evaluate, 20-byte tag", f->ours_ns, "memcmp and branch", f->theirs_ns, f->ratio, 1,
              "ns");
    for (size_t i = 1; i < SIZES; i++) {
        const struct spread growth = {f->per_byte[i].p10 / f->per_byte[0].p10,
                                      f->per_byte[i].median / f->per_byte[0].median,
                                      f->per_byte[i].p90 / f->per_byte[0].p90};
        snprintf(figure, sizeof(figure), "a byte of a %zu-byte list", list_bytes[i]);
        row_print(figure, f->per_byte[i], "of 256 bytes", f->per_byte[0], growth, 1e-3, "ps");
    }
}

static void json_write(const struct bench *b, const struct figures *f)
{
    FILE *file = fopen(b->json_path, "we");
    char name[32];
    if (!file) {
        perror(b->json_path);
        exit(1);
    }
    fprintf(file, "{\"rounds\": %zu, ", b->rounds);
    spread_write(file, "evaluate_ns", f->ours_ns, ", ");
    spread_write(file, "memcmp_ns", f->theirs_ns, ", ");
    spread_write(file, "ratio", f->ratio, ",\n \"list_ns\": {");
    for (size_t i = 0; i < SIZES; i++) {
        snprintf(name, sizeof(name), "%zu", list_bytes[i]);
        spread_write(file, name, f->list_ns[i], i + 1 < SIZES ? ", " : "}}\n");
    }
    if (fclose(file) != 0)
        exit(1);
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"rounds", required_argument, NULL, 'r'}, {"json", required_argument, NULL, 'j'}, {0}};
    static struct bench bench = {.rounds = ROUNDS_DEFAULT};
    struct figures figures;
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (c == 'r')
            bench.rounds = strtoul(optarg, NULL, 10);
        else if (c == 'j')
            bench.json_path = optarg;
    }
    double *const values = calloc(bench.rounds, 3 * sizeof(double));
    if (!values || bench.rounds == 0 || optind < argc) {
        fputs("usage: bench_evaluate [--rounds N] [--json FILE]\n", stderr);
        return 2;
    }
    bench_make(&bench);
    compare(&bench, &figures, values, values + bench.rounds, values + 2 * bench.rounds);
    for (size_t i = 0; i < SIZES; i++)
        grow(&bench, list_bytes[i], &figures.list_ns[i], &figures.per_byte[i], values);
    rows_print(&figures);
    if (bench.json_path)
        json_write(&bench, &figures);
    free(values);
    return 0;
}
