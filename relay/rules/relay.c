/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A poll says what was committed until its snapshot and was not covered by the cursor. It may be
 * believed as far as it comes from the same history as the cursor. Where that is not certain
 * nothing is lost but time: the batch raises everything, and the next cursor begins again. So every
 * condition here may be too strict, and none too lenient.
 */
#include "relay.h"

#include "clocktime.h"
#include "snapshot.h"

#include <string.h>

#define WAIT_MS_BESIDE 50 /* coarse clocks lag by up to 10 ms, and are read some times */

const char *relay_reason_word(enum relay_reason reason)
{
    static const char *const words[RELAY_REASON_COUNT] = {
#define RELAY_REASON_WORD(name, word) [RELAY_REASON_##name] = word,
        RELAY_REASONS(RELAY_REASON_WORD)
#undef RELAY_REASON_WORD
    };

    return words[reason];
}

/* ---- Is it the history of the cursor? ---- */

bool poll_is_of_primary(const struct engine_poll *poll)
{
    return !poll->in_recovery;
}

/* Rule SAME_SYSTEM: another cluster may have the same numbers for other transactions. */
static bool poll_is_of_system(const struct cursor *cursor, const struct engine_poll *poll)
{
    return poll->origin.system == cursor->origin.system;
}

/* Rule SAME_DATABASE: one that was made from a template has the template's witness and outbox. */
static bool poll_is_of_database(const struct cursor *cursor, const struct engine_poll *poll)
{
    return poll->origin.database == cursor->origin.database;
}

/* Rule SAME_TIMELINE: on another one commits that we saw may never have been. */
static bool poll_is_of_timeline(const struct cursor *cursor, const struct engine_poll *poll)
{
    return poll->origin.timeline == cursor->origin.timeline;
}

/* Rule SAME_SERVER_RUN: on some services unlogged tables, and so the witness, survive a failover.
 */
static bool poll_is_of_server_run(const struct cursor *cursor, const struct engine_poll *poll)
{
    return poll->origin.started_us == cursor->origin.started_us;
}

static bool nonces_equal(const struct engine_nonce *a, const struct engine_nonce *b)
{
    return memcmp(a->bytes, b->bytes, ENGINE_NONCE_BYTES) == 0;
}

bool poll_keeps_witness(const struct cursor *cursor, const struct engine_poll *poll)
{
    return poll->witnessed && cursor->witnessed && nonces_equal(&poll->witness, &cursor->witness);
}

/* Rule SNAPSHOT_GOES_ON: within one history a later snapshot covers all that an earlier one did. */
static bool poll_goes_on(const struct cursor *cursor, const struct engine_poll *poll)
{
    const struct engine_snapshot *const now = &poll->snapshot;

    for (size_t i = 0; i < now->running_count; i++)
        if (snapshot_covers(&cursor->snapshot, now->running[i]))
            return false;
    return now->next >= cursor->snapshot.next;
}

/* Rule TRIM_CHECK: all that retention has removed is covered by the cursor. */
static bool poll_misses_nothing(const struct cursor *cursor, const struct engine_poll *poll)
{
    return poll->trimmed == 0 || snapshot_covers(&cursor->snapshot, poll->trimmed);
}

/* ---- Are the rows what our releases write? ---- */

/* Rule FOREIGN_ROWS: a transaction that has not begun yet has written nothing here. */
static bool rows_are_of_the_past(const struct engine_poll *poll)
{
    for (size_t i = 0; i < poll->row_count; i++)
        if (poll->rows[i].position >= poll->unassigned)
            return false;
    return true;
}

/* Rule ROWS_READABLE: what a row means that we cannot read is not guessed. */
static bool rows_are_readable(const struct engine_poll *poll)
{
    for (size_t i = 0; i < poll->row_count; i++)
        if (poll->rows[i].unreadable)
            return false;
    return true;
}

/* ---- The verdict ---- */

static enum relay_reason reason_of_history(const struct cursor *cursor,
                                           const struct engine_poll *poll)
{
    if (!poll_is_of_system(cursor, poll))
        return RELAY_REASON_SYSTEM;
    if (!poll_is_of_database(cursor, poll))
        return RELAY_REASON_DATABASE;
    if (!poll_is_of_timeline(cursor, poll))
        return RELAY_REASON_TIMELINE;
    if (!poll_is_of_server_run(cursor, poll))
        return RELAY_REASON_SERVER_RUN;
    if (!poll->witnessed)
        return RELAY_REASON_WITNESS_GONE;
    if (!poll_keeps_witness(cursor, poll))
        return RELAY_REASON_WITNESS_CHANGED;
    if (!poll_goes_on(cursor, poll))
        return RELAY_REASON_WENT_BACK;
    if (!poll_misses_nothing(cursor, poll))
        return RELAY_REASON_TRIMMED;
    /* Rule TABLES_WATCHED: a trigger may have been missing since the last poll. */
    return poll->digest != cursor->digest ? RELAY_REASON_TABLES : RELAY_REASON_NONE;
}

/* Rule WATCH_BROKEN: while a trigger is missing, what is written leaves no row. */
static bool poll_sees_writes(const struct engine_poll *poll)
{
    return !poll->watch_broken;
}

static enum relay_reason reason_of_rows(const struct engine_poll *poll)
{
    /* Rule ROWS_BOUND: rows that were left out are not forgotten. */
    if (poll->rows_cut)
        return RELAY_REASON_ROWS_CUT;
    if (!rows_are_of_the_past(poll))
        return RELAY_REASON_FOREIGN_ROWS;
    if (!rows_are_readable(poll))
        return RELAY_REASON_ROW_UNREADABLE;
    return poll_sees_writes(poll) ? RELAY_REASON_NONE : RELAY_REASON_WATCH_BROKEN;
}

/* Rule FLOOR_AT_FIRST: without a cursor nothing is known of what is in memory. */
static enum relay_reason reason_of_everything(const struct cursor *cursor, bool unreadable,
                                              const struct engine_poll *poll)
{
    if (unreadable)
        return RELAY_REASON_CURSOR_UNREADABLE;
    if (!cursor->there)
        return RELAY_REASON_NO_CURSOR;
    const enum relay_reason reason = reason_of_history(cursor, poll);
    return reason != RELAY_REASON_NONE ? reason : reason_of_rows(poll);
}

bool poll_has_written(const struct engine_poll *poll, uint64_t written)
{
    return poll->unassigned > written;
}

bool poll_shows_member(const struct engine_poll *poll)
{
    return poll->membership == ENGINE_MEMBER;
}

struct relay_verdict relay_judge(const struct cursor *cursor, bool unreadable,
                                 const struct engine_poll *poll)
{
    if (!poll_is_of_primary(poll))
        return (struct relay_verdict){0};
    struct relay_verdict verdict = {
        .batch = true,
        .everything = reason_of_everything(cursor, unreadable, poll),
    };
    verdict.counts = poll_shows_member(poll) && setting_is_sound(poll->lease_ms, poll->wait_ms);
    return verdict;
}

/* ---- Settings ---- */

uint64_t setting_wait_ms(uint64_t lease_ms)
{
    return lease_ms + (lease_ms + 3) / 4 + WAIT_MS_BESIDE;
}

bool setting_is_sound(uint32_t lease_ms, uint32_t wait_ms)
{
    return lease_ms > 0 && wait_ms >= setting_wait_ms(lease_ms);
}

bool setting_next(struct relay_setting now, uint32_t wanted_lease_ms, struct relay_setting *next,
                  uint64_t *apart_ms)
{
    const uint32_t wanted_wait_ms = (uint32_t)setting_wait_ms(wanted_lease_ms);

    *next = now;
    *apart_ms = 0;
    if (now.wait_ms <
        wanted_wait_ms) { /* writers that read from now on wait for the longer lease */
        next->wait_ms = wanted_wait_ms;
        return true;
    }
    if (now.lease_ms != wanted_lease_ms) {
        next->lease_ms = wanted_lease_ms;
        return true;
    }
    if (now.wait_ms == wanted_wait_ms)
        return false;
    *apart_ms = now.wait_ms; /* a longer lease from before may run that long */
    next->wait_ms = wanted_wait_ms;
    return true;
}

/* ---- "Everywhere" ---- */

static bool member_has_it(const struct engine_members *members, const struct engine_member *member,
                          uint64_t position)
{
    return member->acknowledged && nonces_equal(&member->witness, &members->witness) &&
           snapshot_covers(&member->snapshot, position);
}

/* Rule OWN_IS_APPLIED: the daemon hands over what it has applied and recorded, all of it, and says
 * itself that it is proved on this host. It is the registration of this very host: another one that
 * took its name has another nonce. */
static bool member_is_here(const struct engine_member *member, bool here)
{
    return here && member->own;
}

bool everywhere_by_acknowledgements(const struct engine_members *members, uint64_t position,
                                    bool here)
{
    if (members->in_recovery || !members->witnessed || members->members_cut)
        return false;
    for (size_t i = 0; i < members->member_count; i++)
        if (!member_is_here(&members->members[i], here) &&
            !member_has_it(members, &members->members[i], position))
            return false;
    return true;
}

bool everywhere_by_time(uint64_t t_ns, uint32_t wait_ms, uint64_t now_ns)
{
    return now_ns >= t_ns && now_ns - t_ns >= wait_ms * NS_PER_MS;
}

bool leaving_is_over(uint64_t committed_ns, uint32_t wait_ms, uint64_t now_ns)
{
    return everywhere_by_time(committed_ns, wait_ms, now_ns);
}
