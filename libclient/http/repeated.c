/* SPDX-License-Identifier: Apache-2.0 */
/* Added names are checked when the client opens, so that a mistake shows at the first start and not
 * in an answer. */
#include "repeated.h"

#include "entry.h"
#include "text.h"

static bool may_be_repeated(etag_str name)
{
    return str_is_token(name) && name.len <= REPEATED_NAME_BYTES_MAX &&
           field_name_may_be_kept(name);
}

bool repeated_fields_copy(struct repeated_fields *out, const etag_str *names, size_t count)
{
    out->count = 0;
    if (count > REPEATED_FIELDS_MAX)
        return false;
    for (size_t i = 0; i < count; i++) {
        if (!may_be_repeated(names[i]))
            return false;
        memcpy(out->fields[i].name, names[i].data, names[i].len);
        out->fields[i].len = names[i].len;
    }
    out->count = count;
    return true;
}

bool repeated_fields_has(const struct repeated_fields *fields, etag_str name)
{
    if (field_name_is_standard(name))
        return true;
    for (size_t i = 0; i < fields->count; i++)
        if (str_equal_nocase(name, (etag_str){fields->fields[i].name, fields->fields[i].len}))
            return true;
    return false;
}
