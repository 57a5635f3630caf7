/* SPDX-License-Identifier: Apache-2.0 */
/* A store in a state directory of its own, under a scratch directory that goes with it. */
#ifndef ETAG_TESTS_STORE_FIXTURE_H
#define ETAG_TESTS_STORE_FIXTURE_H

#include "scratch.h"
#include "store.h"

struct store_fixture {
    char scratch[SCRATCH_BYTES];
    /* the state directory; missing until the store is opened */
    char dir[2 * SCRATCH_BYTES];
    struct why why;
    struct store *store;
};

/* Where it will be. */
void store_fixture_place(struct store_fixture *at);

/* The same, and a new store there, of a first run with so many clocks. */
void store_fixture_make(struct store_fixture *at, uint64_t map_bytes, uint32_t clock_count);

/* Opens it again. What store_open() returns. */
MUST_USE int store_fixture_open(struct store_fixture *at, uint64_t map_bytes);

/* The store, if it is open, and all files. */
void store_fixture_remove(struct store_fixture *at);

#endif
