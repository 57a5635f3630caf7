/* SPDX-License-Identifier: Apache-2.0 */
/* Names of content codings: RFC 9110 section 8.4.1. What a request asks for:
 * etag_encoding_select(). */
#ifndef LIBETAG_ENCODING_H
#define LIBETAG_ENCODING_H

#include "cleanup.h"

#include <etag/etag.h>

/* The name that the alias x-gzip or x-compress stands for; any other name as it is. */
MUST_USE etag_str encoding_canonical(etag_str coding);

#endif
