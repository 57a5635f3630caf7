/* SPDX-License-Identifier: Apache-2.0 */
/* Part of the store's check: the pages of a database, as LMDB lays them out. */
#ifndef ETAGD_STORE_PAGES_H
#define ETAGD_STORE_PAGES_H

#include "cleanup.h"

#include <stdbool.h>
#include <stdint.h>

#define META_PAGES 2 /* the first of the file */

struct store_pages {
    /* the file */
    const uint8_t *bytes;
    size_t page_bytes;
    /* pages up to LMDB's last one */
    size_t page_count;
    /* a bit for each page: the free list has it */
    uint8_t *free_pages;
    /* a bit for each page: a table has it */
    uint8_t *seen_pages;
    /* counted by store_pages_verify() */
    size_t branches, leaves, overflows;
    /* records that describe a table, counted likewise */
    size_t tables;
};

/* What LMDB's record of a table says. */
struct store_tree {
    size_t root;
    /* 0: an empty table, which has no root */
    unsigned depth;
    /* its keys are u64 of this machine; else bytes */
    bool numbers;
    size_t branches, leaves, overflows, entries;
};
#define STORE_TREE_BYTES 48 /* of such a record */
struct store_tree store_tree_of(const void *record);

/* Allocates the bits. Returns 0 or -ENOMEM. */
MUST_USE int store_pages_init(struct store_pages *pages);
void store_pages_deinit(struct store_pages *pages);

/* Marks a page as free. Returns false if it is marked already, or there is no such page. */
MUST_USE bool store_pages_free(struct store_pages *pages, size_t page);
/* Returns true also if there is no such page. */
bool store_pages_is_free(const struct store_pages *pages, size_t page);

/* Returns the number of the page that has this byte of a record. */
size_t store_pages_of(const struct store_pages *pages, const void *byte);

/* Checks that every page that is not free is well-formed. Returns 0 or STORE_E_DAMAGED. */
MUST_USE int store_pages_verify(struct store_pages *pages);

/* Checks a table from its root on: it is a tree of as many levels, pages and entries as its record
 * says, it shares no page with another table, and its keys ascend. So every walk of it ends, and
 * every search finds what it has. After store_pages_verify(). Returns 0 or STORE_E_DAMAGED. */
MUST_USE int store_pages_tree(struct store_pages *pages, const struct store_tree *tree);

#endif
