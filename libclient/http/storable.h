/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Storability: whether a rendered response may be stored, and what of it a 304 repeats (RFC 9110
 * section 15.4.5, RFC 9111 section 3). Decided here, once, for every integration.
 */
#ifndef LIBETAG_STORABLE_H
#define LIBETAG_STORABLE_H

#include "entry.h"
#include "repeated.h"
#include "surrogates.h"

/* Memory for what the reduced entry points to besides the caller's. */
struct storable_scratch {
    struct kept_field fields[FIELDS_PER_ENTRY_MAX];
    struct surrogate_set surrogates;
};

/* Reduces a response, which has a key, to an entry that borrows from it; also one that must not be
 * stored, as its own 304 repeats the same fields. Returns ETAG_REASON_NONE, or why it must not be
 * stored; *why (static text) says more where there is more to say, else NULL. The key is copied as
 * it is, not checked. */
MUST_USE etag_reason storable_reduce(const etag_entry *response,
                                     const struct repeated_fields *repeated, struct entry *out,
                                     struct storable_scratch *scratch, const char **why);

#endif
