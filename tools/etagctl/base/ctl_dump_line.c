/* SPDX-License-Identifier: Apache-2.0 */
/*
 *   {"format": "etagd-dump", "version": 1, "software": "etagd 0.1.0", "incarnation": "1f...", "time": "2026-...", "time_ms": N,
 *    "clock_ns": N}
 *   {"host": "example.org", "target": "/a", "scope": null, "release": "r1", "scheme": "https", "vary": [["Accept-Encoding", "gzip"], ["DPR", null]],
 *    "etag": "\"v1\"", "last_modified": N, "last_modified_is_strong": true, "fields": [["Cache-Control", "no-cache"], ["Expires", 60]], "content_location": "/b",
 *    "surrogates": ["upload:42"], "max_age_ms": N, "expires_ms": N, "fill_lsn": N, "state": "valid"}
 *   {"end": true, "entries": N}
 *
 * scope: null is public. Expires is a number of seconds after Date. Members that would be empty are left out. A member that is
 * not known makes the line unreadable: it might be something that the entry depends on.
 */
#include "ctl_dump_line.h"

#include "bytes.h"
#include "text.h"

#include <inttypes.h>
#include <jansson.h>

#define FORMAT_WORD "etagd-dump"

/* ---- Writing ---- */

static json_t *exact_text(etag_str text)
{
    const char *bytes = text.data ? text.data : "";
    json_t *plain = json_stringn(bytes, text.len);
    if (plain)
        return plain;
    CLEANUP(cleanup_free) char *hex = malloc(2 * text.len + 1);
    if (!hex)
        abort();
    for (size_t i = 0; i < text.len; i++)
        (void)sprintf(hex + 2 * i, "%02x", (unsigned char)bytes[i]);
    return json_pack("{s:s#}", "hex", hex, (int)(2 * text.len));
}

static void add_text(json_t *object, const char *name, etag_str text)
{
    if (text.len > 0)
        json_object_set_new(object, name, exact_text(text));
}

static void add_pair(json_t *array, etag_str name, json_t *value)
{
    json_array_append_new(array, json_pack("[oo]", exact_text(name), value));
}

static void add_array(json_t *object, const char *name, json_t *array)
{
    if (json_array_size(array) > 0)
        json_object_set(object, name, array);
    json_decref(array);
}

static void add_key(json_t *object, const etag_key *key)
{
    json_t *vary = json_array();
    add_text(object, "host", key->resource.host);
    add_text(object, "target", key->resource.target);
    json_object_set_new(object, "scope",
                        key->scope.kind == ETAG_SCOPE_PUBLIC ? json_null()
                                                             : exact_text(key->scope.name));
    add_text(object, "release", key->release);
    add_text(object, "scheme", key->scheme);
    for (size_t i = 0; i < key->vary_count; i++)
        add_pair(vary, key->vary[i].name,
                 key->vary[i].value.data ? exact_text(key->vary[i].value) : json_null());
    add_array(object, "vary", vary);
}

static void add_fields(json_t *object, const struct entry *entry)
{
    json_t *fields = json_array();
    for (size_t i = 0; i < entry->field_count; i++) {
        const struct kept_field *kept = &entry->fields[i];
        if (kept->kind == FIELDSET_EXPIRES)
            add_pair(fields, ETAG_LIT("Expires"), json_integer(kept->offset_s));
        else
            add_pair(fields, kept->field.name, exact_text(kept->field.value));
    }
    add_array(object, "fields", fields);
}

doc *dump_head_doc(const struct dump_head *head, const char *software)
{
    char incarnation[20], time[TIME_TEXT_BYTES];
    json_t *object = json_object();
    (void)snprintf(incarnation, sizeof(incarnation), "%016" PRIx64, head->incarnation);
    doc_words(object, "format", FORMAT_WORD);
    doc_number(object, "version", DUMP_VERSION);
    doc_words(object, "software", software);
    doc_words(object, "incarnation", incarnation);
    doc_words(object, "time", time_text(head->wall_ms, time));
    doc_number(object, "time_ms", head->wall_ms);
    doc_number(object, "clock_ns", head->clock_ns);
    return object;
}

doc *dump_entry_doc(const struct entry_view *view)
{
    const struct entry *entry = &view->entry;
    json_t *object = json_object(), *surrogates = json_array();
    add_key(object, &entry->key);
    add_text(object, "etag", entry->etag);
    if (entry->last_modified != ETAG_NO_DATE)
        json_object_set_new(object, "last_modified", json_integer(entry->last_modified));
    if (entry->last_modified_is_strong)
        doc_bool(object, "last_modified_is_strong", true);
    add_fields(object, entry);
    add_text(object, "content_location", entry->content_location);
    for (size_t i = 0; i < entry->surrogate_count; i++)
        json_array_append_new(surrogates, exact_text(entry->surrogates[i]));
    add_array(object, "surrogates", surrogates);
    if (view->expires_wall_ms > 0) {
        doc_number(object, "max_age_ms", entry->max_age_ms);
        doc_number(object, "expires_ms", view->expires_wall_ms);
    }
    doc_number(object, "fill_lsn", view->fill_lsn);
    doc_words(object, "state", etag_reason_word(view->state));
    return object;
}

doc *dump_end_doc(uint64_t entries)
{
    json_t *object = json_object();
    doc_bool(object, "end", true);
    doc_number(object, "entries", entries);
    return object;
}

/* ---- Reading: members are taken one by one, and none may be left ---- */

struct object {
    struct dump_line *line;
    json_t *json;
    size_t taken;
};

static bool wrong(struct dump_line *line, const char *name, const char *what)
{
    (void)snprintf(line->why, sizeof(line->why), "\"%s\" %s", name, what);
    return false;
}

/* NULL: there is none. */
static json_t *take(struct object *object, const char *name)
{
    json_t *value = json_object_get(object->json, name);
    object->taken += value != NULL;
    return value;
}

static int hex_digit(char c)
{
    const char lower = char_lower(c);
    if (c >= '0' && c <= '9')
        return c - '0';
    return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

static bool hex_bytes(struct dump_line *line, etag_str hex, etag_str *out)
{
    char *bytes = (char *)arena_alloc(&line->arena, hex.len / 2 + 1);
    if (!bytes || hex.len % 2 != 0)
        return false;
    for (size_t i = 0; i < hex.len; i += 2) {
        const int high = hex_digit(hex.data[i]), low = hex_digit(hex.data[i + 1]);
        if (high < 0 || low < 0)
            return false;
        bytes[i / 2] = (char)(high << 4 | low);
    }
    *out = (etag_str){bytes, hex.len / 2};
    return true;
}

static etag_str string_of(const json_t *value)
{
    return (etag_str){json_string_value(value), json_string_length(value)};
}

static bool text_of(struct dump_line *line, const char *name, const json_t *value, etag_str *out)
{
    const json_t *hex = json_object_get(value, "hex");
    if (json_is_string(value)) {
        *out = string_of(value);
        return true;
    }
    if (json_is_string(hex) && json_object_size(value) == 1 && hex_bytes(line, string_of(hex), out))
        return true;
    return wrong(line, name, "must be text or {\"hex\": \"...\"}");
}

/* Absent: left as it is. */
static bool take_text(struct object *object, const char *name, etag_str *out)
{
    const json_t *value = take(object, name);
    return !value || text_of(object->line, name, value, out);
}

static bool take_number(struct object *object, const char *name, bool wanted, uint64_t *out)
{
    const json_t *value = take(object, name);
    if (!value && !wanted)
        return true;
    if (!json_is_integer(value) || json_integer_value(value) < 0)
        return wrong(object->line, name, "must be a whole number");
    *out = (uint64_t)json_integer_value(value);
    return true;
}

/* An array of at most max elements, or NULL where there is none; *ok is false where it is something else. */
static json_t *take_array(struct object *object, const char *name, size_t max, bool *ok)
{
    json_t *array = take(object, name);
    *ok = !array || (json_is_array(array) && json_array_size(array) <= max);
    if (!*ok)
        (void)wrong(object->line, name, "is no array, or has too many elements");
    return array;
}

static bool pair_of(struct dump_line *line, const char *name, const json_t *pair, etag_str *first,
                    json_t **second)
{
    if (!json_is_array(pair) || json_array_size(pair) != 2)
        return wrong(line, name, "must be pairs of a name and a value");
    *second = json_array_get(pair, 1);
    return text_of(line, name, json_array_get(pair, 0), first);
}

static bool take_vary(struct object *object, etag_key *key)
{
    struct dump_line *line = object->line;
    bool ok;
    const json_t *array = take_array(object, "vary", VARY_COUNT_MAX, &ok);
    key->vary = line->vary;
    key->vary_count = json_array_size(array);
    for (size_t i = 0; ok && i < key->vary_count; i++) {
        json_t *value;
        line->vary[i].value = (etag_str){NULL, 0};
        ok = pair_of(line, "vary", json_array_get(array, i), &line->vary[i].name, &value) &&
             (json_is_null(value) || text_of(line, "vary", value, &line->vary[i].value));
    }
    return ok;
}

static bool take_key(struct object *object, etag_key *key)
{
    const json_t *scope = take(object, "scope");
    ETAG_INIT(key);
    key->resource = (etag_resource){{"", 0}, {"", 0}};
    key->scope.kind = json_is_null(scope) ? ETAG_SCOPE_PUBLIC : ETAG_SCOPE_NAMED;
    if (!scope) /* there is no default: nothing may leak */
        return wrong(object->line, "scope", "is missing: null is public");
    if (!json_is_null(scope) && !text_of(object->line, "scope", scope, &key->scope.name))
        return false;
    return take_text(object, "host", &key->resource.host) &&
           take_text(object, "target", &key->resource.target) &&
           take_text(object, "release", &key->release) &&
           take_text(object, "scheme", &key->scheme) && take_vary(object, key);
}

static bool take_fields(struct object *object, struct entry *entry)
{
    struct dump_line *line = object->line;
    bool ok;
    const json_t *array = take_array(object, "fields", FIELDS_PER_ENTRY_MAX, &ok);
    entry->fields = line->fields;
    entry->field_count = json_array_size(array);
    for (size_t i = 0; ok && i < entry->field_count; i++) {
        struct kept_field *kept = &line->fields[i];
        json_t *value;
        *kept = (struct kept_field){.kind = FIELDSET_LITERAL};
        ok = pair_of(line, "fields", json_array_get(array, i), &kept->field.name, &value);
        if (!ok || !json_is_integer(value)) {
            ok = ok && text_of(line, "fields", value, &kept->field.value);
        } else if (str_equal_nocase(kept->field.name, ETAG_LIT("Expires"))) {
            *kept = (struct kept_field){.kind = FIELDSET_EXPIRES,
                                        .offset_s = json_integer_value(value)};
        } else {
            ok = wrong(line, "fields", "has a number that is not that of Expires");
        }
    }
    return ok;
}

static bool take_surrogates(struct object *object, struct entry *entry)
{
    struct dump_line *line = object->line;
    bool ok;
    const json_t *array = take_array(object, "surrogates", SURROGATES_PER_ENTRY_MAX, &ok);
    entry->surrogates = line->surrogates;
    entry->surrogate_count = json_array_size(array);
    for (size_t i = 0; ok && i < entry->surrogate_count; i++)
        ok = text_of(line, "surrogates", json_array_get(array, i), &line->surrogates[i]);
    return ok;
}

static bool take_date(struct object *object, struct entry *entry)
{
    const json_t *value = take(object, "last_modified");
    const json_t *strong = take(object, "last_modified_is_strong");
    entry->last_modified = json_is_integer(value) ? json_integer_value(value) : ETAG_NO_DATE;
    entry->last_modified_is_strong = json_is_true(strong);
    if (value && !json_is_integer(value))
        return wrong(object->line, "last_modified", "must be a whole number");
    return !strong || json_is_boolean(strong) ||
           wrong(object->line, "last_modified_is_strong", "must be true or false");
}

static bool take_state(struct object *object, etag_reason *out)
{
    static const etag_reason known[] = {ETAG_REASON_VALID,    ETAG_REASON_NO_LEASE,
                                        ETAG_REASON_NO_ENTRY, ETAG_REASON_STALE,
                                        ETAG_REASON_IN_FLUX,  ETAG_REASON_EXPIRED};
    const json_t *value = take(object, "state");
    for (size_t i = 0; json_is_string(value) && i < sizeof(known) / sizeof(known[0]); i++)
        if (str_equal(string_of(value), str_of(etag_reason_word(known[i])))) {
            *out = known[i];
            return true;
        }
    return wrong(object->line, "state", "is missing or not known");
}

static bool take_entry(struct object *object)
{
    struct entry_view *view = &object->line->view;
    struct entry *entry = &view->entry;
    object->line->kind = DUMP_ENTRY;
    *view = (struct entry_view){.in_index = true};
    return take_key(object, &entry->key) && take_text(object, "etag", &entry->etag) &&
           take_date(object, entry) && take_fields(object, entry) &&
           take_text(object, "content_location", &entry->content_location) &&
           take_surrogates(object, entry) &&
           take_number(object, "max_age_ms", false, &entry->max_age_ms) &&
           take_number(object, "expires_ms", entry->max_age_ms > 0, &view->expires_wall_ms) &&
           take_number(object, "fill_lsn", true, &view->fill_lsn) &&
           take_state(object, &view->state);
}

static bool take_head(struct object *object)
{
    struct dump_line *line = object->line;
    etag_str format = {0}, incarnation = {0}, unused = {0};
    uint64_t version = 0;
    char digits[17] = "";
    line->kind = DUMP_HEAD;
    if (!take_text(object, "format", &format) || !str_equal(format, ETAG_LIT(FORMAT_WORD)))
        return wrong(line, "format", "is not \"" FORMAT_WORD "\"");
    if (!take_number(object, "version", true, &version) || version != DUMP_VERSION)
        return wrong(line, "version", "is not 1: the dump is of another release of etagctl");
    if (!take_text(object, "incarnation", &incarnation) || incarnation.len != sizeof(digits) - 1)
        return wrong(line, "incarnation", "must be 16 hexadecimal digits");
    memcpy(digits, incarnation.data, incarnation.len);
    line->head.incarnation = strtoull(digits, NULL, 16);
    return take_text(object, "software", &unused) && take_text(object, "time", &unused) &&
           take_number(object, "time_ms", true, &line->head.wall_ms) &&
           take_number(object, "clock_ns", true, &line->head.clock_ns);
}

static bool take_end(struct object *object)
{
    object->line->kind = DUMP_END;
    (void)take(object, "end");
    return take_number(object, "entries", true, &object->line->entries);
}

static bool take_all(struct object *object)
{
    bool ok;
    if (json_object_get(object->json, "format"))
        ok = take_head(object);
    else if (json_object_get(object->json, "end"))
        ok = take_end(object);
    else
        ok = take_entry(object);
    if (ok && object->taken != json_object_size(object->json)) {
        (void)snprintf(object->line->why, DUMP_WHY_BYTES, "it has members that are not known here");
        return false;
    }
    return ok;
}

void dump_line_init(struct dump_line *line)
{
    line->json = NULL;
    arena_init(&line->arena, ARENA_BYTES_MAX);
}

void dump_line_deinit(struct dump_line *line)
{
    json_decref(line->json);
    line->json = NULL;
    arena_deinit(&line->arena);
}

const char *dump_line_parse(struct dump_line *line, etag_str text)
{
    json_error_t error;
    json_decref(line->json);
    arena_reset(&line->arena);
    line->json = json_loadb(text.data, text.len, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &error);
    if (!json_is_object(line->json)) {
        (void)snprintf(line->why, sizeof(line->why), "%s",
                       line->json ? "it is no JSON object" : error.text);
        return line->why;
    }
    struct object object = {line, line->json, 0};
    return take_all(&object) ? NULL : line->why;
}
