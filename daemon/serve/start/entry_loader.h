/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Loads the entries of the former run into the index while the daemon serves, in steps between its
 * turns. Until an entry is loaded, front ends answer "unknown" and render. This is safe: a loaded
 * entry is judged by the clocks at that moment, which have every event of the former run and of
 * this one (recovery.h). An entry that this run filled is newer than any in the store, and stays.
 * Loop thread only.
 */
#ifndef ETAGD_ENTRY_LOADER_H
#define ETAGD_ENTRY_LOADER_H

#include "cache.h"
#include "persist.h"
#include "store.h"

struct entry_loader;

struct entry_loader_progress {
    /* entries left to load; an estimate, because this run adds and removes entries too */
    uint64_t left;
    /* damaged records, which the loader removes from the store */
    uint64_t damaged;
};

/* All arguments are borrowed until entry_loader_free(). Returns NULL without memory. */
struct entry_loader *entry_loader_new(struct store *store, struct cache *cache,
                                      struct persist *persist);
struct entry_loader *entry_loader_free(struct entry_loader *loader); /* returns NULL */

/* Loads entries for about this long. Returns 0: all are loaded; ENTRY_LOADER_E_*; or a negative
 * errno or STORE_E_DAMAGED: the rest cannot be read. */
#define ENTRY_LOADER_E_MORE 1000  /* another step, please */
#define ENTRY_LOADER_E_LATER 1001 /* the persister has too much to do: try again later */
MUST_USE int entry_loader_step(struct entry_loader *loader, uint64_t ns);

/* Called before a fill or retire changes this entry: loads it now if it was not loaded yet, so that
 * the rules apply to it as to any other. Returns true if the entry is not in the index and the
 * store may still have a record of it that no clock makes stale. *evicted: the entries evicted for
 * it; the caller has to store their removal. */
MUST_USE bool entry_loader_fetch(struct entry_loader *loader, struct hash128 fingerprint,
                                 struct index_evicted *evicted);

/* A removal could not be recorded: loads no more (the next step returns an error), since the
 * removed entry would be loaded again. */
void entry_loader_break(struct entry_loader *loader);

struct entry_loader_progress entry_loader_progress(const struct entry_loader *loader);

#endif
