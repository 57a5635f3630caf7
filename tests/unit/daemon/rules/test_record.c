/* SPDX-License-Identifier: Apache-2.0 */
#include "numbers.h"
#include "record.h"
#include "testing.h"
#include "text.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* An entry with one of everything, and its key in canonical form; an event; and the bytes that the
 * test is about. */
struct fixture {
    struct key key;
    struct kept_field fields[3];
    uint8_t packed[FIELDSET_BYTES_MAX];
    etag_str surrogates[2];
    struct entry_record record;
    struct event event;
    struct buffer buffer;
    struct arena arena;
};

static void make_entry(struct fixture *made)
{
    static const etag_field vary[] = {{ETAG_LIT("accept-language"), ETAG_LIT("de")},
                                      {ETAG_LIT("accept"), {NULL, 0}}};
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
}

static void make_event(struct fixture *made)
{
    static const etag_resource resources[] = {{ETAG_LIT("api.example"), ETAG_LIT("/a?x")},
                                              {{NULL, 0}, ETAG_LIT("/b")}};
    static const etag_str surrogates[] = {ETAG_LIT("s:1"), ETAG_LIT("s:2"), ETAG_LIT("s:3")};
    static const etag_resource prefixes[] = {{ETAG_LIT("h"), ETAG_LIT("/p/")}};
    static const etag_str families[] = {ETAG_LIT("t"), ETAG_LIT("u")};
    struct event *event = &made->event;

    *event = (struct event){.lsn = 77, .wall_ms = 123456, .peer_pid = 4321, .peer_uid = 1000};
    ETAG_INIT(&event->targets);
    event->targets.resources = resources;
    event->targets.resource_count = 2;
    event->targets.surrogates = surrogates;
    event->targets.surrogate_count = 3;
    event->targets.prefixes = prefixes;
    event->targets.prefix_count = 1;
    event->targets.families = families;
    event->targets.family_count = 2;
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));

    assert_non_null(f);
    make_entry(f);
    make_event(f);
    arena_init(&f->arena, ARENA_BYTES_MAX);
    *state = f;
    return 0;
}

static int setup_entry(void **state)
{
    (void)setup(state);
    struct fixture *f = *state;
    return entry_record_pack(&f->buffer, &f->record);
}

static int setup_event(void **state)
{
    (void)setup(state);
    struct fixture *f = *state;
    return event_record_pack(&f->buffer, &f->event);
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    buffer_deinit(&f->buffer);
    arena_deinit(&f->arena);
    free(f);
    return 0;
}

#define CASE(name) TEST_OF(name, struct fixture *f, setup, teardown)
#define ENTRY_CASE(name) TEST_OF(name, struct fixture *f, setup_entry, teardown)
#define EVENT_CASE(name) TEST_OF(name, struct fixture *f, setup_event, teardown)

static etag_str bytes_of(const struct buffer *buffer)
{
    return (etag_str){(const char *)buffer->bytes, buffer->len};
}

static void assert_str(etag_str actual, const char *expected)
{
    assert_int_equal(actual.len, strlen(expected));
    assert_memory_equal(actual.data, expected, actual.len);
}

typedef bool (*parse_fn)(const uint8_t *bytes, size_t len);

/* Any part of it, and any more, is refused. */
static void expect_only_whole(struct fixture *f, parse_fn parse)
{
    for (size_t len = 0; len < f->buffer.len; len++)
        if (parse(f->buffer.bytes, len))
            fail_msg("accepted: %zu bytes of %zu", len, f->buffer.len);
    assert_true(parse(f->buffer.bytes, f->buffer.len));
    assert_int_equal(buffer_reserve(&f->buffer, 1), 0);
    f->buffer.bytes[f->buffer.len] = 0;
    assert_false(parse(f->buffer.bytes, f->buffer.len + 1));
}

/* For a sanitizer. */
static void parse_changed(struct fixture *f, parse_fn parse, uint64_t seed)
{
    uint8_t *changed = malloc(f->buffer.len);

    for (int round = 0; round < 20000; round++) {
        memcpy(changed, f->buffer.bytes, f->buffer.len);
        const unsigned flips = 1 + (unsigned)(random_next(&seed) % 4);
        for (unsigned i = 0; i < flips; i++)
            changed[random_next(&seed) % f->buffer.len] = (uint8_t)random_next(&seed);
        (void)parse(changed, f->buffer.len);
    }
    free(changed);
}

ENTRY_CASE(an_entry_comes_back_as_it_was)
{
    struct entry_record record;
    struct entry_record_parts parts;

    assert_true(entry_record_parse(bytes_of(&f->buffer), &record, &parts));

    const struct entry *entry = &record.entry;
    assert_int_equal(record.fill_lsn, f->record.fill_lsn);
    assert_int_equal(record.expires_wall_ms, f->record.expires_wall_ms);
    assert_int_equal(record.key_bytes.len, f->key.len);
    assert_memory_equal(record.key_bytes.data, f->key.bytes, f->key.len);
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
}

CASE(an_entry_with_nothing_optional_comes_back)
{
    struct entry_record record;
    struct entry_record_parts parts;

    f->record.entry = (struct entry){.etag = ETAG_LIT("\"\""), .last_modified = ETAG_NO_DATE};
    assert_int_equal(entry_record_pack(&f->buffer, &f->record), 0);
    assert_true(entry_record_parse(bytes_of(&f->buffer), &record, &parts));
    assert_int_equal(record.entry.field_count, 0);
    assert_int_equal(record.entry.surrogate_count, 0);
    assert_null(record.entry.content_location.data);
    assert_true(record.entry.last_modified == ETAG_NO_DATE);
}

ENTRY_CASE(records_are_appended)
{
    struct entry_record record;
    struct entry_record_parts parts;
    const size_t first = f->buffer.len;

    assert_int_equal(entry_record_pack(&f->buffer, &f->record), 0);
    assert_int_equal(f->buffer.len, 2 * first);
    assert_memory_equal(f->buffer.bytes, f->buffer.bytes + first, first);
    assert_true(
        entry_record_parse((etag_str){(char *)f->buffer.bytes + first, first}, &record, &parts));
    assert_false(entry_record_parse(bytes_of(&f->buffer), &record, &parts));
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

ENTRY_CASE(an_entry_cut_or_grown_anywhere_is_refused)
{
    expect_only_whole(f, parse_entry_copy);
    assert_false(parse_entry_copy((const uint8_t[]){2}, 1));
}

ENTRY_CASE(another_version_is_refused)
{
    f->buffer.bytes[0]++;
    assert_false(parse_entry_copy(f->buffer.bytes, f->buffer.len));
}

ENTRY_CASE(changed_bytes_never_lead_an_entry_astray)
{
    parse_changed(f, parse_entry_copy, 42);
}

/* ---- Events ---- */

EVENT_CASE(an_event_comes_back_as_it_was)
{
    struct event event;

    assert_true(event_record_parse(bytes_of(&f->buffer), 78, &event, &f->arena));
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
    assert_int_equal(event.targets.family_count, 2);
    assert_str(event.targets.families[1], "u");
}

CASE(a_family_alone_is_an_event)
{
    const etag_str family = ETAG_LIT("uploads");
    struct event event;

    ETAG_INIT(&f->event.targets);
    f->event.targets.families = &family;
    f->event.targets.family_count = 1;
    assert_false(event_is_carrier(&f->event));
    assert_int_equal(event_record_pack(&f->buffer, &f->event), 0);
    assert_true(event_record_parse(bytes_of(&f->buffer), 78, &event, &f->arena));
    assert_int_equal(event.targets.family_count, 1);
    assert_str(event.targets.families[0], "uploads");
    assert_false(event_is_carrier(&event));
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

CASE(an_event_takes_entries_along)
{
    static const struct hash128 entries[] = {{1, 2}, {UINT64_MAX, 3}, {0, UINT64_MAX - 7}};
    struct buffer without = {0};
    struct event event;

    assert_int_equal(event_record_pack(&without, &f->event), 0);
    assert_int_equal(event_record_unstored_count(bytes_of(&without)), 0);
    f->event.unstored = entries;
    f->event.unstored_count = 3;
    assert_int_equal(event_record_pack(&f->buffer, &f->event), 0);
    assert_int_equal(event_record_unstored_count(bytes_of(&f->buffer)), 3);
    for (size_t i = 0; i < 3; i++) {
        const struct hash128 entry = event_record_unstored(bytes_of(&f->buffer), i);
        assert_memory_equal(&entry, &entries[i], sizeof(entry));
    }
    assert_true(event_record_parse(bytes_of(&f->buffer), 78, &event, &f->arena));
    assert_int_equal(event.targets.surrogate_count, 3);
    assert_str(event.targets.prefixes[0].target, "/p/");
    assert_int_equal(event.unstored_count, 0);
    assert_int_equal(event_record_wall_ms(bytes_of(&f->buffer)), 123456);
    for (size_t len = 0; len < f->buffer.len; len++)
        if (parse_event_copy(f->buffer.bytes, len))
            fail_msg("accepted: %zu bytes of %zu", len, f->buffer.len);
    ETAG_INIT(&f->event.targets); /* for them alone */
    without.len = 0;
    assert_int_equal(event_record_pack(&without, &f->event), 0);
    assert_true(event_record_parse(bytes_of(&without), 79, &event, &f->arena));
    assert_true(event_is_carrier(&event));
    f->event.unstored_count = 0;
    without.len = 0;
    assert_int_equal(event_record_pack(&without, &f->event), 0);
    assert_false(event_record_parse(bytes_of(&without), 79, &event, &f->arena));
    f->buffer.bytes[f->buffer.len - 2] = 0; /* none: but they are there */
    assert_false(parse_event_copy(f->buffer.bytes, f->buffer.len));
    f->buffer.bytes[f->buffer.len - 1] = 1; /* more than there are bytes */
    assert_false(parse_event_copy(f->buffer.bytes, f->buffer.len));
    assert_int_equal(event_record_unstored_count(bytes_of(&f->buffer)), 0);
    assert_int_equal(event_record_wall_ms(bytes_of(&f->buffer)), 0);
    buffer_deinit(&without);
}

/* CURSOR_WITH_EVENTS: one record. */
EVENT_CASE(a_mark_goes_with_its_event)
{
    struct event event;
    struct relay_mark mark;

    assert_null(event_record_mark(bytes_of(&f->buffer)).data);
    f->event.outgoing = true;
    f->event.outgoing_hold_ms = 123;
    f->event.has_mark = true;
    f->event.mark = (struct relay_mark){.cursor = ETAG_LIT("1:2:x"),
                                        .log_id = ETAG_LIT("log"),
                                        .published_lsn = UINT64_MAX,
                                        .everything_due = true};
    f->buffer.len = 0;
    assert_int_equal(event_record_pack(&f->buffer, &f->event), 0);
    assert_true(event_record_parse(bytes_of(&f->buffer), 78, &event, &f->arena));
    assert_true(event.outgoing && event.has_mark && event.mark.everything_due);
    assert_int_equal(event.outgoing_hold_ms, 123);
    assert_str(event.mark.cursor, "1:2:x");
    assert_str(event.mark.log_id, "log");
    assert_true(event.mark.published_lsn == UINT64_MAX);
    assert_int_equal(event.targets.surrogate_count, 3);
    assert_str(event.targets.prefixes[0].target, "/p/");
    assert_true(relay_mark_parse(event_record_mark(bytes_of(&f->buffer)), &mark));
    assert_str(mark.cursor, "1:2:x");
    for (size_t len = 0; len < f->buffer.len; len++)
        if (parse_event_copy(f->buffer.bytes, len))
            fail_msg("accepted: %zu bytes of %zu", len, f->buffer.len);
    ETAG_INIT(&f->event.targets); /* for the mark alone */
    f->event.outgoing = false;
    f->event.mark.log_id = f->event.mark.cursor = (etag_str){0};
    f->buffer.len = 0;
    assert_int_equal(event_record_pack(&f->buffer, &f->event), 0);
    assert_true(event_record_parse(bytes_of(&f->buffer), 79, &event, &f->arena));
    assert_true(event_is_carrier(&event));
    assert_int_equal(event.mark.cursor.len, 0);
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

static bool relayed_parses(struct fixture *f, struct event *out)
{
    f->buffer.len = 0;
    assert_int_equal(event_record_pack(&f->buffer, &f->event), 0);
    return event_record_parse(bytes_of(&f->buffer), 78, out, &f->arena);
}

CASE(an_event_of_the_relay_says_where_it_comes_from)
{
    struct event event;

    f->event.relayed = true;
    f->event.origin = (struct relay_origin){ETAG_LIT("postgres"), 748, UINT64_MAX, 3,
                                            ETAG_LIT("front2, shop@[local] (psql)")};
    f->event.has_mark = true;
    f->event.mark = (struct relay_mark){.cursor = ETAG_LIT("1:2:x"), .log_id = ETAG_LIT("log")};
    assert_true(relayed_parses(f, &event));
    assert_true(event.relayed);
    assert_str(event.origin.engine, "postgres");
    assert_int_equal(event.origin.first_position, 748);
    assert_true(event.origin.last_position == UINT64_MAX);
    assert_int_equal(event.origin.event_count, 3);
    assert_str(event.origin.writers, "front2, shop@[local] (psql)");
    assert_str(event.mark.cursor, "1:2:x");
    assert_str(event.targets.families[1], "u");
    const struct event_view view = event_view_of(&event);
    assert_true(view.relayed);
    assert_int_equal(view.origin.first_position, 748);
    assert_str(view.origin.writers, "front2, shop@[local] (psql)");
    expect_only_whole(f, parse_event_copy);
    /* The end of its hold is packed with what the hold says. */
    f->event.kind = EVENT_GUARD_EXPIRED;
    f->event.guard = (struct guard_id){0, 77};
    assert_true(relayed_parses(f, &event));
    assert_true(event.relayed);
    f->event.relayed = false;
    assert_true(relayed_parses(f, &event));
    assert_false(event.relayed || event.origin.engine.data || event.origin.writers.data);
}

CASE(an_origin_that_no_batch_has_is_refused)
{
    static const char names[RELAY_WRITERS_BYTES_MAX + 1] = "front2";
    const struct relay_origin wrong[] = {
        {ETAG_LIT("postgres"), 760, 748, 3, {0}},
        {ETAG_LIT("postgres"), 0, 748, 3, {0}},
        {ETAG_LIT("postgres"), 748, 760, 0, {0}},
        {ETAG_LIT("postgres"), 748, 760, RELAY_BATCH_TARGETS_MAX + 1, {0}},
        {ETAG_LIT("a name of an engine of 32 bytes."), 748, 760, 3, {0}},
        {ETAG_LIT("postgres"), 748, 760, 3, {names, sizeof(names)}},
        {ETAG_LIT("postgres"), 0, 0, 0, ETAG_LIT("front2")},
    };
    struct event event;

    f->event.relayed = true;
    f->event.origin = (struct relay_origin){.event_count = RELAY_BATCH_TARGETS_MAX};
    assert_true(relayed_parses(f, &event));
    for (size_t i = 0; i < COUNT_OF(wrong); i++) {
        f->event.origin = wrong[i];
        assert_false(relayed_parses(f, &event));
    }
    f->event.origin = (struct relay_origin){
        ETAG_LIT("postgres"), 748, 760, 3, {names, sizeof(names) - 1}};
    assert_true(relayed_parses(f, &event));
    f->event.kind = EVENT_GUARD_BEGIN;
    f->event.guard = (struct guard_id){1, 2};
    assert_false(relayed_parses(f, &event));
}

CASE(everything_is_a_target_too)
{
    struct event made = {.wall_ms = 1};
    struct event event;

    ETAG_INIT(&made.targets);
    made.targets.everything = true;
    assert_int_equal(event_record_pack(&f->buffer, &made), 0);
    assert_true(event_record_parse(bytes_of(&f->buffer), 1, &event, &f->arena));
    assert_true(event.targets.everything);
    assert_int_equal(event.targets.resource_count, 0);
}

CASE(the_largest_event_comes_back_and_needs_its_arena)
{
    static etag_str surrogates[TARGETS_PER_EVENT_MAX];
    struct event made = {.wall_ms = 1};
    struct event event;

    for (size_t i = 0; i < TARGETS_PER_EVENT_MAX; i++)
        surrogates[i] = ETAG_LIT("some-surrogate-key");
    ETAG_INIT(&made.targets);
    made.targets.surrogates = surrogates;
    made.targets.surrogate_count = TARGETS_PER_EVENT_MAX;
    assert_int_equal(event_record_pack(&f->buffer, &made), 0);
    assert_true(event_record_parse(bytes_of(&f->buffer), 1, &event, &f->arena));
    assert_int_equal(event.targets.surrogate_count, TARGETS_PER_EVENT_MAX);
    arena_deinit(&f->arena);
    arena_init(&f->arena, 1024);
    assert_false(event_record_parse(bytes_of(&f->buffer), 1, &event, &f->arena));
    arena_deinit(&f->arena);

    /* One more than allowed: the count of resources becomes 1. */
    const size_t resource_count_at = 1 + 8 + 4 + 4 + 1 + 16 + 4 + 4 + 1;
    f->buffer.bytes[resource_count_at] = 1;
    arena_init(&f->arena, ARENA_BYTES_MAX);
    assert_false(event_record_parse(bytes_of(&f->buffer), 1, &event, &f->arena));
}

EVENT_CASE(an_event_cut_or_grown_anywhere_is_refused)
{
    expect_only_whole(f, parse_event_copy);
    f->buffer.bytes[0]++;
    assert_false(parse_event_copy(f->buffer.bytes, f->buffer.len));
}

EVENT_CASE(changed_bytes_never_lead_an_event_astray)
{
    parse_changed(f, parse_event_copy, 7);
}
