/* SPDX-License-Identifier: Apache-2.0 */
/* Many invalidations of one surrogate key, pipelined:  many_events SOCKET SURROGATE COUNT   Exit 0:
 * all were answered OK. */
#include <etag/etag.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>

#define OPEN_MAX 512

static etag_status start(etag_client *client, const char *name, etag_op **op)
{
    const etag_str surrogate = etag_str_of(name);
    etag_targets targets;

    ETAG_INIT(&targets);
    targets.surrogates = &surrogate;
    targets.surrogate_count = 1;
    return etag_invalidate_start(client, &targets, op);
}

/* Waits for the operation's answer. */
static etag_status finish(etag_client *client, etag_op *op)
{
    etag_status status;

    while ((status = etag_op_result(op, NULL)) == ETAG_AGAIN) {
        struct pollfd p = {.fd = etag_client_fd(client), .events = etag_client_events(client)};
        (void)poll(&p, 1, etag_client_timeout_ms(client));
        (void)etag_client_dispatch(client);
    }
    return status;
}

int main(int argc, char **argv)
{
    etag_client_options options;
    etag_client *client;
    etag_op *open[OPEN_MAX] = {0};

    if (argc != 4)
        return 2;
    const unsigned long count = strtoul(argv[3], NULL, 10);
    ETAG_INIT(&options);
    options.socket_path = argv[1];
    options.timeout_ms = 60000;
    if (etag_client_open(&client, &options) != ETAG_OK)
        return 1;
    for (unsigned long i = 0; i < count + OPEN_MAX; i++) {
        etag_op **place = &open[i % OPEN_MAX];
        etag_status status = *place ? finish(client, *place) : ETAG_OK;
        *place = NULL;
        if (status == ETAG_OK && i < count)
            status = start(client, argv[2], place);
        if (status != ETAG_OK) {
            fprintf(stderr, "many_events: %lu: %s\n", i, etag_client_error(client));
            return 1;
        }
    }
    etag_client_close(client);
    return 0;
}
