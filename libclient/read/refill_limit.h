/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Limits how often this client replaces the fields of one key's entry. With a max-age that counts
 * down, or a Server-Timing, each answer has different fields, and each would cause a message.
 *
 * When only the fields of a key differ, a fill begins a window of one second. Within it the client
 * sends no other fields; it removes the entry, whose fields are outdated, once (a retire). Then the
 * key has no entry until the window ends, so it is rendered. The next answer after the window fills
 * again. So a key causes at most two messages a second, and a 304 repeats outdated fields only
 * until the retire has arrived.
 *
 * A client knows only its own answers. Another client without a record of the key may fill it
 * within this one's window; if the fields of this client's next answer differ, that answer retires
 * the new entry too.
 */
#ifndef LIBETAG_REFILL_LIMIT_H
#define LIBETAG_REFILL_LIMIT_H

#include "cleanup.h"
#include "siphash.h"

#include <stdbool.h>
#include <stdint.h>

/* So many keys are remembered. A fill of any further key is sent each time, as after a miss. */
#define REFILL_KEYS_MAX 1024u
#define REFILL_WINDOW_NS UINT64_C(1000000000)

struct refill_limit;

MUST_USE struct refill_limit *refill_limit_new(void); /* NULL: no memory */
struct refill_limit *
refill_limit_free(struct refill_limit *limit); /* NULL is allowed. Returns NULL */

enum refill_turn {
    REFILL_TURN_SEND,
    /* remove the entry instead, and call refill_limit_retired() */
    REFILL_TURN_RETIRE,
    REFILL_TURN_WAIT,
};

/* An answer under a key. */
struct refill_answer {
    struct hash128 fingerprint;
    /* a hash of its fields, not 0 */
    uint64_t said;
    /* a hash of the fields of the entry that it differs from, not 0 */
    uint64_t entry;
    /* the time, of any monotonic clock */
    uint64_t now_ns;
};

/* Decides about an answer that differs from the key's current entry in the fields alone. limit may
 * be NULL in all of these. */
enum refill_turn refill_limit_differs(struct refill_limit *limit, struct refill_answer answer);

/* Decides about an answer whose key has no entry (missing), or one that differs in more than the
 * fields. Never RETIRE. */
enum refill_turn refill_limit_fills(struct refill_limit *limit, struct hash128 fingerprint,
                                    bool missing, uint64_t now_ns);

/* The fill of a REFILL_TURN_SEND could not be sent. */
void refill_limit_unsent(struct refill_limit *limit, struct hash128 fingerprint);

/* The retire was sent. */
void refill_limit_retired(struct refill_limit *limit, struct refill_answer answer);

#endif
