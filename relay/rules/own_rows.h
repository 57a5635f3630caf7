/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rows that were published for this host's daemon. It has applied each before it handed it over, so
 * that once more would only make stale what was filled in between.
 */
#ifndef ETAG_RELAY_OWN_ROWS_H
#define ETAG_RELAY_OWN_ROWS_H

#include "engine.h"

#define OWN_ROWS_MAX 1024 /* older ones are applied once more */

struct own_rows {
    /* ascending, the oldest at first */
    uint64_t positions[OWN_ROWS_MAX];
    size_t first, count;
};

/* One that was published, and nothing else with it. */
void own_rows_add(struct own_rows *own, uint64_t position);

/* Moves the others to the front. Returns how many they are. */
size_t own_rows_leave_out(const struct own_rows *own, struct engine_row *rows, size_t count);

/* The cursor covers them: no poll brings them again. */
void own_rows_settled(struct own_rows *own, const struct engine_snapshot *snapshot);

/* Another daemon may lack them; in another history others have their numbers. */
void own_rows_forget(struct own_rows *own);

#endif
