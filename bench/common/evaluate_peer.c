/* SPDX-License-Identifier: Apache-2.0 */
/* What a server does that gets If-None-Match wrong: it compares the whole field. The floor of being
 * right. */
#include "evaluate_peer.h"

#include <string.h>

etag_verdict peer_memcmp(const etag_request *request, const etag_validators *validators)
{
    const etag_str value = request->fields[0].value;

    return value.len == validators->etag.len &&
                   memcmp(value.data, validators->etag.data, value.len) == 0
               ? ETAG_NOT_MODIFIED
               : ETAG_PROCEED;
}
