/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is to be invalidated after a request: names, collected from what was answered.
 */
#ifndef ETAG_CACHE_INVALIDATE_H
#define ETAG_CACHE_INVALIDATE_H

#include "etag_cache.h"

/* Changed beats unknown, and that beats nothing. */
enum outcome { OUTCOME_NOTHING = 0, OUTCOME_UNKNOWN, OUTCOME_CHANGED };

struct names {
    /* of etag_resource */
    ngx_array_t resources;
    /* of etag_resource */
    ngx_array_t prefixes;
    /* of etag_str */
    ngx_array_t surrogates;
    /* of etag_str */
    ngx_array_t families;
    bool everything;
};

/* ---- Names (names.c) ---- */

/* The request's, which begin empty. NULL: no memory. */
struct names *request_names(struct request *request);

bool names_any(const struct names *names);
etag_targets names_targets(const struct names *names);

/* The rules are those of the first location that wanted it, since the write may have been done
 * there. NGX_DECLINED: none does. */
ngx_int_t names_wanted(struct request *request);

/* What one answer says. */
struct said {
    enum outcome outcome;
    /* of an outcome that is known */
    ngx_uint_t status;
    /* as it was said; NULL: nothing is known */
    const ngx_list_t *fields;
    /* as the client gets them; NULL: it does not, they are among the fields */
    const ngx_list_t *locations;
};

/* Adds what is to be invalidated after that answer. NGX_ERROR: no memory. */
ngx_int_t names_note(struct request *request, const struct said *said);

/* The client does not get the fields. */
void names_hide_fields(ngx_http_request_t *http);

/* ---- Attempts (attempts.c) ---- */

/* Puts itself before the content handler of the location that the request is in. */
void attempts_watch(struct request *request);

/* Notes the attempts that are not noted yet: NGX_OK. There are none: NGX_DECLINED. sent: header
 * fields of the answer to the client that nginx made of the last one's; NULL: it sends another. */
ngx_int_t attempts_note(struct request *request, const ngx_list_t *sent);

enum outcome attempts_outcome(ngx_uint_t status);

/* An answer of this type is a stream, which is left alone. */
bool attempts_is_grpc(const ngx_http_request_t *http, ngx_str_t answered);

#endif
