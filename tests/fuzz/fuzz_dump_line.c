/* SPDX-License-Identifier: Apache-2.0 */
/* Lines of a dump: whatever is read as an entry is written again as a line that means the same. */
#include "ctl_dump_line.h"
#include "fuzz.h"
#include "text.h"

/* The entry's line, or NULL: it is none. The caller frees it. */
static char *recode(struct dump_line *line, etag_str text)
{
    if (dump_line_parse(line, text) || line->kind != DUMP_ENTRY)
        return NULL;
    return doc_line(dump_entry_doc(&line->view));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    CLEANUP(cleanup_free) struct dump_line *line = calloc(1, sizeof(*line));
    if (!line || size > DUMP_LINE_BYTES_MAX)
        return 0;
    dump_line_init(line);
    CLEANUP(cleanup_free) char *once = recode(line, (etag_str){(const char *)data, size});
    CLEANUP(cleanup_free) char *twice = once ? recode(line, str_of(once)) : NULL;
    if (once)
        fuzz_require(twice && str_equal(str_of(once), str_of(twice)));
    dump_line_deinit(line);
    return 0;
}
