/* SPDX-License-Identifier: Apache-2.0 */
/* What is rendered in shadow mode, beside what the memory had. */
#ifndef LIBETAG_SHADOW_COMPARE_H
#define LIBETAG_SHADOW_COMPARE_H

#include "client.h"

/* The page of this key, which stands in scratch.key, was rendered for the lookup with this token,
 * with this ETag; absent: it is not there any more. Counts. True: it has the ETag that the memory
 * had. Changes scratch.entry. */
bool shadow_compare(struct etag_client *client, const etag_key *key, etag_token token,
                    etag_str etag);

#endif
