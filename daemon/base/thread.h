/* SPDX-License-Identifier: Apache-2.0 */
/* What the daemon's threads besides the loop's have in common. */
#ifndef ETAGD_THREAD_H
#define ETAGD_THREAD_H

#include "cleanup.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

/* Starts a thread that takes no signals: those are the loop thread's. name: at most 15 bytes. 0 or
 * a negative errno. */
MUST_USE int thread_start(pthread_t *out, const char *name, void *(*run)(void *), void *argument);

/* A lock and what wakes who waits for it. Deadlines are of the monotonic clock, so that setting the
 * wall clock neither hurries nor stalls. */
void thread_locks_init(pthread_mutex_t *lock, pthread_cond_t *wake);
void thread_locks_deinit(pthread_mutex_t *lock, pthread_cond_t *wake);

/* With the lock held. until_ns: CLOCK_MONOTONIC; UINT64_MAX: however long it takes. False: it is
 * that late. True: woken, for whatever reason. */
bool thread_wait_until(pthread_mutex_t *lock, pthread_cond_t *wake, uint64_t until_ns);

#endif
