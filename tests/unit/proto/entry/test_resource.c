/* SPDX-License-Identifier: Apache-2.0 */
/* Canonical resources: the table, the quick test against the rewriting, text form, prefixes. */
#include "numbers.h"
#include "resource.h"
#include "testing.h"
#include "text.h"
#include "tsv.h"

#define CELL_BYTES 8192

static etag_str resource_text(const struct resource *r, char out[RESOURCE_TEXT_BYTES_MAX])
{
    const size_t len = resource_format(r, out);

    assert_true(len < RESOURCE_TEXT_BYTES_MAX);
    assert_int_equal(out[len], '\0');
    return (etag_str){out, len};
}

static void assert_text(const char *id, etag_str text, etag_str expected)
{
    if (!str_equal(text, expected))
        fail_msg("%s: got %.*s, want %.*s", id, (int)text.len, text.data, (int)expected.len,
                 expected.data);
}

/* Canonicalizes the text form of a canonical resource. */
static void assert_idempotent(const char *id, etag_str text)
{
    etag_resource split;
    struct resource again;
    char out[RESOURCE_TEXT_BYTES_MAX];

    assert_null(resource_split(text, &split));
    const char *wrong = resource_canonicalize(&again, &split);
    if (wrong)
        fail_msg("%s: the canonical form is refused: %s", id, wrong);
    assert_text(id, resource_text(&again, out), text);
}

static void check_row(const struct tsv *table)
{
    static char host[CELL_BYTES], target[CELL_BYTES], expected[CELL_BYTES];
    const char *const id = tsv_raw(table, "id");
    const bool has_host = strcmp(tsv_raw(table, "host"), "-") != 0;
    const size_t host_len = tsv_text(table, "host", host, sizeof(host));
    const etag_resource in = {
        .host = has_host ? (etag_str){host, host_len} : (etag_str){NULL, 0},
        .target = {target, tsv_text(table, "target", target, sizeof(target))},
    };
    const etag_str want = {expected, tsv_text(table, "resource", expected, sizeof(expected))};

    struct resource r;
    const char *wrong = resource_canonicalize(&r, &in);
    if (str_equal(want, ETAG_LIT("error"))) {
        if (!wrong)
            fail_msg("%s: accepted", id);
        return;
    }
    if (wrong)
        fail_msg("%s: %s", id, wrong);
    char out[RESOURCE_TEXT_BYTES_MAX];
    const etag_str text = resource_text(&r, out);
    assert_text(id, text, want);
    assert_idempotent(id, text);
}

TEST(the_table_holds)
{
    struct tsv table;
    unsigned rows = 0;

    tsv_open(&table, "keys.tsv");
    for (; tsv_next(&table); rows++)
        check_row(&table);
    tsv_close(&table);
    assert_true(rows >= 80);
}

/* What is copied as it is must be what the rewriting would make of it, whatever byte stands
 * wherever: an escape in front ("%61") forces the rewriting, nothing else differs. */
TEST(copying_and_rewriting_agree)
{
    static const size_t lens[] = {1, 2, 14, 15, 16, 17, 18, 31, 32, 33, 47, 48, 49};

    for (size_t l = 0; l < COUNT_OF(lens); l++) {
        for (size_t at = 0; at < lens[l]; at++) {
            for (int byte = 0; byte < 256; byte++) {
                char plain[64] = "/a", forced[64] = "/%61";
                memset(plain + 2, 'x', lens[l]);
                memset(forced + 4, 'x', lens[l]);
                plain[2 + at] = forced[4 + at] = (char)byte;
                struct resource a, b;
                const char *wrong_a = resource_canonicalize(
                    &a, &(etag_resource){.target = {plain, 2 + lens[l]}});
                const char *wrong_b = resource_canonicalize(
                    &b, &(etag_resource){.target = {forced, 4 + lens[l]}});
                assert_true(wrong_a == wrong_b);
                if (!wrong_a && !str_equal(resource_target(&a), resource_target(&b)))
                    fail_msg("byte %d at %zu of %zu", byte, at, lens[l]);
                assert_true(wrong_a || a.path_len == b.path_len);
            }
        }
    }
}

/* The same for hosts: a default port forces the rewriting. */
TEST(copying_and_rewriting_hosts_agree)
{
    static const char port[3] = {':', '8', '0'};
    static const size_t lens[] = {1, 2, 3, 15, 16, 17, 18, 32, 33, 34, 49};

    for (size_t l = 0; l < COUNT_OF(lens); l++) {
        for (size_t at = 0; at < lens[l]; at++) {
            for (int byte = 0; byte < 256; byte++) {
                char host[64];
                memset(host, 'x', sizeof(host));
                host[lens[l] / 2] = '.'; /* so that two dots meet, and a dot stands at either end */
                host[at] = (char)byte;
                memcpy(host + lens[l], port, sizeof(port));
                struct resource a, b;
                const etag_str target = ETAG_LIT("/"), plain = {host, lens[l]};
                const etag_str forced = {host, lens[l] + 3};
                const char *wrong_a = resource_canonicalize(&a, &(etag_resource){plain, target});
                const char *wrong_b = resource_canonicalize(&b, &(etag_resource){forced, target});
                if (byte == ':')
                    continue; /* two ports */
                assert_true(wrong_a == wrong_b);
                if (!wrong_a && !str_equal(resource_host(&a), resource_host(&b)))
                    fail_msg("byte %d at %zu of %zu", byte, at, lens[l]);
            }
        }
    }
}

/* Dot segments across the seams of the blocks. */
TEST(dot_segments_are_found_wherever_they_stand)
{
    static const char dots[3] = {'/', '.', '/'};

    for (size_t len = 4; len <= 70; len++) {
        for (size_t at = 0; at + 3 <= len; at++) {
            char target[72];
            struct resource r;
            memset(target, 'x', sizeof(target));
            target[0] = '/';
            memcpy(target + at, dots, sizeof(dots));
            const etag_resource in = {.target = {target, len}};
            assert_null(resource_canonicalize(&r, &in));
            assert_int_equal(r.total_len, len - 2);
        }
    }
}

/* Every byte of a query is kept or the target refused, wherever it stands. */
TEST(a_query_is_kept_or_refused)
{
    static const size_t lens[] = {1, 15, 16, 17, 33};

    for (size_t l = 0; l < COUNT_OF(lens); l++) {
        for (size_t at = 0; at < lens[l]; at++) {
            for (int byte = 0; byte < 256; byte++) {
                char target[64] = "/?";
                memset(target + 2, 'x', lens[l]);
                target[2 + at] = (char)byte;
                const etag_str in = {target, 2 + lens[l]};
                struct resource r;
                const char *wrong = resource_canonicalize(&r, &(etag_resource){.target = in});
                const bool refused = byte <= ' ' || byte == '#' || byte == 0x7f;
                assert_int_equal(!!wrong, refused);
                assert_true(refused || str_equal(resource_target(&r), in));
                assert_true(refused || r.path_len == 1);
            }
        }
    }
}

/* Canonical is canonical: whatever short text over a nasty alphabet is accepted, its form is a
 * fixed point, and no dot segment is left in it. */
TEST(every_short_path_is_a_fixed_point)
{
    static const char *const pieces[] = {"/", ".", "a", "%2e", "%2F", "%61", "?", "\xfc"};
    const size_t piece_count = COUNT_OF(pieces);

    for (size_t n = 0; n < 8 * 8 * 8 * 8 * 8; n++) {
        char target[64] = "/";
        size_t len = 1;
        for (size_t rest = n; rest > 0; rest /= piece_count)
            len += (size_t)snprintf(target + len, sizeof(target) - len, "%s",
                                    pieces[rest % piece_count]);
        struct resource r;
        char out[RESOURCE_TEXT_BYTES_MAX];
        assert_null(resource_canonicalize(&r, &(etag_resource){.target = str_of(target)}));
        const etag_str text = resource_text(&r, out);
        assert_idempotent(target, text);
        char path[80];
        snprintf(path, sizeof(path), "%.*s/", (int)r.path_len, r.bytes);
        if (strstr(path, "/./") || strstr(path, "/../"))
            fail_msg("%s: %s", target, path);
    }
}

TEST(text_is_split_without_judging)
{
    etag_resource r;

    assert_null(resource_split(ETAG_LIT("//h/p?q"), &r));
    assert_true(str_equal(r.host, ETAG_LIT("h")));
    assert_true(str_equal(r.target, ETAG_LIT("/p?q")));
    assert_null(resource_split(ETAG_LIT("/p"), &r));
    assert_null(r.host.data);
    assert_true(str_equal(r.target, ETAG_LIT("/p")));
    assert_null(resource_split(ETAG_LIT("////p"), &r));
    assert_null(r.host.data);
    assert_true(str_equal(r.target, ETAG_LIT("//p")));
    assert_null(resource_split(ETAG_LIT("///p"), &r));
    assert_null(r.host.data);
    assert_true(str_equal(r.target, ETAG_LIT("/p")));
    assert_non_null(resource_split(ETAG_LIT("//h"), &r));
    assert_non_null(resource_split(ETAG_LIT("//"), &r));
    assert_non_null(resource_split(ETAG_LIT("h/p"), &r));
    assert_non_null(resource_split(ETAG_LIT(""), &r));
    assert_non_null(resource_split((etag_str){NULL, 0}, &r));
}

static size_t prefixes_of(const char *target, size_t lens[PREFIX_LEVELS_MAX], size_t *covered)
{
    struct resource r;
    const etag_resource in = {.host = ETAG_LIT("example.com"), .target = str_of(target)};

    assert_null(resource_canonicalize(&r, &in));
    *covered = resource_covered_prefix(&r);
    return resource_prefixes(&r, lens);
}

TEST(prefixes_end_at_slashes)
{
    size_t lens[PREFIX_LEVELS_MAX], covered;

    assert_int_equal(prefixes_of("/", lens, &covered), 1);
    assert_int_equal(lens[0], 1);
    assert_int_equal(prefixes_of("/a", lens, &covered), 1);
    assert_int_equal(prefixes_of("/a/", lens, &covered), 2);
    assert_int_equal(lens[1], 3);
    assert_int_equal(prefixes_of("/a/b/c/d/e/f", lens, &covered), PREFIX_LEVELS_MAX);
    assert_int_equal(lens[0], 1);
    assert_int_equal(lens[3], 7);
    assert_int_equal(prefixes_of("//a", lens, &covered), 2);
    assert_int_equal(lens[1], 2);
    assert_int_equal(prefixes_of("/a?/b/", lens, &covered), 1);
}

/* A prefix deeper than an entry covers, or off a segment boundary, means its nearest covered
 * ancestor. */
TEST(a_prefix_means_its_nearest_covered_ancestor)
{
    static const struct {
        const char *prefix, *covered;
    } cases[] = {
        {"/", "/"},
        {"/a", "/"},
        {"/a/", "/a/"},
        {"/a/b", "/a/"},
        {"/a/b/c/", "/a/b/c/"},
        {"/a/b/c/d", "/a/b/c/"},
        {"/a/b/c/d/", "/a/b/c/"},
        {"/a/../b/", "/b/"},
        {"/%61/b/..", "/a/"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        size_t lens[PREFIX_LEVELS_MAX], covered;
        const size_t count = prefixes_of(cases[i].prefix, lens, &covered);
        assert_int_equal(covered, strlen(cases[i].covered));
        assert_int_equal(lens[count - 1], covered);
    }
}

/* A prefix target reaches every entry below it: the clock it means is among those that the entry
 * depends on. */
TEST(a_prefix_reaches_all_below_it)
{
    static const char *const entries[] = {"/a/b/c/d/e", "/a/b/c/d/", "/a/b/c/d/e/f/g?q"};
    static const char *const prefixes[] = {"/", "/a/", "/a/b", "/a/b/", "/a/b/c/", "/a/b/c/d/"};

    for (size_t e = 0; e < 3; e++) {
        for (size_t p = 0; p < 6; p++) {
            size_t lens[PREFIX_LEVELS_MAX], covered, unused[PREFIX_LEVELS_MAX], unused_covered;
            (void)prefixes_of(prefixes[p], unused, &covered);
            const size_t count = prefixes_of(entries[e], lens, &unused_covered);
            bool found = false;
            for (size_t i = 0; i < count; i++)
                found = found || lens[i] == covered;
            assert_true(found);
        }
    }
}

/* Exact allocations: a sanitizer sees a byte read too many, on either side. */
TEST(reads_no_byte_too_many)
{
    for (size_t len = 1; len <= 70; len++) {
        for (size_t mark = 0; mark <= len; mark++) {
            char *target = malloc(len);
            assert_non_null(target);
            memset(target, 'x', len);
            target[0] = '/';
            if (mark > 0 && mark < len)
                target[mark] = '?';
            struct resource r;
            const etag_resource in = {.target = {target, len}};
            assert_null(resource_canonicalize(&r, &in));
            assert_int_equal(r.total_len, len);
            if (mark == 0 && len > 1) {
                const etag_resource host = {{target + 1, len - 1}, ETAG_LIT("/")};
                assert_null(resource_canonicalize(&r, &host));
                assert_int_equal(r.host_len, len - 1);
            }
            if (len > 2) {
                target[len - 1] = '%'; /* broken, at the very end */
                (void)!resource_canonicalize(&r, &in);
                target[len - 2] = '%';
                target[len - 1] = '4';
                (void)!resource_canonicalize(&r, &in);
            }
            free(target);
        }
    }
}
