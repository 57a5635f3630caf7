/* SPDX-License-Identifier: Apache-2.0 */
/* Part of the store: a child process reads the database first (store_check.c says why). */
#ifndef ETAGD_STORE_CHECK_H
#define ETAGD_STORE_CHECK_H

#include "store.h"

/* store: its state lock is held and its database not open. 0: sound, or there is none, or it is of another version.
 * STORE_E_DAMAGED: *found says how it was found. A negative errno: there could be no child. */
MUST_USE int store_check(const struct store *store, char *found, size_t found_bytes);

/* What the child of store_check() does; for one that goes on reading. 0 or STORE_E_DAMAGED. */
MUST_USE int store_check_read(const struct store *store);

/* Runs check in a child that has nothing of this process but its memory (private, but for what is mapped as shared), with a
 * limit of processor time. Returns what it returned, 0 to 127; STORE_E_DAMAGED with *found where a signal ended it;
 * a negative errno: there could be no child. */
MUST_USE int store_check_run(int (*check)(const void *ctx), const void *ctx, char *found,
                             size_t found_bytes);

#endif
