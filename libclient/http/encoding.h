/* SPDX-License-Identifier: Apache-2.0 */
/* Names of content codings: RFC 9110 section 8.4.1. What a request asks for:
 * etag_encoding_select(). */
#ifndef LIBETAG_ENCODING_H
#define LIBETAG_ENCODING_H

#include "cleanup.h"

#include <etag/etag.h>

/* Returns the coding that the alias x-gzip or x-compress means; any other name unchanged. */
MUST_USE etag_str encoding_canonical(etag_str coding);

#endif
