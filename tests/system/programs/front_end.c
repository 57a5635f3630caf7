/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A front end that asks for one key all the time and prints each change of its answer:
 *   {"verdict": "not_modified", "reason": "match", "ns": 123, "former_ns": 100}
 * ns: CLOCK_MONOTONIC; former_ns: when the last lookup with the answer before this one began. With
 * --dispatch it also serves its connection, so that it finds a daemon that was restarted. Ends when
 * its standard input ends.
 */
#include "conditional.h"

#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static uint64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static bool input_ended(int wait_ms)
{
    struct pollfd p = {.fd = STDIN_FILENO, .events = POLLIN};
    char byte;

    return poll(&p, 1, wait_ms) > 0 && read(STDIN_FILENO, &byte, 1) == 0;
}

int main(int argc, char **argv)
{
    etag_client_options options;
    etag_client *client;
    struct conditional ask;
    etag_answer answer;
    int last_reason = -1;
    uint64_t former_ns = 0;

    if (argc < 3)
        return 2;
    const bool dispatch = argc > 3 && strcmp(argv[3], "--dispatch") == 0;
    const char *path = strchr(argv[2] + 2, '/');
    ETAG_INIT(&options);
    options.socket_path = argv[1];
    if (etag_client_open(&client, &options) != ETAG_OK)
        return 1;
    conditional_init(
        &ask, (etag_resource){{argv[2] + 2, (size_t)(path - argv[2] - 2)}, etag_str_of(path)});
    ETAG_INIT(&answer);
    do {
        const uint64_t began_ns = now_ns();
        const etag_verdict verdict = etag_check(client, &ask.request, etag_token_now(client),
                                                &answer);
        if ((int)answer.reason != last_reason) {
            printf("{\"verdict\": \"%s\", \"reason\": \"%s\", \"ns\": %" PRIu64
                   ", \"former_ns\": %" PRIu64 "}\n",
                   etag_verdict_word(verdict), etag_reason_word(answer.reason), now_ns(),
                   former_ns);
            fflush(stdout);
            last_reason = (int)answer.reason;
        }
        former_ns = began_ns;
        if (dispatch)
            (void)etag_client_dispatch(client);
    } while (!input_ended(1));
    etag_client_close(client);
    return 0;
}
