/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Field sets as a store's record holds them: the length in the set and that of the record may
 * differ. (In the shared memory the one is taken from the other: fuzz_mapping.) What is taken lies
 * within the set and packs to the same bytes.
 */
#include "fuzz.h"

#include "entry.h"

#include <string.h>

static void require_within(etag_str text, const uint8_t *set, size_t len)
{
    const uintptr_t from = (uintptr_t)text.data, start = (uintptr_t)set;

    fuzz_require(text.len == 0 || (from >= start && from - start <= len));
    fuzz_require(text.len == 0 || text.len <= len - (from - start));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct kept_field fields[FIELDS_PER_ENTRY_MAX];
    uint8_t packed[FIELDSET_BYTES_MAX];
    const int count = fieldset_parse(data, size, fields);

    fuzz_require(count >= -1 && count <= FIELDS_PER_ENTRY_MAX);
    if (count <= 0) {
        fuzz_require(count < 0 || size == 0);
        return 0;
    }
    const size_t len = data[0] | (size_t)data[1] << 8;
    fuzz_require(len <= size && len <= FIELDSET_BYTES_MAX);
    for (int i = 0; i < count; i++) {
        if (fields[i].kind == FIELDSET_EXPIRES)
            continue;
        require_within(fields[i].field.name, data, len);
        require_within(fields[i].field.value, data, len);
    }
    fuzz_require(fieldset_pack(packed, fields, (size_t)count) == (int)len);
    fuzz_require(memcmp(packed, data, len) == 0);
    return 0;
}
