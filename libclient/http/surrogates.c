/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An extra name costs a needless 200; a missing name costs a stale 304. So a list is read in both
 * ways, and an entry with more names than it has room for depends on groups of names (surrogate.h)
 * instead of on some of the names.
 */
#include "surrogates.h"

#include "key.h"
#include "numbers.h"
#include "text.h"

void surrogate_set_init(struct surrogate_set *set)
{
    set->count = set->made_count = 0;
    set->grouped = false;
    memset(set->groups, 0, sizeof(set->groups));
}

/* ---- One name ---- */

static void note_group(struct surrogate_set *set, etag_str name)
{
    const uint32_t group = surrogate_group(name);

    set->groups[group / 64] |= UINT64_C(1) << group % 64;
}

static bool has_name(const struct surrogate_set *set, etag_str name)
{
    for (size_t i = 0; i < set->count; i++)
        if (str_equal(set->names[i], name))
            return true;
    return false;
}

static void keep_name(struct surrogate_set *set, etag_str name, bool is_made)
{
    if (is_made) {
        char *const place = set->made[set->made_count++];
        memcpy(place, name.data, name.len);
        name.data = place;
    }
    set->names[set->count++] = name;
}

const char *surrogate_set_add(struct surrogate_set *set, etag_str name)
{
    char made[SURROGATE_MADE_BYTES];

    name = surrogate_name(name, made);
    const char *wrong = surrogate_check(name);
    if (wrong)
        return wrong;
    if (!set->grouped && has_name(set, name))
        return NULL;
    if (!set->grouped && set->count < SURROGATES_PER_ENTRY_MAX) {
        keep_name(set, name, name.data == made);
        return NULL;
    }
    for (size_t i = 0; !set->grouped && i < set->count; i++)
        note_group(set, set->names[i]);
    set->grouped = true;
    note_group(set, name);
    return NULL;
}

void surrogate_set_close(struct surrogate_set *set)
{
    if (!set->grouped)
        return;
    set->count = 0;
    for (uint32_t group = 0; group < SURROGATE_GROUPS; group++) {
        if (!(set->groups[group / 64] >> group % 64 & 1))
            continue;
        set->names[set->count] = surrogate_group_name(group, set->made[set->count]);
        set->count++;
    }
}

/* ---- Lists ---- */

static bool is_between(char c, bool by_commas)
{
    return char_is_blank(c) || (by_commas && surrogate_divides(c));
}

static bool divides_only(etag_str part)
{
    while (part.len > 0 && surrogate_divides(part.data[0]))
        part = str_skip(part, 1);
    return part.len == 0;
}

/* Django makes one word of a whole list that is not ISO 8859-1 (RFC 2047): the names in it are
 * hidden, the others too. */
static bool is_encoded_word(etag_str part)
{
    const etag_str end = ETAG_LIT("?=");

    return part.len > 4 && str_starts_with(part, ETAG_LIT("=?")) &&
           str_equal(str_skip(part, part.len - end.len), end);
}

/* The parts between blanks, or between commas too; empty ones are left out. */
static const char *add_parts(struct surrogate_set *set, etag_str list, bool by_commas)
{
    const char *wrong = NULL;

    while (list.len > 0 && !wrong) {
        size_t len = 0;
        while (len < list.len && !is_between(list.data[len], by_commas))
            len++;
        const etag_str part = {list.data, len};
        if (is_encoded_word(part))
            wrong = "a list of surrogate keys is encoded (RFC 2047): send it in UTF-8";
        else if (!divides_only(part))
            wrong = surrogate_set_add(set, part);
        list = str_skip(list, len < list.len ? len + 1 : len);
    }
    return wrong;
}

static bool has_commas(etag_str list)
{
    for (size_t i = 0; i < list.len; i++)
        if (surrogate_divides(list.data[i]))
            return true;
    return false;
}

/* Between blanks, a list with commas and without blanks is one name: of the list's own length, and
 * one clock more. Over SURROGATE_BYTES_MAX surrogate_name() makes the first name of it, which is
 * there already. */
const char *surrogate_set_add_list(struct surrogate_set *set, etag_str list)
{
    const char *wrong = add_parts(set, list, true);

    return wrong || !has_commas(list) ? wrong : add_parts(set, list, false);
}

bool surrogate_field(etag_str name)
{
    /* each of another length, so that one is compared */
    static const etag_str of_length[] = {
        [4] = STR_INIT("xkey"),           [9] = STR_INIT("cache-tag"),
        [10] = STR_INIT("cache-tags"),    [12] = STR_INIT("x-cache-tags"),
        [13] = STR_INIT("surrogate-key"), [14] = STR_INIT("x-magento-tags"),
    };

    return name.len < COUNT_OF(of_length) && name.len > 0 &&
           str_equal_nocase(name, of_length[name.len]);
}
