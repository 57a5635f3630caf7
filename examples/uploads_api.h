/* SPDX-License-Identifier: Apache-2.0 */
/* The API itself: what a request means, and how it uses etagd. Any HTTP server can carry it. */
#ifndef UPLOADS_API_H
#define UPLOADS_API_H

#include "uploads_db.h"
#include "uploads_http.h"
#include "uploads_publish.h"

#define API_COUNTERS(X)                                                                            \
    X(requests)            /* under /api/ */                                                       \
    X(renders)             /* representations made from the database */                            \
    X(not_modified)        /* 304, whoever found out */                                            \
    X(not_modified_cached) /* of these: from shared memory, without rendering */                   \
    X(precondition_failed) /* 412 */                                                               \
    X(writes)              /* committed */

struct api {
    struct db *db;
    etag_client *client;
    /* NULL: none. Other code may make another body of the same rows */
    const char *release;
    struct publisher *publisher;
    /* for files that bring no ETag */
    etag_hasher *hasher;
    /* 428 for a change that does not say which version it is of */
    bool require_if_match;
    struct {
#define API_COUNTER_FIELD(name) uint64_t name;
        API_COUNTERS(API_COUNTER_FIELD)
#undef API_COUNTER_FIELD
    } counters;
};

/* For struct http_handler; context is the struct api. */
etag_token api_begin(void *context);
void api_answer(void *context, const struct http_request *request, struct http_answer *answer);

#endif
