/* SPDX-License-Identifier: Apache-2.0 */
#include "record.h"
#include "testing.h"
#include "text.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* A key in canonical form, and an entry with one of everything. */
struct made {
    struct key key;
    struct kept_field fields[3];
    uint8_t packed[FIELDSET_BYTES_MAX];
    etag_str surrogates[2];
    struct entry_record record;
};

static struct made *made_new(void)
{
    static const etag_field vary[] = {{ETAG_LIT("accept-language"), ETAG_LIT("de")},
                                      {ETAG_LIT("accept"), {NULL, 0}}};
    struct made *made = calloc(1, sizeof(*made));
    etag_key key;
    ETAG_INIT(&key);
    key.resource = (etag_resource){ETAG_LIT("api.example"), ETAG_LIT("/uploads/42?full=1")};
    key.scope = (etag_scope){ETAG_SCOPE_NAMED, ETAG_LIT("customer:7")};
    key.release = ETAG_LIT("r1");
    key.scheme = ETAG_LIT("https");
    key.vary = vary;
    key.vary_count = 2;
    assert_null(key_canonicalize(&made->key, &key));
    made->fields[0].field = (etag_field){ETAG_LIT("Cache-Control"), ETAG_LIT("max-age=60")};
    made->fields[1] = (struct kept_field){.kind = FIELDSET_EXPIRES, .offset_s = -5};
    made->fields[2].field = (etag_field){ETAG_LIT("Vary"), ETAG_LIT("")};
    made->surrogates[0] = ETAG_LIT("upload:42");
    made->surrogates[1] = ETAG_LIT("customer:7");
    made->record = (struct entry_record){
        .key_bytes = {(const char *)made->key.bytes, made->key.len},
        .entry = {.etag = ETAG_LIT("W/\"v1\""),
                  .last_modified = -1000,
                  .fields = made->fields,
                  .field_count = 3,
                  .content_location = ETAG_LIT("/uploads/42.json"),
                  .surrogates = made->surrogates,
                  .surrogate_count = 2,
                  .max_age_ms = 90000,
                  .last_modified_is_strong = true},
        .fill_lsn = UINT64_C(0x123456789abcdef),
        .expires_wall_ms = UINT64_C(1800000000000)};
    assert_null(entry_check(&made->record.entry, made->packed));
    return made;
}

static etag_str bytes_of(const struct buffer *buffer)
{
    return (etag_str){(const char *)buffer->bytes, buffer->len};
}

static void assert_str(etag_str actual, const char *expected)
{
    assert_int_equal(actual.len, strlen(expected));
    assert_memory_equal(actual.data, expected, actual.len);
}

TEST(an_entry_comes_back_as_it_was)
{
    struct made *made = made_new();
    struct buffer buffer = {0};
    struct entry_record record;
    struct entry_record_parts parts;
    assert_int_equal(entry_record_pack(&buffer, &made->record), 0);
    assert_true(entry_record_parse(bytes_of(&buffer), &record, &parts));

    const struct entry *entry = &record.entry;
    assert_int_equal(record.fill_lsn, made->record.fill_lsn);
    assert_int_equal(record.expires_wall_ms, made->record.expires_wall_ms);
    assert_int_equal(record.key_bytes.len, made->key.len);
    assert_memory_equal(record.key_bytes.data, made->key.bytes, made->key.len);
    assert_str(entry->etag, "W/\"v1\"");
    assert_int_equal(entry->last_modified, -1000);
    assert_int_equal(entry->max_age_ms, 90000);
    assert_true(entry->last_modified_is_strong);
    assert_str(entry->content_location, "/uploads/42.json");
    assert_int_equal(entry->field_count, 3);
    assert_str(entry->fields[0].field.name, "Cache-Control");
    assert_str(entry->fields[0].field.value, "max-age=60");
    assert_int_equal(entry->fields[1].kind, FIELDSET_EXPIRES);
    assert_int_equal(entry->fields[1].offset_s, -5);
    assert_str(entry->fields[2].field.value, "");
    assert_int_equal(entry->surrogate_count, 2);
    assert_str(entry->surrogates[0], "upload:42");
    assert_str(entry->surrogates[1], "customer:7");
    assert_str(entry->key.resource.host, "api.example");
    assert_str(entry->key.resource.target, "/uploads/42?full=1");
    assert_str(entry->key.scope.name, "customer:7");
    assert_str(entry->key.release, "r1");
    assert_str(entry->key.scheme, "https");
    assert_int_equal(entry->key.vary_count, 2);
    assert_str(entry->key.vary[0].name, "accept");
    assert_null(entry->key.vary[0].value.data);
    buffer_deinit(&buffer);
    free(made);
}

TEST(an_entry_with_nothing_optional_comes_back)
{
    struct made *made = made_new();
    struct buffer buffer = {0};
    struct entry_record record;
    struct entry_record_parts parts;
    made->record.entry = (struct entry){.etag = ETAG_LIT("\"\""), .last_modified = ETAG_NO_DATE};
    assert_int_equal(entry_record_pack(&buffer, &made->record), 0);
    assert_true(entry_record_parse(bytes_of(&buffer), &record, &parts));
    assert_int_equal(record.entry.field_count, 0);
    assert_int_equal(record.entry.surrogate_count, 0);
    assert_null(record.entry.content_location.data);
    assert_true(record.entry.last_modified == ETAG_NO_DATE);
    buffer_deinit(&buffer);
    free(made);
}

TEST(records_are_appended)
{
    struct made *made = made_new();
    struct buffer buffer = {0};
    struct entry_record record;
    struct entry_record_parts parts;
    assert_int_equal(entry_record_pack(&buffer, &made->record), 0);
    const size_t first = buffer.len;
    assert_int_equal(entry_record_pack(&buffer, &made->record), 0);
    assert_int_equal(buffer.len, 2 * first);
    assert_memory_equal(buffer.bytes, buffer.bytes + first, first);
    assert_true(
        entry_record_parse((etag_str){(char *)buffer.bytes + first, first}, &record, &parts));
    assert_false(entry_record_parse(bytes_of(&buffer), &record, &parts));
    buffer_deinit(&buffer);
    free(made);
}

/* In memory of its own size, so that a sanitizer sees every step too far. */
static bool parse_entry_copy(const uint8_t *bytes, size_t len)
{
    struct entry_record record;
    struct entry_record_parts parts;
    char *copy = malloc(len ? len : 1);
    memcpy(copy, bytes, len);
    const bool parsed = entry_record_parse((etag_str){copy, len}, &record, &parts);
    free(copy);
    return parsed;
}

TEST(an_entry_cut_or_grown_anywhere_is_refused)
{
    struct made *made = made_new();
    struct buffer buffer = {0};
    assert_int_equal(entry_record_pack(&buffer, &made->record), 0);
    for (size_t len = 0; len < buffer.len; len++)
        if (parse_entry_copy(buffer.bytes, len))
            fail_msg("accepted: %zu bytes of %zu", len, buffer.len);
    assert_true(parse_entry_copy(buffer.bytes, buffer.len));
    assert_int_equal(buffer_reserve(&buffer, 1), 0);
    buffer.bytes[buffer.len] = 0;
    assert_false(parse_entry_copy(buffer.bytes, buffer.len + 1));
    assert_false(parse_entry_copy((const uint8_t[]){2}, 1));
    buffer_deinit(&buffer);
    free(made);
}

TEST(another_version_is_refused)
{
    struct made *made = made_new();
    struct buffer buffer = {0};
    assert_int_equal(entry_record_pack(&buffer, &made->record), 0);
    buffer.bytes[0]++;
    assert_false(parse_entry_copy(buffer.bytes, buffer.len));
    buffer_deinit(&buffer);
    free(made);
}

TEST(changed_bytes_never_lead_an_entry_astray)
{
    struct made *made = made_new();
    struct buffer buffer = {0};
    uint64_t seed = 42;
    assert_int_equal(entry_record_pack(&buffer, &made->record), 0);
    uint8_t *changed = malloc(buffer.len);
    for (int round = 0; round < 20000; round++) {
        memcpy(changed, buffer.bytes, buffer.len);
        const unsigned flips = 1 + (unsigned)(random_next(&seed) % 4);
        for (unsigned i = 0; i < flips; i++)
            changed[random_next(&seed) % buffer.len] = (uint8_t)random_next(&seed);
        (void)parse_entry_copy(changed, buffer.len);
    }
    free(changed);
    buffer_deinit(&buffer);
    free(made);
}

/* ---- Events ---- */

static struct event made_event(void)
{
    static const etag_resource resources[] = {{ETAG_LIT("api.example"), ETAG_LIT("/a?x")},
                                              {{NULL, 0}, ETAG_LIT("/b")}};
    static const etag_str surrogates[] = {ETAG_LIT("s:1"), ETAG_LIT("s:2"), ETAG_LIT("s:3")};
    static const etag_resource prefixes[] = {{ETAG_LIT("h"), ETAG_LIT("/p/")}};
    struct event event = {.lsn = 77, .wall_ms = 123456, .peer_pid = 4321, .peer_uid = 1000};
    ETAG_INIT(&event.targets);
    event.targets.resources = resources;
    event.targets.resource_count = 2;
    event.targets.surrogates = surrogates;
    event.targets.surrogate_count = 3;
    event.targets.prefixes = prefixes;
    event.targets.prefix_count = 1;
    return event;
}

TEST(an_event_comes_back_as_it_was)
{
    const struct event made = made_event();
    struct buffer buffer = {0};
    struct arena arena;
    struct event event;
    arena_init(&arena, ARENA_BYTES_MAX);
    assert_int_equal(event_record_pack(&buffer, &made), 0);
    assert_true(event_record_parse(bytes_of(&buffer), 78, &event, &arena));
    assert_int_equal(event.lsn, 78);
    assert_int_equal(event.wall_ms, 123456);
    assert_int_equal(event.peer_pid, 4321);
    assert_int_equal(event.peer_uid, 1000);
    assert_int_equal(event.targets.size, sizeof(etag_targets));
    assert_false(event.targets.everything);
    assert_int_equal(event.targets.resource_count, 2);
    assert_str(event.targets.resources[0].host, "api.example");
    assert_str(event.targets.resources[0].target, "/a?x");
    assert_null(event.targets.resources[1].host.data);
    assert_str(event.targets.resources[1].target, "/b");
    assert_int_equal(event.targets.surrogate_count, 3);
    assert_str(event.targets.surrogates[2], "s:3");
    assert_int_equal(event.targets.prefix_count, 1);
    assert_str(event.targets.prefixes[0].target, "/p/");
    arena_deinit(&arena);
    buffer_deinit(&buffer);
}

static bool parse_event_copy(const uint8_t *bytes, size_t len)
{
    struct arena arena;
    struct event event;
    char *copy = malloc(len ? len : 1);
    memcpy(copy, bytes, len);
    arena_init(&arena, ARENA_BYTES_MAX);
    const bool parsed = event_record_parse((etag_str){copy, len}, 1, &event, &arena);
    arena_deinit(&arena);
    free(copy);
    return parsed;
}

TEST(an_event_takes_entries_along)
{
    static const struct hash128 entries[] = {{1, 2}, {UINT64_MAX, 3}, {0, UINT64_MAX - 7}};
    struct event made = made_event();
    struct buffer buffer = {0};
    struct buffer without = {0};
    struct arena arena;
    struct event event;
    arena_init(&arena, ARENA_BYTES_MAX);
    assert_int_equal(event_record_pack(&without, &made), 0);
    assert_int_equal(event_record_unstored_count(bytes_of(&without)), 0);
    made.unstored = entries;
    made.unstored_count = 3;
    assert_int_equal(event_record_pack(&buffer, &made), 0);
    assert_int_equal(event_record_unstored_count(bytes_of(&buffer)), 3);
    for (size_t i = 0; i < 3; i++) {
        const struct hash128 entry = event_record_unstored(bytes_of(&buffer), i);
        assert_memory_equal(&entry, &entries[i], sizeof(entry));
    }
    assert_true(event_record_parse(bytes_of(&buffer), 78, &event, &arena));
    assert_int_equal(event.targets.surrogate_count, 3);
    assert_str(event.targets.prefixes[0].target, "/p/");
    assert_int_equal(event.unstored_count, 0);
    assert_int_equal(event_record_wall_ms(bytes_of(&buffer)), 123456);
    for (size_t len = 0; len < buffer.len; len++)
        if (parse_event_copy(buffer.bytes, len))
            fail_msg("accepted: %zu bytes of %zu", len, buffer.len);
    ETAG_INIT(&made.targets); /* for them alone */
    without.len = 0;
    assert_int_equal(event_record_pack(&without, &made), 0);
    assert_true(event_record_parse(bytes_of(&without), 79, &event, &arena));
    assert_true(event_is_carrier(&event));
    made.unstored_count = 0;
    without.len = 0;
    assert_int_equal(event_record_pack(&without, &made), 0);
    assert_false(event_record_parse(bytes_of(&without), 79, &event, &arena));
    buffer.bytes[buffer.len - 2] = 0; /* none: but they are there */
    assert_false(parse_event_copy(buffer.bytes, buffer.len));
    buffer.bytes[buffer.len - 1] = 1; /* more than there are bytes */
    assert_false(parse_event_copy(buffer.bytes, buffer.len));
    assert_int_equal(event_record_unstored_count(bytes_of(&buffer)), 0);
    assert_int_equal(event_record_wall_ms(bytes_of(&buffer)), 0);
    arena_deinit(&arena);
    buffer_deinit(&buffer);
    buffer_deinit(&without);
}

/* CURSOR_WITH_EVENTS: one record. */
TEST(a_mark_goes_with_its_event)
{
    struct event made = made_event();
    struct buffer buffer = {0};
    struct arena arena;
    struct event event;
    struct relay_mark mark;
    arena_init(&arena, ARENA_BYTES_MAX);
    assert_int_equal(event_record_pack(&buffer, &made), 0);
    assert_null(event_record_mark(bytes_of(&buffer)).data);
    made.outgoing = true;
    made.outgoing_hold_ms = 123;
    made.has_mark = true;
    made.mark = (struct relay_mark){.cursor = ETAG_LIT("1:2:x"),
                                    .log_id = ETAG_LIT("log"),
                                    .published_lsn = UINT64_MAX,
                                    .everything_due = true};
    buffer.len = 0;
    assert_int_equal(event_record_pack(&buffer, &made), 0);
    assert_true(event_record_parse(bytes_of(&buffer), 78, &event, &arena));
    assert_true(event.outgoing && event.has_mark && event.mark.everything_due);
    assert_int_equal(event.outgoing_hold_ms, 123);
    assert_str(event.mark.cursor, "1:2:x");
    assert_str(event.mark.log_id, "log");
    assert_true(event.mark.published_lsn == UINT64_MAX);
    assert_int_equal(event.targets.surrogate_count, 3);
    assert_str(event.targets.prefixes[0].target, "/p/");
    assert_true(relay_mark_parse(event_record_mark(bytes_of(&buffer)), &mark));
    assert_str(mark.cursor, "1:2:x");
    for (size_t len = 0; len < buffer.len; len++)
        if (parse_event_copy(buffer.bytes, len))
            fail_msg("accepted: %zu bytes of %zu", len, buffer.len);
    ETAG_INIT(&made.targets); /* for the mark alone */
    made.outgoing = false;
    made.mark.log_id = made.mark.cursor = (etag_str){0};
    buffer.len = 0;
    assert_int_equal(event_record_pack(&buffer, &made), 0);
    assert_true(event_record_parse(bytes_of(&buffer), 79, &event, &arena));
    assert_true(event_is_carrier(&event));
    assert_int_equal(event.mark.cursor.len, 0);
    arena_deinit(&arena);
    buffer_deinit(&buffer);
}

TEST(a_mark_that_is_none_is_refused)
{
    struct relay_mark mark;
    const char right[] = "\1\0\0\0\0\0\0\0\0\1\0Lcursor";
    char changed[sizeof(right)];
    assert_true(relay_mark_parse((etag_str){right, sizeof(right) - 1}, &mark));
    assert_int_equal(mark.published_lsn, 1);
    assert_str(mark.cursor, "cursor");
    for (size_t len = 0; len < 12; len++) /* a cursor of no log is none */
        assert_false(relay_mark_parse((etag_str){right, len}, &mark));
    assert_false(relay_mark_parse((etag_str){right, 12}, &mark)); /* a log without a cursor */
    memcpy(changed, right, sizeof(right));
    changed[8] = 2;
    assert_false(relay_mark_parse((etag_str){changed, sizeof(right) - 1}, &mark));
    memcpy(changed, right, sizeof(right));
    changed[9] = 0; /* the cursor of an unnamed log */
    assert_false(relay_mark_parse((etag_str){changed, sizeof(right) - 1}, &mark));
}

TEST(everything_is_a_target_too)
{
    struct event made = {.wall_ms = 1};
    struct buffer buffer = {0};
    struct arena arena;
    struct event event;
    ETAG_INIT(&made.targets);
    made.targets.everything = true;
    arena_init(&arena, ARENA_BYTES_MAX);
    assert_int_equal(event_record_pack(&buffer, &made), 0);
    assert_true(event_record_parse(bytes_of(&buffer), 1, &event, &arena));
    assert_true(event.targets.everything);
    assert_int_equal(event.targets.resource_count, 0);
    arena_deinit(&arena);
    buffer_deinit(&buffer);
}

TEST(the_largest_event_comes_back_and_needs_its_arena)
{
    static etag_str surrogates[TARGETS_PER_EVENT_MAX];
    struct event made = {.wall_ms = 1};
    struct buffer buffer = {0};
    struct arena arena;
    struct event event;
    for (size_t i = 0; i < TARGETS_PER_EVENT_MAX; i++)
        surrogates[i] = ETAG_LIT("some-surrogate-key");
    ETAG_INIT(&made.targets);
    made.targets.surrogates = surrogates;
    made.targets.surrogate_count = TARGETS_PER_EVENT_MAX;
    assert_int_equal(event_record_pack(&buffer, &made), 0);
    arena_init(&arena, ARENA_BYTES_MAX);
    assert_true(event_record_parse(bytes_of(&buffer), 1, &event, &arena));
    assert_int_equal(event.targets.surrogate_count, TARGETS_PER_EVENT_MAX);
    arena_deinit(&arena);
    arena_init(&arena, 1024);
    assert_false(event_record_parse(bytes_of(&buffer), 1, &event, &arena));
    arena_deinit(&arena);

    /* One more than allowed: the count of resources becomes 1. */
    const size_t resource_count_at = 1 + 8 + 4 + 4 + 1 + 16 + 4 + 4 + 1;
    buffer.bytes[resource_count_at] = 1;
    arena_init(&arena, ARENA_BYTES_MAX);
    assert_false(event_record_parse(bytes_of(&buffer), 1, &event, &arena));
    arena_deinit(&arena);
    buffer_deinit(&buffer);
}

TEST(an_event_cut_or_grown_anywhere_is_refused)
{
    const struct event made = made_event();
    struct buffer buffer = {0};
    assert_int_equal(event_record_pack(&buffer, &made), 0);
    for (size_t len = 0; len < buffer.len; len++)
        if (parse_event_copy(buffer.bytes, len))
            fail_msg("accepted: %zu bytes of %zu", len, buffer.len);
    assert_int_equal(buffer_reserve(&buffer, 1), 0);
    buffer.bytes[buffer.len] = 0;
    assert_false(parse_event_copy(buffer.bytes, buffer.len + 1));
    buffer.bytes[0]++;
    assert_false(parse_event_copy(buffer.bytes, buffer.len));
    buffer_deinit(&buffer);
}

TEST(changed_bytes_never_lead_an_event_astray)
{
    const struct event made = made_event();
    struct buffer buffer = {0};
    uint64_t seed = 7;
    assert_int_equal(event_record_pack(&buffer, &made), 0);
    uint8_t *changed = malloc(buffer.len);
    for (int round = 0; round < 20000; round++) {
        memcpy(changed, buffer.bytes, buffer.len);
        const unsigned flips = 1 + (unsigned)(random_next(&seed) % 4);
        for (unsigned i = 0; i < flips; i++)
            changed[random_next(&seed) % buffer.len] = (uint8_t)random_next(&seed);
        (void)parse_event_copy(changed, buffer.len);
    }
    free(changed);
    buffer_deinit(&buffer);
}
