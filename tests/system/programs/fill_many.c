/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fills many entries, for tests of lists: "/many/00000", "/many/00001", ... in the public scope,
 * each with its number as its ETag. Waits for the daemon's verdict on each; exit 1 if one was not
 * stored. With "burst" it waits for the last one only, and with "long", too, which makes the ETags
 * 66 bytes long.
 */
#include <errno.h>
#include <etag/etag.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static etag_status fill(etag_client *client, long number, int digits, bool wait)
{
    char path[40], tag[80];
    etag_key key;
    etag_entry entry;

    snprintf(path, sizeof(path), "/many/%05ld", number);
    snprintf(tag, sizeof(tag), "\"%0*ld\"", digits, number);
    ETAG_INIT(&key);
    key.resource.target = etag_str_of(path);
    key.scope.kind = ETAG_SCOPE_PUBLIC;
    etag_entry_init(&entry);
    entry.key = &key;
    entry.etag = etag_str_of(tag);
    if (wait)
        return etag_fill_wait(client, etag_token_now(client), &entry, NULL);
    etag_status status;
    while ((status = etag_fill(client, etag_token_now(client), &entry)) == ETAG_AGAIN) {
        struct pollfd socket = {.fd = etag_client_fd(client), .events = POLLIN | POLLOUT};
        if (poll(&socket, 1, -1) < 0 && errno != EINTR)
            return ETAG_UNAVAILABLE;
        (void)etag_client_dispatch(client);
    }
    return status;
}

int main(int argc, char **argv)
{
    etag_client_options options;
    etag_client *client = NULL;
    etag_status status;

    if (argc != 3 && argc != 4)
        return 2;
    const bool burst = argc == 4;
    const int digits = burst && strcmp(argv[3], "long") == 0 ? 64 : 1;
    const long count = strtol(argv[2], NULL, 10);
    ETAG_INIT(&options);
    options.socket_path = argv[1];
    options.timeout_ms = 20000;
    status = etag_client_open(&client, &options);
    for (long i = 0; status == ETAG_OK && i < count; i++)
        status = fill(client, i, digits, !burst || i == count - 1);
    if (status != ETAG_OK)
        fprintf(stderr, "%s\n", client ? etag_client_error(client) : etag_status_text(status));
    etag_client_close(client);
    return status == ETAG_OK ? 0 : 1;
}
