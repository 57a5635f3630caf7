/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A client's counters, on a page of its own. The daemon makes the page, seals its size (so that no
 * client can truncate it while the daemon reads), and maps it read-only. Only the client's thread
 * writes, with plain stores, not atomic read-modify-writes.
 */
#ifndef ETAG_PROTO_COUNTERS_H
#define ETAG_PROTO_COUNTERS_H

#include <stdint.h>

/* X(name, what it counts). Add new ones at the end, since client and daemon may differ in
 * version. */
#define CLIENT_COUNTERS(X)                                                                         \
    X(checks, "lookups")                                                                           \
    X(not_modified, "lookups answered 304")                                                        \
    X(precondition_failed, "lookups answered 412")                                                 \
    X(proceed, "known entries whose conditions let the method run")                                \
    X(unknown_no_index, "unknown: no shared memory yet")                                           \
    X(unknown_no_lease, "unknown: no lease")                                                       \
    X(unknown_no_entry, "unknown: no entry")                                                       \
    X(unknown_stale, "unknown: stale")                                                             \
    X(unknown_in_flux, "unknown: in flux")                                                         \
    X(unknown_expired, "unknown: expired")                                                         \
    X(unknown_torn, "unknown: torn read")                                                          \
    X(unknown_bad_key, "unknown: bad key")                                                         \
    X(fills_sent, "fills sent")                                                                    \
    X(fills_dropped, "fills dropped: no daemon or a full socket")                                  \
    X(fills_refused, "fills that libetag refused to send")                                         \
    X(invalidations, "invalidations answered")                                                     \
    X(connects, "connections made")                                                                \
    X(mutations_spooled, "mutations written into the spool")                                       \
    X(mutations_pending, "mutations recorded whose effect was not proven in time")                 \
    X(guards_begun, "guards begun")                                                                \
    X(guards_confirmed, "guards confirmed")                                                        \
    X(precondition_required, "lookups answered 428")                                               \
    X(shadow_not_modified, "shadow mode: lookups that would have been answered 304")               \
    X(shadow_precondition_failed, "shadow mode: lookups that would have been answered 412")        \
    X(shadow_proceed, "shadow mode: known entries whose conditions would let the method run")      \
    X(shadow_matches, "shadow mode: renders with the ETag of the entry that was current")          \
    X(shadow_mismatches, "shadow mode: renders with another one, and nothing was invalidated")     \
    X(shadow_undecided, "shadow mode: ... and something was")                                      \
    X(retires_sent, "entries asked to be removed: what was answered later cannot be stored")       \
    X(fills_held_back, "fills held back: other fields again within a second")                      \
    X(fills_grouped, "fills of too many surrogate keys, which depend on groups of them")

#define COUNTERS_MAGIC UINT64_C(0x31544e4347415445) /* "ETAGCNT1" */

struct counters {
    uint64_t magic;
#define COUNTER_FIELD(name, text) uint64_t name;
    CLIENT_COUNTERS(COUNTER_FIELD)
#undef COUNTER_FIELD
};

#define COUNTERS_BYTES 4096u
_Static_assert(sizeof(struct counters) <= COUNTERS_BYTES, "one page");

static inline void counter_add(uint64_t *counter, uint64_t n)
{
    __atomic_store_n(counter, __atomic_load_n(counter, __ATOMIC_RELAXED) + n, __ATOMIC_RELAXED);
}

static inline uint64_t counter_get(const uint64_t *counter)
{
    return __atomic_load_n(counter, __ATOMIC_RELAXED);
}

#endif
