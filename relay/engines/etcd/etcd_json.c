/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Depth is counted before the parser sees a byte: it recurses. What jansson made is copied, decoded
 * on the way, and freed before the reader returns.
 */
#include "etcd_json.h"

#include "base64.h"
#include "numbers.h"
#include "text.h"

#include <errno.h>
#include <jansson.h>

/* Where an answer is being read. */
struct reading {
    struct arena *arena;
    const char *wrong;
    bool no_memory;
};

static void cleanup_json(json_t **json)
{
    json_decref(*json);
}

static bool not_so(struct reading *reading, const char *wrong)
{
    if (!reading->wrong)
        reading->wrong = wrong;
    return false;
}

static void *kept(struct reading *reading, void *memory)
{
    reading->no_memory |= !memory;
    return memory;
}

/* ---- The text -------------------------------------------------------------------------------- */

static bool depth_is_sound(etag_str json)
{
    size_t depth = 0;
    bool quoted = false;

    for (size_t i = 0; i < json.len; i++) {
        const char c = json.data[i];
        if (quoted && c == '\\')
            i++;
        else if (c == '"')
            quoted = !quoted;
        else if (!quoted && (c == '{' || c == '['))
            depth++;
        else if (!quoted && (c == '}' || c == ']') && depth > 0)
            depth--;
        if (depth > ETCD_DEPTH_MAX)
            return false;
    }
    return true;
}

/* An object, which the caller releases; NULL: it is none. */
static json_t *object_parse(etag_str json)
{
    if (json.len == 0 || !depth_is_sound(json))
        return NULL;
    json_t *const parsed = json_loadb(json.data, json.len, JSON_REJECT_DUPLICATES, NULL);
    if (json_is_object(parsed))
        return parsed;
    json_decref(parsed);
    return NULL;
}

/* ---- Members --------------------------------------------------------------------------------- */

static etag_str string_of(const json_t *json)
{
    return (etag_str){json_string_value(json), json_string_length(json)};
}

/* 64 bits are written as text; smaller ones, and other writers, as numbers. */
static bool number_get(struct reading *reading, const json_t *object, const char *name,
                       uint64_t *out)
{
    const json_t *const member = json_object_get(object, name);

    *out = 0;
    if (!member)
        return true;
    if (json_is_integer(member) && json_integer_value(member) >= 0) {
        *out = (uint64_t)json_integer_value(member);
        return true;
    }
    return (json_is_string(member) && str_number(string_of(member), 10, out)) ||
           not_so(reading, "a number is none, or does not fit");
}

static bool flag_get(struct reading *reading, const json_t *object, const char *name, bool *out)
{
    const json_t *const member = json_object_get(object, name);

    *out = json_is_true(member);
    return !member || json_is_boolean(member) ||
           not_so(reading, "a flag is neither true nor false");
}

static bool bytes_get(struct reading *reading, const json_t *object, const char *name,
                      etag_str *out)
{
    const json_t *const member = json_object_get(object, name);
    size_t len = 0;

    *out = (etag_str){"", 0};
    if (!member)
        return true;
    if (!json_is_string(member))
        return not_so(reading, "a key or value is no text");
    const etag_str text = string_of(member);
    uint8_t *const bytes = kept(reading, arena_alloc(reading->arena, text.len / 4 * 3 + 1));
    if (!bytes)
        return false;
    if (!base64_decode(bytes, &len, text))
        return not_so(reading, "a key or value is no base64");
    *out = (etag_str){(const char *)bytes, len};
    return true;
}

/* *count: 0 where there is none. */
static bool array_get(struct reading *reading, const json_t *object, const char *name,
                      const json_t **out, size_t *count)
{
    *out = json_object_get(object, name);
    *count = json_array_size(*out);
    return !*out || json_is_array(*out) || not_so(reading, "a list is none");
}

/* ---- An answer ------------------------------------------------------------------------------- */

static bool kv_read(struct reading *reading, struct etcd_kv *kv, const json_t *json)
{
    if (!json_is_object(json))
        return not_so(reading, "a key with its value is no object");
    if (!bytes_get(reading, json, "key", &kv->key) ||
        !bytes_get(reading, json, "value", &kv->value) ||
        !number_get(reading, json, "mod_revision", &kv->mod_revision) ||
        !number_get(reading, json, "create_revision", &kv->create_revision))
        return false;
    return (kv->mod_revision > 0 && kv->create_revision <= kv->mod_revision) ||
           not_so(reading, "a key has no revision");
}

static bool range_read(struct reading *reading, struct etcd_result *result, const json_t *json)
{
    const json_t *kvs;

    if (!array_get(reading, json, "kvs", &kvs, &result->kv_count) ||
        !number_get(reading, json, "count", &result->count) ||
        !flag_get(reading, json, "more", &result->more))
        return false;
    result->kvs = kept(reading,
                       arena_array(reading->arena, result->kv_count, sizeof(*result->kvs)));
    if (!result->kvs)
        return false;
    for (size_t i = 0; i < result->kv_count; i++)
        if (!kv_read(reading, &result->kvs[i], json_array_get(kvs, i)))
            return false;
    return true;
}

static bool result_read(struct reading *reading, struct etcd_result *result, const json_t *json)
{
    const json_t *const range = json_object_get(json, "response_range");
    const json_t *const deleted = json_object_get(json, "response_delete_range");

    if (json_object_size(json) != 1)
        return not_so(reading, "a result is not of one operation");
    if (deleted)
        return (json_is_object(deleted) || not_so(reading, "a deletion is no object")) &&
               number_get(reading, deleted, "deleted", &result->count);
    if (range)
        return (json_is_object(range) || not_so(reading, "a range is no object")) &&
               range_read(reading, result, range);
    return json_object_get(json, "response_put") ||
           not_so(reading, "a result is of no operation that was asked for");
}

static bool reply_read(struct reading *reading, struct etcd_reply *out, const json_t *json)
{
    const json_t *const header = json_object_get(json, "header"), *responses;

    if (!json_is_object(header))
        return not_so(reading, "there is no header");
    if (!number_get(reading, header, "cluster_id", &out->cluster_id) ||
        !number_get(reading, header, "revision", &out->revision) ||
        !number_get(reading, header, "raft_term", &out->raft_term) ||
        !flag_get(reading, json, "succeeded", &out->succeeded) ||
        !array_get(reading, json, "responses", &responses, &out->result_count))
        return false;
    if (out->cluster_id == 0 || out->revision == 0 || out->revision >= INT64_MAX)
        return not_so(reading, "the header has no cluster or no revision");
    if (out->result_count > ETCD_RESULTS_MAX)
        return not_so(reading, "there are more results than operations");
    out->results = kept(reading,
                        arena_array(reading->arena, out->result_count, sizeof(*out->results)));
    if (!out->results)
        return false;
    for (size_t i = 0; i < out->result_count; i++)
        if (!result_read(reading, &out->results[i], json_array_get(responses, i)))
            return false;
    return true;
}

int etcd_reply_read(struct etcd_reply *out, struct arena *arena, etag_str json, const char **wrong)
{
    struct reading reading = {.arena = arena};
    CLEANUP(cleanup_json) json_t *parsed = object_parse(json);

    *out = (struct etcd_reply){0};
    *wrong = "it is no JSON object";
    if (!parsed)
        return -EPROTO;
    if (reply_read(&reading, out, parsed))
        return 0;
    *out = (struct etcd_reply){0};
    *wrong = reading.wrong ? reading.wrong : "no memory";
    return reading.no_memory ? -ENOMEM : -EPROTO;
}

/* ---- Errors, and who we are ------------------------------------------------------------------ */

bool etcd_error_read(struct etcd_error *out, etag_str json)
{
    struct reading reading = {0};
    CLEANUP(cleanup_json) json_t *parsed = object_parse(json);
    const json_t *text = json_object_get(parsed, "message");

    *out = (struct etcd_error){0};
    if (!json_is_string(text))
        text = json_object_get(parsed, "error");
    /* Within a stream all of it is below "error". */
    if (!json_is_string(text) || !number_get(&reading, parsed, "code", &out->code))
        return false;
    (void)snprintf(out->text, sizeof(out->text), "%s", json_string_value(text));
    for (char *c = out->text; *c; c++)
        if ((unsigned char)*c < ' ' || (unsigned char)*c > '~')
            *c = '?';
    return true;
}

bool etcd_token_read(char out[ETCD_TOKEN_BYTES_MAX], etag_str json)
{
    CLEANUP(cleanup_json) json_t *parsed = object_parse(json);
    const etag_str token = string_of(json_object_get(parsed, "token"));

    if (token.len == 0 || token.len >= ETCD_TOKEN_BYTES_MAX)
        return false;
    for (size_t i = 0; i < token.len; i++)
        if (token.data[i] <= ' ' || token.data[i] > '~')
            return false;
    memcpy(out, token.data, token.len);
    out[token.len] = '\0';
    return true;
}

char *etcd_login_write(const char *name, const char *password)
{
    CLEANUP(cleanup_json)
    json_t *login = json_pack("{s:s, s:s}", "name", name, "password", password);

    return login ? json_dumps(login, JSON_COMPACT) : NULL;
}
