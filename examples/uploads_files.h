/* SPDX-License-Identifier: Apache-2.0 */
/*
 * /api/v1/files/NAME: bytes under a name of the client's (1 to 32 letters, digits, '.', '_', '-'),
 * in parts if asked for.
 *
 *   GET, HEAD   with Range, If-Range
 *   PUT         the whole file
 *   POST        appends to it
 *   PATCH       changes only what it is sent with
 *   DELETE
 *
 * The ETag is a hash of the bytes; there is no Last-Modified, as a file can change twice in a
 * second. A file that comes from another server can bring what it had there:
 *
 *   X-File-ETag                    an entity tag; empty: none. Whoever gives one must give another
 *                                  one for other bytes
 *   X-File-Last-Modified           an HTTP-date that is over; empty: none
 *   X-File-Last-Modified-Strong: 1 it is sure that the file did not change twice in that second:
 *   If-Range may name it
 *   X-File-Surrogate-Key           names of what its bytes were made from, as a list with blanks or
 *                                  commas; empty: none. They are sent as Surrogate-Key, where
 *                                  libetag finds them, as other caches do
 */
#ifndef UPLOADS_FILES_H
#define UPLOADS_FILES_H

#include "uploads_call.h"

/* files/NAME. False: it is not. */
MUST_USE bool files_route(struct call *call, etag_str path);
etag_str files_methods(void); /* for Allow, with ", " between */
void files_get(struct call *call);
void files_write(struct call *call);

#endif
