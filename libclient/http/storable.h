/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Decides for every integration whether a rendered response may be stored, and which of its fields
 * a 304 repeats (RFC 9110 section 15.4.5, RFC 9111 section 3).
 */
#ifndef LIBETAG_STORABLE_H
#define LIBETAG_STORABLE_H

#include "entry.h"
#include "repeated.h"
#include "surrogates.h"

/* Memory into which the reduced entry points, besides the caller's. */
struct storable_scratch {
    struct kept_field fields[FIELDS_PER_ENTRY_MAX];
    struct surrogate_set surrogates;
};

/* Reduces a response with a key to an entry that borrows from it. Reduces also a response that must
 * not be stored, because its own 304 repeats the same fields. Returns ETAG_REASON_NONE, or why it
 * must not be stored; *why has details (static text), or NULL. Copies the key without checking
 * it. */
MUST_USE etag_reason storable_reduce(const etag_entry *response,
                                     const struct repeated_fields *repeated, struct entry *out,
                                     struct storable_scratch *scratch, const char **why);

#endif
