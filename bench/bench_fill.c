/* SPDX-License-Identifier: Apache-2.0 */
/* Fills from several front ends at once, as fast as the daemon takes them: how many a second stand
 * in the index. */
#include "figures.h"
#include "world.h"

#include <errno.h>
#include <etag/etag.h>
#include <getopt.h>
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
    static const struct option names[] = {{"etagd", required_argument, NULL, 'e'},
                                          {"entries", required_argument, NULL, 'n'},
                                          {"front-ends", required_argument, NULL, 'f'},
                                          {"shared", no_argument, NULL, 's'},
                                          {0}};
    const char *etagd = NULL;
    uint64_t entries = 0, front_ends = 2;
    bool shared = false;

    for (int c; (c = getopt_long(argc, argv, "", names, NULL)) != -1;) {
        if (c == 'e')
            etagd = optarg;
        else if (c == 'n')
            entries = count_of(optarg);
        else if (c == 'f')
            front_ends = count_of(optarg);
        else if (c == 's')
            shared = true;
        else
            return 2;
    }
    if (!etagd || entries == 0 || front_ends > FRONT_ENDS_MAX || optind < argc)
        bench_die("usage", "bench_fill --etagd SOCKET --entries N [--front-ends N] [--shared]");
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
