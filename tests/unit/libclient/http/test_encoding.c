/* SPDX-License-Identifier: Apache-2.0 */
/* Accept-Encoding: the table of tests/cases, each row also with its lines joined; names of
 * codings. */
#include "encoding.h"

#include "numbers.h"
#include "testing.h"
#include "text.h"
#include "tsv.h"

#define FIELDS_MAX 4
#define OFFERED_MAX 20
#define TEXT_BYTES_MAX (128u * 1024u)

/* A copy of just its size, so that a byte read behind it is an error under ASan. Freed by the
 * caller. */
static etag_str copied(const char *text, size_t len)
{
    char *copy = malloc(len > 0 ? len : 1);

    assert_non_null(copy);
    memcpy(copy, text, len);
    return (etag_str){copy, len};
}

static void str_free(etag_str s)
{
    free((char *)(uintptr_t)s.data);
}

struct row {
    etag_field fields[FIELDS_MAX];
    etag_str offered[OFFERED_MAX];
    size_t field_count, offered_count;
};

static void field_add(const struct tsv *t, struct row *row, char *raw)
{
    static char text[TEXT_BYTES_MAX];

    assert_true(row->field_count < FIELDS_MAX);
    etag_field *field = &row->fields[row->field_count++];
    char *colon = strchr(raw, ':');
    field->name = copied(raw, colon ? (size_t)(colon - raw) : strlen(raw));
    field->value = (etag_str){NULL, 0};
    if (colon)
        field->value = copied(text, tsv_unescape(t, colon + 1, text, sizeof(text)));
}

static void fields_read(const struct tsv *t, struct row *row, const char *raw)
{
    static char line[TEXT_BYTES_MAX];

    while (raw) {
        const char *end = strstr(raw, " | ");
        const size_t len = end ? (size_t)(end - raw) : strlen(raw);
        snprintf(line, sizeof(line), "%.*s", (int)len, raw);
        field_add(t, row, line);
        raw = end ? end + 3 : NULL;
    }
}

static void offered_read(struct row *row, const char *raw)
{
    char cell[1024], *left = NULL;

    snprintf(cell, sizeof(cell), "%s", raw);
    for (char *name = strtok_r(cell, " ", &left); name; name = strtok_r(NULL, " ", &left)) {
        assert_true(row->offered_count < OFFERED_MAX);
        row->offered[row->offered_count++] = strcmp(name, "\"\"") == 0 ? copied("", 0)
                                                                       : copied(name, strlen(name));
    }
}

static void row_read(const struct tsv *t, struct row *row)
{
    *row = (struct row){0};
    if (strcmp(tsv_raw(t, "fields"), "-") != 0)
        fields_read(t, row, tsv_raw(t, "fields"));
    if (strcmp(tsv_raw(t, "offered"), "-") != 0)
        offered_read(row, tsv_raw(t, "offered"));
}

/* Frees the request before the result is looked at, which must not point into it. */
static void fields_free(struct row *row)
{
    for (size_t i = 0; i < row->field_count; i++) {
        str_free(row->fields[i].name);
        str_free(row->fields[i].value);
    }
    row->field_count = 0;
}

/* All lines of the field as one, where the row has any; other fields are gone. */
static bool row_join(const struct row *row, struct row *joined)
{
    static char text[TEXT_BYTES_MAX];
    size_t len = 0;

    *joined = (struct row){0};
    for (size_t i = 0; i < row->field_count; i++) {
        const etag_field *field = &row->fields[i];
        if (!field->value.data || !str_equal_nocase(field->name, ETAG_LIT("accept-encoding")))
            continue;
        memcpy(text + len, field->value.data, field->value.len);
        len += field->value.len;
        text[len++] = ',';
        joined->field_count = 1;
    }
    if (joined->field_count == 0)
        return false;
    joined->fields[0] = (etag_field){copied("Accept-Encoding", 15), copied(text, len)};
    return true;
}

static void expect(const struct tsv *t, etag_str got)
{
    const char *expected = tsv_raw(t, "selected");
    const char *shown = got.data ? (got.len > 0 ? got.data : "\"\"") : "-";
    const size_t len = got.data && got.len > 0 ? got.len : strlen(shown);

    if (strlen(expected) != len || memcmp(expected, shown, len) != 0)
        fail_msg("%s: %.*s, expected %s", tsv_raw(t, "id"), (int)len, shown, expected);
}

TEST(table)
{
    struct tsv t;
    static struct row row, joined;
    size_t count = 0;

    tsv_open(&t, "accept_encoding.tsv");
    while (tsv_next(&t)) {
        row_read(&t, &row);
        const bool has_joined = row_join(&row, &joined);
        etag_str got = etag_encoding_select(row.fields, row.field_count, row.offered,
                                            row.offered_count);
        fields_free(&row);
        expect(&t, got);
        if (has_joined) {
            got = etag_encoding_select(joined.fields, 1, row.offered, row.offered_count);
            fields_free(&joined);
            expect(&t, got);
        }
        for (size_t i = 0; i < row.offered_count; i++)
            str_free(row.offered[i]);
        count++;
    }
    tsv_close(&t);
    printf("%zu rows\n", count);
    assert_true(count >= 60);
}

TEST(nothing_at_all)
{
    const etag_field any = {ETAG_LIT("Accept-Encoding"), ETAG_LIT("*")};

    assert_null(etag_encoding_select(NULL, 0, NULL, 0).data);
    assert_true(str_equal(etag_encoding_select(&any, 1, NULL, 0), ETAG_LIT("identity")));
    const etag_field nameless = {{NULL, 0}, ETAG_LIT("gzip")};
    assert_null(etag_encoding_select(&nameless, 1, NULL, 0).data);
    const etag_str absent = {NULL, 0};
    assert_true(str_equal(etag_encoding_select(&any, 1, &absent, 1), ETAG_LIT("identity")));
}

TEST(names)
{
    static const char *const rows[][2] = {
        {"x-gzip", "gzip"}, {"X-GZIP", "gzip"}, {"x-compress", "compress"}, {"gzip", "gzip"},
        {"GZip", "GZip"},   {"x-br", "x-br"},   {"x-gzipp", "x-gzipp"},     {"", ""},
    };

    for (size_t i = 0; i < COUNT_OF(rows); i++)
        assert_true(str_equal(encoding_canonical(str_of(rows[i][0])), str_of(rows[i][1])));
}
