/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How many entries changes of other things make stale, as names share clocks: changes surrogate
 * keys that nothing depends on, and after each step asks for every entry. Prints a line of JSON a
 * step: changes so far, the part of the entries that is stale.
 */
#include "figures.h"
#include "world.h"

#include <etag/etag.h>
#include <stdio.h>

#define CALL_NAMES 100u

static void change(etag_client *client, uint64_t first, uint64_t count)
{
    char names[CALL_NAMES][32];
    etag_str surrogates[CALL_NAMES];

    for (uint64_t done = 0; done < count; done += CALL_NAMES) {
        etag_targets targets;
        ETAG_INIT(&targets);
        for (size_t i = 0; i < CALL_NAMES; i++) {
            snprintf(names[i], sizeof(names[i]), "other:%" PRIu64, first + done + i);
            surrogates[i] = etag_str_of(names[i]);
        }
        targets.surrogates = surrogates;
        targets.surrogate_count = CALL_NAMES;
        if (etag_invalidate(client, &targets, NULL) != ETAG_OK)
            bench_die("etag_invalidate", etag_client_error(client));
    }
}

static double stale_part(etag_client *client, uint64_t entries)
{
    uint64_t stale = 0;

    for (uint64_t n = 0; n < entries; n++) {
        struct world_texts texts;
        world_texts(&texts, n);
        const etag_key key = world_key(&texts);
        etag_request request;
        etag_answer answer;
        ETAG_INIT(&request);
        ETAG_INIT(&answer);
        request.method = ETAG_LIT("GET");
        request.key = &key;
        etag_check(client, &request, etag_token_now(client), &answer);
        stale += answer.reason == ETAG_REASON_STALE;
    }
    return (double)stale / (double)entries;
}

int main(int argc, char **argv)
{
    const char *etagd = NULL;
    uint64_t entries = 0, step = 0, steps = 0;
    const struct bench_option options[] = {{"etagd", .text = &etagd},
                                           {"entries", .count = &entries},
                                           {"step", .count = &step},
                                           {"steps", .count = &steps},
                                           {0}};
    static const char usage[] =
        "bench_false --etagd SOCKET --entries N --step N (of 100) --steps N";

    bench_options(argc, argv, options, usage);
    if (!etagd || entries == 0 || steps == 0 || step % CALL_NAMES != 0)
        bench_die("usage", usage);
    etag_client *client = world_client(etagd);
    world_fill(client, 0, entries, false);
    for (uint64_t i = 0; i <= steps; i++) {
        if (i > 0)
            change(client, (i - 1) * step, step);
        printf("{\"changes\": %" PRIu64 ", \"stale\": %.6f}\n", i * step,
               stale_part(client, entries));
    }
    etag_client_close(client);
    return 0;
}
