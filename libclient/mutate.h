/* SPDX-License-Identifier: Apache-2.0 */
/* What all mutations share: the targets that a caller gave. */
#ifndef LIBETAG_MUTATE_H
#define LIBETAG_MUTATE_H

#include "client.h"

/* Checks them. *out: borrows what they borrow. Errors: INVALID. */
MUST_USE etag_status mutate_targets(struct etag_client *client, const etag_targets *given,
                                    etag_targets *out);

#endif
