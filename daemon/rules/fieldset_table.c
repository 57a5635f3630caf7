/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A chained hash table whose nodes are numbered like pool units: a set's node is found from the
 * unit in a slot without a search, and its bytes stand nowhere but in the pool, where this thread
 * is the only writer and may read them plainly. Nodes of units never used are zero pages of calloc,
 * so the array costs what the sets in use cost.
 */
#include "fieldset_table.h"

#include "bytes.h"

#include <assert.h>
#include <errno.h>

#define BUCKETS_MIN 1024u
#define UNITS_PER_BUCKET 4u

struct node {
    uint64_t hash;
    /* unit; 0: last of its chain */
    uint32_t next;
    uint32_t references;
};

struct fieldset_table {
    struct shm_view *view;
    struct pool *pool;
    struct node *nodes;
    /* unit of the first set; 0: none */
    uint32_t *buckets;
    uint32_t bucket_mask;
    uint64_t count;
};

int fieldset_table_open(struct fieldset_table **out, struct shm_view *view, struct pool *pool)
{
    uint32_t bucket_count = BUCKETS_MIN;

    while (bucket_count < view->pool_units / UNITS_PER_BUCKET)
        bucket_count *= 2;
    struct fieldset_table *table = calloc(1, sizeof(*table));
    if (!table)
        return -ENOMEM;
    table->view = view;
    table->pool = pool;
    table->bucket_mask = bucket_count - 1;
    table->buckets = calloc(bucket_count, sizeof(*table->buckets));
    table->nodes = calloc(view->pool_units, sizeof(*table->nodes));
    if (!table->buckets || !table->nodes) {
        fieldset_table_close(table);
        return -ENOMEM;
    }
    *out = table;
    return 0;
}

struct fieldset_table *fieldset_table_close(struct fieldset_table *table)
{
    if (table) {
        free(table->nodes);
        free(table->buckets);
        free(table);
    }
    return NULL;
}

static const uint8_t *bytes_at(const struct fieldset_table *table, uint32_t unit)
{
    return table->view->pool + (size_t)unit * POOL_UNIT_BYTES;
}

/* A packed set begins with its length (fieldset.h). */
static size_t len_at(const struct fieldset_table *table, uint32_t unit)
{
    return load_u16(bytes_at(table, unit));
}

uint32_t fieldset_table_take(struct fieldset_table *table, const void *bytes, size_t len)
{
    assert(len == load_u16(bytes));
    /* Keyed: whoever chooses header fields must not be able to make one long chain. */
    const uint64_t hash = siphash13_64(table->view->header->hash_key, bytes, len);
    uint32_t *const bucket = &table->buckets[hash & table->bucket_mask];
    for (uint32_t unit = *bucket; unit != 0; unit = table->nodes[unit].next) {
        struct node *const node = &table->nodes[unit];
        if (node->hash == hash && len_at(table, unit) == len &&
            memcmp(bytes_at(table, unit), bytes, len) == 0) {
            node->references++;
            return unit;
        }
    }

    const uint32_t unit = pool_take(table->pool, len);
    if (unit == 0)
        return 0;
    shm_pool_write(table->view, unit, bytes, len);
    table->nodes[unit] = (struct node){.hash = hash, .next = *bucket, .references = 1};
    *bucket = unit;
    table->count++;
    return unit;
}

void fieldset_table_give(struct fieldset_table *table, uint32_t unit)
{
    struct node *const node = &table->nodes[unit];

    assert(node->references > 0);
    if (--node->references > 0)
        return;
    uint32_t *link = &table->buckets[node->hash & table->bucket_mask];
    while (*link != unit)
        link = &table->nodes[*link].next;
    *link = node->next;
    pool_give(table->pool, unit, len_at(table, unit));
    table->count--;
}

uint32_t fieldset_table_references(const struct fieldset_table *table, uint32_t unit)
{
    return table->nodes[unit].references;
}

uint64_t fieldset_table_count(const struct fieldset_table *table)
{
    return table->count;
}
