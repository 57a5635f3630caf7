/* SPDX-License-Identifier: Apache-2.0 */
/* Compares a page that was rendered in shadow mode with what the memory had. */
#ifndef LIBETAG_SHADOW_COMPARE_H
#define LIBETAG_SHADOW_COMPARE_H

#include "client.h"

/* Call when the page of this key (canonical in scratch.key) was rendered for the lookup with this
 * token. etag: the page's; absent: the page no longer exists. Counts the outcome. Returns true if
 * the memory had the same ETag. Changes scratch.entry. */
bool shadow_compare(struct etag_client *client, const etag_key *key, etag_token token,
                    etag_str etag);

#endif
