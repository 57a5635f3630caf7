/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Interning of field sets: equal packed sets share one pool record, counted by the entries that
 * refer to it. Loop thread only. view and pool are borrowed for the table's life.
 */
#ifndef ETAGD_FIELDSET_TABLE_H
#define ETAGD_FIELDSET_TABLE_H

#include "pool.h"
#include "shm.h"

struct fieldset_table;

MUST_USE int fieldset_table_open(struct fieldset_table **out, struct shm_view *view,
                                 struct pool *pool);                       /* 0 or -ENOMEM */
struct fieldset_table *fieldset_table_close(struct fieldset_table *table); /* returns NULL */

/* The pool unit of a packed set (len > 0), with one reference more on it; 0: the pool is full. */
MUST_USE uint32_t fieldset_table_take(struct fieldset_table *table, const void *bytes, size_t len);

/* Takes one reference off. At the last one the record may be reused at once, so no slot may refer
 * to it any more. */
void fieldset_table_give(struct fieldset_table *table, uint32_t unit);

/* How many entries refer to the set whose record begins at 'unit'; 0: there is no set. */
uint32_t fieldset_table_references(const struct fieldset_table *table, uint32_t unit);

uint64_t fieldset_table_count(const struct fieldset_table *table);

#endif
