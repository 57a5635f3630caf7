/* SPDX-License-Identifier: Apache-2.0 */
/* What etagctl explain says about conditions. The verdict is libetag's; here it is which one
 * decides, and what each says. */
#include "ctl_conditions.h"
#include "numbers.h"
#include "testing.h"
#include "text.h"

#define ENTRY_DATE INT64_C(1000000000) /* Sun, 09 Sep 2001 01:46:40 GMT */
#define SAME_DATE ETAG_LIT("Sun, 09 Sep 2001 01:46:40 GMT")
#define OLD_DATE ETAG_LIT("Sat, 08 Sep 2001 01:46:40 GMT")

struct said {
    const char *field, *value, *says;
    bool decides;
};

static void check(const char *method, const char *etag, bool date_is_strong,
                  const etag_field *fields, size_t count, etag_verdict verdict,
                  const struct said *expected, size_t expected_count)
{
    static struct conditions found;
    etag_request request;
    etag_validators validators;

    ETAG_INIT(&request);
    request.method = str_of(method);
    request.fields = fields;
    request.field_count = count;
    etag_validators_init(&validators);
    validators.existence = ETAG_EXISTS;
    validators.etag = str_of(etag);
    validators.last_modified = ENTRY_DATE;
    validators.last_modified_is_strong = date_is_strong;
    conditions_judge(&found, &request, &validators);
    assert_int_equal(found.verdict, verdict);
    assert_int_equal(found.count, expected_count);
    for (size_t i = 0; i < expected_count; i++) {
        assert_string_equal(found.list[i].name, expected[i].field);
        if (expected[i].value)
            assert_true(str_equal(found.list[i].value, str_of(expected[i].value)));
        if (!strstr(found.list[i].says, expected[i].says))
            fail_msg("%s: %s, not: %s", expected[i].field, found.list[i].says, expected[i].says);
        assert_int_equal(found.list[i].decides, expected[i].decides);
    }
}

#define CHECK_DATED(strong, method, etag, verdict, fields, ...)                                    \
    do {                                                                                           \
        const struct said said_[] = {__VA_ARGS__};                                                 \
        check(method, etag, strong, fields, sizeof(fields) / sizeof((fields)[0]), verdict, said_,  \
              COUNT_OF(said_));                                                                    \
    } while (0)
#define CHECK(...) CHECK_DATED(false, __VA_ARGS__)

TEST(if_none_match_decides_by_the_tag_that_matches)
{
    const etag_field fields[] = {
        {ETAG_LIT("if-none-match"), ETAG_LIT("\"a,b\", W/\"v1\" , \"v1\", v1")},
        {ETAG_LIT("If-Modified-Since"), OLD_DATE},
        {ETAG_LIT("Range"), ETAG_LIT("bytes=0-1")},
    };

    CHECK("GET", "\"v1\"", ETAG_PROCEED, fields, {"If-None-Match", "\"a,b\"", "does not match"},
          {"If-None-Match", "W/\"v1\"", "weakly"}, {"If-None-Match", "\"v1\"", "strongly"},
          {"If-None-Match", "v1", "no entity tag"}, {"If-Modified-Since", NULL, "is ignored"},
          {"Range", NULL, "may be honored"});
    const etag_field whole[] = {{ETAG_LIT("If-None-Match"), ETAG_LIT("\"a,b\", W/\"v1\"")}};
    CHECK("GET", "\"v1\"", ETAG_NOT_MODIFIED, whole, {"If-None-Match", "\"a,b\"", "does not"},
          {"If-None-Match", "W/\"v1\"", "weakly", true});
    CHECK("DELETE", "\"v1\"", ETAG_PRECONDITION_FAILED, whole,
          {"If-None-Match", "\"a,b\"", "does not"}, {"If-None-Match", "W/\"v1\"", "weakly", true});
    const etag_field star[] = {{ETAG_LIT("If-None-Match"), ETAG_LIT("*")}};
    CHECK("PUT", "\"v1\"", ETAG_PRECONDITION_FAILED, star,
          {"If-None-Match", "*", "matches: the representation exists", true});
}

TEST(if_match_wants_strong)
{
    const etag_field fields[] = {{ETAG_LIT("If-Match"), ETAG_LIT("W/\"v1\", \"v0\"")},
                                 {ETAG_LIT("If-Unmodified-Since"), SAME_DATE}};

    CHECK("PUT", "\"v1\"", ETAG_PRECONDITION_FAILED, fields,
          {"If-Match", "W/\"v1\"", "only weakly", true},
          {"If-Match", "\"v0\"", "does not match", true},
          {"If-Unmodified-Since", NULL, "is ignored"});
    const etag_field strong[] = {{ETAG_LIT("If-Match"), ETAG_LIT("\"v1\"")}};
    CHECK("PUT", "\"v1\"", ETAG_PROCEED, strong, {"If-Match", "\"v1\"", "matches, strongly"});
    CHECK("PUT", "W/\"v1\"", ETAG_PRECONDITION_FAILED, strong,
          {"If-Match", "\"v1\"", "only weakly", true});
}

TEST(dates)
{
    const etag_field same[] = {{ETAG_LIT("If-Modified-Since"), SAME_DATE}};

    CHECK_DATED(true, "GET", "\"v1\"", ETAG_NOT_MODIFIED, same,
                {"If-Modified-Since", NULL, "not modified since", true});
    CHECK("GET", "\"v1\"", ETAG_PROCEED, same,
          {"If-Modified-Since", NULL, "two versions may have it, so it is rendered"});
    CHECK("PUT", "\"v1\"", ETAG_PROCEED, same, {"If-Modified-Since", NULL, "neither GET nor HEAD"});
    const etag_field old[] = {{ETAG_LIT("If-Modified-Since"), OLD_DATE}};
    CHECK("GET", "\"v1\"", ETAG_PROCEED, old, {"If-Modified-Since", NULL, "modified since"});
    const etag_field none[] = {{ETAG_LIT("If-Modified-Since"), ETAG_LIT("yesterday")}};
    CHECK("GET", "\"v1\"", ETAG_PROCEED, none, {"If-Modified-Since", NULL, "no HTTP date"});
    const etag_field unmodified[] = {{ETAG_LIT("If-Unmodified-Since"), OLD_DATE}};
    CHECK("GET", "\"v1\"", ETAG_PRECONDITION_FAILED, unmodified,
          {"If-Unmodified-Since", NULL, "modified since", true});
}

TEST(ranges)
{
    const etag_field ours[] = {{ETAG_LIT("Range"), ETAG_LIT("bytes=0-1")},
                               {ETAG_LIT("If-Range"), ETAG_LIT("\"v1\"")}};

    CHECK("GET", "\"v1\"", ETAG_PROCEED, ours, {"Range", NULL, "may be honored"},
          {"If-Range", NULL, "is true"});
    CHECK("GET", "\"v2\"", ETAG_PROCEED, ours, {"Range", NULL, "is ignored"},
          {"If-Range", NULL, "is false"});
}
