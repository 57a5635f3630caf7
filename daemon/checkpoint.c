/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A checkpoint says "the clocks are complete up to LSN n". n is the last event that was taken from the persister's queue and
 * written: the loop thread moved its clocks before it queued it, and the queue's mutex makes that visible here. Clocks
 * of later events may be in the checkpoint too, which makes entries stale a little earlier than their event is known,
 * never later. "In flux" is not in it: that comes from the open guards.
 */
#include "checkpoint.h"

#include "bounds.h"

#include <errno.h>

int checkpoint_init(struct checkpoint *checkpoint, const struct shm_view *view)
{
    *checkpoint = (struct checkpoint){.view = view};
    checkpoint->saved_clocks = (uint64_t *)calloc(view->clock_count, sizeof(uint64_t));
    return checkpoint->saved_clocks ? 0 : -ENOMEM;
}

void checkpoint_deinit(struct checkpoint *checkpoint)
{
    free(checkpoint->saved_clocks);
    *checkpoint = (struct checkpoint){0};
}

static int clocks_store(struct checkpoint *checkpoint, struct store_txn *txn)
{
    uint64_t words[CLOCK_CHUNK_WORDS];
    const uint32_t clock_count = checkpoint->view->clock_count;
    int error = 0;
    for (uint32_t first = 0; first < clock_count && !error; first += CLOCK_CHUNK_WORDS) {
        const uint32_t left = clock_count - first;
        const size_t count = left < CLOCK_CHUNK_WORDS ? left : CLOCK_CHUNK_WORDS;
        for (size_t i = 0; i < count; i++)
            words[i] = shm_clock_load(checkpoint->view, first + (uint32_t)i) & CLOCK_LSN_MASK;
        uint64_t *saved = checkpoint->saved_clocks + first;
        if (checkpoint->saved_valid && memcmp(saved, words, count * sizeof(*words)) == 0)
            continue;
        memcpy(saved, words, count * sizeof(*words));
        error = store_put_clocks(txn, first / CLOCK_CHUNK_WORDS, words, count);
    }
    return error;
}

int checkpoint_write(struct checkpoint *checkpoint, struct store *store, uint64_t lsn, size_t kept)
{
    struct store_txn *txn;
    int error = store_begin(store, &txn);
    if (!error) {
        error = clocks_store(checkpoint, txn);
        if (!error)
            error = store_put_checkpoint_lsn(txn, lsn);
        if (!error)
            error = store_trim_events(txn, lsn, kept);
        error = store_end(txn, error);
    }
    checkpoint->saved_valid = error == 0;
    return error;
}
