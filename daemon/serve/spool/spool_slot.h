/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The life of a file in the spool: found, applied (from then on it is known, under a generation of
 * its own), safe, removed, forgotten. What says "safe" comes much later, and the name may be
 * another file's by then, so it carries the generation, and what is removed is looked at again: the
 * file that is known, by inode and birth. For spool.c; what others ask stands in spool.h.
 */
#ifndef ETAGD_SPOOL_SLOT_H
#define ETAGD_SPOOL_SLOT_H

#include "spool.h"

/* A file as it was when it was looked at. */
struct spool_seen {
    struct spool_identity identity;
    uint64_t bytes;
    uint32_t uid, mode, links;
};

/* name "": of the descriptor itself. 0 or negative errno. */
MUST_USE int slot_see(int fd, const char *name, struct spool_seen *out);
/* May it be an event, by its owner, kind and size? */
MUST_USE bool slot_counts(const struct spool *spool, const struct spool_seen *seen);

/* The numbers of names, below SPOOL_FILES: the events', then these. */
static inline uint32_t slot_of_taken(uint32_t n)
{
    return SPOOL_SLOTS + n;
}

static inline uint32_t slot_of_all(uint32_t n)
{
    return SPOOL_SLOTS + SPOOL_ALL_SLOTS + n;
}

void slot_name(uint32_t file, char out[SPOOL_NAME_BYTES]);

/* What is to be done about a name: SLOT_IS_NEW, or nothing: 0, or a negative errno. */
#define SLOT_IS_NEW 1
MUST_USE int slot_look(struct spool *spool, uint32_t file, struct spool_seen *seen);

/* all-NN becomes taken-NN, which no writer replaces. 0; -EEXIST: one that was taken before still
 * waits; negative errno. */
MUST_USE int slot_take(struct spool *spool, uint32_t n);

/* It is known from now on. */
struct spool_slot slot_begin(struct spool *spool, uint32_t file, const struct spool_seen *seen);
void slot_forget(struct spool *spool, uint32_t file);

/* The same for garbage, under the generation of all garbage of this scan. */
void slot_begin_garbage(struct spool *spool, uint32_t file, const struct spool_seen *seen,
                        uint64_t generation);
/* All of that generation. */
void slot_forget_garbage(struct spool *spool, uint64_t generation);

/* Removes, and complains about, a file that does not count: of somebody without the role, or not a
 * plain file. */
void slot_ignore(struct spool *spool, const char *name, const struct spool_seen *seen);

#endif
