/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One request on its way to one answer, and what all kinds of resources do alike: the two calls of
 * etagd around a rendering, the transaction of a write, and the answers that are no representation.
 */
#ifndef UPLOADS_CALL_H
#define UPLOADS_CALL_H

#include "uploads_api.h"

#define API_PREFIX "/api/v1/"
#define API_FRESH "max-age=60, must-revalidate"
#define NAME_BYTES_MAX 64

struct call {
    struct api *api;
    const struct http_request *request;
    struct http_answer *answer;
    struct principal principal;
    /* What it is about: a list, a row or a file. */
    /* NULL: a file */
    const struct resource *resource;
    /* of the row; 0: the list */
    int64_t id;
    etag_str file;
    /* Set by call_name(). */
    /* "customer:7", which is a surrogate key too: all that is theirs */
    char scope[NAME_BYTES_MAX];
    etag_key key;
    etag_request conditions;
    /* set by the change of a write to a row: of the row, also of a new one */
    int64_t written_id;
};

bool text_is(etag_str s, const char *text);
bool call_is(const struct call *call, const char *method);

/* ---- Answers ---- */

/* json: malloc'ed, consumed; NULL: none. */
void answer_plain(struct http_answer *answer, unsigned status, char *json);
void answer_error(struct http_answer *answer, unsigned status, const char *word,
                  const char *detail);
void answer_db_error(struct call *call, enum db_status status);
/* With the response's fields; the body is the caller's. */
void answer_representation(struct http_answer *answer, unsigned status, const etag_entry *response);

/* ---- Around a rendering ---- */

/* The key, of who asks for what; the conditions. To be called once both are known. */
void call_name(struct call *call);

/* 304, 412, 428 from shared memory. True: answered. */
MUST_USE bool call_precheck(struct call *call, etag_answer *known);

/* Corrects what the cache has, and judges the conditions with the response's own validators. True:
 * answered; else known->range says whether a part may be sent. */
MUST_USE bool call_finish(struct call *call, const etag_entry *response, etag_answer *known);

/* Answers that reading failed. What is not there must not be in the cache either. */
void call_finish_error(struct call *call, enum db_status status, etag_answer *known);

/* ---- Around a write ---- */

/* Both run inside the write transaction. */
struct write_steps {
    /* What is there now, of which the text belongs to write. DB_NOT_FOUND: nothing is, which suits
     * a PUT. */
    enum db_status (*current)(struct call *call, void *write, etag_validators *out);
    /* The change, and the names of what it makes stale, for the outbox. */
    enum db_status (*change)(struct call *call, void *write);
};

/* Judges the conditions, changes, commits and tells etagd. False: answered, with what went wrong.
* True: done and published, and answer->status is 201 if there was nothing before, else 200. */
MUST_USE bool call_write(struct call *call, const struct write_steps *steps, void *write);

#endif
