/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The life of a file in the spool: found, applied (from then on it is known, under a generation of
 * its own), safe, removed, forgotten. The news that its event is safe comes much later, when the
 * name may be another file's, so it carries the generation; and before the removal inode and birth
 * time are compared with those of the known file. Private to spool*.c; spool.h has the interface
 * for others.
 */
#ifndef ETAGD_SPOOL_SLOT_H
#define ETAGD_SPOOL_SLOT_H

#include "spool.h"

/* A file as slot_see() found it. */
struct spool_seen {
    struct spool_identity identity;
    uint64_t bytes;
    uint32_t uid, mode, links;
};

/* Reads the file's identity, size, owner and mode. name "": the file that fd is open on. Returns 0
 * or a negative errno. */
MUST_USE int slot_see(int fd, const char *name, struct spool_seen *out);
/* Returns whether the file may be an event, by its owner, type and size. */
MUST_USE bool slot_counts(const struct spool *spool, const struct spool_seen *seen);

/* Numbers of names, below SPOOL_FILES: first the e-names, then taken-NN, then all-NN. */
static inline uint32_t slot_of_taken(uint32_t n)
{
    return SPOOL_SLOTS + n;
}

static inline uint32_t slot_of_all(uint32_t n)
{
    return SPOOL_SLOTS + SPOOL_ALL_SLOTS + n;
}

void slot_name(uint32_t file, char out[SPOOL_NAME_BYTES]);

/* Inspects a name. Returns SLOT_IS_NEW: its file has to be applied; 0: nothing to do; or a negative
 * errno. */
#define SLOT_IS_NEW 1
MUST_USE int slot_look(struct spool *spool, uint32_t file, struct spool_seen *seen);

/* Renames all-NN to taken-NN, which no writer replaces. Returns 0; -EEXIST: an older taken-NN still
 * waits; or another negative errno. */
MUST_USE int slot_take(struct spool *spool, uint32_t n);

/* Makes the file known, under a new generation. slot_forget() ends that. */
struct spool_slot slot_begin(struct spool *spool, uint32_t file, const struct spool_seen *seen);
void slot_forget(struct spool *spool, uint32_t file);

/* The same for garbage, under the generation that all garbage of this scan shares. */
void slot_begin_garbage(struct spool *spool, uint32_t file, const struct spool_seen *seen,
                        uint64_t generation);
/* Forgets all garbage of that generation. */
void slot_forget_garbage(struct spool *spool, uint64_t generation);

/* Removes a file that does not count, and logs it: its owner lacks the role, or it is not a regular
 * file. */
void slot_ignore(struct spool *spool, const char *name, const struct spool_seen *seen);

#endif
