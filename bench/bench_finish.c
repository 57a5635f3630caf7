/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a miss costs a front end besides rendering: etag_check() that finds nothing, and
 * etag_finish() with what was rendered, until the fill is on its way. And the same of a missing
 * page, of which nothing comes.
 *
 * Time has the system call in it (send), which differs from run to run more than all the rest. So
 * the figure that counts is instructions, by callgrind (--figure runs one of them alone):
 *
 *   valgrind --tool=callgrind --toggle-collect=measured bench_finish --etagd SOCKET --figure fill
 *   --count 1000
 */
#include "figures.h"
#include "world.h"

#include <errno.h>
#include <etag/etag.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GROUP "finish"

enum figure { FIGURE_CHECK, FIGURE_FILL, FIGURE_KNOWN, FIGURE_GONE, FIGURE_COUNT };
static const struct {
    const char *word, *text;
} figures[FIGURE_COUNT] = {
    [FIGURE_CHECK] = {"check", "check that misses"},
    [FIGURE_FILL] = {"fill", "check that misses, finish of a 200, fill"},
    [FIGURE_KNOWN] = {"known", "check without condition, finish of the 200 that is known"},
    [FIGURE_GONE] = {"gone", "check that misses, finish of a 404"},
};

/* As an application answers. */
static const etag_field fixed[] = {
    {ETAG_LIT("Date"), ETAG_LIT("Sun, 29 Nov 2026 08:00:00 GMT")},
    {ETAG_LIT("Content-Type"), ETAG_LIT("application/json; charset=utf-8")},
    {ETAG_LIT("Content-Length"), ETAG_LIT("20480")},
    {ETAG_LIT("Cache-Control"), ETAG_LIT("max-age=60, must-revalidate")},
    {ETAG_LIT("Vary"), ETAG_LIT("Accept-Encoding")},
    {ETAG_LIT("X-Frame-Options"), ETAG_LIT("DENY")},
    {ETAG_LIT("X-Request-Id"), ETAG_LIT("0f5c7e2b-5f0f-4f70-9a8c-5a37e6f3c6b1")},
    {ETAG_LIT("Strict-Transport-Security"), ETAG_LIT("max-age=31536000; includeSubDomains")},
    {ETAG_LIT("Content-Security-Policy"), ETAG_LIT("default-src 'self'; img-src *")},
};

__attribute__((noinline)) static void measured(etag_client *client, enum figure figure,
                                               const struct world_texts *texts)
{
    static const etag_field vary = {ETAG_LIT("Accept-Encoding"), ETAG_LIT("gzip")};
    const etag_field condition = {ETAG_LIT("If-None-Match"), ETAG_LIT("\"another\"")};
    etag_key key = world_key(texts);

    key.vary = &vary;
    key.vary_count = 1;
    const etag_str surrogates[] = {etag_str_of(texts->upload), etag_str_of(texts->scope)};
    const etag_request request = {.size = sizeof(request),
                                  .method = ETAG_LIT("GET"),
                                  .key = &key,
                                  .fields = &condition,
                                  .field_count = figure != FIGURE_KNOWN};
    etag_answer answer;
    ETAG_INIT(&answer);
    (void)etag_check(client, &request, etag_token_now(client), &answer);
    if (figure == FIGURE_CHECK)
        return;
    etag_entry entry;
    etag_entry_init(&entry);
    entry.http_status = figure == FIGURE_GONE ? 404 : 200;
    entry.etag = figure == FIGURE_GONE ? (etag_str){0} : etag_str_of(texts->etag);
    entry.fields = fixed;
    entry.field_count = sizeof(fixed) / sizeof(fixed[0]);
    entry.surrogates = surrogates;
    entry.surrogate_count = 2;
    const int instead = etag_finish(client, &request, &entry, &answer);
    (void)instead;
}

/* Lets the daemon take what is on its way, so that nothing waits for room. */
static void settle(etag_client *client)
{
    world_fill_one(client, UINT32_MAX, true);
}

static double run(etag_client *client, enum figure figure, uint64_t first, uint64_t count)
{
    uint64_t took = 0;

    for (uint64_t i = 0; i < count; i++) {
        struct world_texts texts;
        world_texts(&texts, figure == FIGURE_KNOWN ? first : first + i);
        const uint64_t start = now_ns();
        measured(client, figure, &texts);
        took += now_ns() - start;
        if (i % 64 == 0)
            settle(client);
    }
    settle(client);
    return (double)took / (double)count;
}

static enum figure figure_of(const char *word)
{
    for (int i = 0; i < FIGURE_COUNT; i++)
        if (strcmp(figures[i].word, word) == 0)
            return (enum figure)i;
    bench_die("--figure", "check, fill, known or gone");
}

int main(int argc, char **argv)
{
    const char *etagd = NULL, *figure = NULL;
    uint64_t count = 20000, next = 0;
    const struct bench_option options[] = {
        {"etagd", .text = &etagd}, {"count", .count = &count}, {"figure", .text = &figure}, {0}};
    static const char usage[] = "bench_finish --etagd SOCKET [--count N] [--figure WORD]";

    bench_options(argc, argv, options, usage);
    if (!etagd)
        bench_die("usage", usage);
    const int only = figure ? (int)figure_of(figure) : FIGURE_COUNT;
    etag_client *client = world_client(etagd);
    for (int i = 0; i < FIGURE_COUNT; i++, next += count)
        if (only == FIGURE_COUNT || only == i)
            value_print(GROUP, figures[i].text, run(client, (enum figure)i, next, count), "ns", 0);
    etag_client_close(client);
    return 0;
}
