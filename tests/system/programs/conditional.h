/* SPDX-License-Identifier: Apache-2.0 */
/* A conditional request for a public page, as front ends of the tests make it: GET with
 * If-None-Match: "v1". */
#ifndef TESTS_SYSTEM_CONDITIONAL_H
#define TESTS_SYSTEM_CONDITIONAL_H

#include <etag/etag.h>

struct conditional {
    etag_key key;
    etag_field condition;
    /* points into this struct: it is not copied */
    etag_request request;
};

/* resource: borrowed. */
static inline void conditional_init(struct conditional *out, etag_resource resource)
{
    ETAG_INIT(&out->key);
    out->key.resource = resource;
    out->key.scope.kind = ETAG_SCOPE_PUBLIC;
    out->condition = (etag_field){ETAG_LIT("If-None-Match"), ETAG_LIT("\"v1\"")};
    ETAG_INIT(&out->request);
    out->request.method = ETAG_LIT("GET");
    out->request.key = &out->key;
    out->request.fields = &out->condition;
    out->request.field_count = 1;
}

#endif
