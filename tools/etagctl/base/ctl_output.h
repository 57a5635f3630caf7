/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What etagctl prints, for people and for programs. A command builds one document; --json prints it
 * as it is, else it is printed as aligned lines, or the command prints lines of its own. Text that
 * came from others is escaped in both.
 */
#ifndef ETAGCTL_OUTPUT_H
#define ETAGCTL_OUTPUT_H

#include "ctl.h"

/* A JSON value under construction. Whatever takes one consumes it. */
typedef struct json_t doc;

doc *doc_object(void);
doc *doc_array(void);
void doc_text(doc *object, const char *name, etag_str value); /* absent: null */
void doc_words(doc *object, const char *name, const char *value);
void doc_number(doc *object, const char *name, uint64_t value);
void doc_real(doc *object, const char *name, double value); /* to a thousandth */
void doc_bool(doc *object, const char *name, bool value);
void doc_number_or_null(doc *object, const char *name, uint64_t value); /* 0: null */
void doc_free(doc *value);                                              /* that was not used */
void doc_add(doc *object, const char *name, doc *child);                /* NULL: null */
void doc_append(doc *array, doc *child);
void doc_append_text(doc *array, etag_str value);
/* A header field under its name; several lines of one field become one (RFC 9110 section 5.3). */
void doc_field(doc *object, etag_field field);

/* Prints and consumes it. */
void output_doc(const struct ctl *ctl, doc *value);       /* JSON or aligned lines */
void output_json(doc *value);                             /* JSON on several lines */
void output_json_line(doc *value, const char *ends_with); /* JSON on one line */
void output_json_aside(
    doc *value); /* the same on standard error, where standard output is another program's */

/* Tells an error: a sentence on standard error; with --json also {"error", "status"} on standard
 * output. */
void output_error(const struct ctl *ctl, const char *status, const char *text);

/* Prints text of others: controls and all that is not ASCII as \xNN. */
void output_text(etag_str text);
/* The same, filled up with spaces to width; at least one after it. */
void output_text_padded(etag_str text, int width);

/* Text for people is at most this wide. */
#define OUTPUT_COLUMNS 80
/* Prints text of others from a column on, broken between words and indented to that column; ends
 * the line. */
void output_wrapped(const char *text, size_t column);

/* "2026-01-31T12:00:00.123Z", as in the daemon's log; NULL for 0. */
#define TIME_TEXT_BYTES 40
const char *time_text(uint64_t wall_ms, char out[TIME_TEXT_BYTES]);

/* Everything is out. False: it could not be written. */
MUST_USE bool output_end(void);

#endif
