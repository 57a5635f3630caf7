/* SPDX-License-Identifier: Apache-2.0 */
#include "outbox_row.h"

#include "bounds.h"
#include "surrogate.h"
#include "targets.h"
#include "testing.h"
#include "text.h"

#include <endian.h>
#include <errno.h>

#define WRITER ETAG_LIT("front2")

struct rows_read {
    struct arena arena;
    etag_targets rows[16];
    etag_str writers[16];
    size_t count;
};

/* What was encoded, row by row as a poll brings it. */
static void rows_decode(struct rows_read *read, const struct outbox_rows *rows)
{
    etag_str rest = {(const char *)rows->bytes, rows->len};
    int error;

    arena_init(&read->arena, ARENA_BYTES_MAX);
    for (read->count = 0; rest.len > 0; read->count++) {
        uint32_t len;
        assert_true(rest.len >= sizeof(len) && read->count < 16);
        memcpy(&len, rest.data, sizeof(len));
        len = be32toh(len);
        rest = str_skip(rest, sizeof(len));
        assert_true(len <= rest.len && len <= OUTBOX_ROW_BYTES_MAX);
        assert_null(outbox_row_decode(&read->rows[read->count], &read->writers[read->count],
                                      &read->arena, (etag_str){rest.data, len}, &error));
        assert_int_equal(error, 0);
        rest = str_skip(rest, len);
    }
    assert_int_equal(read->count, rows->count);
}

TEST(targets_come_back_as_they_were)
{
    const etag_str surrogates[] = {STR_INIT("upload:42"), STR_INIT("a,b")};
    const etag_resource resources[] = {{STR_INIT("example.org:8080"), STR_INIT("/a?b")},
                                       {.target = STR_INIT("/x")},
                                       {.target = STR_INIT("//x")}};
    const etag_resource prefixes[] = {{.target = STR_INIT("/media/")}};
    const etag_str families[] = {STR_INIT("upload"), STR_INIT("customer")};
    etag_targets targets;
    struct outbox_rows rows = {0};
    struct rows_read read;

    ETAG_INIT(&targets);
    targets.surrogates = surrogates;
    targets.surrogate_count = 2;
    targets.resources = resources;
    targets.resource_count = 3;
    targets.prefixes = prefixes;
    targets.prefix_count = 1;
    targets.families = families;
    targets.family_count = 2;
    targets.everything = true;
    targets.hold_ms = 3600000;
    assert_int_equal(outbox_rows_encode(&rows, &targets, WRITER), 0);
    rows_decode(&read, &rows);
    assert_int_equal(read.count, 1);
    const etag_targets *const got = &read.rows[0];
    assert_true(got->everything);
    assert_int_equal(got->hold_ms, 3600000);
    assert_int_equal(got->surrogate_count, 2);
    assert_int_equal(got->resource_count, 3);
    assert_int_equal(got->prefix_count, 1);
    assert_int_equal(got->family_count, 2);
    for (size_t i = 0; i < 2; i++) {
        assert_true(str_equal(got->surrogates[i], surrogates[i]));
        assert_true(str_equal(got->families[i], families[i]));
    }
    for (size_t i = 0; i < 3; i++) {
        assert_true(str_equal(got->resources[i].host, resources[i].host));
        assert_true(str_equal(got->resources[i].target, resources[i].target));
    }
    assert_true(str_equal(got->prefixes[0].target, prefixes[0].target));
    assert_true(str_equal(read.writers[0], WRITER));
    arena_deinit(&read.arena);
    free(rows.bytes);
}

TEST(more_than_a_row_holds_are_more_rows_each_with_hold_and_writer)
{
    static char name[255];
    static etag_str surrogates[100];
    etag_targets targets;
    struct outbox_rows rows = {0};
    struct rows_read read;
    size_t names = 0;

    memset(name, 'x', sizeof(name));
    for (size_t i = 0; i < 100; i++)
        surrogates[i] = (etag_str){name, sizeof(name)};
    ETAG_INIT(&targets);
    targets.surrogates = surrogates;
    targets.surrogate_count = 100;
    targets.hold_ms = 7;
    assert_int_equal(outbox_rows_encode(&rows, &targets, WRITER), 0);
    rows_decode(&read, &rows);
    assert_in_range(read.count, 4, 5);
    for (size_t i = 0; i < read.count; i++) {
        assert_int_equal(read.rows[i].hold_ms, 7);
        assert_true(str_equal(read.writers[i], WRITER));
        names += read.rows[i].surrogate_count;
    }
    assert_int_equal(names, 100);
    arena_deinit(&read.arena);
    free(rows.bytes);
}

/* A port may be written with any number of zeros. */
TEST(a_name_that_fits_into_no_row_is_everything)
{
    static char host[9000];
    etag_targets targets;
    struct outbox_rows rows = {0};
    struct rows_read read;

    memset(host, '0', sizeof(host));
    memcpy(host, "h:", 2);
    const etag_resource resource = {{host, sizeof(host)}, STR_INIT("/")};
    ETAG_INIT(&targets);
    targets.resources = &resource;
    targets.resource_count = 1;
    assert_null(targets_check(&targets));
    assert_int_equal(outbox_rows_encode(&rows, &targets, WRITER), 0);
    rows_decode(&read, &rows);
    assert_int_equal(read.count, 1);
    assert_true(read.rows[0].everything);
    arena_deinit(&read.arena);
    free(rows.bytes);
}

TEST(nothing_named_is_a_row_that_asks)
{
    etag_targets targets;
    struct outbox_rows rows = {0};
    struct rows_read read;

    ETAG_INIT(&targets);
    assert_int_equal(outbox_rows_encode(&rows, &targets, WRITER), 0);
    rows_decode(&read, &rows);
    assert_int_equal(read.count, 1);
    assert_true(outbox_row_is_empty(&read.rows[0]));
    assert_int_equal(read.writers[0].len, 0);
    arena_deinit(&read.arena);
    free(rows.bytes);
}

TEST(targets_that_are_none_are_not_written)
{
    const etag_str bad = STR_INIT("a b");
    etag_targets targets;
    struct outbox_rows rows = {0};

    ETAG_INIT(&targets);
    targets.surrogates = &bad;
    targets.surrogate_count = 1;
    assert_int_equal(outbox_rows_encode(&rows, &targets, WRITER), -EINVAL);
    free(rows.bytes);
}

/* Writers of SQL name as they do in header fields. */
TEST(a_name_means_what_libetag_makes_of_it)
{
    static const char bytes[] = "\1s\0\6Gr\xc3\xb6\xc3\x9f";
    char made[SURROGATE_MADE_BYTES];
    struct arena arena;
    etag_targets targets;
    etag_str writer;
    int error;

    arena_init(&arena, ARENA_BYTES_MAX);
    assert_null(
        outbox_row_decode(&targets, &writer, &arena, (etag_str){bytes, sizeof(bytes) - 1}, &error));
    assert_int_equal(error, 0);
    assert_true(str_equal(targets.surrogates[0],
                          surrogate_name((etag_str){bytes + 4, sizeof(bytes) - 5}, made)));
    arena_deinit(&arena);
}

TEST(a_family_means_what_libetag_makes_of_it)
{
    static const char bytes[] = "\1f\0\10upload:*f\0\7upload,f\0\6Gr\xc3\xb6\xc3\x9f";
    char made[SURROGATE_MADE_BYTES];
    struct arena arena;
    etag_targets targets;
    etag_str writer;
    int error;

    arena_init(&arena, ARENA_BYTES_MAX);
    assert_null(
        outbox_row_decode(&targets, &writer, &arena, (etag_str){bytes, sizeof(bytes) - 1}, &error));
    assert_int_equal(error, 0);
    assert_int_equal(targets.family_count, 3);
    assert_false(outbox_row_is_empty(&targets));
    assert_true(str_equal(targets.families[0], ETAG_LIT("upload")));
    assert_true(str_equal(targets.families[1], ETAG_LIT("upload")));
    assert_true(
        str_equal(targets.families[2], surrogate_name(ETAG_LIT("Gr\xc3\xb6\xc3\x9f"), made)));
    arena_deinit(&arena);
}

/* As triggers write it. */
TEST(names_may_be_words)
{
    static const char bytes[] = "\2supload:42 fcustomer sGr\xc3\xb6\xc3\x9f\nshop@[local] a\nb";
    char made[SURROGATE_MADE_BYTES];
    struct arena arena;
    etag_targets targets;
    etag_str writer;
    int error;

    arena_init(&arena, ARENA_BYTES_MAX);
    assert_null(
        outbox_row_decode(&targets, &writer, &arena, (etag_str){bytes, sizeof(bytes) - 1}, &error));
    assert_int_equal(error, 0);
    assert_int_equal(targets.surrogate_count, 2);
    assert_true(str_equal(targets.surrogates[0], ETAG_LIT("upload:42")));
    assert_true(
        str_equal(targets.surrogates[1], surrogate_name(ETAG_LIT("Gr\xc3\xb6\xc3\x9f"), made)));
    assert_int_equal(targets.family_count, 1);
    assert_true(str_equal(targets.families[0], ETAG_LIT("customer")));
    assert_int_equal(targets_names(&targets), 3);
    assert_true(str_equal(writer, ETAG_LIT("shop@[local] a\nb")));
    assert_null(outbox_row_decode(&targets, &writer, &arena, ETAG_LIT("\2sa"), &error));
    assert_int_equal(targets_names(&targets), 1);
    assert_int_equal(writer.len, 0);
    arena_deinit(&arena);
}

TEST(what_no_release_wrote_is_said)
{
    static const struct {
        const char *bytes;
        size_t len;
    } rows[] = {
#define ROW(text) {text, sizeof(text) - 1}
        ROW(""),
        ROW("\3s\0\1a"),
        ROW("\1s"),
        ROW("\1s\0"),
        ROW("\1s\0\2a"),
        ROW("\1s\0\0"),
        ROW("\1s\0\3a b"),
        ROW("\1f\0\0"),
        ROW("\1f\0\1:"),
        ROW("\1f\0\3a b"),
        ROW("\1r\0\1x"),
        ROW("\1r\0\3//h"),
        ROW("\1p\0\4/a?b"),
        ROW("\1h\0\4\0\0\0\7"),
        ROW("\1h\0\3\0\0\7s\0\1a"),
        ROW("\1h\0\4\x7f\xff\xff\xffs\0\1a"),
        ROW("\1z\0\1a"),
        ROW("\1e\0\0z"),
        ROW("\1w"),
        ROW("\1w\0\5front"),
        ROW("\1w\0\7fronts\0"),
        ROW("\1w\0\0e\0\0"),
        ROW("\1w\0\1aw\0\1be\0\0"),
        ROW("\1e\0\0w\0\1a"),
        ROW("\1w\0\1a"),
        ROW("\2"),
        ROW("\2s"),
        ROW("\2 sa"),
        ROW("\2sa "),
        ROW("\2sa  sb"),
        ROW("\2sa\tsb"),
        ROW("\2sa\x7f"),
        ROW("\2sa sb\n"),
        ROW("\2sa\0"),
        ROW("\2\nfront2"),
        ROW("\2f:x"),
        ROW("\2e"),
        ROW("\2ex"),
        ROW("\2r/x"),
        ROW("\2p/x"),
        ROW("\2h7 sa"),
        ROW("\2wa sa"),
        ROW("\3sa"),
#undef ROW
    };
    static char long_row[OUTBOX_ROW_BYTES_MAX + 1] = "\1e\0\0";
    struct arena arena;
    etag_targets targets;
    etag_str writer;
    int error;

    arena_init(&arena, ARENA_BYTES_MAX);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        assert_non_null(outbox_row_decode(&targets, &writer, &arena,
                                          (etag_str){rows[i].bytes, rows[i].len}, &error));
        assert_true(outbox_row_is_empty(&targets));
        assert_int_equal(writer.len, 0);
        assert_int_equal(error, 0);
    }
    assert_non_null(outbox_row_decode(&targets, &writer, &arena,
                                      (etag_str){long_row, sizeof(long_row)}, &error));
    arena_deinit(&arena);
}

/* Its name is a record of 255 bytes at most, whatever a host is called. */
TEST(a_writer_is_who_the_row_says_it_is)
{
    static char bytes[1 + 3 + 256 + 3] = "\1w";
    struct arena arena;
    etag_targets targets;
    struct outbox_rows rows = {0};
    etag_str writer;
    int error;

    arena_init(&arena, ARENA_BYTES_MAX);
    memset(bytes + 4, 'h', 256);
    for (unsigned len = 1; len <= 256; len++) {
        const uint8_t head[] = {(uint8_t)(len >> 8), (uint8_t)len};
        memcpy(bytes + 2, head, sizeof(head));
        memcpy(bytes + 4 + len, "e\0\0", 3);
        const char *const wrong = outbox_row_decode(&targets, &writer, &arena,
                                                    (etag_str){bytes, 4 + len + 3}, &error);
        assert_true((wrong == NULL) == (len <= ENGINE_WRITER_BYTES_MAX));
        assert_true(targets.everything == (wrong == NULL));
        assert_int_equal(writer.len, wrong ? 0 : len);
        memset(bytes + 4, 'h', 256);
    }
    ETAG_INIT(&targets);
    targets.everything = true;
    assert_int_equal(outbox_rows_encode(&rows, &targets, (etag_str){bytes + 4, 256}), 0);
    assert_int_equal(rows.len, 4 + 4 + ENGINE_WRITER_BYTES_MAX + 3);
    rows.len = rows.count = 0;
    assert_int_equal(outbox_rows_encode(&rows, &targets, (etag_str){0}), 0);
    assert_int_equal(rows.len, 4 + 4);
    arena_deinit(&arena);
    free(rows.bytes);
}

TEST(no_memory_is_no_mistake_of_the_row)
{
    static const char bytes[] = "\1s\0\1as\0\1b";
    struct arena arena;
    etag_targets targets;
    etag_str writer;
    int error;

    arena_init(&arena, 16);
    assert_null(
        outbox_row_decode(&targets, &writer, &arena, (etag_str){bytes, sizeof(bytes) - 1}, &error));
    assert_int_equal(error, -ENOMEM);
    arena_deinit(&arena);
}
