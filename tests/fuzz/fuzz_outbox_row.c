/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A row of the outbox, as anybody may have left it in the database: it is refused with a reason, or
 * it names only what the daemon takes, within the row's bytes; and what it names can be written
 * again, and read, as the same.
 */
#include "bounds.h"
#include "fuzz.h"
#include "outbox_row.h"
#include "targets.h"
#include "text.h"

#include <endian.h>

static void same_again(const etag_targets *targets, etag_str writer)
{
    struct outbox_rows rows = {0};
    struct arena arena;
    size_t names = 0;
    int error;

    arena_init(&arena, ARENA_BYTES_MAX);
    fuzz_require(outbox_rows_encode(&rows, targets, writer) == 0);
    for (etag_str rest = {(const char *)rows.bytes, rows.len}; rest.len > 0;) {
        etag_targets again;
        etag_str by;
        uint32_t len;
        memcpy(&len, rest.data, sizeof(len));
        len = be32toh(len);
        fuzz_require(len <= rest.len - sizeof(len));
        fuzz_require(!outbox_row_decode(&again, &by, &arena,
                                        (etag_str){rest.data + sizeof(len), len}, &error));
        fuzz_require(error == 0 && again.hold_ms == targets->hold_ms && str_equal(by, writer));
        names += targets_names(&again);
        rest = str_skip(rest, sizeof(len) + len);
    }
    fuzz_require(names == targets_names(targets));
    arena_deinit(&arena);
    free(rows.bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena arena;
    etag_targets targets;
    etag_str writer;
    int error;

    arena_init(&arena, ARENA_BYTES_MAX);
    const char *const wrong = outbox_row_decode(&targets, &writer, &arena,
                                                (etag_str){(const char *)data, size}, &error);
    fuzz_require(error == 0 && writer.len <= ENGINE_WRITER_BYTES_MAX);
    if (wrong)
        fuzz_require(outbox_row_is_empty(&targets) && writer.len == 0);
    else if (!outbox_row_is_empty(&targets))
        fuzz_require(!targets_check(&targets));
    if (!wrong && (!outbox_row_is_empty(&targets) || targets.hold_ms == 0))
        same_again(&targets, writer);
    arena_deinit(&arena);
    return 0;
}
