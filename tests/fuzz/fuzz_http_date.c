/* SPDX-License-Identifier: Apache-2.0 */
/* Dates: the first byte moves the clock over 255 years, the rest is the text. Library and reference
 * must agree. */
#include "fuzz.h"
#include "http_date.h"
#include "reference_evaluator.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    const int64_t now_s = data[0] * INT64_C(31556952) + 4321;
    const etag_str text = {(const char *)data + 1, size - 1};
    const int64_t seconds = http_date_parse(text, now_s);
    fuzz_require(seconds == ref_date(text.data, text.len, now_s));
    if (seconds == ETAG_NO_DATE)
        return 0;

    char again[HTTP_DATE_BYTES];
    http_date_format(seconds, again);
    const int64_t last_s = INT64_C(253402300799); /* a leap second of the last day has no text */
    fuzz_require(http_date_parse((etag_str){again, sizeof(again)}, 0) ==
                 (seconds > last_s ? last_s : seconds));
    return 0;
}
