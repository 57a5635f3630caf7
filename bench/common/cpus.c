/* SPDX-License-Identifier: Apache-2.0 */
#include "cpus.h"

#include "figures.h"

#include <dirent.h>
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

int cpus_find(int cpus[2])
{
    cpu_set_t set;
    int count = 0;

    if (sched_getaffinity(0, sizeof(set), &set) < 0)
        bench_die("sched_getaffinity", strerror(errno));
    for (int cpu = 0; cpu < CPU_SETSIZE && count < 2; cpu++)
        if (CPU_ISSET(cpu, &set))
            cpus[count++] = cpu;
    return count;
}

void cpus_pin_thread(pid_t tid, int cpu)
{
    cpu_set_t set;

    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    /* A thread that ended meanwhile needs no CPU. */
    if (sched_setaffinity(tid, sizeof(set), &set) < 0 && errno != ESRCH)
        bench_die("sched_setaffinity", strerror(errno));
}

void cpus_pin_process(pid_t pid, int cpu)
{
    char path[64];
    const struct dirent *entry;

    snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
    DIR *threads = opendir(path);
    if (!threads)
        bench_die(path, strerror(errno));
    while ((entry = readdir(threads)))
        if (entry->d_name[0] != '.')
            cpus_pin_thread((pid_t)strtol(entry->d_name, NULL, 10), cpu);
    closedir(threads);
}

pid_t cpus_server_of(int fd)
{
    struct ucred peer;
    socklen_t len = sizeof(peer);

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0)
        bench_die("SO_PEERCRED", strerror(errno));
    return peer.pid;
}
