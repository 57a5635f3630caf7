/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a response says to invalidate: names collected from it.
 */
#ifndef ETAG_CACHE_INVALIDATE_H
#define ETAG_CACHE_INVALIDATE_H

#include "etag_cache.h"

struct names {
    ngx_array_t resources;  /* of etag_resource */
    ngx_array_t prefixes;   /* of etag_resource */
    ngx_array_t surrogates; /* of etag_str */
    bool everything;
};

ngx_int_t names_init(struct names *names, ngx_pool_t *pool);
bool names_any(const struct names *names);
etag_targets names_targets(const struct names *names);

/* A resource, if it can be one (not if it is too long, say). One with dot segments names what they lead to. */
ngx_int_t names_add_resource(struct names *names, const etag_resource *resource);

/* The response's Etag-Cache-Invalidate fields. base: of paths without a host. */
bool names_has_fields(ngx_http_request_t *http);
void names_add_fields(struct names *names, ngx_http_request_t *http, const etag_resource *base);
/* The client does not get them. */
void names_hide_fields(ngx_http_request_t *http);

/* The resources of Location and Content-Location, of the same host. */
ngx_int_t names_add_locations(struct names *names, ngx_http_request_t *http,
                              const etag_resource *base);

/* Of DELETE, MOVE and COPY: the request's Destination, and what lies below those of the names that end in '/'. */
ngx_int_t names_add_collections(struct names *names, ngx_http_request_t *http,
                                const etag_resource *base);

#endif
