/* SPDX-License-Identifier: Apache-2.0 */
/* The error of one call: the status for the caller's code and a sentence for its log. */
#ifndef LIBETAG_FAULT_H
#define LIBETAG_FAULT_H

#include "cleanup.h"

#include <etag/etag.h>

#define FAULT_TEXT_BYTES_MAX                                                                       \
    640 /* ERROR_TEXT_BYTES_MAX of the daemon's text, and the words around it */

struct fault {
    etag_status status;
    char text[FAULT_TEXT_BYTES_MAX];
};

/* Sets both and returns the status, so that a failing function can return its fault in one line. */
etag_status fault_set(struct fault *fault, etag_status status, const char *format, ...)
    PRINTF_LIKE(3, 4);

/* ETAG_SYSTEM: "what: text of the negative errno". */
etag_status fault_system(struct fault *fault, int error, const char *what);

static inline void fault_clear(struct fault *fault)
{
    fault->status = ETAG_OK;
    fault->text[0] = '\0';
}

#endif
