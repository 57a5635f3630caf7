/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The memory that a daemon handed over: the index, read-only, and this client's page of counters.
 * Validated before anything in it is trusted; a mapping is replaced as a whole, and only by a valid
 * one.
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
    /* that the index must be of */
    uint64_t incarnation_id;
};

/* out: not initialized. Errors: PROTOCOL (the memory is not what it must be), SYSTEM; out is empty
 * then. */
MUST_USE etag_status mapping_open(struct mapping *out, const struct mapping_source *source,
                                  struct fault *fault);
void mapping_close(struct mapping *mapping);

/* What mapping_open demands of the memory itself: NULL and *out, or what is wrong as a sentence.
 * Looks at the header only, and at that once. base: aligned to a cache line, with 'bytes' readable
 * bytes. */
MUST_USE const char *mapping_view(struct shm_view *out, void *base, size_t bytes,
                                  uint64_t incarnation_id);

/* Only the index: the counters stay. */
void mapping_close_index(struct mapping *mapping);

/* Rule SAME_CLOCK: the daemon's clock is ours only if our readings around the exchange bracket its
 * reading; a time namespace may shift CLOCK_MONOTONIC. */
bool hello_clock_bracketed(uint64_t before_ns, uint64_t daemon_ns, uint64_t after_ns);

/* Rule SAME_CLOCK again, for a hello that was read late, when the bracket proves little: no lease
 * ends later than L from now. now_ns: read after the deadline. */
bool lease_deadline_plausible(uint64_t deadline_ns, uint64_t lease_ns, uint64_t now_ns);

#endif
