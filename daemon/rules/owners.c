/* SPDX-License-Identifier: Apache-2.0 */
/*
 * There is a node for each unit of the pool. It describes the record that begins there: the first
 * owner, and for a field set the link of a chained hash table. So the unit in a slot leads to the
 * set's node without a search. The bytes of a set are only in the pool, which this thread alone
 * writes and so may read with plain loads. A doubly linked list connects the slots that share a
 * set, so that an entry leaves it without a search, though all entries of the index may share one
 * set.
 *
 * Slot numbers are stored plus one, so that calloc's zero means "none" and unused pages take no
 * memory.
 */
#include "owners.h"

#include "bytes.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#define BUCKETS_MIN 1024u
#define UNITS_PER_BUCKET 4u

struct node {
    /* slot + 1; 0: none */
    uint32_t first;
    /* of a field set: how many have it, also those whose slot is not written yet; else 0 */
    uint32_t references;
    /* low bits of its hash */
    uint32_t hash;
    /* unit; 0: last of its chain */
    uint32_t next;
};

struct link {
    /* slot + 1; 0: none */
    uint32_t next, previous;
};

struct owners {
    struct shm_view *view;
    struct pool *pool;
    /* by unit */
    struct node *nodes;
    /* by slot: those that share its field set */
    struct link *links;
    /* unit of the first set; 0: none */
    uint32_t *buckets;
    uint32_t bucket_mask;
    uint64_t fieldset_count;
};

int owners_open(struct owners **out, struct shm_view *view, struct pool *pool)
{
    uint32_t bucket_count = BUCKETS_MIN;

    assert(view->slot_count < UINT32_MAX);
    while (bucket_count < view->pool_units / UNITS_PER_BUCKET)
        bucket_count *= 2;
    struct owners *owners = calloc(1, sizeof(*owners));
    if (!owners)
        return -ENOMEM;
    owners->view = view;
    owners->pool = pool;
    owners->bucket_mask = bucket_count - 1;
    owners->nodes = calloc(view->pool_units, sizeof(*owners->nodes));
    owners->links = calloc(view->slot_count, sizeof(*owners->links));
    owners->buckets = calloc(bucket_count, sizeof(*owners->buckets));
    if (!owners->nodes || !owners->links || !owners->buckets) {
        owners_close(owners);
        return -ENOMEM;
    }
    *out = owners;
    return 0;
}

struct owners *owners_close(struct owners *owners)
{
    if (owners) {
        free(owners->nodes);
        free(owners->links);
        free(owners->buckets);
        free(owners);
    }
    return NULL;
}

/* ---- Field sets ---- */

static const uint8_t *bytes_at(const struct owners *owners, uint32_t unit)
{
    return owners->view->pool + (size_t)unit * POOL_UNIT_BYTES;
}

/* A packed set begins with its length (entry.h). */
static size_t len_at(const struct owners *owners, uint32_t unit)
{
    return load_u16(bytes_at(owners, unit));
}

uint32_t owners_fieldset(struct owners *owners, const void *bytes, size_t len)
{
    assert(len == load_u16(bytes));
    /* Keyed: whoever chooses header fields must not be able to make one long chain. */
    const uint32_t hash = (uint32_t)siphash13_64(owners->view->header->hash_key, bytes, len);
    uint32_t *const bucket = &owners->buckets[hash & owners->bucket_mask];
    for (uint32_t unit = *bucket; unit != 0; unit = owners->nodes[unit].next) {
        struct node *const node = &owners->nodes[unit];
        if (node->hash == hash && len_at(owners, unit) == len &&
            memcmp(bytes_at(owners, unit), bytes, len) == 0) {
            node->references++;
            return unit;
        }
    }

    const uint32_t unit = pool_take(owners->pool, len);
    if (unit == 0)
        return 0;
    shm_pool_write(owners->view, unit, bytes, len);
    owners->nodes[unit] = (struct node){.references = 1, .hash = hash, .next = *bucket};
    *bucket = unit;
    owners->fieldset_count++;
    return unit;
}

static void fieldset_give(struct owners *owners, uint32_t unit)
{
    struct node *const node = &owners->nodes[unit];

    assert(node->references > 0);
    if (--node->references > 0)
        return;
    assert(node->first == 0);
    uint32_t *link = &owners->buckets[node->hash & owners->bucket_mask];
    while (*link != unit)
        link = &owners->nodes[*link].next;
    *link = node->next;
    pool_give(owners->pool, unit, len_at(owners, unit));
    owners->fieldset_count--;
}

void owners_give(struct owners *owners, struct pool_refs refs)
{
    if (refs.fieldset != 0)
        fieldset_give(owners, refs.fieldset);
    if (refs.overflow != 0)
        pool_give(owners->pool, refs.overflow, shm_overflow_bytes_at(owners->view, refs.overflow));
}

/* ---- Slots ---- */

static void link_in(struct owners *owners, uint32_t unit, uint32_t slot)
{
    const uint32_t next = owners->nodes[unit].first;

    owners->links[slot] = (struct link){.next = next};
    if (next != 0)
        owners->links[next - 1].previous = slot + 1;
    owners->nodes[unit].first = slot + 1;
}

static void link_out(struct owners *owners, uint32_t unit, uint32_t slot)
{
    const struct link link = owners->links[slot];

    if (link.previous != 0)
        owners->links[link.previous - 1].next = link.next;
    else
        owners->nodes[unit].first = link.next;
    if (link.next != 0)
        owners->links[link.next - 1].previous = link.previous;
    owners->links[slot] = (struct link){0};
}

void owners_add(struct owners *owners, uint64_t slot, struct pool_refs refs)
{
    if (refs.fieldset != 0)
        link_in(owners, refs.fieldset, (uint32_t)slot);
    if (refs.overflow != 0)
        owners->nodes[refs.overflow].first = (uint32_t)slot + 1;
}

static void leave(struct owners *owners, uint64_t slot, struct pool_refs refs)
{
    if (refs.fieldset != 0)
        link_out(owners, refs.fieldset, (uint32_t)slot);
    if (refs.overflow != 0) {
        assert(owners->nodes[refs.overflow].first == slot + 1);
        owners->nodes[refs.overflow].first = 0;
    }
}

void owners_remove(struct owners *owners, uint64_t slot, struct pool_refs refs)
{
    leave(owners, slot, refs);
    owners_give(owners, refs);
}

void owners_move(struct owners *owners, uint64_t from, uint64_t to, struct pool_refs refs)
{
    leave(owners, from, refs);
    owners_add(owners, to, refs);
}

/* ---- Looks ---- */

static uint64_t slot_of(uint32_t kept)
{
    return kept == 0 ? OWNERS_NONE : kept - 1;
}

uint64_t owners_first(const struct owners *owners, uint32_t unit)
{
    return slot_of(owners->nodes[unit].first);
}

uint64_t owners_next(const struct owners *owners, uint64_t slot)
{
    return slot_of(owners->links[slot].next);
}

uint32_t owners_references(const struct owners *owners, uint32_t unit)
{
    return owners->nodes[unit].references;
}

uint64_t owners_fieldset_count(const struct owners *owners)
{
    return owners->fieldset_count;
}
