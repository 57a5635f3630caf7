/* SPDX-License-Identifier: Apache-2.0 */
/* What a reader of the outbox has: see engine.h. */
#ifndef ETAG_RELAY_SNAPSHOT_H
#define ETAG_RELAY_SNAPSHOT_H

#include "engine.h"

/* Rule CURSOR_IS_SNAPSHOT: a position is covered if it is below `next` and was not running. */
bool snapshot_covers(const struct engine_snapshot *snapshot, uint64_t position);

/* *to gets an array of its own (free it), or is empty. 0 or -ENOMEM. */
MUST_USE int snapshot_copy(struct engine_snapshot *to, const struct engine_snapshot *from);

#endif
