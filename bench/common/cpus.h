/* SPDX-License-Identifier: Apache-2.0 */
/* Which CPU a benchmark and the servers that it asks run on. */
#ifndef ETAG_BENCH_CPUS_H
#define ETAG_BENCH_CPUS_H

#include <sys/types.h>

/* The first two CPUs that we may use; returns how many of them there are. */
int cpus_find(int cpus[2]);

/* A thread; 0: the calling one. */
void cpus_pin_thread(pid_t tid, int cpu);

/* All threads of a process. */
void cpus_pin_process(pid_t pid, int cpu);

/* The process at the other end of a connected Unix socket. */
pid_t cpus_server_of(int fd);

#endif
