/* SPDX-License-Identifier: Apache-2.0 */
/* Tag lists: the input is one field line, walked by the library and by the reference. They must
 * agree. */
#include "entity_tag.h"
#include "fuzz.h"
#include "reference_evaluator.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *const text = (const char *)data;
    bool weak = false;
    struct entity_tag tag, before = {0};
    const bool valid = entity_tag_parse((etag_str){text, size}, &tag);

    fuzz_require(valid == (size > 0 && ref_entity_tag(text, size, 0, &weak) == size));
    if (valid)
        fuzz_require(tag.weak == weak && tag.opaque.len == size - (weak ? 2 : 0));

    size_t begin = 0, end = size;
    while (begin < end && ref_blank(text[begin]))
        begin++;
    while (end > begin && ref_blank(text[end - 1]))
        end--;
    const struct ref_list expected = ref_list(text + begin, end - begin, (etag_str){NULL, 0},
                                              false);
    etag_str rest = {text, size};
    size_t count = 0;
    int next;
    while ((next = entity_tag_next(&rest, &tag)) > 0) {
        fuzz_require(tag.opaque.len >= 2 && tag.opaque.data >= text &&
                     tag.opaque.data + tag.opaque.len <= text + size);
        fuzz_require(entity_tag_equal_weak(tag, tag));
        fuzz_require(entity_tag_equal_strong(tag, tag) == !tag.weak);
        fuzz_require(entity_tag_equal_suffixed(tag, tag));
        fuzz_require(count == 0 || !entity_tag_equal_weak(tag, before) ||
                     entity_tag_equal_suffixed(tag, before));
        before = tag;
        count++;
    }
    fuzz_require((next == 0) == expected.well_formed);
    if (next == 0)
        fuzz_require(count == expected.count && rest.len == 0);
    return 0;
}
