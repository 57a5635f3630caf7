/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which slots refer to a record of the pool, so that a place in the pool can be cleared without a
 * search through the index. An overflow record has one owner, a field set as many as it has
 * references. Loop thread only.
 */
#ifndef ETAGD_OWNERS_H
#define ETAGD_OWNERS_H

#include "cleanup.h"

#include <stdint.h>

/* The pool records of an entry: units, 0: none. */
struct pool_refs {
    uint32_t fieldset, overflow;
};

#define OWNERS_NONE UINT64_MAX

struct owners;

MUST_USE int owners_open(struct owners **out, uint64_t slot_count,
                         uint32_t unit_count);      /* 0 or -ENOMEM */
struct owners *owners_close(struct owners *owners); /* returns NULL */

/* The slot refers to these records from now on. It referred to none. */
void owners_add(struct owners *owners, uint64_t slot, struct pool_refs refs);
/* It does no more. */
void owners_remove(struct owners *owners, uint64_t slot, struct pool_refs refs);

/* Slots that refer to the record at 'unit': the first, and the next of a field set; OWNERS_NONE: no
 * more. */
uint64_t owners_first(const struct owners *owners, uint32_t unit);
uint64_t owners_next(const struct owners *owners, uint64_t slot);

#endif
