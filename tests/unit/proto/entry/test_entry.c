/* SPDX-License-Identifier: Apache-2.0 */
#include "entry.h"
#include "numbers.h"
#include "testing.h"
#include "text.h"

TEST(entity_tags_follow_the_grammar)
{
    static const char *const right[] = {"\"\"",   "\"a\"",   "W/\"a\"",      "W/\"\"",
                                        "\"W/\"", "\"!#~\"", "\"\x80\xff\"", "\"a,b\\c\""};
    static const char *const wrong[] = {
        "",         "a",        "\"",       "\"a",    "a\"", "W/",          "W/a",
        "w/\"a\"",  "W\"a\"",   "W /\"a\"", "W/\"",   "'a'", "\"a\"b\"",    "\"a b\"",
        "\"a\tb\"", "\"\x7f\"", " \"a\"",   "\"a\" ", "*",   "\"a\", \"b\""};

    for (size_t i = 0; i < COUNT_OF(right); i++)
        if (entity_tag_check(str_of(right[i])))
            fail_msg("%s: %s", right[i], entity_tag_check(str_of(right[i])));
    for (size_t i = 0; i < COUNT_OF(wrong); i++)
        if (!entity_tag_check(str_of(wrong[i])))
            fail_msg("%s is accepted", wrong[i]);
    assert_non_null(entity_tag_check((etag_str){NULL, 0}));
    assert_non_null(entity_tag_check((etag_str){"\"a\0b\"", 5}));
}

TEST(an_entity_tag_has_at_most_256_bytes)
{
    char text[ENTITY_TAG_BYTES_MAX + 1];

    memset(text, 'x', sizeof(text));
    text[0] = text[ENTITY_TAG_BYTES_MAX - 1] = '"';
    assert_null(entity_tag_check((etag_str){text, ENTITY_TAG_BYTES_MAX}));
    text[ENTITY_TAG_BYTES_MAX - 1] = 'x';
    text[ENTITY_TAG_BYTES_MAX] = '"';
    assert_non_null(entity_tag_check((etag_str){text, ENTITY_TAG_BYTES_MAX + 1}));
}

TEST(fields_are_tokens_and_values_without_controls)
{
    for (int byte = 0; byte < 256; byte++) {
        const char c = (char)byte;
        const bool token = (byte >= '0' && byte <= '9') || (byte >= 'a' && byte <= 'z') ||
                           (byte >= 'A' && byte <= 'Z') ||
                           (byte != 0 && strchr("!#$%&'*+-.^_`|~", byte));
        const bool value = byte == '\t' || (byte >= ' ' && byte != 0x7f);
        assert_int_equal(!field_check((etag_field){{&c, 1}, ETAG_LIT("v")}), token);
        assert_int_equal(!field_check((etag_field){ETAG_LIT("n"), {&c, 1}}), value);
    }
    char name[256];
    memset(name, 'n', sizeof(name));
    assert_null(field_check((etag_field){{name, 255}, {NULL, 0}}));
    assert_non_null(field_check((etag_field){{name, 256}, {NULL, 0}}));
    assert_non_null(field_check((etag_field){{NULL, 0}, ETAG_LIT("v")}));
    assert_non_null(field_check((etag_field){ETAG_LIT("n"), ETAG_LIT("a\r\nX: y")}));
}

static uint8_t packed[FIELDSET_BYTES_MAX];

/* The daemon's check of a fill and of a record of its store. */
TEST(fields_that_no_entry_keeps_are_refused)
{
    static const char *const refused[] = {"Set-Cookie", "Content-Length", "Transfer-Encoding",
                                          "location", "ETag"};
    struct kept_field field = {.field = {ETAG_LIT("X-One"), ETAG_LIT("v")}};
    struct entry entry = {.etag = ETAG_LIT("\"a\""),
                          .last_modified = ETAG_NO_DATE,
                          .fields = &field,
                          .field_count = 1};

    assert_null(entry_check(&entry, packed));
    for (size_t i = 0; i < COUNT_OF(refused); i++) {
        field.field.name = str_of(refused[i]);
        assert_non_null(entry_check(&entry, packed));
    }
}

static struct entry sample(void)
{
    return (struct entry){.etag = ETAG_LIT("\"a\""), .last_modified = ETAG_NO_DATE};
}

TEST(an_entry_needs_only_its_etag)
{
    struct entry entry = sample();

    assert_null(entry_check(&entry, packed));
    entry.etag = (etag_str){NULL, 0};
    assert_non_null(entry_check(&entry, packed));
}

TEST(kept_fields_are_bounded)
{
    static char text[FIELDSET_BYTES_MAX];

    memset(text, 'v', sizeof(text));
    struct kept_field fields[FIELDS_PER_ENTRY_MAX + 1];
    struct entry entry = sample();
    for (size_t i = 0; i <= FIELDS_PER_ENTRY_MAX; i++)
        fields[i] = (struct kept_field){.field = {ETAG_LIT("Vary"), ETAG_LIT("Accept")}};
    entry.fields = fields;
    entry.field_count = FIELDS_PER_ENTRY_MAX;
    assert_null(entry_check(&entry, packed));
    entry.field_count++;
    assert_non_null(entry_check(&entry, packed));

    entry.field_count = 1;
    fields[0].field.value = (etag_str){text, FIELDSET_BYTES_MAX - 4 - 4 - 4};
    assert_null(entry_check(&entry, packed));
    fields[0].field.value.len++;
    assert_non_null(entry_check(&entry, packed));
    fields[0].field.value = ETAG_LIT("a\nb");
    assert_non_null(entry_check(&entry, packed));
    fields[0] = (struct kept_field){.kind = FIELDSET_EXPIRES, .offset_s = -60};
    assert_null(entry_check(&entry, packed));
    fields[0].offset_s = INT64_MAX;
    assert_non_null(entry_check(&entry, packed));
    fields[0].offset_s = INT64_MIN;
    assert_non_null(entry_check(&entry, packed));
}

TEST(dates_are_those_of_http)
{
    static const struct {
        int64_t seconds;
        bool right;
    } cases[] = {{0, true},
                 {784111777, true},
                 {INT64_C(253402300799), true}, /* the last second of the year 9999 */
                 {INT64_C(253402300800), false},
                 {INT64_C(-62167219200), true}, /* the first of the year 0 */
                 {INT64_C(-62167219201), false},
                 {INT64_MAX, false},
                 {INT64_MIN + 1, false},
                 {ETAG_NO_DATE, true}};
    struct entry entry = sample();
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        entry.last_modified = cases[i].seconds;
        assert_int_equal(!entry_check(&entry, packed), cases[i].right);
    }
}

TEST(content_location_is_bounded_and_clean)
{
    char text[CONTENT_LOCATION_BYTES_MAX + 1];

    memset(text, 'x', sizeof(text));
    struct entry entry = sample();
    entry.content_location = (etag_str){text, CONTENT_LOCATION_BYTES_MAX};
    assert_null(entry_check(&entry, packed));
    entry.content_location.len++;
    assert_non_null(entry_check(&entry, packed));
    entry.content_location = ETAG_LIT("/a\r\nSet-Cookie: x");
    assert_non_null(entry_check(&entry, packed));
    entry.content_location = ETAG_LIT("/a\x7f");
    assert_non_null(entry_check(&entry, packed));
}

TEST(surrogates_are_bounded_and_checked)
{
    etag_str surrogates[SURROGATES_PER_ENTRY_MAX + 1];
    struct entry entry = sample();

    for (size_t i = 0; i <= SURROGATES_PER_ENTRY_MAX; i++)
        surrogates[i] = ETAG_LIT("customer:7");
    entry.surrogates = surrogates;
    entry.surrogate_count = SURROGATES_PER_ENTRY_MAX;
    assert_null(entry_check(&entry, packed));
    surrogates[SURROGATES_PER_ENTRY_MAX - 1] = ETAG_LIT("customer 7");
    assert_non_null(entry_check(&entry, packed));
    surrogates[SURROGATES_PER_ENTRY_MAX - 1] = ETAG_LIT("customer:7");
    entry.surrogate_count++;
    assert_non_null(entry_check(&entry, packed));
}

/* ---- Targets
 * ------------------------------------------------------------------------------------- */

static const char *check_resource(etag_str host, etag_str target)
{
    const etag_resource r = {host, target};

    return targets_check(&(etag_targets){.resources = &r, .resource_count = 1});
}

static const char *check_prefix(etag_str target)
{
    const etag_resource r = {ETAG_LIT("example.com"), target};

    return targets_check(&(etag_targets){.prefixes = &r, .prefix_count = 1});
}

static const char *check_surrogate(etag_str name)
{
    return targets_check(&(etag_targets){.surrogates = &name, .surrogate_count = 1});
}

TEST(something_must_be_named)
{
    assert_non_null(targets_check(&(etag_targets){0}));
    assert_null(targets_check(&(etag_targets){.everything = true}));
}

TEST(every_target_is_checked)
{
    assert_null(check_resource(ETAG_LIT("example.com"), ETAG_LIT("/a?b")));
    assert_null(check_resource((etag_str){NULL, 0}, ETAG_LIT("/")));
    assert_non_null(check_resource(ETAG_LIT("example.com"), ETAG_LIT("a")));
    assert_non_null(check_resource(ETAG_LIT("exa mple"), ETAG_LIT("/a")));
    assert_null(check_surrogate(ETAG_LIT("upload:42")));
    assert_non_null(check_surrogate(ETAG_LIT("upload 42")));
    assert_non_null(check_surrogate((etag_str){NULL, 0}));

    /* the second one of each, and beside "everything" */
    const etag_resource resources[] = {{ETAG_LIT("a"), ETAG_LIT("/")},
                                       {ETAG_LIT("a"), ETAG_LIT("")}};
    const etag_str surrogates[] = {ETAG_LIT("a"), ETAG_LIT("a b")};
    etag_targets targets = {
        .resources = resources, .surrogates = surrogates, .prefixes = resources};
    targets.everything = true;
    targets.resource_count = targets.surrogate_count = targets.prefix_count = 1;
    assert_null(targets_check(&targets));
    targets.resource_count = 2;
    assert_non_null(targets_check(&targets));
    targets.resource_count = 1;
    targets.surrogate_count = 2;
    assert_non_null(targets_check(&targets));
    targets.surrogate_count = 1;
    targets.prefix_count = 2;
    assert_non_null(targets_check(&targets));
    targets.prefix_count = 1;
    targets.families = surrogates;
    targets.family_count = 1;
    assert_null(targets_check(&targets));
    targets.family_count = 2;
    assert_non_null(targets_check(&targets));
}

TEST(a_family_has_a_name)
{
    const etag_str fine[] = {ETAG_LIT("uploads"), ETAG_LIT("uploads:*"), ETAG_LIT("*")};
    const etag_str bad[] = {{NULL, 0}, ETAG_LIT(":"), ETAG_LIT(":x"), ETAG_LIT("up loads")};

    for (size_t i = 0; i < COUNT_OF(fine); i++)
        assert_null(targets_check(&(etag_targets){.families = &fine[i], .family_count = 1}));
    for (size_t i = 0; i < COUNT_OF(bad); i++)
        assert_non_null(targets_check(&(etag_targets){.families = &bad[i], .family_count = 1}));
}

/* Off a segment boundary is allowed: it means the nearest covered ancestor. */
TEST(a_prefix_is_any_path)
{
    assert_null(check_prefix(ETAG_LIT("/")));
    assert_null(check_prefix(ETAG_LIT("/a/")));
    assert_null(check_prefix(ETAG_LIT("/a/b")));
    assert_null(check_prefix(ETAG_LIT("/a/b/c/d/e/f/")));
    assert_non_null(check_prefix(ETAG_LIT("/a/?q")));
    assert_non_null(check_prefix(ETAG_LIT("/a/?")));
    assert_non_null(check_prefix(ETAG_LIT("/a/%4")));
    assert_non_null(check_prefix(ETAG_LIT("")));
}

TEST(an_event_names_at_most_4096_targets)
{
    static etag_str surrogates[TARGETS_PER_EVENT_MAX + 1];

    for (size_t i = 0; i <= TARGETS_PER_EVENT_MAX; i++)
        surrogates[i] = ETAG_LIT("x");
    const etag_resource one = {ETAG_LIT("a"), ETAG_LIT("/")};
    etag_targets targets = {.surrogates = surrogates, .surrogate_count = TARGETS_PER_EVENT_MAX};
    targets.resources = targets.prefixes = &one;
    assert_null(targets_check(&targets));
    targets.prefix_count = 1;
    assert_non_null(targets_check(&targets));
    targets.surrogate_count--;
    assert_null(targets_check(&targets));
    targets.resource_count = 1;
    assert_non_null(targets_check(&targets));
    targets.resource_count = 0;
    targets.families = &surrogates[0];
    targets.family_count = 1;
    assert_non_null(targets_check(&targets));
    targets.surrogate_count--;
    assert_null(targets_check(&targets));
    targets.surrogate_count = SIZE_MAX;
    assert_non_null(targets_check(&targets));
}
