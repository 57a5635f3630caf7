/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An engine for tests: it answers what a script says, and remembers what it was asked.
 *
 *     closed TEXT            the next open, or the connection that is opening, fails
 *     poll NAME=VALUE...     the next poll's answer. What it does not name is as before: system
 *                            started timeline database witness (a word, "none") member (yes, no,
 *                            leaving) trimmed lease wait digest next running (a,b) unassigned (0:
 *                            next) asked standby cut broken (0, 1)
 *     row POSITION NAME...   a row of that poll: NAME is a surrogate key, /PATH of host "h", or
 *                            "everything"; "unreadable" is a row that no release wrote; "by:WORD"
 *                            says who wrote it; hold:MS
 *     join NAME=VALUE...     the next join's: member foreign (0, 1) lease wait nonce (a word)
 *     publish POSITION       the next publication's
 *     missing TEXT           the next look at a position: it is not visible
 *     trim REMOVED           the next trimming's
 *     members NAME=VALUE...  witness wait standby cut; then
 *     host NAME MEMBER WITNESS NEXT [RUNNING]     one of them; "-WITNESS": has not acknowledged.
 *                            MEMBER "own": a member, the one that asks
 *     refuse TEXT            the next operation, whichever it is, is refused
 *     busy                   ... cannot wake others now, and is to be repeated
 *     fail TEXT              ... and the connection with it
 *     hang                   ... is never answered
 *     late MS [OP]           ... is answered that long after its start. OP: only a poll, or members
 *     wake                   somebody woke us; seen with the next operation
 *
 * An answer waits for the operation that it is for. An operation whose answer is not the next one
 * gets a usual one: the poll of before without rows, member, position 1, and so on.
 */
#ifndef ETAG_RELAY_ENGINE_SCRIPT_H
#define ETAG_RELAY_ENGINE_SCRIPT_H

#include "engine.h"

#define SCRIPT_SEEN_MAX 256

/* One operation as it was started. */
struct script_seen {
    enum engine_op op;
    /* coarse clock at its start */
    uint64_t begun_ns;
    /* the same, CLOCK_MONOTONIC */
    uint64_t begun_fine_ns;
    /* POLL: there was one */
    bool cursor;
    uint64_t cursor_next;
    /* ACKNOWLEDGE: next of its snapshot; ASK */
    uint64_t position;
    struct engine_nonce witness;
    /* PUBLISH; ASK: of its position above */
    bool ask, wake;
    size_t names;
};

struct script_log {
    struct script_seen seen[SCRIPT_SEEN_MAX];
    size_t count;
    unsigned opened;
    /* Start waits until the coarse clock has moved, before it notes begun_ns: whatever was read
     * before the start is older. */
    bool start_takes_time;
};

/* An engine that takes its script from text (borrowed) and writes into *log (may be NULL). */
int engine_script_from(struct engine **out, etag_str text, struct script_log *log, struct why *why);

/* The nonce that a word of a script means. */
struct engine_nonce engine_script_nonce(const char *word);

#endif
