/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The page with a client's counters. The daemon makes it, seals its size (so that no client can
 * truncate it while the daemon reads), sends the descriptor with the hello, and maps it read-only.
 * Loop thread only.
 */
#ifndef ETAGD_CLIENT_PAGE_H
#define ETAGD_CLIENT_PAGE_H

#include "cleanup.h"
#include "counters.h"

struct client_page {
    /* NULL: none */
    const struct counters *counters;
};

/* Makes and maps a page. *fd: the caller sends and closes it. Returns 0 or a negative errno. */
MUST_USE int client_page_open(struct client_page *page, int *fd);
void client_page_close(struct client_page *page);

/* Adds the client's counts so far to the sum. */
void client_page_add(const struct client_page *page, struct counters *sum);

#endif
