/* SPDX-License-Identifier: Apache-2.0 */
/* Part of the store: a child process reads the database first (store_check.c says why). */
#ifndef ETAGD_STORE_CHECK_H
#define ETAGD_STORE_CHECK_H

#include "store.h"

/* Checks the database of a store whose state lock is held and whose database is not open. Returns
 * 0: it is sound, missing, or of another version; STORE_E_DAMAGED: found says what is wrong; a
 * negative errno: no child process could be started. */
MUST_USE int store_check(const struct store *store, char *found, size_t found_bytes);

#endif
