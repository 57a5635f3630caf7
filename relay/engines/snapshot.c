/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A number would not do: positions are given out when a transaction begins to write and become
 * visible when it ends, so a later one may be visible before an earlier one.
 */
#include "snapshot.h"

#include <errno.h>

bool snapshot_covers(const struct engine_snapshot *snapshot, uint64_t position)
{
    size_t from = 0, until = snapshot->running_count;

    if (position >= snapshot->next)
        return false;
    while (from < until) {
        const size_t middle = from + (until - from) / 2;
        if (snapshot->running[middle] == position)
            return false;
        if (snapshot->running[middle] < position)
            from = middle + 1;
        else
            until = middle;
    }
    return true;
}

int snapshot_copy(struct engine_snapshot *to, const struct engine_snapshot *from)
{
    *to = (struct engine_snapshot){.next = from->next};
    if (from->running_count == 0)
        return 0;
    to->running = malloc(from->running_count * sizeof(*to->running));
    if (!to->running)
        return -ENOMEM;
    for (size_t i = 0; i < from->running_count; i++)
        to->running[i] = from->running[i];
    to->running_count = from->running_count;
    return 0;
}
