/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP-dates: the three forms, what is none of them, the calendar against the C library's,
 * two-digit years. */
#include "http_date.h"

#include "numbers.h"
#include "reference_evaluator.h"
#include "testing.h"
#include "text.h"

#define DAY INT64_C(86400)
#define YEAR_0 INT64_C(-62167219200)
#define YEAR_9999_END INT64_C(253402300799)
#define NOW_2026 INT64_C(1785067200) /* 2026-07-26 12:00:00 */

static int64_t parse(const char *text)
{
    const int64_t seconds = http_date_parse(str_of(text), NOW_2026);

    assert_int_equal(seconds, ref_date(text, strlen(text), NOW_2026));
    return seconds;
}

TEST(three_forms)
{
    assert_int_equal(parse("Sun, 06 Nov 1994 08:49:37 GMT"), 784111777);
    assert_int_equal(parse("Sunday, 06-Nov-94 08:49:37 GMT"), 784111777);
    assert_int_equal(parse("Sun Nov  6 08:49:37 1994"), 784111777);
    assert_int_equal(parse("Sun Nov 06 08:49:37 1994"), 784111777);
    assert_int_equal(parse("Wed Jun 25 17:12:18 2014"), 1403716338);
    assert_int_equal(parse("Wednesday, 25-Jun-14 17:12:18 GMT"), 1403716338);
    assert_int_equal(parse("Thu, 01 Jan 1970 00:00:00 GMT"), 0);
    assert_int_equal(parse("Wed, 31 Dec 1969 23:59:59 GMT"), -1);
    assert_int_equal(parse("Sat, 01 Jan 0000 00:00:00 GMT"), YEAR_0);
    assert_int_equal(parse("Fri, 31 Dec 9999 23:59:59 GMT"), YEAR_9999_END);
    assert_int_equal(parse("Mon, 06 Nov 1994 08:49:37 GMT"), 784111777); /* it was a Sunday */
    assert_int_equal(parse("Sat, 31 Dec 2016 23:59:60 GMT"), 1483228800);
    assert_int_equal(parse("Tue, 29 Feb 2000 00:00:00 GMT"), 951782400);
    assert_int_equal(parse("Thu, 29 Feb 2024 00:00:00 GMT"), 1709164800);
}

TEST(not_dates)
{
    static const char *const bad[] = {
        "",
        "0",
        "-1",
        "foo",
        "Sun, 06 Nov 1994 08:49:37 UTC",
        "Sun, 06 Nov 1994 08:49:37 gmt",
        "sun, 06 Nov 1994 08:49:37 GMT",
        "Sun, 06 nov 1994 08:49:37 GMT",
        "Son, 06 Nov 1994 08:49:37 GMT",
        "Sun, 06 Now 1994 08:49:37 GMT",
        "Sun, 6 Nov 1994 08:49:37 GMT",
        "Sun,  6 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 8:49:37 GMT",
        "Sun, 06 Nov 1994  8:49:37 GMT",
        "Sun, 06 Nov 1994 08:49:37 GMT ",
        " Sun, 06 Nov 1994 08:49:37 GMT",
        "Sun; 06 Nov 1994 08:49:37 GMT",
        "Sun, 06-Nov-1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 08:49:37 +000",
        "Sun, 06 Nov 1994 08.49:37 GMT",
        "Sun, 06 Nov 1994 08:49.37 GMT",
        "Sun, 06 Nov 1994T08:49:37 GMT",
        "Sun, 06 Nov -994 08:49:37 GMT",
        "Sun, 06 Nov +994 08:49:37 GMT",
        "Sun, 00 Nov 1994 08:49:37 GMT",
        "Sun, 31 Nov 1994 08:49:37 GMT",
        "Sun, 32 Oct 1994 08:49:37 GMT",
        "Sun, 29 Feb 1900 08:49:37 GMT",
        "Sun, 29 Feb 2023 08:49:37 GMT",
        "Sun, 30 Feb 2024 08:49:37 GMT",
        "Sun, 06 Nov 1994 24:00:00 GMT",
        "Sun, 06 Nov 1994 08:60:37 GMT",
        "Sun, 06 Nov 1994 08:49:61 GMT",
        "Sun, 06 Nov 1994 08:49:3x GMT",
        "Tue, 08 Oct 4446413 00:56:40 GMT",
        "Sunday, 06-Nov-1994 08:49:37 GMT",
        "Sun, 06-Nov-94 08:49:37 GMT",
        "Sundey, 06-Nov-94 08:49:37 GMT",
        "Sunday, 06 Nov 94 08:49:37 GMT",
        "Sunday, 06-Nov-94 08:49:37 UTC",
        "Sunday, 06-Nov-9x 08:49:37 GMT",
        "Sunday, 31-Nov-94 08:49:37 GMT",
        "Sunday, 06-Nov-94_08:49:37 GMT",
        "xxxxxxxxxxx, 06-Nov-94 08:49:37 GMT",
        "Sun Nov 6  08:49:37 1994",
        "Sun Nov  x 08:49:37 1994",
        "Sun Nov  0 08:49:37 1994",
        "Sun Nov 31 08:49:37 1994",
        "Sun Nov  6 08:49:37 19945",
        "Sun Nov  6 08:49:37 199",
        "Sun,Nov  6 08:49:37 1994",
        "Sun Nov  6_08:49:37 1994",
        "2014-06-25T17:12:18Z",
    };

    for (size_t i = 0; i < COUNT_OF(bad); i++)
        if (parse(bad[i]) != ETAG_NO_DATE)
            fail_msg("accepted: %s", bad[i]);
    assert_int_equal(http_date_parse((etag_str){NULL, 0}, NOW_2026), ETAG_NO_DATE);
    assert_int_equal(http_date_parse((etag_str){"Sun, 06 Nov 1994 08:49:37\0GMT", 29}, NOW_2026),
                     ETAG_NO_DATE);
}

/* Each day of 500 years, and each century's turn of 10,000, there and back, beside the C
 * library. */
/* Every byte of every form counts. */
TEST(with_another_byte_it_is_no_date)
{
    static const char *const forms[] = {"Sun, 06 Nov 1994 08:49:37 GMT",
                                        "Sunday, 06-Nov-94 08:49:37 GMT",
                                        "Sun Nov  6 08:49:37 1994", "Wed Nov 16 08:49:37 1994"};

    for (size_t i = 0; i < COUNT_OF(forms); i++) {
        assert_true(http_date_parse(str_of(forms[i]), 784111777) != ETAG_NO_DATE);
        for (size_t at = 0; at < strlen(forms[i]); at++) {
            char text[64];
            strcpy(text, forms[i]);
            text[at] = 'x';
            if (http_date_parse(str_of(text), 784111777) != ETAG_NO_DATE)
                fail_msg("%s was read", text);
        }
    }
}

TEST(calendar)
{
    int64_t seconds = YEAR_0;

    while (seconds < YEAR_9999_END) {
        char text[HTTP_DATE_BYTES + 1] = "", expected[64];
        http_date_format(seconds, text);
        const time_t t = seconds;
        struct tm tm;
        assert_non_null(gmtime_r(&t, &tm));
        static const char *const days[] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
        static const char *const months[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                             "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
        snprintf(expected, sizeof(expected), "%s, %02d %s %04d %02d:%02d:%02d GMT",
                 days[tm.tm_wday], tm.tm_mday, months[tm.tm_mon], tm.tm_year + 1900, tm.tm_hour,
                 tm.tm_min, tm.tm_sec);
        assert_string_equal(text, expected);
        assert_int_equal(http_date_parse((etag_str){text, 30}, 0), ETAG_NO_DATE); /* with its NUL */
        assert_int_equal(http_date_parse(str_of(text), 0), seconds);
        const bool dense = tm.tm_year >= -300 && tm.tm_year < 200;
        seconds += dense ? DAY + 1 : 29 * DAY + 3607;
    }
}

TEST(format_clamps)
{
    char text[HTTP_DATE_BYTES + 1] = "";

    http_date_format(INT64_MIN, text);
    assert_string_equal(text, "Sat, 01 Jan 0000 00:00:00 GMT");
    http_date_format(INT64_MAX, text);
    assert_string_equal(text, "Fri, 31 Dec 9999 23:59:59 GMT");
    http_date_format(YEAR_9999_END, text);
    assert_string_equal(text, "Fri, 31 Dec 9999 23:59:59 GMT");
}

/* "More than 50 years in the future" is the past; at 50 years to the second it is still the
 * future. */
TEST(two_digit_years)
{
    assert_int_equal(parse("Sunday, 26-Jul-76 12:00:00 GMT"), 3362990400); /* 2076 */
    assert_int_equal(parse("Monday, 26-Jul-76 12:00:01 GMT"), 207230401);  /* 1976 */
    assert_int_equal(parse("Friday, 31-Dec-75 23:59:59 GMT"), 3345062399); /* 2075 */
    assert_int_equal(parse("Friday, 01-Jan-77 00:00:00 GMT"), 220924800);  /* 1977 */
    assert_int_equal(parse("Friday, 31-Dec-99 23:59:59 GMT"), 946684799);  /* 1999 */
    assert_int_equal(parse("Monday, 26-Jul-26 12:00:00 GMT"), NOW_2026);
    /* The window moves with the clock: in 2099, "05" is 2105, and in 1996, "46" is 2046. */
    const int64_t in_2099 = 4083912000, in_1996 = 820454400;
    const char *text = "Monday, 01-Jun-05 00:00:00 GMT";
    assert_int_equal(http_date_parse(str_of(text), in_2099), ref_date(text, strlen(text), in_2099));
    assert_int_equal(http_date_parse(str_of(text), in_2099), 4273257600);
    text = "Monday, 01-Jan-46 00:00:00 GMT";
    assert_int_equal(http_date_parse(str_of(text), in_1996), 2398377600);
    text = "Monday, 02-Jan-46 00:00:01 GMT";
    assert_int_equal(http_date_parse(str_of(text), in_1996), -757295999);
    /* All years, all months, seen from many days. */
    for (int64_t now_s = 0; now_s < 5000000000; now_s += 97 * DAY + 12345) {
        for (int year = 0; year < 100; year += 7) {
            char date[64];
            snprintf(date, sizeof(date), "Monday, 28-Feb-%02d 17:00:00 GMT", year);
            assert_int_equal(http_date_parse(str_of(date), now_s),
                             ref_date(date, strlen(date), now_s));
        }
    }
}
