/* SPDX-License-Identifier: Apache-2.0 */
/* Part of the store's check: the pages of a database, as LMDB lays them out. */
#ifndef ETAGD_STORE_PAGES_H
#define ETAGD_STORE_PAGES_H

#include "cleanup.h"

#include <stdbool.h>
#include <stdint.h>

struct store_pages {
    const uint8_t *bytes; /* the file */
    size_t page_bytes;
    size_t page_count;                  /* up to LMDB's last one */
    uint8_t *free_pages;                /* a bit a page: the free list has it */
    size_t branches, leaves, overflows; /* found by store_pages_verify() */
};

/* False: it was free already, or there is no such page. */
MUST_USE bool store_pages_free(struct store_pages *pages, size_t page);
/* Also where there is no such page. */
bool store_pages_is_free(const struct store_pages *pages, size_t page);

/* The database's own number of the page in which a byte of a record stands. */
size_t store_pages_of(const struct store_pages *pages, const void *byte);

/* Every page that is not free is well-formed: 0 or STORE_E_DAMAGED. */
MUST_USE int store_pages_verify(struct store_pages *pages);

#endif
