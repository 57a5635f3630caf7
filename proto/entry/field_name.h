/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which header fields an entry may keep, and so a 304 from memory may carry. One rule for all:
 * libetag's options, the daemon when a fill comes and when it loads its store, libetag when it
 * makes an answer of what the index says.
 */
#ifndef ETAG_PROTO_FIELD_NAME_H
#define ETAG_PROTO_FIELD_NAME_H

#include "cleanup.h"

#include <etag/etag.h>
#include <stdbool.h>

/* Cache-Control, Expires, Vary: what a 304 has to repeat (RFC 9110 section 15.4.5) besides what the
 * entry itself has. Whoever reads an entry repeats these; any other only where its own options name
 * it. */
MUST_USE bool field_name_is_standard(etag_str name);

/* False: no entry keeps it, whatever anybody configures. Does not check that it is a token. */
MUST_USE bool field_name_may_be_kept(etag_str name);

#endif
