/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Notices fork without a system call: the kernel zeroes a word in the child (MADV_WIPEONFORK), so
 * one load answers "is this still the process that opened the client?".
 */
#ifndef LIBETAG_FORKWORD_H
#define LIBETAG_FORKWORD_H

#include "cleanup.h"

#include <stdbool.h>
#include <stdint.h>

struct fork_word {
    /* NULL: not open */
    uint32_t *word;
};

MUST_USE int fork_word_open(struct fork_word *fork_word); /* 0 or a negative errno */
void fork_word_close(struct fork_word *fork_word);

/* Returns false in a child until it calls fork_word_raise(). */
static inline bool fork_word_stands(const struct fork_word *fork_word)
{
    return __atomic_load_n(fork_word->word, __ATOMIC_RELAXED) != 0;
}

/* Sets the word in the child, so that the child's own children notice their fork in turn. */
void fork_word_raise(struct fork_word *fork_word);

#endif
