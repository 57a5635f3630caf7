/* SPDX-License-Identifier: Apache-2.0 */
/* Part of the store: a child process reads the database first (store_check.c says why). */
#ifndef ETAGD_STORE_CHECK_H
#define ETAGD_STORE_CHECK_H

#include "store.h"

/* store: its state lock is held and its database not open. 0: sound, or there is none, or it is of
 * another version. STORE_E_DAMAGED: *found says how it was found. A negative errno: there could be
 * no child. */
MUST_USE int store_check(const struct store *store, char *found, size_t found_bytes);

#endif
