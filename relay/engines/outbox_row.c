/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rows come from a database that others may write to: every length is checked, every name judged as
 * one from a client. What no release of ours can have written is never guessed at; its reader
 * raises everything.
 */
#include "outbox_row.h"

#include "numbers.h"
#include "resource.h"
#include "surrogate.h"
#include "targets.h"
#include "text.h"

#include <endian.h>
#include <errno.h>

#define RECORD_HEAD_BYTES 3
#define HOLD_BYTES 4
#define NAME_PARTS 3
/* The longest name that has a row for itself. */
#define NAME_BYTES_MAX                                                                             \
    (OUTBOX_ROW_BYTES_MAX - 1 - RECORD_HEAD_BYTES - ENGINE_WRITER_BYTES_MAX - RECORD_HEAD_BYTES -  \
     HOLD_BYTES - RECORD_HEAD_BYTES)

_Static_assert(HOST_BYTES_MAX + TARGET_BYTES_MAX + 2 <= NAME_BYTES_MAX, "each usual name fits");
_Static_assert(OUTBOX_ROW_BYTES_MAX / (RECORD_HEAD_BYTES + 1) <= TARGETS_PER_EVENT_MAX,
               "a row never names more than an event may");

/* ---- Decode ---------------------------------------------------------------------------------- */

struct record {
    char kind;
    etag_str bytes;
};

/* Records that are not read yet; of a row of words. */
struct records {
    etag_str rest;
    bool words;
};

static bool word_next(etag_str *rest, struct record *record)
{
    const char *const blank = memchr(rest->data, ' ', rest->len);
    const size_t len = blank ? (size_t)(blank - rest->data) : rest->len;

    /* A word follows each blank. */
    if (len < 2 || len + 1 == rest->len)
        return false;
    *record = (struct record){rest->data[0], {rest->data + 1, len - 1}};
    *rest = str_skip(*rest, blank ? len + 1 : len);
    return true;
}

/* The next one, which is passed over. */
static bool record_next(struct records *records, struct record *record)
{
    etag_str *const rest = &records->rest;

    if (records->words)
        return word_next(rest, record);
    if (rest->len < RECORD_HEAD_BYTES)
        return false;
    const size_t len = (size_t)(uint8_t)rest->data[1] << 8 | (uint8_t)rest->data[2];
    if (len > rest->len - RECORD_HEAD_BYTES)
        return false;
    *record = (struct record){rest->data[0], {rest->data + RECORD_HEAD_BYTES, len}};
    *rest = str_skip(*rest, RECORD_HEAD_BYTES + len);
    return true;
}

struct counts {
    size_t surrogates, families, resources, prefixes;
};

static const char *records_count(struct records records, struct counts *counts)
{
    struct record record;

    while (records.rest.len > 0) {
        if (!record_next(&records, &record))
            return "a record is cut off";
        if (record.kind == 's')
            counts->surrogates++;
        else if (record.kind == 'f')
            counts->families++;
        else if (records.words)
            return "a word is of no known kind";
        else if (record.kind == 'r')
            counts->resources++;
        else if (record.kind == 'p')
            counts->prefixes++;
        else if (record.kind == 'h' ? record.bytes.len != HOLD_BYTES : record.kind != 'e')
            return "a record is of no known kind";
    }
    return NULL;
}

/* The name that libetag sends for that of a surrogate key or a family. */
static etag_str name_sent(struct record record, struct arena *arena, int *error)
{
    char made[SURROGATE_MADE_BYTES];
    const etag_str name = record.bytes;
    const etag_str sent = record.kind == 'f' ? surrogate_family_name(name, made)
                                             : surrogate_name(name, made);

    if (sent.data != made)
        return sent;
    char *const kept = arena_alloc(arena, sent.len);
    if (!kept) {
        *error = -ENOMEM;
        return name;
    }
    memcpy(kept, made, sent.len);
    return (etag_str){kept, sent.len};
}

/* The arrays of the targets while they are filled. */
struct arrays {
    etag_str *surrogates, *families;
    etag_resource *resources, *prefixes;
};

static const char *record_take(struct record record, etag_targets *out, const struct arrays *to,
                               struct arena *arena, int *error)
{
    uint32_t number;

    switch (record.kind) {
    case 's':
        to->surrogates[out->surrogate_count++] = name_sent(record, arena, error);
        return NULL;
    case 'f':
        to->families[out->family_count++] = name_sent(record, arena, error);
        return NULL;
    case 'r':
        return resource_split(record.bytes, &to->resources[out->resource_count++]);
    case 'p':
        return resource_split(record.bytes, &to->prefixes[out->prefix_count++]);
    case 'h':
        memcpy(&number, record.bytes.data, sizeof(number));
        out->hold_ms = be32toh(number);
        return NULL;
    default:
        out->everything = true;
        return NULL;
    }
}

bool outbox_row_is_empty(const etag_targets *targets)
{
    return targets_names(targets) == 0 && !targets->everything;
}

/* Who wrote the row, which is passed over: the first record, if it is of that kind; elsewhere
 * that is of no known kind. Of words: what follows the first line end. */
static const char *writer_take(etag_str *writer, struct records *records)
{
    etag_str *const rest = &records->rest;
    const char *const end = records->words && rest->len > 0 ? memchr(rest->data, '\n', rest->len)
                                                            : NULL;
    struct record record;

    if (end) {
        record.bytes = str_skip(*rest, (size_t)(end - rest->data) + 1);
        rest->len = (size_t)(end - rest->data);
    } else if (records->words || rest->len == 0 || rest->data[0] != 'w') {
        return NULL;
    } else if (!record_next(records, &record)) {
        return "a record is cut off";
    }
    if (record.bytes.len == 0 || record.bytes.len > ENGINE_WRITER_BYTES_MAX)
        return "who wrote it is empty or too long";
    *writer = record.bytes;
    return NULL;
}

static const char *row_read(etag_targets *out, etag_str *writer, struct arena *arena,
                            etag_str bytes, int *error)
{
    struct counts counts = {0};
    const char *wrong;
    struct record record;

    if (bytes.len == 0 || bytes.len > OUTBOX_ROW_BYTES_MAX)
        return "the row is empty or too long";
    if (bytes.data[0] != OUTBOX_ROW_MARK && bytes.data[0] != OUTBOX_ROW_MARK_WORDS)
        return "the row does not begin with the byte 1 or 2";
    struct records records = {str_skip(bytes, 1), bytes.data[0] == OUTBOX_ROW_MARK_WORDS};
    wrong = writer_take(writer, &records);
    if (!wrong)
        wrong = records_count(records, &counts);
    if (wrong)
        return wrong;
    const struct arrays to = {
        arena_array(arena, counts.surrogates, sizeof(etag_str)),
        arena_array(arena, counts.families, sizeof(etag_str)),
        arena_array(arena, counts.resources, sizeof(etag_resource)),
        arena_array(arena, counts.prefixes, sizeof(etag_resource)),
    };
    if (!to.surrogates || !to.families || !to.resources || !to.prefixes)
        *error = -ENOMEM;
    out->surrogates = to.surrogates;
    out->families = to.families;
    out->resources = to.resources;
    out->prefixes = to.prefixes;
    while (*error == 0 && !wrong && records.rest.len > 0 && record_next(&records, &record))
        wrong = record_take(record, out, &to, arena, error);
    if (*error != 0 || wrong || (bytes.len == 1 && bytes.data[0] == OUTBOX_ROW_MARK))
        return wrong;
    return targets_check(out);
}

const char *outbox_row_decode(etag_targets *out, etag_str *writer, struct arena *arena,
                              etag_str bytes, int *error)
{
    *error = 0;
    *writer = (etag_str){0};
    ETAG_INIT(out);
    const char *const wrong = row_read(out, writer, arena, bytes, error);
    if (wrong || *error != 0) {
        ETAG_INIT(out);
        *writer = (etag_str){0};
    }
    return wrong;
}

/* ---- Encode ---------------------------------------------------------------------------------- */

static int rows_reserve(struct outbox_rows *rows, size_t more)
{
    if (more <= rows->capacity - rows->len)
        return 0;
    const size_t capacity = (rows->len + more) * 2;
    uint8_t *const bytes = realloc(rows->bytes, capacity);
    if (!bytes)
        return -ENOMEM;
    rows->bytes = bytes;
    rows->capacity = capacity;
    return 0;
}

static void rows_append(struct outbox_rows *rows, const void *bytes, size_t len)
{
    if (len > 0)
        memcpy(rows->bytes + rows->len, bytes, len);
    rows->len += len;
}

static void row_end(struct outbox_rows *rows)
{
    const uint32_t len = htobe32((uint32_t)(rows->len - rows->row_at - sizeof(len)));

    memcpy(rows->bytes + rows->row_at, &len, sizeof(len));
}

/* A name in its parts, one after the other. */
struct name {
    etag_str part[NAME_PARTS];
};

static size_t name_len(const struct name *name)
{
    size_t len = 0;

    for (size_t i = 0; i < NAME_PARTS; i++)
        len += name->part[i].len;
    return len;
}

static void record_append(struct outbox_rows *rows, char kind, const struct name *name)
{
    const size_t len = name_len(name);
    const uint8_t head[RECORD_HEAD_BYTES] = {(uint8_t)kind, (uint8_t)(len >> 8), (uint8_t)len};

    rows_append(rows, head, sizeof(head));
    for (size_t i = 0; i < NAME_PARTS; i++)
        rows_append(rows, name->part[i].data, name->part[i].len);
}

/* What each row of a mutation begins with. */
struct head {
    etag_str writer;
    uint32_t hold_ms;
};

/* There is room for a whole row. */
static int row_begin(struct outbox_rows *rows, const struct head *head)
{
    const uint8_t mark = OUTBOX_ROW_MARK;
    const uint32_t hold_ms = htobe32(head->hold_ms);

    if (rows_reserve(rows, sizeof(uint32_t) + OUTBOX_ROW_BYTES_MAX) != 0)
        return -ENOMEM;
    rows->count++;
    rows->row_at = rows->len;
    rows->len += sizeof(uint32_t);
    rows_append(rows, &mark, 1);
    if (head->writer.len > 0)
        record_append(rows, 'w', &(struct name){{head->writer}});
    if (head->hold_ms > 0)
        record_append(rows, 'h', &(struct name){{{(const char *)&hold_ms, sizeof(hold_ms)}}});
    return 0;
}

/* In this row, or in the next one. A name may be written much longer than it is ("%41"): what fits
 * into no row is everything. */
static int name_append(struct outbox_rows *rows, const struct head *head, char kind,
                       struct name name)
{
    if (name_len(&name) > NAME_BYTES_MAX) {
        kind = 'e';
        name = (struct name){0};
    }
    const size_t row_bytes = rows->len - rows->row_at - sizeof(uint32_t);
    if (row_bytes + RECORD_HEAD_BYTES + name_len(&name) > OUTBOX_ROW_BYTES_MAX) {
        row_end(rows);
        const int r = row_begin(rows, head);
        if (r != 0)
            return r;
    }
    record_append(rows, kind, &name);
    return 0;
}

static struct name resource_name(const etag_resource *resource)
{
    const bool with_host = resource->host.len > 0 ||
                           str_starts_with(resource->target, ETAG_LIT("//"));

    return (struct name){
        {with_host ? ETAG_LIT("//") : (etag_str){0}, resource->host, resource->target}};
}

int outbox_rows_encode(struct outbox_rows *out, const etag_targets *targets, etag_str writer)
{
    struct head head = {.hold_ms = targets->hold_ms};
    int error;

    if (!outbox_row_is_empty(targets)) {
        if (targets_check(targets))
            return -EINVAL;
        head.writer = (etag_str){writer.data, min_of(writer.len, ENGINE_WRITER_BYTES_MAX)};
    }
    error = row_begin(out, &head);
    if (error == 0 && targets->everything)
        error = name_append(out, &head, 'e', (struct name){0});
    for (size_t i = 0; i < targets->surrogate_count && error == 0; i++)
        error = name_append(out, &head, 's', (struct name){{targets->surrogates[i]}});
    for (size_t i = 0; i < targets->family_count && error == 0; i++)
        error = name_append(out, &head, 'f', (struct name){{targets->families[i]}});
    for (size_t i = 0; i < targets->resource_count && error == 0; i++)
        error = name_append(out, &head, 'r', resource_name(&targets->resources[i]));
    for (size_t i = 0; i < targets->prefix_count && error == 0; i++)
        error = name_append(out, &head, 'p', resource_name(&targets->prefixes[i]));
    if (error == 0)
        row_end(out);
    return error;
}
