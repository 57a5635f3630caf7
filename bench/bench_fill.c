/* SPDX-License-Identifier: Apache-2.0 */
/* Fills from several front ends at once, as fast as the daemon takes them: how many a second are
 * in the index. */
#include "figures.h"
#include "world.h"

#include <errno.h>
#include <etag/etag.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define FRONT_ENDS_MAX 16u

static void front_end(const char *socket_path, uint64_t first, uint64_t end, bool shared)
{
    etag_client *client = world_client(socket_path);

    world_fill(client, first, end, shared);
    etag_client_close(client);
}

int main(int argc, char **argv)
{
    const char *etagd = NULL;
    uint64_t entries = 0, front_ends = 2;
    bool shared = false;
    const struct bench_option options[] = {{"etagd", .text = &etagd},
                                           {"entries", .count = &entries},
                                           {"front-ends", .count = &front_ends},
                                           {"shared", .flag = &shared},
                                           {0}};
    static const char usage[] = "bench_fill --etagd SOCKET --entries N [--front-ends N] [--shared]";

    bench_options(argc, argv, options, usage);
    if (!etagd || entries == 0 || front_ends > FRONT_ENDS_MAX)
        bench_die("usage", usage);
    const uint64_t start = now_ns();
    for (uint64_t i = 0; i < front_ends; i++) {
        const pid_t pid = fork();
        if (pid < 0)
            bench_die("fork", strerror(errno));
        if (pid == 0) {
            front_end(etagd, entries * i / front_ends, entries * (i + 1) / front_ends, shared);
            exit(0);
        }
    }
    int status, failed = 0;
    while (wait(&status) > 0)
        failed |= status;
    if (failed)
        return 1;
    value_print("fill", "taken into the index", (double)entries * 1e9 / (double)(now_ns() - start),
                "/s", 0);
    return 0;
}
