/* SPDX-License-Identifier: Apache-2.0 */
/* A ring that grows. Tickets ascend, so the answer at the front is always the next to be sent. */
#include "pending.h"

#include <assert.h>
#include <errno.h>

#define CAPACITY_FIRST 256

void pending_deinit(struct pending *pending)
{
    free(pending->ring);
    *pending = (struct pending){0};
}

static struct pending_answer *at(struct pending *pending, size_t i)
{
    return &pending->ring[(pending->head + i) & (pending->capacity - 1)];
}

int pending_reserve(struct pending *pending)
{
    if (pending->count < pending->capacity)
        return 0;
    const size_t capacity = pending->capacity ? pending->capacity * 2 : CAPACITY_FIRST;
    struct pending_answer *ring = calloc(capacity, sizeof(*ring));
    if (!ring)
        return -ENOMEM;
    for (size_t i = 0; i < pending->count; i++)
        ring[i] = *at(pending, i);
    free(pending->ring);
    pending->ring = ring;
    pending->capacity = capacity;
    pending->head = 0;
    return 0;
}

void pending_add(struct pending *pending, struct pending_answer answer)
{
    assert(pending->count < pending->capacity);
    *at(pending, pending->count) = answer;
    pending->count++;
    pending->without_ticket += answer.ticket == 0;
}

uint64_t pending_safe_below(const struct pending *pending, uint64_t lsn)
{
    return pending->count == 0 ? lsn + 1 : pending->ring[pending->head].lsn;
}

void pending_ticket(struct pending *pending, uint64_t ticket)
{
    for (; pending->without_ticket > 0; pending->without_ticket--)
        at(pending, pending->count - pending->without_ticket)->ticket = ticket;
}

bool pending_take(struct pending *pending, uint64_t done, struct pending_answer *out)
{
    if (pending->count == pending->without_ticket || at(pending, 0)->ticket > done)
        return false;
    *out = *at(pending, 0);
    pending->head = (pending->head + 1) & (pending->capacity - 1);
    pending->count--;
    return true;
}
