/* SPDX-License-Identifier: Apache-2.0 */
/*
 * LMDB believes its pages. One whose words about itself are wrong may be read well for a long time, and writes across its end
 * when a record is added. So the check looks at the layout too (LMDB 0.9, 64 bits):
 *
 *   page    0 u64 its number, 8 u16, 10 u16 flags, 12 u16 lower, 14 u16 upper (a run of overflow pages: 12 u32 pages),
 *           16 u16 places of nodes, one after another up to lower; the nodes fill everything from upper to the end
 *   node    0 u32 length of the data (branch: low bits of the child's number), 4 u16 flags (branch: its high bits),
 *           6 u16 length of the key, 8 key, data (or the u64 number of the overflow page where it begins)
 */
#include "store_pages.h"

#include "bytes.h"
#include "store.h"

#define PAGE_HEAD_BYTES 16
#define NODE_HEAD_BYTES 8
#define META_PAGES 2
#define PAGE_BRANCH 0x01
#define PAGE_LEAF 0x02
#define PAGE_OVERFLOW 0x04
#define NODE_OVERFLOW 0x01 /* its data stands on pages of its own */

bool store_pages_is_free(const struct store_pages *pages, size_t page)
{
    return page >= pages->page_count || (pages->free_pages[page / 8] >> page % 8 & 1);
}

bool store_pages_free(struct store_pages *pages, size_t page)
{
    if (page < META_PAGES || page >= pages->page_count || store_pages_is_free(pages, page))
        return false;
    pages->free_pages[page / 8] |= (uint8_t)(1u << page % 8);
    return true;
}

size_t store_pages_of(const struct store_pages *pages, const void *byte)
{
    const uintptr_t start = (uintptr_t)byte / pages->page_bytes * pages->page_bytes;
    return load_u64((const void *)start);
}

static const uint8_t *page_at(const struct store_pages *pages, size_t page)
{
    return pages->bytes + page * pages->page_bytes;
}

static unsigned flags_of(const struct store_pages *pages, size_t page)
{
    return load_u16(page_at(pages, page) + 10);
}

static bool is_used(const struct store_pages *pages, size_t page, unsigned kinds)
{
    return page >= META_PAGES && page < pages->page_count && !store_pages_is_free(pages, page) &&
           (flags_of(pages, page) & kinds);
}

static size_t run_for(const struct store_pages *pages, size_t data_bytes)
{
    return (PAGE_HEAD_BYTES + data_bytes + pages->page_bytes - 1) / pages->page_bytes;
}

/* The bytes that a node takes on its page; 0: it refers to what is not there. */
static size_t node_bytes(const struct store_pages *pages, const uint8_t *node, bool branch)
{
    const size_t key_bytes = load_u16(node + 6);
    const size_t data_bytes = load_u32(node);
    if (branch) {
        const size_t child = data_bytes | (size_t)load_u16(node + 4) << 32;
        return is_used(pages, child, PAGE_BRANCH | PAGE_LEAF) ? NODE_HEAD_BYTES + key_bytes : 0;
    }
    if (!(load_u16(node + 4) & NODE_OVERFLOW))
        return NODE_HEAD_BYTES + key_bytes + data_bytes;
    if (key_bytes > pages->page_bytes / 2)
        return 0;
    const size_t run = load_u64(node + NODE_HEAD_BYTES + key_bytes);
    if (!is_used(pages, run, PAGE_OVERFLOW) ||
        load_u32(page_at(pages, run) + 12) != run_for(pages, data_bytes))
        return 0;
    return NODE_HEAD_BYTES + key_bytes + sizeof(uint64_t);
}

/* The nodes take exactly the space that they are said to take. */
static int verify_nodes(const struct store_pages *pages, const uint8_t *page, bool branch)
{
    const size_t lower = load_u16(page + 12);
    const size_t upper = load_u16(page + 14);
    size_t taken = 0;
    if (lower < PAGE_HEAD_BYTES || lower % 2 || upper < lower || upper > pages->page_bytes)
        return STORE_E_DAMAGED;
    for (size_t at = PAGE_HEAD_BYTES; at < lower; at += 2) {
        const size_t place = load_u16(page + at);
        if (place < upper || place % 2 || place + NODE_HEAD_BYTES > pages->page_bytes)
            return STORE_E_DAMAGED;
        const size_t bytes = node_bytes(pages, page + place, branch);
        if (bytes == 0 || place + bytes > pages->page_bytes)
            return STORE_E_DAMAGED;
        taken += (bytes + 1) / 2 * 2;
    }
    return taken == pages->page_bytes - upper ? 0 : STORE_E_DAMAGED;
}

static int verify_run(struct store_pages *pages, size_t first)
{
    const size_t count = load_u32(page_at(pages, first) + 12);
    if (count == 0 || count > pages->page_count - first)
        return STORE_E_DAMAGED;
    for (size_t i = 1; i < count; i++)
        if (store_pages_is_free(pages, first + i))
            return STORE_E_DAMAGED;
    pages->overflows += count;
    return 0;
}

int store_pages_verify(struct store_pages *pages)
{
    for (size_t at = META_PAGES; at < pages->page_count; at++) {
        int error = 0;
        if (store_pages_is_free(pages, at))
            continue;
        const uint8_t *page = page_at(pages, at);
        if (load_u64(page) != at)
            return STORE_E_DAMAGED;
        switch (flags_of(pages, at)) {
        case PAGE_BRANCH:
            pages->branches++;
            error = verify_nodes(pages, page, true);
            break;
        case PAGE_LEAF:
            pages->leaves++;
            error = verify_nodes(pages, page, false);
            break;
        case PAGE_OVERFLOW:
            error = verify_run(pages, at);
            at += error ? 0 : load_u32(page + 12) - 1;
            break;
        default:
            return STORE_E_DAMAGED;
        }
        if (error)
            return error;
    }
    return 0;
}
