/* SPDX-License-Identifier: Apache-2.0 */
/* The least that any evaluation could do. In a shared library of its own, so that calling it costs
 * what calling libetag does. */
#ifndef ETAG_BENCH_EVALUATE_PEER_H
#define ETAG_BENCH_EVALUATE_PEER_H

#include <etag/etag.h>

/* Not modified where the first field's value is, byte for byte, the current entity tag. */
ETAG_API etag_verdict peer_memcmp(const etag_request *request, const etag_validators *validators);

#endif
