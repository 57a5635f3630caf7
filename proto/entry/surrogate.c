/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hashes of names have no key: they must be the same in every process, whichever daemon it talks
 * to. A collision of two names costs a needless 200, never a wrong 304.
 */
#include "surrogate.h"

#include "siphash.h"
#include "text.h"

#include <inttypes.h>
#include <stdio.h>

#define HASH_BEGIN "~hash-"
#define GROUP_BEGIN "~group-"

static const uint8_t no_key[SIPHASH_KEY_BYTES];

static etag_str trim_commas(etag_str name)
{
    while (name.len > 1 && surrogate_divides(name.data[0]))
        name = str_skip(name, 1);
    while (name.len > 1 && surrogate_divides(name.data[name.len - 1]))
        name.len--;
    return name;
}

/* The length of the first name of a list, which begins with a name. */
static size_t first_of_list(etag_str list)
{
    size_t len = 0;

    while (len < list.len && !surrogate_divides(list.data[len]))
        len++;
    return len;
}

enum spelling { SPELLING_PLAIN, SPELLING_FOREIGN, SPELLING_BAD };

static enum spelling spelling_of(etag_str name)
{
    enum spelling spelling = SPELLING_PLAIN;

    for (size_t i = 0; i < name.len; i++) {
        const uint8_t byte = (uint8_t)name.data[i];
        if (byte <= ' ' || byte == 0x7f)
            return SPELLING_BAD;
        if (byte > 0x7f)
            spelling = SPELLING_FOREIGN;
    }
    return spelling;
}

/* A name of that length has no other known spelling. */
#define LATIN1_BYTES_MAX 2048

/* By its form: lead bytes and as many that continue them. */
static bool is_utf8(etag_str name)
{
    size_t due = 0;

    for (size_t i = 0; i < name.len; i++) {
        const uint8_t byte = (uint8_t)name.data[i];
        if (due > 0 ? (byte & 0xc0) != 0x80 : (byte & 0xc0) == 0x80 || byte >= 0xf8)
            return false;
        due = due > 0 ? due - 1 : byte >= 0xf0 ? 3 : byte >= 0xe0 ? 2 : byte >= 0xc0 ? 1 : 0;
    }
    return due == 0;
}

/* Frameworks send header fields in ISO 8859-1, and their users name in UTF-8 what changed: both
 * have to mean the same. */
static struct hash128 hash_of(etag_str name)
{
    char text[2 * LATIN1_BYTES_MAX];
    size_t len = 0;

    if (name.len > LATIN1_BYTES_MAX || is_utf8(name))
        return siphash13_128(no_key, name.data, name.len);
    for (size_t i = 0; i < name.len; i++) {
        const uint8_t byte = (uint8_t)name.data[i];
        if (byte > 0x7f)
            text[len++] = (char)(0xc0 | byte >> 6);
        text[len++] = (char)(byte > 0x7f ? 0x80 | (byte & 0x3f) : byte);
    }
    return siphash13_128(no_key, text, len);
}

etag_str surrogate_name(etag_str name, char made[SURROGATE_MADE_BYTES])
{
    name = trim_commas(name);
    if (name.len > SURROGATE_BYTES_MAX)
        name.len = first_of_list(name);
    const enum spelling spelling = spelling_of(name);
    if (spelling == SPELLING_BAD || (spelling == SPELLING_PLAIN && name.len <= SURROGATE_BYTES_MAX))
        return name;
    const struct hash128 hash = hash_of(name);
    const int len = snprintf(made, SURROGATE_MADE_BYTES, HASH_BEGIN "%016" PRIx64 "%016" PRIx64,
                             hash.high, hash.low);
    return (etag_str){made, (size_t)len};
}

_Static_assert((SURROGATE_GROUPS & (SURROGATE_GROUPS - 1)) == 0 &&
                   SURROGATE_GROUPS <= SURROGATES_PER_ENTRY_MAX,
               "the groups of any number of names fit into an entry");

uint32_t surrogate_group(etag_str name)
{
    return (uint32_t)siphash13_64(no_key, name.data, name.len) & (SURROGATE_GROUPS - 1);
}

etag_str surrogate_group_name(uint32_t group, char made[SURROGATE_MADE_BYTES])
{
    const int len = snprintf(made, SURROGATE_MADE_BYTES, GROUP_BEGIN "%" PRIu32, group);

    return (etag_str){made, (size_t)len};
}

bool surrogate_is_group(etag_str name, uint32_t *group)
{
    char made[SURROGATE_MADE_BYTES];
    uint32_t number = 0;

    if (!str_starts_with(name, ETAG_LIT(GROUP_BEGIN)))
        return false;
    for (size_t i = strlen(GROUP_BEGIN); i < name.len && number < SURROGATE_GROUPS; i++)
        number = number * 10 + (uint32_t)(name.data[i] - '0');
    *group = number;
    return number < SURROGATE_GROUPS && str_equal(surrogate_group_name(number, made), name);
}

bool surrogate_reaches(etag_str mutated, etag_str depended)
{
    char made[SURROGATE_MADE_BYTES];

    return str_equal(mutated, depended) ||
           str_equal(surrogate_group_name(surrogate_group(mutated), made), depended);
}

/* ---- Families ---- */

/* The name's first colon; NULL: it has none. */
static const char *colon_of(etag_str name)
{
    return name.len > 0 ? memchr(name.data, ':', name.len) : NULL;
}

static etag_str family_before(etag_str name, const char *colon)
{
    if (colon)
        name.len = (size_t)(colon - name.data);
    return trim_commas(name);
}

etag_str surrogate_family(etag_str name)
{
    return family_before(name, colon_of(name));
}

etag_str surrogate_family_name(etag_str name, char made[SURROGATE_MADE_BYTES])
{
    return surrogate_name(surrogate_family(name), made);
}

/* What was hashed may have had any family, and a group has names of many. */
static bool hides_family(etag_str name)
{
    uint32_t group;

    if (name.data[0] != '~')
        return name.data[0] == ':';
    return str_starts_with(name, ETAG_LIT(HASH_BEGIN)) || surrogate_is_group(name, &group);
}

static bool has_family(const struct surrogate_families *families, etag_str family)
{
    for (size_t i = families->count; i > 0; i--) /* names of one come one after the other */
        if (str_equal(families->names[i - 1], family))
            return true;
    return false;
}

void surrogate_families_of(struct surrogate_families *out, const etag_str *names, size_t count)
{
    out->count = 0;
    out->all = false;
    for (size_t i = 0; i < count && !out->all; i++) {
        if (names[i].len == 0)
            continue;
        out->all = hides_family(names[i]);
        const char *const colon = colon_of(names[i]);
        if (out->all || !colon)
            continue;
        const etag_str family = family_before(names[i], colon);
        if (has_family(out, family))
            continue;
        out->all = out->count == FAMILIES_PER_ENTRY_MAX;
        if (!out->all)
            out->names[out->count++] = family;
    }
    if (out->all)
        out->count = 0;
}

bool surrogate_family_reaches(etag_str family, etag_str depended)
{
    return depended.len > 0 && (hides_family(depended) ||
                                str_equal(surrogate_family(family), surrogate_family(depended)));
}
