/* SPDX-License-Identifier: Apache-2.0 */
/* The header fields that a 304 repeats: those of RFC 9110 section 15.4.5, and those that the
 * client's options add. */
#ifndef LIBETAG_REPEATED_H
#define LIBETAG_REPEATED_H

#include "bounds.h"
#include "cleanup.h"

#include <etag/etag.h>

/* etag_client_options.repeated_fields, copied. */
struct repeated_fields {
    size_t count;
    struct {
        size_t len;
        char name[REPEATED_NAME_BYTES_MAX];
    } fields[REPEATED_FIELDS_MAX];
};

/* Copies the names. Returns false if there are too many, or one is too long, no field name, or must
 * not be repeated. */
MUST_USE bool repeated_fields_copy(struct repeated_fields *out, const etag_str *names,
                                   size_t count);

bool repeated_fields_has(const struct repeated_fields *fields, etag_str name);

#endif
