/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Flat records. Numbers are little-endian; a part is a u16 length and its bytes.
 *
 *   entry  u8 version, u64 fill LSN, u64 expiry (wall ms), u64 expiry (monotonic ns), i64
 *          Last-Modified, u64 max age (ms), u8 flags (1: that date is strong), parts: key, entity
 *          tag, Content-Location, field set; u16 count and as many parts: surrogate keys
 *   event  u8 version, u64 wall ms, u32 pid, u32 uid, u8 kind, u64 and u64 guard, u32 hold ms, u32
 *          max ms, u8 everything, u16 resources, u16 surrogate keys, u16 prefixes, u16 families, u8
 *          outgoing, u32 its hold ms, u32 length of the mark, the mark, u8 relayed, the origin if
 *          that is 1, parts: host and target of each resource, the surrogate keys, host and target
 *          of each prefix, the families, the fingerprints of entries that it takes along, u16 their
 *          count (at the end, to be read from there)
 *   mark   u64 published LSN, u8 everything is due, part: log id; the rest: cursor
 *   origin u64 first position, u64 last position, u32 events, parts: engine, writers
 *
 * A record does not distinguish absent from empty parts. Parsing trusts no byte: a disk may have
 * changed it, or another program may have written it.
 */
#include "record.h"

#include "bytes.h"
#include "targets.h"
#include "text.h"

#include <assert.h>
#include <errno.h>

#define ENTRY_VERSION 1
#define EVENT_VERSION 5
#define FINGERPRINT_BYTES (2 * sizeof(uint64_t))
#define PART_BYTES_MAX UINT16_MAX

/* ---- Writing: into a buffer that was reserved as a whole ---- */

static void put_bytes(struct buffer *out, const void *bytes, size_t len)
{
    assert(len <= out->capacity - out->len);
    if (len > 0)
        memcpy(out->bytes + out->len, bytes, len);
    out->len += len;
}

static void put_u8(struct buffer *out, uint8_t v)
{
    put_bytes(out, &v, sizeof(v));
}

static void put_u16(struct buffer *out, uint16_t v)
{
    put_bytes(out, &v, sizeof(v));
}

static void put_u32(struct buffer *out, uint32_t v)
{
    put_bytes(out, &v, sizeof(v));
}

static void put_u64(struct buffer *out, uint64_t v)
{
    put_bytes(out, &v, sizeof(v));
}

static void put_part(struct buffer *out, etag_str part)
{
    assert(part.len <= PART_BYTES_MAX);
    put_u16(out, (uint16_t)part.len);
    put_bytes(out, part.data, part.len);
}

static size_t part_bytes(etag_str part)
{
    return sizeof(uint16_t) + part.len;
}

/* ---- Reading: after the first thing that does not fit, everything is empty and 'failed' stays */

struct reader {
    etag_str left;
    bool failed;
};

static etag_str get_bytes(struct reader *in, size_t len)
{
    if (in->failed || len > in->left.len) {
        in->failed = true;
        return (etag_str){0};
    }
    const etag_str bytes = {in->left.data, len};
    in->left = str_skip(in->left, len);
    return bytes;
}

static uint8_t get_u8(struct reader *in)
{
    const etag_str bytes = get_bytes(in, sizeof(uint8_t));

    return bytes.data ? (uint8_t)bytes.data[0] : 0;
}

static uint16_t get_u16(struct reader *in)
{
    const etag_str bytes = get_bytes(in, sizeof(uint16_t));

    return bytes.data ? load_u16(bytes.data) : 0;
}

static uint32_t get_u32(struct reader *in)
{
    const etag_str bytes = get_bytes(in, sizeof(uint32_t));

    return bytes.data ? load_u32(bytes.data) : 0;
}

static uint64_t get_u64(struct reader *in)
{
    const etag_str bytes = get_bytes(in, sizeof(uint64_t));

    return bytes.data ? load_u64(bytes.data) : 0;
}

/* An empty part becomes absent. */
static etag_str get_part(struct reader *in)
{
    const etag_str part = get_bytes(in, get_u16(in));

    return part.len > 0 ? part : (etag_str){0};
}

static bool is_done(const struct reader *in)
{
    return !in->failed && in->left.len == 0;
}

/* ---- Entries ---- */

int entry_record_pack(struct buffer *out, const struct entry_record *record)
{
    const struct entry *entry = &record->entry;
    size_t bytes = 1 + 5 * sizeof(uint64_t) + 1 + part_bytes(record->key_bytes) +
                   part_bytes(entry->etag) + part_bytes(entry->content_location) +
                   part_bytes(entry->fieldset) + sizeof(uint16_t);

    for (size_t i = 0; i < entry->surrogate_count; i++)
        bytes += part_bytes(entry->surrogates[i]);
    if (buffer_reserve(out, bytes))
        return -ENOMEM;

    put_u8(out, ENTRY_VERSION);
    put_u64(out, record->fill_lsn);
    put_u64(out, record->expires_wall_ms);
    put_u64(out, record->expires_ns);
    put_u64(out, (uint64_t)entry->last_modified);
    put_u64(out, entry->max_age_ms);
    put_u8(out, entry->last_modified_is_strong);
    put_part(out, record->key_bytes);
    put_part(out, entry->etag);
    put_part(out, entry->content_location);
    put_part(out, entry->fieldset);
    put_u16(out, (uint16_t)entry->surrogate_count);
    for (size_t i = 0; i < entry->surrogate_count; i++)
        put_part(out, entry->surrogates[i]);
    return 0;
}

static bool parse_fields(etag_str bytes, struct entry *entry, struct entry_record_parts *parts)
{
    if (bytes.len == 0)
        return true;
    const int count = fieldset_parse(bytes.data, bytes.len, parts->fields);
    if (count <= 0 || load_u16(bytes.data) != bytes.len)
        return false;
    entry->fieldset = bytes;
    entry->fields = parts->fields;
    entry->field_count = (size_t)count;
    return true;
}

static bool parse_surrogates(struct reader *in, struct entry *entry,
                             struct entry_record_parts *parts)
{
    const size_t count = get_u16(in);

    if (in->failed || count > SURROGATES_PER_ENTRY_MAX)
        return false;
    for (size_t i = 0; i < count; i++)
        parts->surrogates[i] = get_part(in);
    entry->surrogates = parts->surrogates;
    entry->surrogate_count = count;
    return true;
}

bool entry_record_parse(etag_str bytes, struct entry_record *out, struct entry_record_parts *parts)
{
    struct reader in = {.left = bytes};

    *out = (struct entry_record){0};
    struct entry *entry = &out->entry;
    if (get_u8(&in) != ENTRY_VERSION)
        return false;
    out->fill_lsn = get_u64(&in);
    out->expires_wall_ms = get_u64(&in);
    out->expires_ns = get_u64(&in);
    entry->last_modified = (int64_t)get_u64(&in);
    entry->max_age_ms = get_u64(&in);
    const uint8_t flags = get_u8(&in);
    entry->last_modified_is_strong = flags == 1;
    out->key_bytes = get_part(&in);
    entry->etag = get_part(&in);
    entry->content_location = get_part(&in);
    return flags <= 1 && parse_fields(get_part(&in), entry, parts) &&
           parse_surrogates(&in, entry, parts) && is_done(&in) &&
           key_parse(out->key_bytes, &entry->key, parts->vary) && entry_check(entry, NULL) == NULL;
}

/* ---- Events ---- */

/* Bytes between the version and the length of the mark. */
#define MARK_AT                                                                                    \
    (sizeof(uint64_t) + 2 * sizeof(uint32_t) + 1 + 2 * sizeof(uint64_t) + 2 * sizeof(uint32_t) +   \
     1 + 4 * sizeof(uint16_t) + 1 + sizeof(uint32_t))

static size_t resources_bytes(const etag_resource *resources, size_t count)
{
    size_t bytes = 0;

    for (size_t i = 0; i < count; i++)
        bytes += part_bytes(resources[i].host) + part_bytes(resources[i].target);
    return bytes;
}

static void put_resources(struct buffer *out, const etag_resource *resources, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        put_part(out, resources[i].host);
        put_part(out, resources[i].target);
    }
}

static size_t names_bytes(const etag_str *names, size_t count)
{
    size_t bytes = 0;

    for (size_t i = 0; i < count; i++)
        bytes += part_bytes(names[i]);
    return bytes;
}

static void put_names(struct buffer *out, const etag_str *names, size_t count)
{
    for (size_t i = 0; i < count; i++)
        put_part(out, names[i]);
}

const char *event_check(const struct event *event)
{
    const bool names_guard = event->guard.high != 0 || event->guard.low != 0;

    if (names_guard != (event->kind != EVENT_MUTATION))
        return names_guard ? "a mutation has no guard" : "the guard has no id";
    return event->kind == EVENT_GUARD_ABORT ? NULL : targets_check(&event->targets);
}

struct event_view event_view_of(const struct event *event)
{
    return (struct event_view){
        .lsn = event->lsn,
        .wall_ms = event->wall_ms,
        .targets = event->targets,
        .peer_pid = event->peer_pid,
        .peer_uid = event->peer_uid,
        .kind = event->kind,
        .guard = event->guard,
        .relayed = event->relayed,
        .origin = event->origin,
    };
}

static size_t mark_bytes(const struct relay_mark *mark)
{
    return sizeof(uint64_t) + 1 + part_bytes(mark->log_id) + mark->cursor.len;
}

static void put_mark(struct buffer *out, const struct event *event)
{
    const struct relay_mark *mark = &event->mark;

    put_u32(out, event->has_mark ? (uint32_t)mark_bytes(mark) : 0);
    if (!event->has_mark)
        return;
    put_u64(out, mark->published_lsn);
    put_u8(out, mark->everything_due);
    put_part(out, mark->log_id);
    put_bytes(out, mark->cursor.data, mark->cursor.len);
}

bool relay_mark_parse(etag_str bytes, struct relay_mark *out)
{
    struct reader in = {.left = bytes};
    const uint64_t published_lsn = get_u64(&in);
    const uint8_t everything_due = get_u8(&in);
    const etag_str log_id = get_part(&in);

    *out = (struct relay_mark){.cursor = in.left.len > 0 ? in.left : (etag_str){0},
                               .log_id = log_id,
                               .published_lsn = published_lsn,
                               .everything_due = everything_due == 1};
    return !in.failed && everything_due <= 1 && log_id.len <= RELAY_LOG_ID_BYTES_MAX &&
           out->cursor.len <= RELAY_CURSOR_BYTES_MAX && (out->cursor.len == 0) == (log_id.len == 0);
}

static size_t origin_bytes(const struct event *event)
{
    return 1 + (event->relayed
                    ? 2 * sizeof(uint64_t) + sizeof(uint32_t) + part_bytes(event->origin.engine) +
                          part_bytes(event->origin.writers)
                    : 0);
}

static void put_origin(struct buffer *out, const struct event *event)
{
    put_u8(out, event->relayed);
    if (!event->relayed)
        return;
    put_u64(out, event->origin.first_position);
    put_u64(out, event->origin.last_position);
    put_u32(out, event->origin.event_count);
    put_part(out, event->origin.engine);
    put_part(out, event->origin.writers);
}

int event_record_pack(struct buffer *out, const struct event *event)
{
    const etag_targets *targets = &event->targets;

    assert(targets_names(targets) <= TARGETS_PER_EVENT_MAX);
    size_t bytes = 1 + MARK_AT + sizeof(uint32_t) +
                   (event->has_mark ? mark_bytes(&event->mark) : 0) + origin_bytes(event) +
                   resources_bytes(targets->resources, targets->resource_count) +
                   names_bytes(targets->surrogates, targets->surrogate_count) +
                   resources_bytes(targets->prefixes, targets->prefix_count) +
                   names_bytes(targets->families, targets->family_count);
    bytes += event->unstored_count * FINGERPRINT_BYTES + sizeof(uint16_t);
    if (buffer_reserve(out, bytes))
        return -ENOMEM;

    put_u8(out, EVENT_VERSION);
    put_u64(out, event->wall_ms);
    put_u32(out, event->peer_pid);
    put_u32(out, event->peer_uid);
    put_u8(out, (uint8_t)event->kind);
    put_u64(out, event->guard.high);
    put_u64(out, event->guard.low);
    put_u32(out, targets->hold_ms);
    put_u32(out, targets->max_ms);
    put_u8(out, targets->everything);
    put_u16(out, (uint16_t)targets->resource_count);
    put_u16(out, (uint16_t)targets->surrogate_count);
    put_u16(out, (uint16_t)targets->prefix_count);
    put_u16(out, (uint16_t)targets->family_count);
    put_u8(out, event->outgoing);
    put_u32(out, event->outgoing_hold_ms);
    put_mark(out, event);
    put_origin(out, event);
    put_resources(out, targets->resources, targets->resource_count);
    put_names(out, targets->surrogates, targets->surrogate_count);
    put_resources(out, targets->prefixes, targets->prefix_count);
    put_names(out, targets->families, targets->family_count);
    for (size_t i = 0; i < event->unstored_count; i++) {
        put_u64(out, event->unstored[i].low);
        put_u64(out, event->unstored[i].high);
    }
    put_u16(out, (uint16_t)event->unstored_count);
    return 0;
}

/* NULL where the arena has no room. */
static const etag_resource *get_resources(struct reader *in, size_t count, struct arena *arena)
{
    etag_resource *resources = (etag_resource *)arena_array(arena, count, sizeof(*resources));

    for (size_t i = 0; resources && i < count; i++) {
        resources[i].host = get_part(in);
        resources[i].target = get_part(in);
    }
    return resources;
}

static const etag_str *get_names(struct reader *in, size_t count, struct arena *arena)
{
    etag_str *names = (etag_str *)arena_array(arena, count, sizeof(*names));

    for (size_t i = 0; names && i < count; i++)
        names[i] = get_part(in);
    return names;
}

/* False: the arena has no room. */
static bool get_targets(struct reader *in, etag_targets *targets, struct arena *arena)
{
    targets->resources = get_resources(in, targets->resource_count, arena);
    targets->surrogates = get_names(in, targets->surrogate_count, arena);
    targets->prefixes = get_resources(in, targets->prefix_count, arena);
    targets->families = get_names(in, targets->family_count, arena);
    return (targets->resources || targets->resource_count == 0) &&
           (targets->surrogates || targets->surrogate_count == 0) &&
           (targets->prefixes || targets->prefix_count == 0) &&
           (targets->families || targets->family_count == 0);
}

/* The bytes of the tail: the fingerprints and their count. 0: the record has no such tail. */
static size_t tail_bytes(etag_str bytes)
{
    if (bytes.len < 1 + sizeof(uint16_t) || (uint8_t)bytes.data[0] != EVENT_VERSION)
        return 0;
    const size_t count = load_u16(bytes.data + bytes.len - sizeof(uint16_t));
    const size_t tail = count * FINGERPRINT_BYTES + sizeof(uint16_t);
    return tail < bytes.len ? tail : 0;
}

size_t event_record_unstored_count(etag_str bytes)
{
    return tail_bytes(bytes) / FINGERPRINT_BYTES;
}

struct hash128 event_record_unstored(etag_str bytes, size_t i)
{
    const char *end = bytes.data + bytes.len - sizeof(uint16_t);
    const char *at = end - (event_record_unstored_count(bytes) - i) * FINGERPRINT_BYTES;

    return hash128_load(at);
}

/* After the version, without the tail. */
static struct reader event_reader(etag_str bytes)
{
    const size_t tail = tail_bytes(bytes);

    return (struct reader){.left = tail > 0 ? (etag_str){bytes.data + 1, bytes.len - 1 - tail}
                                            : (etag_str){0},
                           .failed = tail == 0};
}

uint64_t event_record_wall_ms(etag_str bytes)
{
    struct reader in = event_reader(bytes);
    const uint64_t wall_ms = get_u64(&in);

    return in.failed ? 0 : wall_ms;
}

etag_str event_record_mark(etag_str bytes)
{
    struct reader in = event_reader(bytes);

    (void)get_bytes(&in, MARK_AT);
    const etag_str mark = get_bytes(&in, get_u32(&in));
    return !in.failed && mark.len > 0 ? mark : (etag_str){0};
}

/* False: it is there, and no mark. */
static bool get_mark(struct reader *in, struct event *out)
{
    const etag_str mark = get_bytes(in, get_u32(in));

    out->has_mark = mark.len > 0;
    return !out->has_mark || relay_mark_parse(mark, &out->mark);
}

/* False: it is there, and none that a relay's batch makes. */
static bool get_origin(struct reader *in, struct event *out)
{
    struct relay_origin *origin = &out->origin;
    const uint8_t relayed = get_u8(in);

    out->relayed = relayed == 1;
    if (!out->relayed)
        return relayed == 0;
    origin->first_position = get_u64(in);
    origin->last_position = get_u64(in);
    origin->event_count = get_u32(in);
    origin->engine = get_part(in);
    origin->writers = get_part(in);
    return (out->kind == EVENT_MUTATION || out->kind == EVENT_GUARD_EXPIRED) &&
           origin->engine.len <= RELAY_ENGINE_BYTES_MAX &&
           origin->writers.len <= RELAY_WRITERS_BYTES_MAX &&
           (origin->event_count > 0 || origin->writers.len == 0) &&
           origin->event_count <= RELAY_BATCH_TARGETS_MAX &&
           origin->first_position <= origin->last_position &&
           (origin->first_position == 0) == (origin->last_position == 0) &&
           (origin->event_count > 0 || origin->last_position == 0);
}

bool event_record_parse(etag_str bytes, uint64_t lsn, struct event *out, struct arena *arena)
{
    struct reader in = event_reader(bytes);

    *out = (struct event){.lsn = lsn};
    etag_targets *targets = &out->targets;
    ETAG_INIT(targets);
    out->wall_ms = get_u64(&in);
    out->peer_pid = get_u32(&in);
    out->peer_uid = get_u32(&in);
    const uint8_t kind = get_u8(&in);
    out->kind = (enum event_kind)kind;
    out->guard.high = get_u64(&in);
    out->guard.low = get_u64(&in);
    targets->hold_ms = get_u32(&in);
    targets->max_ms = get_u32(&in);
    const uint8_t everything = get_u8(&in);
    targets->everything = everything == 1;
    targets->resource_count = get_u16(&in);
    targets->surrogate_count = get_u16(&in);
    targets->prefix_count = get_u16(&in);
    targets->family_count = get_u16(&in);
    const uint8_t outgoing = get_u8(&in);
    out->outgoing = outgoing == 1;
    out->outgoing_hold_ms = get_u32(&in);
    if (!get_mark(&in, out) || !get_origin(&in, out) || in.failed || everything > 1 ||
        outgoing > 1 || !event_kind_known(kind) || targets_names(targets) > TARGETS_PER_EVENT_MAX)
        return false;
    return get_targets(&in, targets, arena) && is_done(&in) &&
           (((event_record_unstored_count(bytes) > 0 || out->has_mark) && event_is_carrier(out)) ||
            event_check(out) == NULL);
}
