/* SPDX-License-Identifier: Apache-2.0 */
/* A spool in a directory of its own, what a scan has applied, and events as writers leave them.
 * After testing.h. */
#ifndef ETAGD_TEST_SPOOL_FIXTURE_H
#define ETAGD_TEST_SPOOL_FIXTURE_H

#include "bounds.h"
#include "clocktime.h"
#include "scratch.h"
#include "spool.h"
#include "text.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#define SEEN_MAX 64

struct seen {
    enum request_kind kind;
    bool everything;
    uint32_t uid;
    struct spool_slot slot;
    char surrogate[32];
};

struct fixture {
    char scratch[SCRATCH_BYTES];
    struct config config;
    struct log log;
    struct log_limit limit;
    struct arena arena;
    struct spool *spool;
    struct seen seen[SEEN_MAX];
    size_t seen_count;
    bool safe_at_once;
    int answer;
};

char *path_of(const struct fixture *f, const char *name);

bool there(const struct fixture *f, const char *name);

void open_spool(struct fixture *f, uint64_t lease_ns);

int setup(void **state);

int teardown(void **state);

#define CASE(name) TEST_OF(name, struct fixture *f, setup, teardown)

int apply(void *ctx, const struct request *request, uint32_t uid, struct spool_slot slot);

void scan(struct fixture *f);

void put(const struct fixture *f, const char *name, const void *bytes, size_t len);

void put_request(const struct fixture *f, const char *name, enum request_kind kind,
                 const char *surrogate);

#endif
