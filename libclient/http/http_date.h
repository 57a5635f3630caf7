/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP-dates: RFC 9110 section 5.6.7. No locale, no time zone database. */
#ifndef LIBETAG_HTTP_DATE_H
#define LIBETAG_HTTP_DATE_H

#include "cleanup.h"

#include <etag/etag.h>

/* Parses any of the three forms. now_s: the current time, by which the two-digit years of RFC 850
 * are completed. Returns ETAG_NO_DATE if the text is no HTTP-date. */
MUST_USE int64_t http_date_parse(etag_str text, int64_t now_s);

/* Returns whether http_date_parse() needs now_s: only the RFC 850 form is this long, so for other
 * forms the caller need not read a clock. */
static inline bool http_date_needs_now(etag_str text)
{
    return text.len >= 30 && text.len <= 33;
}

/* "Sun, 06 Nov 1994 08:49:37 GMT": 29 bytes, no NUL. seconds: years 0 to 9999, clamped. */
#define HTTP_DATE_BYTES 29
void http_date_format(int64_t seconds, char out[HTTP_DATE_BYTES]);

#endif
