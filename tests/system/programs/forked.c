/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A client that is opened before fork(), as by a pre-forking server. The child looks up in the
 * memory that it inherited and fills by a connection of its own; the parent's connection goes on
 * undisturbed.
 */
#include "conditional.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

struct told {
    char child_checks[32], child_fills[64];
};

static const char *check(etag_client *client, const char *target)
{
    struct conditional ask;
    etag_answer answer;

    conditional_init(&ask, (etag_resource){.target = etag_str_of(target)});
    ETAG_INIT(&answer);
    return etag_verdict_word(etag_check(client, &ask.request, etag_token_now(client), &answer));
}

static const char *fill(etag_client *client, const char *target)
{
    struct conditional page;
    etag_entry entry;

    conditional_init(&page, (etag_resource){.target = etag_str_of(target)});
    etag_entry_init(&entry);
    entry.key = &page.key;
    entry.etag = ETAG_LIT("\"v1\"");
    return etag_status_text(etag_fill_wait(client, etag_token_now(client), &entry, NULL));
}

int main(int argc, char **argv)
{
    etag_client_options options;
    etag_client *client;
    etag_targets targets;
    const etag_str other = ETAG_LIT("other");
    int status;

    if (argc != 2)
        return 2;
    struct told *told = mmap(NULL, sizeof(*told), PROT_READ | PROT_WRITE,
                             MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ETAG_INIT(&options);
    options.socket_path = argv[1];
    /* Without an index there is no token. */
    options.timeout_ms = options.connect_timeout_ms = 60000;
    if (told == MAP_FAILED || etag_client_open(&client, &options) != ETAG_OK)
        return 2;
    const char *filled = fill(client, "/forked");
    if (strcmp(filled, "done") != 0) {
        fprintf(stderr, "the first fill: %s, %s\n", filled,
                etag_reason_word(etag_fill_reason(client)));
        return 1;
    }
    const int fd = etag_client_fd(client);

    if (fork() == 0) {
        snprintf(told->child_checks, sizeof(told->child_checks), "%s", check(client, "/forked"));
        snprintf(told->child_fills, sizeof(told->child_fills), "%s", fill(client, "/by-the-child"));
        etag_client_close(client);
        _exit(0);
    }
    if (wait(&status) < 0 || status != 0) {
        fprintf(stderr, "the child ended with status %d\n", status);
        return 1;
    }
    const char *parent_checks = check(client, "/by-the-child");
    ETAG_INIT(&targets);
    targets.surrogates = &other;
    targets.surrogate_count = 1;
    const char *parent_invalidates = etag_status_text(etag_invalidate(client, &targets, NULL));
    printf("{\"child_checks\": \"%s\", \"child_fills\": \"%s\", \"parent_checks\": \"%s\", "
           "\"parent_invalidates\": \"%s\", \"parent_connects_once\": %s}\n",
           told->child_checks, told->child_fills, parent_checks, parent_invalidates,
           etag_client_fd(client) == fd ? "true" : "false");
    etag_client_close(client);
    return 0;
}
