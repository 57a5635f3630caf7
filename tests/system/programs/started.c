/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Many invalidations that are started before any of them is waited for, of a surrogate key each:
 *
 *   started SOCKET COUNT
 *
 * Says "started" on standard output, waits for a line on standard input, then for the answers. Says
 * how many were done, and how many of these had a later LSN than the one before. Exit 0: all were
 * done.
 */
#include <etag/etag.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>

#define COUNT_MAX 1024

static etag_status start(etag_client *client, unsigned long i, etag_op **op)
{
    char text[32];
    etag_targets targets;

    snprintf(text, sizeof(text), "started:%lu", i);
    const etag_str name = etag_str_of(text);
    ETAG_INIT(&targets);
    targets.surrogates = &name;
    targets.surrogate_count = 1;
    return etag_invalidate_start(client, &targets, op);
}

static etag_status finish(etag_client *client, etag_op *op, uint64_t *lsn)
{
    etag_receipt receipt;
    etag_status status;

    ETAG_INIT(&receipt);
    while ((status = etag_op_result(op, &receipt)) == ETAG_AGAIN) {
        struct pollfd p = {.fd = etag_client_fd(client), .events = etag_client_events(client)};
        (void)poll(&p, 1, etag_client_timeout_ms(client));
        (void)etag_client_dispatch(client);
    }
    *lsn = receipt.lsn;
    return status;
}

int main(int argc, char **argv)
{
    etag_client_options options;
    etag_client *client;
    etag_op *ops[COUNT_MAX];
    char line[16];
    unsigned long done = 0, later = 0;
    uint64_t before = 0;

    const unsigned long count = argc == 3 ? strtoul(argv[2], NULL, 10) : 0;
    if (count == 0 || count > COUNT_MAX)
        return 2;
    ETAG_INIT(&options);
    options.socket_path = argv[1];
    options.timeout_ms = 60000;
    if (etag_client_open(&client, &options) != ETAG_OK)
        return 1;
    for (unsigned long i = 0; i < count; i++) {
        if (start(client, i, &ops[i]) != ETAG_OK) {
            fprintf(stderr, "started: %lu: %s\n", i, etag_client_error(client));
            return 1;
        }
    }
    puts("started");
    fflush(stdout);
    if (!fgets(line, sizeof(line), stdin))
        return 1;
    for (unsigned long i = 0; i < count; i++) {
        uint64_t lsn = 0;
        const etag_status status = finish(client, ops[i], &lsn);
        if (status != ETAG_OK) {
            fprintf(stderr, "started: %lu: %s: %s\n", i, etag_status_text(status),
                    etag_client_error(client));
            continue;
        }
        done++;
        later += lsn > before;
        before = lsn;
    }
    printf("%lu done, %lu later\n", done, later);
    etag_client_close(client);
    return done == count ? 0 : 1;
}
