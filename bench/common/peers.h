/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where else an application could keep the entity tag of a representation, to compare it with
 * If-None-Match. Each holds the same entries under a key that the benchmark has ready ("customer:7
 * api.example.com/v1/uploads/7?view=full"): composing and normalizing it costs them nothing.
 */
#ifndef ETAG_BENCH_PEERS_H
#define ETAG_BENCH_PEERS_H

#include "world.h"

#include <stddef.h>
#include <sys/types.h>

#define PEER_KEY_BYTES 80
#define PEER_BATCH 64

/* One request: what the peers are asked, and what etagd is. */
struct sample {
    struct world_texts texts;
    char key[PEER_KEY_BYTES];
    uint16_t key_len;
    uint16_t etag_len;
};

void sample_of(struct sample *out, uint64_t number);

struct peer {
    const char *name;
    void *state;
    /* 0: the entry is there and has this tag. */
    unsigned (*get)(void *state, const struct sample *sample);
    /* PEER_BATCH at once; NULL: it has no such thing. */
    unsigned (*get_batch)(void *state, const struct sample *samples);
    /* of the server; 0: it is in our process */
    pid_t pid;
};

/* Each with entries [0, count) in it. They stay until the program ends. */
struct peer peer_ck(uint64_t count);
struct peer peer_lmdb(const char *directory, uint64_t count);
struct peer peer_redis(const char *socket_path, uint64_t count);
struct peer peer_memcached(const char *socket_path, pid_t pid, uint64_t count);

#endif
