/* SPDX-License-Identifier: Apache-2.0 */
/* What every thread of the daemon but the loop thread needs: a start, a mutex with its condition
 * variable, a timed wait. */
#ifndef ETAGD_THREAD_H
#define ETAGD_THREAD_H

#include "cleanup.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

/* Starts a thread with all signals blocked: only the loop thread handles signals. name: at most 15
 * bytes. Returns 0 or a negative errno. */
MUST_USE int thread_start(pthread_t *out, const char *name, void *(*run)(void *), void *argument);

/* A mutex and its condition variable. Deadlines are CLOCK_MONOTONIC, so that setting the wall clock
 * neither shortens nor prolongs a wait. */
void thread_locks_init(pthread_mutex_t *lock, pthread_cond_t *wake);
void thread_locks_deinit(pthread_mutex_t *lock, pthread_cond_t *wake);

/* Waits for a wake-up; the caller holds the lock. until_ns: CLOCK_MONOTONIC; UINT64_MAX: no
 * timeout. Returns false on timeout, true when woken, which may be spurious. */
bool thread_wait_until(pthread_mutex_t *lock, pthread_cond_t *wake, uint64_t until_ns);

#endif
