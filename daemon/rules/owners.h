/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Knows which slots refer to which records of the pool. Equal field sets are one record, whose
 * owners are all slots that refer to it; an overflow record has one owner. A record goes back to
 * the pool when its last owner is removed. With it a place in the pool can be cleared without a
 * search through the index. Loop thread only.
 */
#ifndef ETAGD_OWNERS_H
#define ETAGD_OWNERS_H

#include "pool.h"
#include "shm.h"

/* The pool records of an entry, by their first unit; 0: none. */
struct pool_refs {
    uint32_t fieldset, overflow;
};

#define OWNERS_NONE UINT64_MAX

struct owners;

/* view, pool: borrowed until owners_close(). Returns 0 or -ENOMEM. */
MUST_USE int owners_open(struct owners **out, struct shm_view *view, struct pool *pool);
struct owners *owners_close(struct owners *owners); /* returns NULL */

/* ---- Records that a slot will refer to ---- */

/* Finds or stores a packed field set (len > 0), takes a reference to it, and returns its pool unit;
 * 0: the pool is full. */
MUST_USE uint32_t owners_fieldset(struct owners *owners, const void *bytes, size_t len);

/* Gives back the caller's references to these records. A record without references goes back to the
 * pool, which may reuse it at once, so no slot may refer to it any more. */
void owners_give(struct owners *owners, struct pool_refs refs);

/* ---- Slots ---- */

/* Makes the slot an owner of these records; the caller's reference becomes the slot's. The slot had
 * no records before. */
void owners_add(struct owners *owners, uint64_t slot, struct pool_refs refs);
/* Removes the slot from the owners of these records and gives them back. The caller has changed the
 * slot in the shared memory already. */
void owners_remove(struct owners *owners, uint64_t slot, struct pool_refs refs);
/* The entry moved to another slot. */
void owners_move(struct owners *owners, uint64_t from, uint64_t to, struct pool_refs refs);

/* ---- Queries ---- */

/* The slots that refer to the record at 'unit': the first one, and for a field set the next after
 * 'slot'. OWNERS_NONE: no more. */
uint64_t owners_first(const struct owners *owners, uint32_t unit);
uint64_t owners_next(const struct owners *owners, uint64_t slot);

/* Returns how many slots refer to the field set whose record begins at 'unit'; 0: no field set
 * begins there. */
uint32_t owners_references(const struct owners *owners, uint32_t unit);

uint64_t owners_fieldset_count(const struct owners *owners);

#endif
