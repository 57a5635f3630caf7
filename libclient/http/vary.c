/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The key's selected request header fields. Several lines of a field are one value, joined as RFC
 * 9110 section 5.3 allows, so that a client which splits its field gets the same entry; an absent
 * field stays absent, which is not empty.
 */
#include "text.h"

/* Where joined values go. */
struct joined {
    char *text;
    size_t size, len;
    bool full;
};

static void joined_add(struct joined *j, etag_str piece)
{
    if (j->full || piece.len > j->size - j->len) {
        j->full = true;
        return;
    }
    if (piece.len > 0)
        memcpy(j->text + j->len, piece.data, piece.len);
    j->len += piece.len;
}

/* The field's one value; absent: the request has no such field. Where it does not fit, j->full. */
static etag_str value_of(struct joined *j, etag_str name, const etag_field *fields,
                         size_t field_count)
{
    etag_str value = {0};
    size_t line_count = 0;
    const size_t start = j->len;

    for (size_t i = 0; i < field_count; i++) {
        if (!fields[i].value.data || !str_equal_nocase(fields[i].name, name))
            continue;
        const etag_str line = str_trim(fields[i].value);
        if (line_count++ == 0) {
            value = line;
            continue;
        }
        if (line_count == 2)
            joined_add(j, value);
        joined_add(j, ETAG_LIT(", "));
        joined_add(j, line);
    }
    return line_count > 1 ? (etag_str){j->text + start, j->len - start} : value;
}

etag_status etag_vary_select(const etag_str *names, size_t name_count, const etag_field *fields,
                             size_t field_count, etag_field *vary, char *text, size_t text_size)
{
    struct joined joined = {.text = text, .size = text_size};

    for (size_t i = 0; i < name_count; i++) {
        vary[i] = (etag_field){names[i], value_of(&joined, names[i], fields, field_count)};
        if (joined.full)
            vary[i] = (etag_field){
                0}; /* no key can be made of that: half a value would be another key */
    }
    return joined.full ? ETAG_INVALID : ETAG_OK;
}
