/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A word for each unit of the pool, the first owner of the record that begins there, and a doubly
 * linked list through the slots of those who share a field set: an entry leaves it without a
 * search, though a set may have all entries of the index. Numbers of slots are kept plus one, so
 * that zero pages of calloc mean "none", and cost nothing where nothing is used.
 */
#include "owners.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

struct link {
    /* slot + 1; 0: none */
    uint32_t next, previous;
};

struct owners {
    /* by unit: slot + 1; 0: nobody */
    uint32_t *first;
    /* by slot: those that share its field set */
    struct link *links;
};

int owners_open(struct owners **out, uint64_t slot_count, uint32_t unit_count)
{
    assert(slot_count < UINT32_MAX);
    struct owners *owners = calloc(1, sizeof(*owners));
    if (!owners)
        return -ENOMEM;
    owners->first = calloc(unit_count, sizeof(*owners->first));
    owners->links = calloc(slot_count, sizeof(*owners->links));
    if (!owners->first || !owners->links) {
        owners_close(owners);
        return -ENOMEM;
    }
    *out = owners;
    return 0;
}

struct owners *owners_close(struct owners *owners)
{
    if (owners) {
        free(owners->first);
        free(owners->links);
        free(owners);
    }
    return NULL;
}

static void link_in(struct owners *owners, uint32_t unit, uint32_t slot)
{
    const uint32_t next = owners->first[unit];

    owners->links[slot] = (struct link){.next = next};
    if (next != 0)
        owners->links[next - 1].previous = slot + 1;
    owners->first[unit] = slot + 1;
}

static void link_out(struct owners *owners, uint32_t unit, uint32_t slot)
{
    const struct link link = owners->links[slot];

    if (link.previous != 0)
        owners->links[link.previous - 1].next = link.next;
    else
        owners->first[unit] = link.next;
    if (link.next != 0)
        owners->links[link.next - 1].previous = link.previous;
    owners->links[slot] = (struct link){0};
}

void owners_add(struct owners *owners, uint64_t slot, struct pool_refs refs)
{
    if (refs.fieldset != 0)
        link_in(owners, refs.fieldset, (uint32_t)slot);
    if (refs.overflow != 0)
        owners->first[refs.overflow] = (uint32_t)slot + 1;
}

void owners_remove(struct owners *owners, uint64_t slot, struct pool_refs refs)
{
    if (refs.fieldset != 0)
        link_out(owners, refs.fieldset, (uint32_t)slot);
    if (refs.overflow != 0) {
        assert(owners->first[refs.overflow] == slot + 1);
        owners->first[refs.overflow] = 0;
    }
}

static uint64_t slot_of(uint32_t kept)
{
    return kept == 0 ? OWNERS_NONE : kept - 1;
}

uint64_t owners_first(const struct owners *owners, uint32_t unit)
{
    return slot_of(owners->first[unit]);
}

uint64_t owners_next(const struct owners *owners, uint64_t slot)
{
    return slot_of(owners->links[slot].next);
}
