/* SPDX-License-Identifier: Apache-2.0 */
/* The spool's mark, and the names beside it: what is taken says the same when it is written
 * again. */
#include "fuzz.h"
#include "spool_format.h"
#include "text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct spool_mark mark, again;
    static char text[SPOOL_MARK_BYTES_MAX];
    char name[SPOOL_NAME_BYTES], made[SPOOL_NAME_BYTES];
    uint32_t number;

    if (spool_mark_parse((etag_str){(const char *)data, size}, &mark)) {
        fuzz_require(mark.id != 0 && mark.writer_count <= SPOOL_WRITERS_MAX);
        fuzz_require(strlen(mark.socket) > 0 || memchr(data, '\0', size));
        const size_t len = spool_mark_format(&mark, text);
        fuzz_require(len < sizeof(text));
        if (!memchr(data, '\0', size) && mark.version == SPOOL_VERSION) {
            fuzz_require(spool_mark_parse((etag_str){text, len}, &again));
            fuzz_require(memcmp(&mark, &again, sizeof(mark)) == 0);
        }
        for (size_t i = 0; i < mark.writer_count; i++)
            fuzz_require(spool_mark_counts(&mark, mark.writers[i]) ==
                         (mark.writers[i] != mark.nobody)); /* who is nobody writes nothing */
    }

    const size_t name_len = size < sizeof(name) - 1 ? size : sizeof(name) - 1;
    if (name_len > 0)
        memcpy(name, data, name_len);
    name[name_len] = '\0';
    const enum spool_name kind = spool_name_parse(name, &number);
    if (kind == SPOOL_NAME_EVENT || kind == SPOOL_NAME_ALL || kind == SPOOL_NAME_TAKEN) {
        fuzz_require(number < (kind == SPOOL_NAME_EVENT ? SPOOL_SLOTS : SPOOL_ALL_SLOTS));
        spool_name_make(kind, number, made);
        fuzz_require(strcmp(made, name) == 0);
    }
    return 0;
}
