/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rule OWN_ROWS, and why it is safe. A position is here only if (1) the daemon handed the event
 * over on the connection that is there now, which it does when it has applied and recorded it (rule
 * PUBLISH_AFTER_RECORD), so this run of the daemon has it in its clocks; (2) the engine said under
 * which position it committed it, in a transaction that holds nothing else; (3) no poll since then
 * raised everything: a server that lost the commit gives the number to another transaction, and has
 * lost its witness. A connection or an answer that is lost only means that a row is applied twice.
 *
 * What a writer put into the outbox itself is not left out, though its host's daemon has the event:
 * it may have been sent before the COMMIT, and a front end may have filled the former data since.
 */
#include "own_rows.h"

#include "snapshot.h"

static uint64_t position_at(const struct own_rows *own, size_t i)
{
    return own->positions[(own->first + i) % OWN_ROWS_MAX];
}

static void oldest_forget(struct own_rows *own)
{
    own->first = (own->first + 1) % OWN_ROWS_MAX;
    own->count--;
}

void own_rows_add(struct own_rows *own, uint64_t position)
{
    /* Numbers that go back are of another history. */
    if (own->count > 0 && position <= position_at(own, own->count - 1))
        own_rows_forget(own);
    if (own->count == OWN_ROWS_MAX)
        oldest_forget(own);
    own->positions[(own->first + own->count++) % OWN_ROWS_MAX] = position;
}

static bool is_own(const struct own_rows *own, uint64_t position)
{
    size_t from = 0, until = own->count;

    while (from < until) {
        const size_t middle = from + (until - from) / 2;
        if (position_at(own, middle) == position)
            return true;
        if (position_at(own, middle) < position)
            from = middle + 1;
        else
            until = middle;
    }
    return false;
}

size_t own_rows_leave_out(const struct own_rows *own, struct engine_row *rows, size_t count)
{
    size_t others = 0;

    for (size_t i = 0; i < count; i++)
        if (!is_own(own, rows[i].position))
            rows[others++] = rows[i];
    return others;
}

/* In their order: one that is not covered yet keeps later ones, which costs nothing. */
void own_rows_settled(struct own_rows *own, const struct engine_snapshot *snapshot)
{
    while (own->count > 0 && snapshot_covers(snapshot, position_at(own, 0)))
        oldest_forget(own);
}

void own_rows_forget(struct own_rows *own)
{
    own->first = own->count = 0;
}
