/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A front end in shadow mode that serves one page: "shadow SOCKET //HOST/PATH". For each line on
 * standard input, an ETag, it serves a conditional request for "v1" whose page has that ETag by
 * now, and prints what the check said and what the answer is:
 *   {"reason": "shadow", "status": 304}
 */
#include "conditional.h"

#include <stdio.h>
#include <string.h>

int main(int argc, char **argv)
{
    etag_client_options options;
    etag_client *client;
    struct conditional ask;
    char line[128];

    if (argc < 3)
        return 2;
    const char *path = strchr(argv[2] + 2, '/');
    ETAG_INIT(&options);
    options.socket_path = argv[1];
    options.shadow = true;
    options.connect_timeout_ms = 10000;
    if (!path || etag_client_open(&client, &options) != ETAG_OK)
        return 1;
    conditional_init(
        &ask, (etag_resource){{argv[2] + 2, (size_t)(path - argv[2] - 2)}, etag_str_of(path)});
    while (fgets(line, sizeof(line), stdin)) {
        etag_answer answer;
        etag_entry page;

        line[strcspn(line, "\n")] = '\0';
        ETAG_INIT(&answer);
        if (etag_precheck(client, &ask.request, etag_token_now(client), &answer) != 0)
            return 1;
        printf("{\"reason\": \"%s\"", etag_reason_word(answer.reason));
        etag_entry_init(&page);
        page.etag = etag_str_of(line);
        const int instead = etag_finish(client, &ask.request, &page, &answer);
        printf(", \"status\": %d}\n", instead ? instead : page.http_status);
        fflush(stdout);
        (void)etag_client_dispatch(client);
    }
    etag_client_close(client);
    return 0;
}
