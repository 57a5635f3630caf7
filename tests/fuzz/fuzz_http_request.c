/* SPDX-License-Identifier: Apache-2.0 */
/* A captured request: whatever is accepted stays within its bytes, and what is refused is told with
 * a line that exists. */
#include "ctl_conditions.h"
#include "fuzz.h"
#include "http_request.h"
#include "text.h"

#include <string.h>

static void within(etag_str part, const uint8_t *data, size_t size)
{
    const char *begin = (const char *)data;

    if (part.data)
        fuzz_require(part.data >= begin && part.data + part.len <= begin + size);
}

static unsigned lines_of(const uint8_t *data, size_t size)
{
    unsigned lines = 1;

    for (size_t i = 0; i < size; i++)
        lines += data[i] == '\n';
    return lines;
}

/* What the conditions are said to be is what libetag says of them. */
static void judge(const struct http_request *http)
{
    static struct conditions found;
    etag_request request;
    etag_validators validators;

    ETAG_INIT(&request);
    request.method = http->method;
    request.fields = http->fields;
    request.field_count = http->field_count;
    etag_validators_init(&validators);
    validators.existence = ETAG_EXISTS;
    validators.etag = ETAG_LIT("\"v1\"");
    validators.last_modified = 1000000000;
    const etag_verdict verdict = etag_evaluate(&request, &validators);
    conditions_judge(&found, &request, &validators);
    fuzz_require(found.verdict == verdict ||
                 (verdict == ETAG_NOT_MODIFIED && found.verdict == ETAG_PROCEED)); /* a weak date */
    validators.last_modified_is_strong = true;
    conditions_judge(&found, &request, &validators);
    fuzz_require(found.verdict == etag_evaluate(&request, &validators));
    fuzz_require(found.count <= CONDITIONS_MAX);
    size_t deciding = 0;
    for (size_t i = 0; i < found.count; i++)
        deciding += found.list[i].decides;
    fuzz_require(found.verdict != ETAG_PROCEED || deciding == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct http_request request;
    struct why why;
    const unsigned line = http_request_parse(&request, (etag_str){(const char *)data, size}, &why);

    fuzz_require(strlen(why.text) < sizeof(why.text) - 1);
    if (line != 0) {
        fuzz_require(line <= lines_of(data, size) && why.text[0] != '\0');
        return 0;
    }
    fuzz_require(request.method.len > 0 && request.resource.target.len > 0 &&
                 request.resource.target.data[0] == '/');
    within(request.method, data, size);
    within(request.resource.host, data, size);
    if (request.resource.target.data != request.made_target)
        within(request.resource.target, data, size);
    fuzz_require(request.field_count <= HTTP_FIELDS_MAX && request.body_len <= size);
    for (size_t i = 0; i < request.field_count; i++) {
        within(request.fields[i].name, data, size);
        within(request.fields[i].value, data, size);
        fuzz_require(request.fields[i].name.len > 0 && request.fields[i].value.data);
    }
    judge(&request);
    return 0;
}
