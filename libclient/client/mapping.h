/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The memory that a daemon gave to this client: the index, read-only, and the client's page of
 * counters. It is validated before anything in it is trusted. A mapping is replaced as a whole, and
 * only by a valid one.
 */
#ifndef LIBETAG_MAPPING_H
#define LIBETAG_MAPPING_H

#include "counters.h"
#include "fault.h"
#include "shm.h"

struct mapping {
    /* NULL: no index */
    void *base;
    size_t bytes;
    struct shm_view view;
    /* NULL: none */
    struct counters *counters;
};

/* What to map. Descriptors: borrowed; -1: none. */
struct mapping_source {
    int index_fd, counters_fd;
    uint64_t index_bytes, counters_bytes;
    /* the incarnation that the index must have */
    uint64_t incarnation_id;
};

/* out: not initialized. Errors: PROTOCOL (the memory is not what it must be), SYSTEM; out is empty
 * then. */
MUST_USE etag_status mapping_open(struct mapping *out, const struct mapping_source *source,
                                  struct fault *fault);
void mapping_close(struct mapping *mapping);

/* Validates the memory for mapping_open(). Returns NULL and sets *out, or says what is wrong in a
 * sentence. Reads only the header, and that only once, since its owner may change it. base: aligned
 * to a cache line, with 'bytes' readable bytes. */
MUST_USE const char *mapping_view(struct shm_view *out, void *base, size_t bytes,
                                  uint64_t incarnation_id);

/* Unmaps the index and keeps the counters. */
void mapping_close_index(struct mapping *mapping);

/* Rule SAME_CLOCK: returns whether our readings before and after the exchange bracket the daemon's.
 * If not, a time namespace shifts CLOCK_MONOTONIC between us, and its deadlines mean nothing
 * here. */
bool hello_clock_bracketed(uint64_t before_ns, uint64_t daemon_ns, uint64_t after_ns);

/* Rule SAME_CLOCK for a hello that was read late, when the bracket proves little: returns whether
 * the lease ends at most L from now. now_ns: read after the deadline. */
bool lease_deadline_plausible(uint64_t deadline_ns, uint64_t lease_ns, uint64_t now_ns);

#endif
