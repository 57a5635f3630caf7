/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads the tables of tests/cases: a header line with the columns' names, then one case a line,
 * cells divided by tabs, escapes as tests/cases/README.md lists them. A table that cannot be read
 * ends the test program: it must never look like a pass.
 *
 *   struct tsv table;
 *   tsv_open(&table, "keys.tsv");
 *   while (tsv_next(&table)) {
 *       char host[TSV_CELL_BYTES_MAX];
 *       const size_t len = tsv_text(&table, "host", host, sizeof(host));
 *       ...
 *   }
 *   tsv_close(&table);
 */
#ifndef ETAG_TESTS_TSV_H
#define ETAG_TESTS_TSV_H

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TSV_COLUMNS_MAX 24
#define TSV_CELL_BYTES_MAX (256u * 1024u)

struct tsv {
    FILE *file;
    /* borrowed */
    const char *name;
    unsigned line_number;
    size_t column_count;
    /* cells below point into these */
    char *header, *line;
    size_t header_bytes, line_bytes;
    char *columns[TSV_COLUMNS_MAX];
    char *cells[TSV_COLUMNS_MAX];
};

__attribute__((noreturn)) static inline void tsv_die(const struct tsv *t, const char *what,
                                                     const char *detail)
{
    fprintf(stderr, "%s:%u: %s: %s\n", t->name, t->line_number, what, detail);
    abort();
}

/* The next line, split; false at the end of the table. Empty lines are skipped. */
bool tsv_next(struct tsv *t);

/* name: a file of tests/cases; borrowed until tsv_close(). */
void tsv_open(struct tsv *t, const char *name);

void tsv_close(struct tsv *t);

/* A cell of the current line as it stands there; valid until the next tsv_next(). */
const char *tsv_raw(const struct tsv *t, const char *column);

/* Resolves the escapes of any text; out gets a NUL behind it as well. Returns the length. */
size_t tsv_unescape(const struct tsv *t, const char *raw, char *out, size_t capacity);

/* A cell of the current line with its escapes resolved. */
size_t tsv_text(const struct tsv *t, const char *column, char *out, size_t capacity);

#endif
