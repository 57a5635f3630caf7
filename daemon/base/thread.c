/* SPDX-License-Identifier: Apache-2.0 */
/* Signals are blocked before the thread is created, so that it never runs with one unblocked. */
#include "thread.h"

#include "clocktime.h"

#include <errno.h>
#include <signal.h>

int thread_start(pthread_t *out, const char *name, void *(*run)(void *), void *argument)
{
    sigset_t all;
    sigset_t former;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &former);
    const int r = pthread_create(out, NULL, run, argument);
    pthread_sigmask(SIG_SETMASK, &former, NULL);
    if (!r)
        (void)pthread_setname_np(*out, name);
    return -r;
}

void thread_locks_init(pthread_mutex_t *lock, pthread_cond_t *wake)
{
    pthread_condattr_t attributes;

    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(wake, &attributes);
    pthread_condattr_destroy(&attributes);
    pthread_mutex_init(lock, NULL);
}

void thread_locks_deinit(pthread_mutex_t *lock, pthread_cond_t *wake)
{
    pthread_cond_destroy(wake);
    pthread_mutex_destroy(lock);
}

bool thread_wait_until(pthread_mutex_t *lock, pthread_cond_t *wake, uint64_t until_ns)
{
    if (until_ns == UINT64_MAX) {
        pthread_cond_wait(wake, lock);
        return true;
    }
    const struct timespec until = {.tv_sec = (time_t)(until_ns / NS_PER_S),
                                   .tv_nsec = (long)(until_ns % NS_PER_S)};
    return pthread_cond_timedwait(wake, lock, &until) != ETIMEDOUT;
}
