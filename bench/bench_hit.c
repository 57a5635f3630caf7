/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a 304 costs, counted in instructions, which are the same on every machine and at every load:
 *
 *   valgrind --tool=callgrind --toggle-collect=measured bench_hit --etagd SOCKET --figure strings
 *   --count 1000
 *
 * and divide what callgrind collected by the count (scripts/bench does; of a batch, a key). Without
 * valgrind it tells nanoseconds.
 */
#include "figures.h"
#include "world.h"

#include <etag/etag.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GROUP "hit"
#define ENTRIES 1024u
#define BATCH 64u

enum figure { FIGURE_STRINGS, FIGURE_VARY, FIGURE_PREPARED, FIGURE_GENERAL, FIGURE_COUNT };
static const struct {
    const char *word, *text;
} figures[FIGURE_COUNT] = {
    [FIGURE_STRINGS] = {"strings", "304 from strings"},
    [FIGURE_VARY] = {"vary", "304 from strings, with a vary field"},
    [FIGURE_PREPARED] = {"prepared", "304 with a prepared key"},
    [FIGURE_GENERAL] = {"general", "304 on the general way"},
};

/* A request and what it points to. */
struct asked {
    struct world_texts texts;
    etag_key key;
    etag_field vary, condition;
    etag_prepared_key prepared;
    etag_request request;
};

static const etag_field vary_field = {{"Accept-Encoding", 15}, {"gzip", 4}};

static void ask(etag_client *client, struct asked *a, uint64_t number, enum figure figure)
{
    world_texts(&a->texts, number);
    a->key = world_key(&a->texts);
    a->vary = vary_field;
    if (figure == FIGURE_VARY) {
        a->key.vary = &a->vary;
        a->key.vary_count = 1;
    }
    a->condition = (etag_field){ETAG_LIT("If-None-Match"), etag_str_of(a->texts.etag)};
    ETAG_INIT(&a->request);
    a->request.method = ETAG_LIT("GET");
    a->request.key = &a->key;
    a->request.fields = &a->condition;
    a->request.field_count = 1;
    if (figure != FIGURE_PREPARED)
        return;
    ETAG_INIT(&a->prepared);
    if (etag_key_prepare(client, &a->key, &a->prepared) != ETAG_OK)
        bench_die("etag_key_prepare", etag_client_error(client));
    a->request.prepared = &a->prepared;
}

/* An answer that is larger than the library's is the general way's. */
struct answer {
    etag_answer answer;
    uint64_t more;
};

__attribute__((noinline)) static etag_verdict measured(etag_client *client, const struct asked *a,
                                                       etag_token token, struct answer *out)
{
    return etag_check(client, &a->request, token, &out->answer);
}

static double run(etag_client *client, struct asked *asked, enum figure figure, uint64_t count)
{
    uint64_t took = 0;

    for (uint64_t i = 0; i < ENTRIES; i++)
        ask(client, &asked[i], i, figure);
    for (uint64_t i = 0; i <= count; i++) {
        struct answer out;
        ETAG_INIT(&out.answer);
        if (figure == FIGURE_GENERAL)
            out.answer.size = sizeof(out);
        const etag_token token = etag_token_now(client);
        if (i == 0) { /* what the first one leaves is there for the others */
            (void)etag_check(client, &asked[0].request, token, &out.answer);
            continue;
        }
        const uint64_t start = now_ns();
        const etag_verdict verdict = measured(client, &asked[i % ENTRIES], token, &out);
        took += now_ns() - start;
        if (verdict != ETAG_NOT_MODIFIED)
            bench_die("etag_check", etag_reason_text(out.answer.reason));
    }
    return (double)took / (double)count;
}

static void fill_vary(etag_client *client)
{
    for (uint64_t n = 0; n < ENTRIES; n++) {
        struct asked a;
        ask(client, &a, n, FIGURE_VARY);
        const etag_field fixed = {ETAG_LIT("Cache-Control"),
                                  ETAG_LIT("max-age=60, must-revalidate")};
        etag_entry entry;
        etag_entry_init(&entry);
        entry.key = &a.key;
        entry.etag = etag_str_of(a.texts.etag);
        entry.fields = &fixed;
        entry.field_count = 1;
        if (etag_fill_wait(client, etag_token_now(client), &entry, NULL) != ETAG_OK)
            bench_die("etag_fill_wait", etag_client_error(client));
    }
}

static enum figure figure_of(const char *word)
{
    for (int i = 0; i < FIGURE_COUNT; i++)
        if (strcmp(figures[i].word, word) == 0)
            return (enum figure)i;
    bench_die("--figure", "strings, vary, prepared or general");
}

int main(int argc, char **argv)
{
    const char *etagd = NULL, *figure = NULL;
    uint64_t count = 20000;
    const struct bench_option options[] = {
        {"etagd", .text = &etagd}, {"count", .count = &count}, {"figure", .text = &figure}, {0}};
    static const char usage[] = "bench_hit --etagd SOCKET [--count N] [--figure WORD]";

    bench_options(argc, argv, options, usage);
    if (!etagd)
        bench_die("usage", usage);
    const int only = figure ? (int)figure_of(figure) : FIGURE_COUNT;
    etag_client *client = world_client(etagd);
    struct asked *asked = memory_new(ENTRIES, sizeof(*asked));
    world_fill(client, 0, ENTRIES, false);
    if (only == FIGURE_COUNT || only == FIGURE_VARY)
        fill_vary(client);
    for (int i = 0; i < FIGURE_COUNT; i++)
        if (only == FIGURE_COUNT || only == i)
            value_print(GROUP, figures[i].text, run(client, asked, (enum figure)i, count), "ns", 0);
    free(asked);
    etag_client_close(client);
    return 0;
}
