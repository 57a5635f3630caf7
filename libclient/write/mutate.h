/* SPDX-License-Identifier: Apache-2.0 */
/* Checks the targets of every mutation. */
#ifndef LIBETAG_MUTATE_H
#define LIBETAG_MUTATE_H

#include "client.h"

/* Checks the given targets and converts their surrogate keys as a fill does. *out borrows what the
 * targets borrow, and from the client until its next call. Errors: INVALID, SYSTEM (no memory). */
MUST_USE etag_status mutate_targets(struct etag_client *client, const etag_targets *given,
                                    etag_targets *out);

#endif
