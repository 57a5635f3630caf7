/* SPDX-License-Identifier: Apache-2.0 */
/* Names and marks of the spool: what one end makes the other one reads, and nothing else is taken
 * for it. */
#include "numbers.h"
#include "spool_format.h"
#include "testing.h"
#include "text.h"

#include <stdio.h>

TEST(names_round_trip)
{
    static const struct {
        enum spool_name kind;
        uint32_t count;
    } kinds[] = {{SPOOL_NAME_EVENT, SPOOL_SLOTS},
                 {SPOOL_NAME_ALL, SPOOL_ALL_SLOTS},
                 {SPOOL_NAME_TAKEN, SPOOL_ALL_SLOTS}};
    for (size_t k = 0; k < COUNT_OF(kinds); k++)
        for (uint32_t i = 0; i < kinds[k].count; i++) {
            char name[SPOOL_NAME_BYTES];
            uint32_t number = 77;
            spool_name_make(kinds[k].kind, i, name);
            assert_int_equal(spool_name_parse(name, &number), kinds[k].kind);
            assert_int_equal(number, i);
        }
}

TEST(strange_names_are_nobodys)
{
    static const char *const names[] = {
        "",        "e",      "e0",     "e00",      "e0FF",    "e0000", "e1000",
        "e-01",    "e 01",   "e+01",   "all",      "all-",    "all-0", "all-40",
        "all-000", "ALL-00", "taken-", "taken-40", "taken00", "marks", "MARK",
        ".",       "..",     "x",      "e0x1",     "all-0x",  "t",     "bad-00"};
    uint32_t number;

    for (size_t i = 0; i < COUNT_OF(names); i++)
        if (spool_name_parse(names[i], &number) != SPOOL_NAME_FOREIGN)
            fail_msg("\"%s\" is taken for one of ours", names[i]);
    assert_int_equal(spool_name_parse("mark", &number), SPOOL_NAME_OWN);
    assert_int_equal(spool_name_parse("lock", &number), SPOOL_NAME_OWN);
    assert_int_equal(spool_name_parse("reserve-0", &number), SPOOL_NAME_OWN);
    assert_int_equal(spool_name_parse("reserve-1", &number), SPOOL_NAME_OWN);
    assert_int_equal(spool_name_parse("reserve-2", &number), SPOOL_NAME_FOREIGN);
    assert_int_equal(spool_name_parse("reserve-00", &number), SPOOL_NAME_FOREIGN);
    assert_int_equal(spool_name_parse("t-0123456789abcdef", &number), SPOOL_NAME_TEMP);
}

TEST(the_path_stands_beside_the_socket)
{
    char path[32];

    assert_true(spool_path_of("/run/etagd/etagd.sock", path, sizeof(path)));
    assert_string_equal(path, "/run/etagd/spool");
    assert_true(spool_path_of("etagd.sock", path, sizeof(path)));
    assert_string_equal(path, "spool");
    assert_true(spool_path_of("/a", path, sizeof(path)));
    assert_string_equal(path, "/spool");
    assert_false(spool_path_of("/run/etagd/etagd.sock", path, sizeof("/run/etagd/spool") - 1));
}

static struct spool_mark some_mark(size_t writer_count)
{
    struct spool_mark mark = {.id = UINT64_C(0xfedcba9876543210),
                              .socket = "etagd.sock",
                              .lease_ns = 1000000000,
                              .linger_ns = UINT64_C(30000000000),
                              .power = writer_count % 2,
                              .log_reach = writer_count != 0,
                              .anybody = writer_count % 3 == 0,
                              .rules = UINT64_MAX,
                              .changes = UINT64_MAX - writer_count,
                              .owner = 107,
                              .nobody = 65534,
                              .writer_count = writer_count};

    for (size_t i = 0; i < writer_count; i++)
        mark.writers[i] = UINT32_MAX - (uint32_t)i;
    return mark;
}

TEST(marks_round_trip)
{
    static const size_t counts[] = {0, 1, 2, 3, SPOOL_WRITERS_MAX};

    for (size_t i = 0; i < COUNT_OF(counts); i++) {
        static char text[SPOOL_MARK_BYTES_MAX];
        const struct spool_mark mark = some_mark(counts[i]);
        struct spool_mark out;
        const size_t len = spool_mark_format(&mark, text);
        assert_true(spool_mark_parse((etag_str){text, len}, &out));
        assert_true(out.id == mark.id && out.lease_ns == mark.lease_ns &&
                    out.linger_ns == mark.linger_ns && out.rules == mark.rules &&
                    out.changes == mark.changes);
        assert_int_equal(out.version, SPOOL_VERSION);
        assert_int_equal(out.power, mark.power);
        assert_int_equal(out.log_reach, mark.log_reach);
        assert_int_equal(out.anybody, mark.anybody);
        assert_int_equal(out.writer_count, mark.writer_count);
        assert_memory_equal(out.writers, mark.writers, sizeof(mark.writers));
    }
}

TEST(a_mark_that_is_cut_off_is_none)
{
    static char text[SPOOL_MARK_BYTES_MAX];
    const struct spool_mark mark = some_mark(12);
    struct spool_mark out;
    const size_t len = spool_mark_format(&mark, text);

    for (size_t i = 0; i < len; i++)
        if (spool_mark_parse((etag_str){text, i}, &out))
            fail_msg("%zu of %zu bytes are taken for a mark", i, len);
    text[len] = '\n';
    assert_false(spool_mark_parse((etag_str){text, len + 1}, &out));
}

/* One part of a mark in place of another. */
static const char *changed_mark(const char *part, const char *other)
{
    static char text[SPOOL_MARK_BYTES_MAX], changed[SPOOL_MARK_BYTES_MAX + 64];
    const struct spool_mark mark = some_mark(2);

    text[spool_mark_format(&mark, text)] = '\0';
    const char *at = strstr(text, part);
    assert_non_null(at);
    snprintf(changed, sizeof(changed), "%.*s%s%s", (int)(at - text), text, other,
             at + strlen(part));
    return changed;
}

static void expect_refused(const char *part, const char *other)
{
    const char *changed = changed_mark(part, other);
    struct spool_mark out;

    if (spool_mark_parse(str_of(changed), &out))
        fail_msg("taken for a mark:\n%s", changed);
}

/* Of the daemon that ran before an update or a downgrade: how long its promises hold, and nothing
 * that may have another meaning. */
TEST(of_a_mark_of_another_version_the_first_lines_are_read)
{
    static const char *const texts[] = {
        "etagd-spool 3\nid=00000000000000ff\nsocket=a.sock\nlease_ns=7\nlinger_ns=9\nnew=1\n",
        "etagd-spool 4294967295\nid=00000000000000ff\nsocket=a.sock\nlease_ns=7\nlinger_ns=9\n"};
    struct spool_mark out;

    for (size_t i = 0; i < COUNT_OF(texts); i++) {
        assert_true(spool_mark_parse(str_of(texts[i]), &out));
        assert_int_not_equal(out.version, SPOOL_VERSION);
        assert_true(out.id == 255 && out.lease_ns == 7 && out.linger_ns == 9);
        assert_string_equal(out.socket, "a.sock");
        assert_int_equal(out.writer_count, 0);
    }
    assert_true(spool_mark_parse(str_of(changed_mark("etagd-spool 2", "etagd-spool 3")), &out));
    assert_int_equal(out.version, 3);
    assert_int_equal(out.writer_count, 0);
}

TEST(malformed_marks_are_refused)
{
    expect_refused("etagd-spool 2", "etagd-spool 0");
    expect_refused("etagd-spool 2", "etagd-spool -1");
    expect_refused("etagd-spool 2", "etagd-spool 4294967296");
    expect_refused("etagd-spool 2", "etagd-spool ");
    expect_refused("etagd-spool 2\nid=fedcba9876543210", "etagd-spool 3\nid=wrong");
    expect_refused("etagd-spool 2", "etagd-spoo1 2");
    expect_refused("changes=", "changes=-");
    expect_refused("changes=18446744073709551613\n", "");
    expect_refused("id=fedcba9876543210", "id=0000000000000000");
    expect_refused("id=fedcba9876543210", "id=wrong");
    expect_refused("id=", "di=");
    expect_refused("owner=107\n", "");
    expect_refused("nobody=65534", "nobody=-1");
    expect_refused("nobody=65534", "nobody= 65534");
    expect_refused("nobody=65534", "nobody=+65534");
    expect_refused("id=fedcba9876543210", "id=0xfedcba987654");
    expect_refused("socket=etagd.sock", "socket=");
    expect_refused("socket=etagd.sock\n", "");
    expect_refused("lease_ns=1000000000", "lease_ns=");
    expect_refused("lease_ns=1000000000", "lease_ns=-1");
    expect_refused("lease_ns=1000000000", "lease_ns=60000000001"); /* LEASE_MS_MAX */
    expect_refused("lease_ns=1000000000", "lease_ns=99999999999999999999999");
    expect_refused("linger_ns=30000000000", "linger_ns=3600000000001");
    expect_refused("durability=process", "durability=other");
    expect_refused("anybody=0", "anybody=2");
    expect_refused("log_reach=1", "log_reach=2");
    expect_refused("log_reach=1\n", "");
    expect_refused("uid=4294967295", "uid=4294967296");
    expect_refused("end=2", "end=1");
    expect_refused("end=2", "end=3");
}

TEST(a_number_with_a_nul_in_it_is_none)
{
    static char text[SPOOL_MARK_BYTES_MAX];
    const struct spool_mark mark = some_mark(2);
    struct spool_mark out;
    const size_t len = spool_mark_format(&mark, text);

    assert_true(spool_mark_parse((etag_str){text, len}, &out));
    *(strstr(text, "nobody=") + strlen("nobody=")) = '\0';
    assert_false(spool_mark_parse((etag_str){text, len}, &out));
}

TEST(writers_count)
{
    struct spool_mark mark = {.nobody = 65534, .writers = {0, 1000, 65534}, .writer_count = 3};

    assert_true(spool_mark_counts(&mark, 0));
    assert_true(spool_mark_counts(&mark, 1000));
    assert_false(spool_mark_counts(&mark, 1001));
    assert_false(spool_mark_counts(&mark, 65534));
    mark.writer_count = 1;
    assert_false(spool_mark_counts(&mark, 1000));
    mark.anybody = true;
    assert_true(spool_mark_counts(&mark, 1000));
    assert_false(spool_mark_counts(&mark, 65534));
}
