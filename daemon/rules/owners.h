/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which slots refer to which records of the pool. Equal field sets are one record, with as many
 * owners as entries have it; an overflow record has one owner. A record goes back to the pool with
 * its last owner, and a place in the pool can be cleared without a search through the index. Loop
 * thread only.
 */
#ifndef ETAGD_OWNERS_H
#define ETAGD_OWNERS_H

#include "pool.h"
#include "shm.h"

/* The pool records of an entry: units, 0: none. */
struct pool_refs {
    uint32_t fieldset, overflow;
};

#define OWNERS_NONE UINT64_MAX

struct owners;

/* view, pool: borrowed for its life. 0 or -ENOMEM. */
MUST_USE int owners_open(struct owners **out, struct shm_view *view, struct pool *pool);
struct owners *owners_close(struct owners *owners); /* returns NULL */

/* ---- Records that a slot will refer to ---- */

/* The pool unit of a packed field set (len > 0), with one reference more on it; 0: the pool is
 * full. */
MUST_USE uint32_t owners_fieldset(struct owners *owners, const void *bytes, size_t len);

/* No slot refers to these, or no more: a reference is taken off the field set, and what nobody has
 * goes back to the pool, where it may be reused at once. */
void owners_give(struct owners *owners, struct pool_refs refs);

/* ---- Slots ---- */

/* The slot refers to these records from now on, of which it has a reference. It referred to
 * none. */
void owners_add(struct owners *owners, uint64_t slot, struct pool_refs refs);
/* It does no more, and they are given back: the slot in the memory has changed already. */
void owners_remove(struct owners *owners, uint64_t slot, struct pool_refs refs);
/* The entry stands in another slot. */
void owners_move(struct owners *owners, uint64_t from, uint64_t to, struct pool_refs refs);

/* ---- Looks ---- */

/* Slots that refer to the record at 'unit': the first, and the next of a field set; OWNERS_NONE: no
 * more. */
uint64_t owners_first(const struct owners *owners, uint32_t unit);
uint64_t owners_next(const struct owners *owners, uint64_t slot);

/* How many refer to the field set whose record begins at 'unit'; 0: there is no set. */
uint32_t owners_references(const struct owners *owners, uint32_t unit);

uint64_t owners_fieldset_count(const struct owners *owners);

#endif
