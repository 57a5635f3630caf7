/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HTTP-dates are parsed by position: each form has fixed places, so a form is a template in which
 * letters mean digits and every other byte means itself. The day's name must be one of the seven
 * but need not fit the date: a client that computes it wrongly still means the second that it
 * wrote, and an ignored If-Unmodified-Since would let its update pass unchecked. Case counts, as
 * the RFC says. The calendar is computed, not asked for: no locale, no time zone, no leap second
 * table (a second 60 is the first of the next minute).
 */
#include "http_date.h"

#include "text.h"

#define SECONDS_PER_DAY 86400

static const char day_names[7][4] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
static const char month_names[12][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                        "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};

struct civil {
    /* month: 1 to 12 */
    int year, month, day;
    int hour, minute, second;
};

/* Days since 1970-01-01 of a date in the Gregorian calendar, whose years here begin in March, so
 * that the leap day is a year's last; 400 years are an era. year >= 0. */
static int64_t days_from_civil(int year, int month, int day)
{
    const int64_t y = (int64_t)year + 400 - (month <= 2); /* one era up: never negative */
    const int64_t era = y / 400;
    const int64_t year_of_era = y % 400;
    const int64_t day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    const int64_t day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 +
                               day_of_year;

    return (era - 1) * 146097 + day_of_era - 719468;
}

/* The inverse, for days in the years 0 to 9999. */
static void civil_from_days(int64_t days, struct civil *out)
{
    const int64_t shifted = days + 719468 + 146097; /* one era up */
    const int64_t day_of_era = shifted % 146097;
    const int64_t year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    const int64_t day_of_year = day_of_era -
                                (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    const int64_t month_from_march = (5 * day_of_year + 2) / 153;

    out->day = (int)(day_of_year - (153 * month_from_march + 2) / 5 + 1);
    out->month = (int)(month_from_march < 10 ? month_from_march + 3 : month_from_march - 9);
    out->year = (int)(year_of_era + (shifted / 146097 - 1) * 400 + (out->month <= 2));
}

static int64_t civil_seconds(const struct civil *c)
{
    return days_from_civil(c->year, c->month, c->day) * SECONDS_PER_DAY + c->hour * 3600 +
           c->minute * 60 + c->second;
}

static bool civil_valid(const struct civil *c)
{
    static const int month_days[12] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    const bool leap = c->year % 4 == 0 && (c->year % 100 != 0 || c->year % 400 == 0);

    return c->month >= 1 && c->day >= 1 &&
           c->day <= month_days[c->month - 1] + (leap && c->month == 2) && c->hour <= 23 &&
           c->minute <= 59 && c->second <= 60;
}

/* Two or four digits, added to *value digit by digit; false where one is no digit. */
static bool digits_read(const char *p, size_t count, int *value)
{
    *value = 0;
    for (size_t i = 0; i < count; i++) {
        if (p[i] < '0' || p[i] > '9')
            return false;
        *value = *value * 10 + (p[i] - '0');
    }
    return true;
}

static bool day_name_valid(const char *p)
{
    for (size_t i = 0; i < 7; i++)
        if (memcmp(p, day_names[i], 3) == 0)
            return true;
    return false;
}

/* 1 to 12, or 0. */
static int month_read(const char *p)
{
    for (int i = 0; i < 12; i++)
        if (memcmp(p, month_names[i], 3) == 0)
            return i + 1;
    return 0;
}

/* "08:49:37" */
static bool time_read(const char *p, struct civil *out)
{
    return p[2] == ':' && p[5] == ':' && digits_read(p, 2, &out->hour) &&
           digits_read(p + 3, 2, &out->minute) && digits_read(p + 6, 2, &out->second);
}

/* "Sun, 06 Nov 1994 08:49:37 GMT" */
static bool imf_read(const char *p, struct civil *out)
{
    out->month = month_read(p + 8);
    return day_name_valid(p) && memcmp(p + 3, ", ", 2) == 0 && digits_read(p + 5, 2, &out->day) &&
           p[7] == ' ' && p[11] == ' ' && digits_read(p + 12, 4, &out->year) && p[16] == ' ' &&
           time_read(p + 17, out) && memcmp(p + 25, " GMT", 4) == 0;
}

/* "Sun Nov  6 08:49:37 1994" */
static bool asctime_read(const char *p, struct civil *out)
{
    out->month = month_read(p + 4);
    const bool day_read = p[8] == ' ' ? digits_read(p + 9, 1, &out->day)
                                      : digits_read(p + 8, 2, &out->day);
    return day_name_valid(p) && p[3] == ' ' && p[7] == ' ' && day_read && p[10] == ' ' &&
           time_read(p + 11, out) && p[19] == ' ' && digits_read(p + 20, 4, &out->year);
}

/* The latest year with these last two digits that is not more than 50 years after now: the RFC
 * calls anything later "the most recent year in the past". */
static void century_place(struct civil *c, int64_t now_s)
{
    struct civil now = {0};

    civil_from_days(now_s / SECONDS_PER_DAY, &now);
    const int newest = now.year + 50;
    c->year = newest - (newest - c->year) % 100;
    if (c->year != newest)
        return;
    const int64_t limit_s = days_from_civil(newest, now.month, now.day) * SECONDS_PER_DAY +
                            now_s % SECONDS_PER_DAY;
    if (civil_seconds(c) > limit_s)
        c->year -= 100;
}

/* "Sunday, 06-Nov-94 08:49:37 GMT", from its end, as only its head has no fixed length. */
#define RFC850_TAIL_BYTES 24
static bool rfc850_read(etag_str text, int64_t now_s, struct civil *out)
{
    static const char *const long_names[7] = {"Sunday",   "Monday", "Tuesday", "Wednesday",
                                              "Thursday", "Friday", "Saturday"};
    const etag_str name = {text.data, text.len - RFC850_TAIL_BYTES};
    bool named = false;

    for (size_t i = 0; i < 7; i++)
        named |= str_equal(name, str_of(long_names[i]));
    const char *p = text.data + name.len;
    out->month = month_read(p + 5);
    if (!(named && memcmp(p, ", ", 2) == 0 && digits_read(p + 2, 2, &out->day) && p[4] == '-' &&
          p[8] == '-' && digits_read(p + 9, 2, &out->year) && p[11] == ' ' &&
          time_read(p + 12, out) && memcmp(p + 20, " GMT", 4) == 0))
        return false;
    century_place(out, now_s);
    return true;
}

int64_t http_date_parse(etag_str text, int64_t now_s)
{
    struct civil c = {0};
    bool read = false;

    if (text.len == HTTP_DATE_BYTES)
        read = imf_read(text.data, &c);
    else if (text.len == 24)
        read = asctime_read(text.data, &c);
    else if (http_date_needs_now(text))
        read = rfc850_read(text, now_s, &c);
    return read && civil_valid(&c) ? civil_seconds(&c) : ETAG_NO_DATE;
}

static void digits_write(char *p, size_t count, int value)
{
    for (size_t i = count; i-- > 0; value /= 10)
        p[i] = (char)('0' + value % 10);
}

void http_date_format(int64_t seconds, char out[HTTP_DATE_BYTES])
{
    const int64_t first_s = INT64_C(-62167219200); /* 0000-01-01 00:00:00 */
    const int64_t last_s = INT64_C(253402300799);  /* 9999-12-31 23:59:59 */
    const int64_t s = seconds < first_s ? first_s : seconds > last_s ? last_s : seconds;
    const int64_t since_first_s = s - first_s;
    const int64_t days = since_first_s / SECONDS_PER_DAY + first_s / SECONDS_PER_DAY;
    const int second = (int)(since_first_s % SECONDS_PER_DAY);
    struct civil c = {0};

    civil_from_days(days, &c);

    static const char form[] = "Day, 00 Mon 0000 00:00:00 GMT";
    for (size_t i = 0; i < HTTP_DATE_BYTES; i++) /* without its NUL */
        out[i] = form[i];
    memcpy(out, day_names[(days - first_s / SECONDS_PER_DAY + 6) % 7], 3); /* it was a Saturday */
    digits_write(out + 5, 2, c.day);
    memcpy(out + 8, month_names[c.month - 1], 3);
    digits_write(out + 12, 4, c.year);
    digits_write(out + 17, 2, second / 3600);
    digits_write(out + 20, 2, second / 60 % 60);
    digits_write(out + 23, 2, second % 60);
}
