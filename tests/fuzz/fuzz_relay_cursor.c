/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A cursor as the daemon kept it, or whatever a damaged state holds in its place: it is refused, or
 * it is one whose running positions are covered by nothing, and which is packed as the same.
 */
#include "bounds.h"
#include "cursor.h"
#include "fuzz.h"
#include "snapshot.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t packed[CURSOR_BYTES_MAX];
    struct cursor cursor = {0}, again = {0};

    const int r = cursor_unpack(&cursor, (etag_str){(const char *)data, size});
    fuzz_require(cursor.there == (r == 0 && size > 0));
    for (size_t i = 0; i < cursor.snapshot.running_count; i++)
        fuzz_require(!snapshot_covers(&cursor.snapshot, cursor.snapshot.running[i]));
    if (cursor.there) {
        const size_t len = cursor_pack(&cursor, packed);
        fuzz_require(cursor_unpack(&again, (etag_str){(const char *)packed, len}) == 0);
        fuzz_require(again.snapshot.next == cursor.snapshot.next &&
                     again.snapshot.running_count == cursor.snapshot.running_count &&
                     again.witnessed == cursor.witnessed &&
                     again.origin.system == cursor.origin.system);
    }
    cursor_deinit(&cursor);
    cursor_deinit(&again);
    return 0;
}
