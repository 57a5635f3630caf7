/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The lines of a dump, one JSON object each: a head, entries, an end. Both halves of the format stand in ctl_dump_line.c.
 * Text that is not UTF-8 is {"hex": "c3e4"}: every byte comes back as it was.
 */
#ifndef ETAGCTL_DUMP_LINE_H
#define ETAGCTL_DUMP_LINE_H

#include "ctl_output.h"
#include "message.h"

#define DUMP_VERSION 1
#define DUMP_LINE_BYTES_MAX                                                                        \
    (1024u * 1024u) /* an entry of the longest names, all of them escaped, takes half of it */
#define DUMP_WHY_BYTES 256

struct dump_head {
    uint64_t incarnation; /* random id of the daemon's run */
    uint64_t wall_ms;
    uint64_t clock_ns; /* CLOCK_MONOTONIC_COARSE of the same moment */
};

doc *dump_head_doc(const struct dump_head *head, const char *software);
doc *dump_entry_doc(const struct entry_view *view);
doc *dump_end_doc(uint64_t entries);

/* A line that was read; what it points to is valid until the next dump_line_parse(). Large. */
struct dump_line {
    enum { DUMP_HEAD, DUMP_ENTRY, DUMP_END } kind;
    struct dump_head head;
    struct entry_view view;
    uint64_t entries; /* DUMP_END */
    struct kept_field fields[FIELDS_PER_ENTRY_MAX];
    etag_str surrogates[SURROGATES_PER_ENTRY_MAX];
    etag_field vary[VARY_COUNT_MAX];
    doc *json;
    struct arena arena; /* bytes that were hex */
    char why[DUMP_WHY_BYTES];
};

void dump_line_init(struct dump_line *line);
void dump_line_deinit(struct dump_line *line);
/* NULL, or what is wrong with it. */
MUST_USE const char *dump_line_parse(struct dump_line *line, etag_str text);

#endif
