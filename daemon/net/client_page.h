/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The page on which a client keeps its counters. The daemon makes it (so nobody can truncate it
 * under the daemon), seals its size, sends the descriptor with the hello, and maps it read-only.
 */
#ifndef ETAGD_CLIENT_PAGE_H
#define ETAGD_CLIENT_PAGE_H

#include "cleanup.h"
#include "counters.h"

struct client_page {
    /* NULL: none */
    const struct counters *counters;
};

/* *fd: the caller's, to be sent and closed. 0 or negative errno. */
MUST_USE int client_page_open(struct client_page *page, int *fd);
void client_page_close(struct client_page *page);

/* Adds what the client counted so far. */
void client_page_add(const struct client_page *page, struct counters *sum);

#endif
