/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The entries that the benchmarks of whole lookups and fills use: number n is an upload of customer
 * n % 1000, in that customer's scope, with two surrogate keys, three path prefixes and
 * Cache-Control.
 */
#ifndef ETAG_BENCH_WORLD_H
#define ETAG_BENCH_WORLD_H

#include <etag/etag.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>

#define WORLD_HOST "api.example.com"
#define WORLD_TEXT_BYTES 48
#define WORLD_SHARED "shared"

struct world_texts {
    /* "/v1/uploads/123?view=full" */
    char target[WORLD_TEXT_BYTES];
    /* "customer:123", which is a surrogate key too */
    char scope[WORLD_TEXT_BYTES];
    /* "upload:123" */
    char upload[WORLD_TEXT_BYTES];
    /* "\"000000000000007b\"" */
    char etag[WORLD_TEXT_BYTES];
};

void world_texts(struct world_texts *out, uint64_t number);

/* Borrows the texts. */
etag_key world_key(const struct world_texts *texts);

/* A client with a long patience and without the spool, as a daemon that does not answer is an error
 * here. */
etag_client *world_client(const char *socket_path);

/* Fills numbers [first, end), as fast as the daemon takes them: waits for the socket where it is
 * full, and for the verdict on the last one. shared: with WORLD_SHARED as a surrogate key, in place
 * of the customer. */
void world_fill(etag_client *client, uint64_t first, uint64_t end, bool shared);

/* One of them. wait: for the daemon's verdict on it, and so for all that were sent before. */
void world_fill_one(etag_client *client, uint64_t number, bool wait);

/* The zipf distribution with exponent 0.99 over [0, n): as in YCSB (Gray et al., "Quickly
 * generating billion-record synthetic databases", SIGMOD 1994), ranks scattered over the numbers by
 * a hash. */
struct zipf {
    uint64_t n;
    double zeta, eta, alpha, half_pow;
};
struct zipf zipf_of(uint64_t n);
uint64_t zipf_next(const struct zipf *z, uint64_t *seed);

/* splitmix64 */
static inline uint64_t random_next(uint64_t *seed)
{
    uint64_t x = *seed += UINT64_C(0x9e3779b97f4a7c15);

    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

static inline uint64_t random_below(uint64_t *seed, uint64_t end)
{
    return (uint64_t)(((unsigned __int128)random_next(seed) * end) >> 64);
}

#endif
