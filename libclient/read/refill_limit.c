/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A table of fixed size: sets of four records, found by fingerprint. A new record replaces the one
 * whose window ends first, so a key is forgotten within its window only if five keys of one set
 * have changing fields at a time.
 *
 * Only refill_limit_differs() makes records, so a site whose fields do not change makes none.
 */
#include "refill_limit.h"

#include <stdlib.h>

#define WAYS 4u
#define SETS (REFILL_KEYS_MAX / WAYS)
_Static_assert((SETS & (SETS - 1)) == 0, "a set is taken from the low bits of a fingerprint");

struct record {
    /* {0, 0}: none */
    struct hash128 fingerprint;
    uint64_t window_end_ns;
    /* of the last fill; 0: not known */
    uint64_t said;
    /* the entry that was retired last within the window; 0: none */
    uint64_t gone;
};

struct refill_limit {
    struct record records[SETS][WAYS];
};

struct refill_limit *refill_limit_new(void)
{
    return calloc(1, sizeof(struct refill_limit));
}

struct refill_limit *refill_limit_free(struct refill_limit *limit)
{
    free(limit);
    return NULL;
}

static struct record *set_of(struct refill_limit *limit, struct hash128 fingerprint)
{
    return limit->records[fingerprint.low & (SETS - 1)];
}

static struct record *find(struct refill_limit *limit, struct hash128 fingerprint)
{
    const bool known = limit && (fingerprint.low != 0 || fingerprint.high != 0);
    struct record *set = known ? set_of(limit, fingerprint) : NULL;

    for (size_t i = 0; set && i < WAYS; i++)
        if (set[i].fingerprint.low == fingerprint.low &&
            set[i].fingerprint.high == fingerprint.high)
            return &set[i];
    return NULL;
}

/* The record of a key that has none: in place of the one whose window ends first. */
static struct record *displace(struct refill_limit *limit, struct hash128 fingerprint)
{
    struct record *set = set_of(limit, fingerprint);
    struct record *first = set;

    for (size_t i = 1; i < WAYS; i++)
        if (set[i].window_end_ns < first->window_end_ns)
            first = &set[i];
    first->fingerprint = fingerprint;
    return first;
}

static enum refill_turn begin_window(struct record *record, uint64_t said, uint64_t now_ns)
{
    record->window_end_ns = now_ns + REFILL_WINDOW_NS;
    record->said = said;
    record->gone = 0;
    return REFILL_TURN_SEND;
}

enum refill_turn refill_limit_differs(struct refill_limit *limit, struct refill_answer answer)
{
    struct record *record = find(limit, answer.fingerprint);

    if (!limit)
        return REFILL_TURN_SEND;
    if (!record)
        return begin_window(displace(limit, answer.fingerprint), answer.said, answer.now_ns);
    if (answer.now_ns >= record->window_end_ns)
        return begin_window(record, answer.said, answer.now_ns);
    /* What was sent last may be on its way yet: the entry is not wrong by what it will be, or is
     * about to go. Another entry than the one that was retired came from another client since. */
    return record->said == answer.said || record->gone == answer.entry ? REFILL_TURN_WAIT
                                                                       : REFILL_TURN_RETIRE;
}

enum refill_turn refill_limit_fills(struct refill_limit *limit, struct hash128 fingerprint,
                                    bool missing, uint64_t now_ns)
{
    struct record *record = find(limit, fingerprint);

    if (!record)
        return REFILL_TURN_SEND;
    if (now_ns >= record->window_end_ns)
        return begin_window(record, 0, now_ns);
    /* Retired, by this client or by another one that has seen its fields change. */
    if (missing)
        return REFILL_TURN_WAIT;
    record->said = record->gone = 0;
    return REFILL_TURN_SEND;
}

void refill_limit_unsent(struct refill_limit *limit, struct hash128 fingerprint)
{
    struct record *record = find(limit, fingerprint);

    if (record)
        record->window_end_ns = 0;
}

void refill_limit_retired(struct refill_limit *limit, struct refill_answer answer)
{
    struct record *record = find(limit, answer.fingerprint);

    if (record)
        record->gone = answer.entry;
}
