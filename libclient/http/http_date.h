/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP-dates: RFC 9110 section 5.6.7. No locale, no time zone database. */
#ifndef LIBETAG_HTTP_DATE_H
#define LIBETAG_HTTP_DATE_H

#include "cleanup.h"

#include <etag/etag.h>

/* Any of the three forms. now_s: to place the two-digit years of RFC 850. ETAG_NO_DATE: not an
 * HTTP-date. */
MUST_USE int64_t http_date_parse(etag_str text, int64_t now_s);

/* Only the RFC 850 form is long enough; nobody else has to read a clock. */
static inline bool http_date_needs_now(etag_str text)
{
    return text.len >= 30 && text.len <= 33;
}

/* "Sun, 06 Nov 1994 08:49:37 GMT": 29 bytes, no NUL. seconds: years 0 to 9999, clamped. */
#define HTTP_DATE_BYTES 29
void http_date_format(int64_t seconds, char out[HTTP_DATE_BYTES]);

#endif
