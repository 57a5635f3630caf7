/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Time. Leases, waits and expiry in the index use CLOCK_MONOTONIC_COARSE in the daemon and in
 * libetag (docs/design.md): one clock for all, read without a system call. It lags
 * CLOCK_MONOTONIC by up to 10 ms.
 */
#ifndef ETAG_PROTO_CLOCKTIME_H
#define ETAG_PROTO_CLOCKTIME_H

#include <stdint.h>
#include <time.h>

#define NS_PER_US UINT64_C(1000)
#define NS_PER_MS UINT64_C(1000000)
#define NS_PER_S UINT64_C(1000000000)

static inline uint64_t time_ns_of(clockid_t clock)
{
    struct timespec t;

    clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

static inline uint64_t time_coarse_ns(void)
{
    return time_ns_of(CLOCK_MONOTONIC_COARSE);
}

/* The same, but read after other processes can see everything that this thread wrote before, files
 * included. The clock is a load from memory: without the fence a processor may do it while the
 * writes are still in its store buffer. (Later loads can't move before the clock's: the vDSO reads
 * it between two barriers of its own, on every processor.) */
static inline uint64_t time_coarse_after_writes_ns(void)
{
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    return time_coarse_ns();
}

static inline uint64_t time_wall_ms(void)
{
    return time_ns_of(CLOCK_REALTIME) / NS_PER_MS;
}

/* Sleeps for that time, or until a signal. */
static inline void time_sleep_ms(uint64_t ms)
{
    const struct timespec t = {(time_t)(ms / 1000), (long)(ms % 1000 * NS_PER_MS)};

    (void)clock_nanosleep(CLOCK_MONOTONIC, 0, &t, NULL);
}

#endif
