/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The whole evaluation, differential: the input is text, so that seeds can be read and written by
 * hand.
 *
 *   line 1    method; behind a blank: 'r' If-Match is required, 's' compression suffixes count
 *   line 2    existence ('?', '+' or '-') and the current entity tag behind it; without one: none
 *   line 3    the last modification as an HTTP-date, strong behind a '!'; anything else: none
 *   others    Name:value
 *
 * Each piece stands in a block of its own size, so that a read behind it is an error under ASan.
 */
#include "fuzz.h"
#include "http_date.h"
#include "precondition.h"
#include "reference_evaluator.h"

#define FIELDS_MAX 64

struct cursor {
    const char *text;
    size_t left;
};

/* The text up to the next newline. */
static etag_str line_next(struct cursor *c)
{
    const char *end = memchr(c->text, '\n', c->left);
    const etag_str line = {c->text, end ? (size_t)(end - c->text) : c->left};
    const size_t used = line.len + (end != NULL);

    c->text += used;
    c->left -= used;
    return line;
}

static etag_str copy_of(etag_str text)
{
    char *copy = malloc(text.len ? text.len : 1);

    fuzz_require(copy);
    memcpy(copy, text.data, text.len);
    return (etag_str){copy, text.len};
}

static void copy_free(etag_str copy)
{
    free((void *)(uintptr_t)copy.data);
}

static void validators_read(struct cursor *c, etag_validators *out)
{
    ETAG_INIT(out);
    etag_str line = line_next(c);
    if (line.len > 0) {
        out->existence = line.data[0] == '+'   ? ETAG_EXISTS
                         : line.data[0] == '-' ? ETAG_ABSENT
                                               : ETAG_EXISTENCE_UNKNOWN;
        if (line.len > 1)
            out->etag = copy_of((etag_str){line.data + 1, line.len - 1});
    }
    line = line_next(c);
    out->last_modified_is_strong = line.len > 0 && line.data[0] == '!';
    const size_t mark = out->last_modified_is_strong;
    out->last_modified = ref_date(line.data + mark, line.len - mark, 0);
}

static void method_read(struct cursor *c, etag_request *out)
{
    const etag_str line = line_next(c);
    const char *blank = line.len > 0 ? memchr(line.data, ' ', line.len) : NULL;
    const size_t len = blank ? (size_t)(blank - line.data) : line.len;

    out->method = copy_of((etag_str){line.data, len});
    out->require_if_match = blank && memchr(blank, 'r', line.len - len);
    out->compression_suffixes = blank && memchr(blank, 's', line.len - len);
}

static size_t fields_read(struct cursor *c, etag_field fields[FIELDS_MAX])
{
    size_t count = 0;

    while (c->left > 0 && count < FIELDS_MAX) {
        const etag_str line = line_next(c);
        const char *colon = memchr(line.data, ':', line.len);
        if (!colon)
            continue;
        const size_t name_len = (size_t)(colon - line.data);
        fields[count++] = (etag_field){
            .name = copy_of((etag_str){line.data, name_len}),
            .value = copy_of((etag_str){colon + 1, line.len - name_len - 1}),
        };
    }
    return count;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    struct cursor c = {(const char *)data, size};
    etag_field fields[FIELDS_MAX];
    etag_request request;
    etag_validators validators;
    ETAG_INIT(&request);
    method_read(&c, &request);
    validators_read(&c, &validators);
    request.fields = fields;
    request.field_count = fields_read(&c, fields);

    const struct judgement j = precondition_judge(&request, &validators, DATES_AS_RFC);
    fuzz_require(j.verdict == ref_evaluate(&request, &validators));
    fuzz_require((j.reason == ETAG_REASON_NONE) == (j.verdict == ETAG_UNKNOWN));
    fuzz_require(etag_evaluate(&request, &validators) == j.verdict);
    fuzz_require(precondition_missing(&request) == (j.verdict == ETAG_PRECONDITION_REQUIRED));
    fuzz_require(precondition_range(&request, &validators) ==
                 ref_evaluate_range(&request, &validators));

    copy_free(request.method);
    copy_free(validators.etag);
    for (size_t i = 0; i < request.field_count; i++) {
        copy_free(fields[i].name);
        copy_free(fields[i].value);
    }
    return 0;
}
