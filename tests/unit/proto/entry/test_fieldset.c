/* SPDX-License-Identifier: Apache-2.0 */
#include "entry.h"
#include "numbers.h"
#include "testing.h"
#include "text.h"

static struct kept_field literal(etag_str name, etag_str value)
{
    return (struct kept_field){.kind = FIELDSET_LITERAL, .field = {name, value}};
}

static struct kept_field expires(int64_t offset_s)
{
    return (struct kept_field){.kind = FIELDSET_EXPIRES, .offset_s = offset_s};
}

static int sample(uint8_t out[FIELDSET_BYTES_MAX])
{
    const struct kept_field fields[] = {
        literal(ETAG_LIT("Cache-Control"), ETAG_LIT("max-age=60")),
        expires(-5),
        literal(ETAG_LIT("Vary"), ETAG_LIT("")),
    };

    return fieldset_pack(out, fields, 3);
}

TEST(what_is_packed_is_parsed)
{
    uint8_t bytes[FIELDSET_BYTES_MAX];
    struct kept_field fields[FIELDS_PER_ENTRY_MAX];
    const int len = sample(bytes);

    assert_int_equal(len, 4 + (4 + 13 + 10) + (4 + 8) + (4 + 4));
    assert_int_equal(fieldset_parse(bytes, (size_t)len, fields), 3);
    assert_int_equal(fields[0].kind, FIELDSET_LITERAL);
    assert_true(str_equal(fields[0].field.name, ETAG_LIT("Cache-Control")));
    assert_true(str_equal(fields[0].field.value, ETAG_LIT("max-age=60")));
    assert_int_equal(fields[1].kind, FIELDSET_EXPIRES);
    assert_int_equal(fields[1].offset_s, -5);
    assert_true(str_equal(fields[2].field.name, ETAG_LIT("Vary")));
    assert_non_null(fields[2].field.value.data); /* empty, not absent */
    assert_int_equal(fields[2].field.value.len, 0);
}

/* The daemon interns sets by their bytes. */
TEST(the_bytes_are_as_documented)
{
    const struct kept_field fields[] = {literal(ETAG_LIT("A"), ETAG_LIT("bc")), expires(258)};
    static const uint8_t expected[] = {23, 0, 2, 0, 0, 1, 2, 0, 'A', 'b', 'c', 1,
                                       0,  8, 0, 2, 1, 0, 0, 0, 0,   0,   0};
    uint8_t bytes[FIELDSET_BYTES_MAX];

    assert_int_equal(fieldset_pack(bytes, fields, 2), sizeof(expected));
    assert_memory_equal(bytes, expected, sizeof(expected));
}

TEST(no_fields_are_no_bytes)
{
    struct kept_field fields[FIELDS_PER_ENTRY_MAX];

    assert_int_equal(fieldset_pack(NULL, NULL, 0), 0);
    assert_int_equal(fieldset_parse(NULL, 0, fields), 0);
}

TEST(bounds_hold_to_the_byte)
{
    static char text[FIELDSET_BYTES_MAX + 1];

    memset(text, 'v', sizeof(text));
    uint8_t *bytes = malloc(FIELDSET_BYTES_MAX); /* exact: a sanitizer sees a byte too many */
    assert_non_null(bytes);
    struct kept_field fields[FIELDS_PER_ENTRY_MAX + 1], out[FIELDS_PER_ENTRY_MAX];
    const size_t room = FIELDSET_BYTES_MAX - 4 - 4 - 1;
    fields[0] = literal(ETAG_LIT("n"), (etag_str){text, room});
    assert_int_equal(fieldset_pack(bytes, fields, 1), FIELDSET_BYTES_MAX);
    assert_int_equal(fieldset_parse(bytes, FIELDSET_BYTES_MAX, out), 1);
    fields[0].field.value.len++;
    assert_int_equal(fieldset_pack(bytes, fields, 1), -1);
    fields[0].field.value.len = SIZE_MAX - 4;
    assert_int_equal(fieldset_pack(bytes, fields, 1), -1);
    fields[0] = literal((etag_str){text, 255}, ETAG_LIT(""));
    assert_int_equal(fieldset_pack(bytes, fields, 1), 4 + 4 + 255);
    fields[0].field.name.len = 256;
    assert_int_equal(fieldset_pack(bytes, fields, 1), -1);
    fields[0].field.name.len = 0;
    assert_int_equal(fieldset_pack(bytes, fields, 1), -1);

    for (size_t i = 0; i <= FIELDS_PER_ENTRY_MAX; i++)
        fields[i] = literal(ETAG_LIT("n"), (etag_str){NULL, 0});
    const int len = fieldset_pack(bytes, fields, FIELDS_PER_ENTRY_MAX);
    assert_int_equal(fieldset_parse(bytes, (size_t)len, out), FIELDS_PER_ENTRY_MAX);
    assert_int_equal(fieldset_pack(bytes, fields, FIELDS_PER_ENTRY_MAX + 1), -1);
    free(bytes);
}

/* A record in the pool ends at a unit; what stands behind the set is not part of it. */
TEST(bytes_behind_the_set_are_ignored)
{
    uint8_t bytes[FIELDSET_BYTES_MAX];
    struct kept_field fields[FIELDS_PER_ENTRY_MAX];

    memset(bytes, 0xee, sizeof(bytes));
    const int len = sample(bytes);
    assert_int_equal(fieldset_parse(bytes, (size_t)len + 17, fields), 3);
    assert_int_equal(fieldset_parse(bytes, (size_t)len - 1, fields), -1);
}

/* Any cut and any changed byte: refused, or fields that lie within the bytes. */
TEST(damage_stays_within_the_bytes)
{
    uint8_t whole[FIELDSET_BYTES_MAX];
    struct kept_field fields[FIELDS_PER_ENTRY_MAX];
    const size_t len = (size_t)sample(whole);

    for (size_t cut = 1; cut <= len; cut++) {
        uint8_t *bytes = malloc(cut);
        assert_non_null(bytes);
        for (size_t at = 0; at < cut; at++) {
            for (unsigned byte = 0; byte < 256; byte++) {
                memcpy(bytes, whole, cut);
                bytes[at] = (uint8_t)byte;
                const int count = fieldset_parse(bytes, cut, fields);
                assert_true(count == -1 || (count >= 1 && count <= FIELDS_PER_ENTRY_MAX));
                for (int i = 0; i < count; i++) {
                    const etag_field *f = &fields[i].field;
                    if (fields[i].kind == FIELDSET_EXPIRES)
                        continue;
                    assert_true(f->name.data > (char *)bytes && f->name.len > 0);
                    assert_true(f->value.data + f->value.len <= (char *)bytes + cut);
                }
            }
        }
        free(bytes);
    }
}

TEST(malformed_sets_are_refused)
{
    struct kept_field fields[FIELDS_PER_ENTRY_MAX];

    static const struct {
        const char *bytes;
        size_t len;
    } cases[] = {
        {"\x04\0\0\0", 4},                             /* no field at all */
        {"\x04\0\1\0", 4},                             /* fewer fields than it says */
        {"\x0a\0\1\1\0\1\1\0nv", 10},                  /* reserved byte */
        {"\x0a\0\2\0\0\1\1\0nv", 10},                  /* one field, two announced */
        {"\x0a\0\1\0\2\1\1\0nv", 10},                  /* unknown kind */
        {"\x0a\0\1\0\0\0\2\0nv", 10},                  /* no name */
        {"\x0a\0\1\0\0\1\2\0nv", 10},                  /* value beyond the end */
        {"\x0b\0\1\0\0\1\1\0nv\0", 11},                /* something behind the fields */
        {"\x0f\0\1\0\1\0\7\0\0\0\0\0\0\0\0", 15},      /* seven bytes of Expires */
        {"\x11\0\1\0\1\1\x08\0E\0\0\0\0\0\0\0\0", 17}, /* Expires with a name */
        {"\0\0\0\0", 4},
        {"\3\0\1", 3},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++)
        if (fieldset_parse(cases[i].bytes, cases[i].len, fields) != -1)
            fail_msg("case %zu is accepted", i);
    assert_int_equal(fieldset_parse("\x0a\0\1\0\0\1\1\0nv", 10, fields), 1);
}
