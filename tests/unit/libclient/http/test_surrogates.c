/* SPDX-License-Identifier: Apache-2.0 */
/* Surrogate keys: names as they are sent, lists in both readings, groups, and the header sets of
 * real sites (tests/cases/headers.tsv). */
#include "surrogates.h"

#include "key.h"
#include "numbers.h"
#include "storable.h"
#include "testing.h"
#include "text.h"
#include "tsv.h"

#include <stdio.h>
#include <string.h>

#define FIELDS_MAX 24
#define TEXT_BYTES_MAX 16384

static const char *name_of(const char *text, char out[512])
{
    char made[SURROGATE_MADE_BYTES];
    const etag_str name = surrogate_name(str_of(text), made);

    snprintf(out, 512, "%.*s", (int)name.len, name.data);
    return out;
}

/* ---- Names ---- */

TEST(names_that_can_be_sent_stay)
{
    char longest[SURROGATE_BYTES_MAX + 1] = {0}, out[512];

    memset(longest, 'x', SURROGATE_BYTES_MAX);
    const char *const plain[] = {"upload:42", "a,b", "!~", "a;b,c", "~hash-1", ",", longest};
    for (size_t i = 0; i < COUNT_OF(plain); i++)
        assert_string_equal(name_of(plain[i], out), plain[i]);
    assert_string_equal(name_of("a,", out), "a");
    assert_string_equal(name_of(",;a,b;", out), "a,b");
}

TEST(a_name_that_cannot_is_hashed)
{
    char over[SURROGATE_BYTES_MAX + 2] = {0}, out[512], other[512];

    memset(over, 'x', SURROGATE_BYTES_MAX + 1);
    assert_int_equal(strlen(name_of(over, out)), strlen("~hash-") + 32);
    over[0] = 'y';
    assert_string_not_equal(name_of(over, other), out);
    /* Fixed: another process, another release has to make the same of it. */
    assert_string_equal(name_of("cat\xc3\xa9gorie:\xc3\xa9t\xc3\xa9", out),
                        "~hash-9fcb0ad376abc6593fdcb38eac8a5f0b");
    assert_null(surrogate_check(str_of(out)));
    assert_string_equal(name_of(out, other), out);
}

/* Python's str in a header field goes as ISO 8859-1, and as UTF-8 where it names what changed. */
TEST(a_name_is_the_same_in_latin_1_and_in_utf_8)
{
    char out[512], other[512];

    assert_string_equal(name_of("cat\xe9gorie:\xe9t\xe9", out),
                        name_of("cat\xc3\xa9gorie:\xc3\xa9t\xc3\xa9", other));
    assert_string_equal(name_of("\xff", out), name_of("\xc3\xbf", other));
    assert_string_equal(name_of("a\x80", out), name_of("a\xc2\x80", other));
    assert_string_not_equal(name_of("\xe9", out), name_of("\xe8", other));
    assert_string_not_equal(name_of("\xf0\x9f\x98\x80", out), name_of("\xf0\x9f\x98\x81", other));
}

TEST(a_list_that_is_too_long_to_be_a_name_is_its_first_name)
{
    char list[600], out[512];

    memset(list, 'b', sizeof(list));
    memcpy(list, "first,", 6);
    list[sizeof(list) - 1] = '\0';
    assert_string_equal(name_of(list, out), "first");
    list[5] = ';';
    assert_string_equal(name_of(list, out), "first");
}

TEST(blanks_and_controls_are_refused)
{
    const char *const bad[] = {"", "a b", "a\tb", "\x7f", "\x01", "\xc3\xa9 b"};

    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        char made[SURROGATE_MADE_BYTES];
        struct surrogate_set set;
        assert_non_null(surrogate_check(surrogate_name(str_of(bad[i]), made)));
        surrogate_set_init(&set);
        assert_non_null(surrogate_set_add(&set, str_of(bad[i])));
        assert_int_equal(set.count, 0);
    }
}

/* ---- Sets and lists ---- */

static bool has(const struct surrogate_set *set, const char *name)
{
    for (size_t i = 0; i < set->count; i++)
        if (str_equal(set->names[i], str_of(name)))
            return true;
    return false;
}

/* expected: names, one blank between them. */
static void assert_names(const struct surrogate_set *set, const char *what, const char *expected)
{
    char copy[TEXT_BYTES_MAX];
    size_t count = 0;

    snprintf(copy, sizeof(copy), "%s", expected);
    for (char *rest = copy, *name; (name = strsep(&rest, " "));) {
        if (!*name)
            continue;
        if (!has(set, name))
            fail_msg("%s: no %s", what, name);
        count++;
    }
    if (set->count != count)
        fail_msg("%s: %zu names, not %zu", what, set->count, count);
}

TEST(lists_are_read_both_ways)
{
    static const struct {
        const char *list, *names;
    } cases[] = {
        {"a b c", "a b c"},     {"a,b,c", "a b c a,b,c"},
        {"a, b, c", "a b c"},   {"a ,b , c", "a b c"},
        {"  a\tb  ", "a b"},    {",a,, b,", "a b"},
        {"a,b c", "a b c a,b"}, {"a;b;", "a b a;b"},
        {"a a, a", "a"},        {"", ""},
        {" , ,; ", ""},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct surrogate_set set;
        surrogate_set_init(&set);
        assert_null(surrogate_set_add_list(&set, str_of(cases[i].list)));
        surrogate_set_close(&set);
        assert_names(&set, cases[i].list, cases[i].names);
    }
}

/* As Django sends "post:1 \xd0\xba\xd0\xbb\xd1\x8e\xd1\x87": an invalidation of post:1 would not
 * reach the page. */
TEST(a_list_whose_names_are_encoded_is_refused)
{
    const char *const bad[] = {
        "=?utf-8?b?cG9zdDoxINC60LvRjtGH?=", "a =?utf-8?q?=D0=BA?=", "a,=?utf-8?q?=D0=BA?=, b"};

    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        struct surrogate_set set;
        surrogate_set_init(&set);
        assert_non_null(surrogate_set_add_list(&set, str_of(bad[i])));
    }
    struct surrogate_set set;
    surrogate_set_init(&set);
    assert_null(surrogate_set_add_list(&set, str_of("/search=?q= ?= =? =?=")));
}

TEST(fields_that_hold_lists)
{
    const char *const lists[] = {"Surrogate-Key", "xkey",         "XKEY",          "Cache-Tag",
                                 "Cache-Tags",    "X-Cache-Tags", "X-Magento-Tags"};
    const char *const others[] = {"Surrogate-Keys", "Surrogate-Control", "X-Cache-Tag", "key", ""};

    for (size_t i = 0; i < COUNT_OF(lists); i++)
        assert_true(etag_surrogate_field(str_of(lists[i])));
    for (size_t i = 0; i < COUNT_OF(others); i++)
        assert_false(etag_surrogate_field(str_of(others[i])));
}

/* ---- Groups ---- */

static void add_numbered(struct surrogate_set *set, unsigned first, unsigned end)
{
    static char names[8192][16];

    surrogate_set_init(set);
    for (unsigned i = first; i < end; i++) {
        snprintf(names[i], sizeof(names[i]), "k%u", i);
        assert_null(surrogate_set_add(set, str_of(names[i])));
        assert_null(surrogate_set_add(set, str_of(names[i]))); /* counts once */
    }
    surrogate_set_close(set);
}

TEST(more_names_than_fit_are_groups)
{
    struct surrogate_set set;

    add_numbered(&set, 0, SURROGATES_PER_ENTRY_MAX);
    assert_false(set.grouped);
    assert_int_equal(set.count, SURROGATES_PER_ENTRY_MAX);
    assert_true(has(&set, "k0"));

    add_numbered(&set, 0, SURROGATES_PER_ENTRY_MAX + 1);
    assert_true(set.grouped);
    assert_in_range(set.count, 40, SURROGATE_GROUPS - 1);
    for (unsigned i = 0; i <= SURROGATES_PER_ENTRY_MAX; i++) {
        char name[16], made[SURROGATE_MADE_BYTES];
        snprintf(name, sizeof(name), "k%u", i);
        assert_false(has(&set, name));
        (void)surrogate_group_name(surrogate_group(str_of(name)), made);
        assert_true(has(&set, made));
    }
    add_numbered(&set, 0, 8192);
    assert_int_equal(set.count, SURROGATE_GROUPS);
    for (size_t i = 0; i < set.count; i++)
        assert_null(surrogate_check(set.names[i]));
    /* A name that can't be stored is seen among them, too. */
    surrogate_set_init(&set);
    for (unsigned i = 0; i <= SURROGATES_PER_ENTRY_MAX; i++) {
        char list[16];
        snprintf(list, sizeof(list), "%c%c", 'a' + i / 26, 'a' + i % 26);
        if (surrogate_set_add(&set, (etag_str){strdupa(list), 2}))
            fail();
    }
    assert_non_null(surrogate_set_add(&set, ETAG_LIT("a b")));
}

/* ---- Header sets of real sites ---- */

struct row {
    char text[TEXT_BYTES_MAX];
    etag_field fields[FIELDS_MAX];
    etag_field vary[8];
    etag_key key;
    etag_entry response;
};

/* "Name: value | Name: value" */
static void read_fields(const struct tsv *table, struct row *row)
{
    char raw[4096];
    char *to = row->text;

    snprintf(raw, sizeof(raw), "%s", tsv_raw(table, "fields"));
    for (char *at = raw; at;) {
        char *const bar = strstr(at, " | ");
        if (bar)
            *bar = '\0';
        const size_t len = tsv_unescape(table, at, to,
                                        sizeof(row->text) - (size_t)(to - row->text));
        char *const colon = strstr(to, ": ");
        assert_non_null(colon);
        assert_true(row->response.field_count < FIELDS_MAX);
        row->fields[row->response.field_count++] = (etag_field){
            {to, (size_t)(colon - to)}, {colon + 2, len - (size_t)(colon + 2 - to)}};
        to += len + 1;
        at = bar ? bar + 3 : NULL;
    }
}

static void read_row(const struct tsv *table, struct row *row, char vary[1024])
{
    memset(row, 0, sizeof(*row));
    ETAG_INIT(&row->key);
    row->key.resource.target = ETAG_LIT("/a");
    row->key.scope.kind = ETAG_SCOPE_PUBLIC;
    row->key.vary = row->vary;
    row->vary[row->key.vary_count++].name = ETAG_LIT("Accept-Encoding");
    snprintf(vary, 1024, "%s", tsv_raw(table, "vary"));
    for (char *rest = vary, *name; (name = strsep(&rest, " "));)
        if (strcmp(name, "-") != 0)
            row->vary[row->key.vary_count++].name = str_of(name);
    etag_entry_init(&row->response);
    row->response.key = &row->key;
    row->response.fields = row->fields;
    read_fields(table, row);
}

static void assert_groups(const struct surrogate_set *set, const char *id)
{
    if (!set->grouped || set->count == 0)
        fail_msg("%s: no groups", id);
    for (size_t i = 0; i < set->count; i++)
        assert_true(str_starts_with(set->names[i], ETAG_LIT("~group-")));
}

/* The name as the site says it when something changed. */
static void assert_reached(const struct tsv *table, const struct surrogate_set *set, const char *id)
{
    char purge[512], made[SURROGATE_MADE_BYTES], group[SURROGATE_MADE_BYTES], name[512];

    if (strcmp(tsv_raw(table, "purge"), "-") == 0)
        return;
    const size_t len = tsv_text(table, "purge", purge, sizeof(purge));
    const etag_str said = surrogate_name((etag_str){purge, len}, made);
    snprintf(name, sizeof(name), "%.*s", (int)said.len, said.data);
    (void)surrogate_group_name(surrogate_group(said), group);
    if (!has(set, set->grouped ? group : name))
        fail_msg("%s: an invalidation of %s does not reach it", id, purge);
}

TEST(header_sets_of_real_sites)
{
    struct tsv table;
    size_t count = 0;

    tsv_open(&table, "headers.tsv");
    while (tsv_next(&table)) {
        static struct row row;
        static struct storable_scratch scratch;
        const struct repeated_fields repeated = {0};
        char vary[1024], id[128];
        struct entry entry;
        const char *why;
        read_row(&table, &row, vary);
        snprintf(id, sizeof(id), "%s (%s)", tsv_raw(&table, "id"), tsv_raw(&table, "site"));
        const etag_reason reason = storable_reduce(&row.response, &repeated, &entry, &scratch,
                                                   &why);
        const char *outcome = reason ? etag_reason_word(reason) : "stored";
        if (strcmp(outcome, tsv_raw(&table, "outcome")) != 0)
            fail_msg("%s: %s, expected %s", id, outcome, tsv_raw(&table, "outcome"));
        count++;
        if (reason)
            continue;
        const char *names = tsv_raw(&table, "names");
        if (strcmp(names, "groups") == 0)
            assert_groups(&scratch.surrogates, id);
        else
            assert_names(&scratch.surrogates, id, strcmp(names, "-") == 0 ? "" : names);
        assert_true(entry.surrogates == scratch.surrogates.names &&
                    entry.surrogate_count == scratch.surrogates.count);
        assert_reached(&table, &scratch.surrogates, id);
    }
    tsv_close(&table);
    assert_true(count >= 15);
}
