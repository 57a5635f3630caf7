/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Entries of a former run come into the index while the daemon serves, in steps between its turns:
 * until one is there, front ends answer "unknown" and render. Nothing in the promise stands against
 * it, since a loaded entry is judged by the clocks as they are when it comes, which hold every
 * event of the former run and of this one (recovery.h). What this run filled is newer than anything
 * that the store knew, and stays.
 */
#ifndef ETAGD_ENTRY_LOADER_H
#define ETAGD_ENTRY_LOADER_H

#include "cache.h"
#include "persist.h"
#include "store.h"

struct entry_loader;

struct entry_loader_progress {
    /* an estimate: this run adds and removes too */
    uint64_t left;
    /* records that were not used; they are removed */
    uint64_t damaged;
};

/* All borrowed until entry_loader_free. NULL: no memory. */
struct entry_loader *entry_loader_new(struct store *store, struct cache *cache,
                                      struct persist *persist);
struct entry_loader *entry_loader_free(struct entry_loader *loader); /* returns NULL */

/* Loads for about so long. 0: there are no more. A negative errno or STORE_E_DAMAGED: the rest
 * cannot be read. */
#define ENTRY_LOADER_E_MORE 1000  /* another step, please */
#define ENTRY_LOADER_E_LATER 1001 /* the persister has too much to do: after a while */
MUST_USE int entry_loader_step(struct entry_loader *loader, uint64_t ns);

/* Something is about to be done to this entry: if it was not its turn yet, it is loaded now, so
 * that it is judged like any other. True: it is not in the index, and the store may still have a
 * record of it that its clocks do not make stale. *evicted: the entries that went for it; their
 * removal is the caller's to store. */
MUST_USE bool entry_loader_fetch(struct entry_loader *loader, struct hash128 fingerprint,
                                 struct index_evicted *evicted);

/* A removal found no room anywhere: the rest is not loaded (the next step is an error), or it would
 * come back. */
void entry_loader_break(struct entry_loader *loader);

struct entry_loader_progress entry_loader_progress(const struct entry_loader *loader);

#endif
