/* SPDX-License-Identifier: Apache-2.0 */
#include "uploads_files.h"

#include "uploads_files_db.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#define FILES "files/"
#define FILE_NAME_BYTES_MAX 32
#define DATE_BYTES_MAX 32

/* ---- What the request is about ---- */

bool files_route(struct call *call, etag_str path)
{
    const size_t prefix_len = strlen(FILES);

    if (path.len <= prefix_len || memcmp(path.data, FILES, prefix_len) != 0)
        return false;
    call->file = (etag_str){path.data + prefix_len, path.len - prefix_len};
    static const char allowed[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
    return call->file.len <= FILE_NAME_BYTES_MAX &&
           strspn(call->file.data, allowed) >= call->file.len;
}

etag_str files_methods(void)
{
    return ETAG_LIT("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
}

/* The surrogate key "file:7:report.csv". */
static etag_str name_file(char out[NAME_BYTES_MAX], const struct call *call)
{
    snprintf(out, NAME_BYTES_MAX, "file:%" PRId64 ":%.*s", call->principal.customer,
             (int)call->file.len, call->file.data);
    return etag_str_of(out);
}

static etag_str format_date(char out[DATE_BYTES_MAX], int64_t seconds)
{
    const time_t t = (time_t)seconds;
    struct tm parts;

    gmtime_r(&t, &parts);
    strftime(out, DATE_BYTES_MAX, "%a, %d %b %Y %H:%M:%S GMT", &parts);
    return etag_str_of(out);
}

/* ---- Ranges ---- */

/* Bytes first to end - 1. */
struct part {
    size_t first, end;
};

enum part_kind { PART_ALL, PART_SOME, PART_NONE };

/* Decimal digits, taken off the front; too large a number is as good as SIZE_MAX. False: there are
 * none. */
static bool take_number(etag_str *text, size_t *out)
{
    const size_t len = text->len;
    size_t value = 0;

    for (; text->len > 0 && *text->data >= '0' && *text->data <= '9'; text->data++, text->len--) {
        const size_t digit = (size_t)(*text->data - '0');
        value = value > (SIZE_MAX - digit) / 10 ? SIZE_MAX : value * 10 + digit;
    }
    *out = value;
    return text->len < len;
}

/* RFC 9110 section 14.1.2, for one range of bytes. What is not that is ignored, as if there were no
 * Range. */
static enum part_kind parse_range(etag_str text, size_t size, struct part *out)
{
    const char unit[] = "bytes=";
    size_t first = 0, last = SIZE_MAX;

    if (text.len < strlen(unit) || strncasecmp(text.data, unit, strlen(unit)) != 0)
        return PART_ALL;
    text = (etag_str){text.data + strlen(unit), text.len - strlen(unit)};
    const bool has_first = take_number(&text, &first);
    if (text.len == 0 || *text.data != '-')
        return PART_ALL;
    text = (etag_str){text.data + 1, text.len - 1};
    const bool has_last = take_number(&text, &last);
    if (text.len > 0 || (!has_first && !has_last) || (has_first && has_last && last < first))
        return PART_ALL;
    if (!has_first)
        *out = (struct part){last < size ? size - last : 0, last > 0 ? size : 0};
    else
        *out = (struct part){first, has_last && last < size ? last + 1 : size};
    return out->first < out->end ? PART_SOME : PART_NONE;
}

/* Several lines are no range that we know. */
static enum part_kind part_of(const struct call *call, size_t size, struct part *out)
{
    etag_str range = {0};

    for (size_t i = 0; i < call->request->field_count; i++) {
        const etag_field field = call->request->fields[i];
        if (field.name.len != strlen("Range") ||
            strncasecmp(field.name.data, "Range", field.name.len) != 0)
            continue;
        if (range.data)
            return PART_ALL;
        range = field.value;
    }
    return parse_range(range, size, out);
}

/* The file's bytes, which become the answer's, or a part of them. */
static void answer_bytes(struct call *call, struct file *file, const etag_entry *response,
                         etag_range range)
{
    struct http_answer *answer = call->answer;
    struct part part = {0, file->body_len};
    const enum part_kind kind = range == ETAG_RANGE_HONOR ? part_of(call, file->body_len, &part)
                                                          : PART_ALL;
    char content_range[80];

    if (kind == PART_NONE) {
        snprintf(content_range, sizeof(content_range), "bytes */%zu", file->body_len);
        answer_error(answer, 416, "range", "the file has no such part");
        http_answer_field(answer, "Content-Range", etag_str_of(content_range));
        return;
    }
    answer_representation(answer, kind == PART_SOME ? 206 : 200, response);
    if (kind == PART_SOME) {
        snprintf(content_range, sizeof(content_range), "bytes %zu-%zu/%zu", part.first,
                 part.end - 1, file->body_len);
        http_answer_field(answer, "Content-Range", etag_str_of(content_range));
    }
    answer->body_len = part.end - part.first;
    memmove(file->body, file->body + part.first, answer->body_len);
    answer->body = file->body;
    file->body = NULL;
}

/* ---- Reading ---- */

void files_get(struct call *call)
{
    struct file file;
    etag_answer known;

    if (call->request->arg_count > 0) {
        answer_error(call->answer, 400, "bad_query", "a file takes no query");
        return;
    }
    if (call_precheck(call, &known))
        return;
    const enum db_status status = db_read_file(call->api->db, call->principal.customer, call->file,
                                               &file);
    if (status != DB_OK) {
        call_finish_error(call, status, &known);
        return;
    }
    call->api->counters.renders++;
    char date[DATE_BYTES_MAX], name[NAME_BYTES_MAX];
    etag_field fields[6] = {{ETAG_LIT("Cache-Control"), ETAG_LIT(API_FRESH)},
                            {ETAG_LIT("Accept-Ranges"), ETAG_LIT("bytes")},
                            {ETAG_LIT("Content-Type"), ETAG_LIT("application/octet-stream")}};
    size_t field_count = 3;
    if (file.etag_len)
        fields[field_count++] = (etag_field){ETAG_LIT("ETag"), file_etag(&file)};
    if (file.last_modified != ETAG_NO_DATE)
        fields[field_count++] = (etag_field){ETAG_LIT("Last-Modified"),
                                             format_date(date, file.last_modified)};
    if (file.names_len)
        fields[field_count++] = (etag_field){ETAG_LIT("Surrogate-Key"),
                                             {file.names, file.names_len}};
    const etag_str surrogates[] = {name_file(name, call), etag_str_of(call->scope)};
    etag_entry response;
    etag_entry_init(&response);
    response.fields = fields;
    response.field_count = field_count;
    response.last_modified_is_strong = file.last_modified_is_strong;
    response.surrogates = surrogates;
    response.surrogate_count = sizeof(surrogates) / sizeof(surrogates[0]);
    if (!call_finish(call, &response, &known))
        answer_bytes(call, &file, &response, known.range);
    file_deinit(&file);
}

/* ---- Writing ---- */

struct file_write {
    /* what there was */
    struct file before;
    /* what there is to be; its body is of the change's */
    struct file after;
    bool gives_etag, gives_date, gives_names;
};

/* What the file is to be sent with. NULL: well; else what is wrong. */
static const char *read_validators(const struct call *call, struct file_write *write)
{
    const etag_str tag = http_field(call->request, "X-File-ETag");
    const etag_str date = http_field(call->request, "X-File-Last-Modified");
    const etag_str names = http_field(call->request, "X-File-Surrogate-Key");
    struct file *after = &write->after;

    after->last_modified = ETAG_NO_DATE;
    write->gives_etag = tag.data;
    write->gives_date = date.data;
    write->gives_names = names.data;
    if (names.len > sizeof(after->names))
        return "X-File-Surrogate-Key is longer than 4096 bytes";
    if (names.len > 0)
        memcpy(after->names, names.data, names.len);
    after->names_len = names.len;
    if (tag.len > 0) {
        etag_str copy;
        /* Of no coding: the tag as it is, if it is one. */
        if (etag_variant(tag, (etag_str){0}, after->etag, sizeof(after->etag), &copy) != ETAG_OK)
            return "X-File-ETag is no entity tag: quote it, as in \"v1\" or W/\"v1\"";
        after->etag_len = copy.len;
    }
    if (date.len > 0) {
        after->last_modified = etag_date_parse(date);
        if (after->last_modified == ETAG_NO_DATE || after->last_modified > time(NULL))
            return "X-File-Last-Modified is no HTTP-date that is over";
    }
    after->last_modified_is_strong =
        after->last_modified != ETAG_NO_DATE &&
        text_is(http_field(call->request, "X-File-Last-Modified-Strong"), "1");
    if (call_is(call, "PATCH") && call->request->body.len > 0)
        return "PATCH changes only what a file is sent with: it takes no bytes";
    return NULL;
}

static enum db_status current(struct call *call, void *argument, etag_validators *out)
{
    struct file_write *write = argument;
    const enum db_status status = db_read_file(call->api->db, call->principal.customer, call->file,
                                               &write->before);

    if (status == DB_OK) {
        out->etag = file_etag(&write->before);
        out->last_modified = write->before.last_modified;
        out->last_modified_is_strong = write->before.last_modified_is_strong;
    }
    return status;
}

/* The bytes that there were, and the ones that come. */
static enum db_status append(struct call *call, struct file_write *write)
{
    const etag_str more = call->request->body;
    struct file *before = &write->before, *after = &write->after;

    after->body_len = before->body_len + more.len;
    if (after->body_len > HTTP_BODY_BYTES_MAX)
        return db_refuse(call->api->db, "the file would be too large");
    after->body = malloc(after->body_len + 1);
    if (!after->body)
        return db_refuse(call->api->db, "no memory");
    if (before->body_len)
        memcpy(after->body, before->body, before->body_len);
    memcpy(after->body + before->body_len, more.data, more.len);
    return DB_OK;
}

/* Without a tag of its own: the hash of its bytes. Without a hash: none, which is never wrong. */
static void hash_file(const struct call *call, struct file *file)
{
    etag_str tag;

    if (etag_hash(call->api->hasher, file->body, file->body_len, false, &tag) != ETAG_OK)
        return;
    memcpy(file->etag, tag.data, tag.len);
    file->etag_len = tag.len;
}

/* For a write that changes a part of it. */
static void keep_names(struct file_write *write)
{
    if (write->gives_names)
        return;
    memcpy(write->after.names, write->before.names, write->before.names_len);
    write->after.names_len = write->before.names_len;
}

static void keep_validators(struct file_write *write)
{
    const struct file *before = &write->before;
    struct file *after = &write->after;

    if (!write->gives_etag) {
        memcpy(after->etag, before->etag, before->etag_len);
        after->etag_len = before->etag_len;
    }
    if (!write->gives_date) {
        after->last_modified = before->last_modified;
        after->last_modified_is_strong = before->last_modified_is_strong;
    }
}

/* What there is to be: PUT begins with nothing, PATCH adds nothing. */
static enum db_status compose(struct call *call, struct file_write *write)
{
    if (call_is(call, "PUT")) {
        file_deinit(&write->before);
        write->before = (struct file){0};
    }
    const enum db_status status = append(call, write);
    if (status != DB_OK)
        return status;
    keep_names(write);
    if (call_is(call, "PATCH"))
        keep_validators(write);
    else if (!write->gives_etag)
        hash_file(call, &write->after);
    return DB_OK;
}

static enum db_status change(struct call *call, void *argument)
{
    struct file_write *write = argument;
    struct db *db = call->api->db;
    const int64_t customer = call->principal.customer;
    char name[NAME_BYTES_MAX];
    enum db_status status;

    if (call_is(call, "DELETE")) {
        status = db_delete_file(db, customer, call->file);
    } else {
        status = compose(call, write);
        if (status == DB_OK)
            status = db_put_file(db, customer, call->file, &write->after);
    }
    return status == DB_OK ? db_outbox_add(db, name_file(name, call).data) : status;
}

static void answer_written(struct call *call, const struct file *file)
{
    char *json = NULL, date[DATE_BYTES_MAX];

    if (call_is(call, "DELETE")) {
        answer_plain(call->answer, 204, NULL);
        return;
    }
    if (asprintf(&json, "{\"bytes\":%zu}\n", file->body_len) < 0)
        json = NULL;
    answer_plain(call->answer, call->answer->status, json);
    /* The file as it was stored, byte for byte (RFC 9110 section 9.3.4). */
    if (file->etag_len)
        http_answer_field(call->answer, "ETag", file_etag(file));
    if (file->last_modified != ETAG_NO_DATE)
        http_answer_field(call->answer, "Last-Modified", format_date(date, file->last_modified));
}

void files_write(struct call *call)
{
    static const struct write_steps steps = {current, change};
    struct file_write write = {0};
    const char *wrong = read_validators(call, &write);

    if (wrong)
        answer_error(call->answer, 422, "refused", wrong);
    else if (call_write(call, &steps, &write))
        answer_written(call, &write.after);
    file_deinit(&write.before);
    file_deinit(&write.after);
}
