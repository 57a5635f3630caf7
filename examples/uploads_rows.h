/* SPDX-License-Identifier: Apache-2.0 */
/* The resources of the table: /api/v1/RESOURCE, a list with pages and filters, and
 * /api/v1/RESOURCE/ID, a row. */
#ifndef UPLOADS_ROWS_H
#define UPLOADS_ROWS_H

#include "uploads_call.h"

/* RESOURCE or RESOURCE/ID. False: it is neither. */
MUST_USE bool rows_route(struct call *call, etag_str path);
etag_str rows_methods(const struct call *call); /* for Allow, with ", " between */
void rows_get(struct call *call);
void rows_write(struct call *call);

#endif
