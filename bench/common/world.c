/* SPDX-License-Identifier: Apache-2.0 */
#include "world.h"

#include "figures.h"

#include <math.h>
#include <poll.h>
#include <stdio.h>

#define CUSTOMERS 1000
#define ZIPF_EXPONENT 0.99

void world_texts(struct world_texts *out, uint64_t number)
{
    snprintf(out->target, sizeof(out->target), "/v1/uploads/%" PRIu64 "?view=full", number);
    snprintf(out->scope, sizeof(out->scope), "customer:%" PRIu64, number % CUSTOMERS);
    snprintf(out->upload, sizeof(out->upload), "upload:%" PRIu64, number);
    snprintf(out->etag, sizeof(out->etag), "\"%016" PRIx64 "\"", number);
}

etag_key world_key(const struct world_texts *texts)
{
    etag_key key;

    ETAG_INIT(&key);
    key.resource = (etag_resource){ETAG_LIT(WORLD_HOST), etag_str_of(texts->target)};
    key.scope = (etag_scope){ETAG_SCOPE_NAMED, etag_str_of(texts->scope)};
    return key;
}

etag_client *world_client(const char *socket_path)
{
    etag_client_options options;
    etag_client *client = NULL;

    ETAG_INIT(&options);
    options.socket_path = socket_path;
    options.connect_timeout_ms = options.timeout_ms = 60000;
    options.spool = ETAG_SPOOL_NEVER;
    if (etag_client_open(&client, &options) != ETAG_OK)
        bench_die("etagd", client ? etag_client_error(client) : "no memory");
    return client;
}

/* ---- Filling ---- */

static etag_status fill_one(etag_client *client, etag_token token, uint64_t number, bool shared,
                            bool wait)
{
    static const etag_field fixed[] = {
        {ETAG_LIT("Cache-Control"), ETAG_LIT("max-age=60, must-revalidate")}};
    struct world_texts texts;

    world_texts(&texts, number);
    const etag_key key = world_key(&texts);
    const etag_str surrogates[] = {etag_str_of(texts.upload),
                                   shared ? ETAG_LIT(WORLD_SHARED) : etag_str_of(texts.scope)};
    etag_entry entry;
    etag_entry_init(&entry);
    entry.key = &key;
    entry.etag = etag_str_of(texts.etag);
    entry.fields = fixed;
    entry.field_count = 1;
    entry.surrogates = surrogates;
    entry.surrogate_count = 2;
    return wait ? etag_fill_wait(client, token, &entry, NULL) : etag_fill(client, token, &entry);
}

static void wait_for_room(etag_client *client)
{
    struct pollfd p = {.fd = etag_client_fd(client), .events = etag_client_events(client)};

    poll(&p, 1, 10);
    if (etag_client_dispatch(client) != ETAG_OK)
        bench_die("etagd", etag_client_error(client));
}

static void fill_surely(etag_client *client, uint64_t number, bool shared, bool wait)
{
    for (;;) {
        const etag_status status = fill_one(client, etag_token_now(client), number, shared, wait);
        if (status == ETAG_OK)
            return;
        if (status != ETAG_AGAIN)
            bench_die("etag_fill", etag_client_error(client));
        wait_for_room(client);
    }
}

void world_fill_one(etag_client *client, uint64_t number, bool wait)
{
    fill_surely(client, number, false, wait);
}

void world_fill(etag_client *client, uint64_t first, uint64_t end, bool shared)
{
    for (uint64_t n = first; n < end; n++)
        fill_surely(client, n, shared, n + 1 == end);
}

/* ---- Zipf ---- */

/* sum of i^-exponent for i in [1, n]: the first terms one by one, the rest as an integral (relative
 * error below 1e-6). */
static double zeta_of(uint64_t n)
{
    const uint64_t exact = n < 100000 ? n : 100000;
    double sum = 0;

    for (uint64_t i = 1; i <= exact; i++)
        sum += pow((double)i, -ZIPF_EXPONENT);
    if (n > exact)
        sum += (pow((double)n + 0.5, 1 - ZIPF_EXPONENT) -
                pow((double)exact + 0.5, 1 - ZIPF_EXPONENT)) /
               (1 - ZIPF_EXPONENT);
    return sum;
}

struct zipf zipf_of(uint64_t n)
{
    struct zipf z = {.n = n, .zeta = zeta_of(n), .alpha = 1 / (1 - ZIPF_EXPONENT)};
    const double zeta_two = 1 + pow(2, -ZIPF_EXPONENT);

    z.eta = (1 - pow(2.0 / (double)n, 1 - ZIPF_EXPONENT)) / (1 - zeta_two / z.zeta);
    z.half_pow = 1 + pow(0.5, ZIPF_EXPONENT);
    return z;
}

uint64_t zipf_next(const struct zipf *z, uint64_t *seed)
{
    const double u = (double)(random_next(seed) >> 11) * 0x1p-53;
    const double uz = u * z->zeta;
    uint64_t rank = uz < 1 ? 0
                    : uz < z->half_pow
                        ? 1
                        : (uint64_t)((double)z->n * pow(z->eta * u - z->eta + 1, z->alpha));

    if (rank >= z->n)
        rank = z->n - 1;
    return random_below(&rank, z->n); /* the same number for the same rank */
}
