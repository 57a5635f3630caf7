/* SPDX-License-Identifier: Apache-2.0 */
/* What all mutations share: the targets that a caller gave. */
#ifndef LIBETAG_MUTATE_H
#define LIBETAG_MUTATE_H

#include "client.h"

/* Makes their surrogate keys those of a fill, and checks them. *out: borrows what they borrow, and
 * until the next call from the client. Errors: INVALID, SYSTEM (no memory). */
MUST_USE etag_status mutate_targets(struct etag_client *client, const etag_targets *given,
                                    etag_targets *out);

#endif
