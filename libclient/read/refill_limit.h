/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How often the fields of one key's entry are replaced by this client. A max-age that counts down
 * or a Server-Timing makes each answer's fields other ones, and each would be a message.
 *
 * A key whose fields alone differed has a window of a second, which a fill of it begins. Other
 * fields than that fill's are not sent within the window: the entry, which is wrong by then, is
 * removed once (a retire), and until the window ends the key has no entry, so that it is rendered.
 * The next answer after it fills again. So a key costs at most two messages a second, and no 304
 * repeats fields that a later answer replaced for longer than that retire is on its way.
 *
 * Of several clients each knows its own answers only. One that has no record of the key may fill it
 * within another's window; that one's next answer, where its fields differ, retires the new entry
 * too.
 */
#ifndef LIBETAG_REFILL_LIMIT_H
#define LIBETAG_REFILL_LIMIT_H

#include "cleanup.h"
#include "siphash.h"

#include <stdbool.h>
#include <stdint.h>

/* Remembers this many keys. One more is sent each time, as a miss is. */
#define REFILL_KEYS_MAX 1024u
#define REFILL_WINDOW_NS UINT64_C(1000000000)

struct refill_limit;

MUST_USE struct refill_limit *refill_limit_new(void); /* NULL: no memory */
struct refill_limit *
refill_limit_free(struct refill_limit *limit); /* NULL is allowed. Returns NULL */

enum refill_turn {
    REFILL_TURN_SEND,
    /* instead: remove the entry, and tell refill_limit_retired() */
    REFILL_TURN_RETIRE,
    REFILL_TURN_WAIT,
};

/* An answer to a key. */
struct refill_answer {
    struct hash128 fingerprint;
    /* a hash of its fields, not 0 */
    uint64_t said;
    /* and of the entry that it differs from, not 0 */
    uint64_t entry;
    /* of any clock that goes forward */
    uint64_t now_ns;
};

/* The key has a current entry, whose fields alone differ from the answer's. limit may be NULL in
 * all of these. */
enum refill_turn refill_limit_differs(struct refill_limit *limit, struct refill_answer answer);

/* The key has no entry, or an entry that is not this answer's in more than the fields. Never
 * RETIRE. missing: it has none. */
enum refill_turn refill_limit_fills(struct refill_limit *limit, struct hash128 fingerprint,
                                    bool missing, uint64_t now_ns);

/* What was said to be SENT could not be. */
void refill_limit_unsent(struct refill_limit *limit, struct hash128 fingerprint);

/* The retire was sent. */
void refill_limit_retired(struct refill_limit *limit, struct refill_answer answer);

#endif
