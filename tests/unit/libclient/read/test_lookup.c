/* SPDX-License-Identifier: Apache-2.0 */
/* Lookups on a real index without a daemon: every reason, what an answer carries, fork, and no
 * system call. */
#include "client.h"
#include "fake_daemon.h"

#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

struct fixture {
    struct index *index;
    etag_client *client;
    etag_key key;
    etag_field condition;
    etag_request request;
    etag_answer answer;
    struct kept_field fields[4];
    struct index_entry entry;
    /* the entry's */
    const struct kept_field *kept;
    size_t kept_count;
    uint32_t clocks[2];
    uint64_t slot;
};

static const char etag[] = "\"v1\"";

static void put(struct fixture *f)
{
    struct key key;
    struct index_evicted evicted;
    struct shm_entry found;
    uint8_t packed[FIELDSET_BYTES_MAX];
    const int len = fieldset_pack(packed, f->kept, f->kept_count);

    assert_true(len >= 0);
    f->entry.fieldset = (etag_str){(const char *)packed, (size_t)len};
    assert_null(key_canonicalize(&key, &f->key));
    f->entry.fingerprint = key_fingerprint(index_view(f->index)->header->hash_key, &key);
    assert_int_equal(index_put(f->index, &f->entry, time_coarse_ns(), &evicted), INDEX_STORED);
    assert_true(index_find(f->index, f->entry.fingerprint, &found));
    f->slot = found.slot;
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    struct fault fault;
    etag_client_options options;

    ETAG_INIT(&options);
    options.no_wait = true;
    options.socket_path = "/nowhere/etagd.sock";
    assert_int_equal(etag_client_open(&f->client, &options), ETAG_OK);
    f->index = fake_index(FAKE_INCARNATION);
    const struct mapping_source source = {.index_fd = index_fd(f->index),
                                          .counters_fd = -1,
                                          .index_bytes = index_bytes(f->index),
                                          .incarnation_id = FAKE_INCARNATION};
    assert_int_equal(mapping_open(&f->client->mapping, &source, &fault), ETAG_OK);
    shm_lsn_store(index_view(f->index), 50);
    shm_lease_store(index_view(f->index), time_coarse_ns() + FAKE_LEASE_NS);

    ETAG_INIT(&f->key);
    f->key.resource = (etag_resource){ETAG_LIT("a.example"), ETAG_LIT("/uploads/42")};
    f->key.scope.kind = ETAG_SCOPE_PUBLIC;
    f->condition = (etag_field){ETAG_LIT("If-None-Match"), ETAG_LIT("\"v0\", \"v1\"")};
    ETAG_INIT(&f->request);
    f->request.method = ETAG_LIT("GET");
    f->request.key = &f->key;
    f->request.fields = &f->condition;
    f->request.field_count = 1;
    ETAG_INIT(&f->answer);

    f->clocks[0] = 7;
    f->clocks[1] = 9;
    f->fields[0] = (struct kept_field){
        FIELDSET_LITERAL, {ETAG_LIT("Cache-Control"), ETAG_LIT("max-age=60")}, 0};
    f->fields[1] = (struct kept_field){FIELDSET_EXPIRES, {ETAG_LIT("Expires"), {0}}, 60};
    f->fields[2] = (struct kept_field){FIELDSET_LITERAL, {ETAG_LIT("Vary"), ETAG_LIT("Accept")}, 0};
    f->entry = (struct index_entry){.fill_lsn = 40,
                                    .expires_ns = UINT64_MAX,
                                    .last_modified = 784111777,
                                    .etag = ETAG_LIT("\"v1\""),
                                    .clocks = f->clocks,
                                    .clock_count = 2};
    f->kept = f->fields;
    f->kept_count = 3;
    put(f);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    etag_client_close(f->client);
    index_close(f->index);
    free(f);
    return 0;
}

#define CASE(name) TEST_OF(name, struct fixture *f, setup, teardown)

static void expect(struct fixture *f, etag_verdict verdict, etag_reason reason)
{
    const etag_token token = {1, 2};

    assert_int_equal(etag_check(f->client, &f->request, token, &f->answer), verdict);
    if (f->answer.reason != reason)
        fail_msg("reason is %s, not %s", etag_reason_word(f->answer.reason),
                 etag_reason_word(reason));
    assert_int_equal(f->answer.verdict, verdict);
    assert_int_equal(f->answer.size, sizeof(f->answer));
    assert_int_equal(f->answer.token.incarnation, 1);
    assert_int_equal(f->answer.token.lsn, 2);
    if (verdict == ETAG_UNKNOWN) {
        assert_null(f->answer.etag.data);
        assert_int_equal(f->answer.field_count, 0);
        assert_true(f->answer.last_modified == ETAG_NO_DATE);
    }
}

static void expect_str(etag_str found, const char *wanted)
{
    if (!str_equal(found, str_of(wanted)))
        fail_msg("\"%.*s\" is not \"%s\"", (int)found.len, found.data, wanted);
}

CASE(answers_304_with_its_fields)
{
    const int64_t before_s = (int64_t)time(NULL) - 1;

    expect(f, ETAG_NOT_MODIFIED, ETAG_REASON_MATCH);
    expect_str(f->answer.etag, etag);
    assert_int_equal(f->answer.last_modified, 784111777);
    assert_int_equal(f->answer.fill_lsn, 40);
    assert_int_equal(f->answer.field_count, 4);
    expect_str(f->answer.fields[0].name, "ETag");
    expect_str(f->answer.fields[0].value, etag);
    expect_str(f->answer.fields[1].name, "Cache-Control");
    expect_str(f->answer.fields[1].value, "max-age=60");
    expect_str(f->answer.fields[2].name, "Expires");
    const int64_t expires_s = etag_date_parse(f->answer.fields[2].value);
    assert_in_range(expires_s, before_s + 60, (int64_t)time(NULL) + 60);
    expect_str(f->answer.fields[3].name, "Vary");
    assert_int_equal(f->client->counters->checks, 1);
    assert_int_equal(f->client->counters->not_modified, 1);
}

/* Everything that does not fit into slot and detail, and the largest number of fields. */
CASE(answers_with_what_overflows)
{
    static char tag[ENTITY_TAG_BYTES_MAX], location[CONTENT_LOCATION_BYTES_MAX];
    struct kept_field fields[FIELDS_PER_ENTRY_MAX];

    memset(tag, 'x', sizeof(tag));
    tag[0] = tag[sizeof(tag) - 1] = '"';
    memset(location, 'l', sizeof(location));
    location[0] = '/';
    for (size_t i = 0; i < FIELDS_PER_ENTRY_MAX; i++)
        fields[i] = (struct kept_field){FIELDSET_EXPIRES, {{0}, {0}}, (int64_t)i * 1000};
    f->entry.etag = (etag_str){tag, sizeof(tag)};
    f->entry.content_location = (etag_str){location, sizeof(location)};
    f->kept = fields;
    f->kept_count = FIELDS_PER_ENTRY_MAX;
    put(f);
    f->condition.value = ETAG_LIT("*");
    expect(f, ETAG_NOT_MODIFIED, ETAG_REASON_MATCH);
    assert_true(str_equal(f->answer.etag, f->entry.etag));
    assert_int_equal(f->answer.field_count, ANSWER_FIELDS_MAX);
    expect_str(f->answer.fields[1].name, "Content-Location");
    assert_true(str_equal(f->answer.fields[1].value, f->entry.content_location));
    /* Each date stands in memory of its own. */
    const int64_t first = etag_date_parse(f->answer.fields[2].value);
    for (size_t i = 1; i < FIELDS_PER_ENTRY_MAX; i++)
        assert_in_range(etag_date_parse(f->answer.fields[2 + i].value), first + (int64_t)i * 1000,
                        first + (int64_t)i * 1000 + 1);
}

/* What the role fill can put into an entry beyond libetag: neither cookies nor what this client did
 * not ask for go out. */
CASE(fields_that_this_client_does_not_repeat_are_left_out)
{
    const etag_str wanted = ETAG_LIT("X-Wanted");
    struct kept_field fields[] = {
        {FIELDSET_LITERAL, {ETAG_LIT("Set-Cookie"), ETAG_LIT("session=1")}, 0},
        {FIELDSET_LITERAL, {ETAG_LIT("Content-Length"), ETAG_LIT("5")}, 0},
        {FIELDSET_LITERAL, {ETAG_LIT("ETag"), ETAG_LIT("\"v2\"")}, 0},
        {FIELDSET_LITERAL, {ETAG_LIT("x-wanted"), ETAG_LIT("yes")}, 0},
        {FIELDSET_LITERAL, {ETAG_LIT("cache-control"), ETAG_LIT("no-cache")}, 0},
    };

    f->kept = fields;
    f->kept_count = 5;
    put(f);
    expect(f, ETAG_NOT_MODIFIED, ETAG_REASON_MATCH);
    assert_int_equal(f->answer.field_count, 2);
    expect_str(f->answer.fields[0].value, etag);
    expect_str(f->answer.fields[1].name, "cache-control");
    assert_true(repeated_fields_copy(&f->client->repeated, &wanted, 1));
    expect(f, ETAG_NOT_MODIFIED, ETAG_REASON_MATCH);
    assert_int_equal(f->answer.field_count, 3);
    expect_str(f->answer.fields[1].value, "yes");
}

/* No daemon stores them: whatever wrote this, nobody splits an answer in two. */
CASE(values_with_controls_are_torn)
{
    const etag_str bad = ETAG_LIT("a\r\nSet-Cookie: b");
    struct kept_field field = {FIELDSET_LITERAL, {ETAG_LIT("Vary"), bad}, 0};

    f->kept = &field;
    f->kept_count = 1;
    put(f);
    expect(f, ETAG_UNKNOWN, ETAG_REASON_TORN);
    f->kept_count = 0;
    f->entry.content_location = bad;
    put(f);
    expect(f, ETAG_UNKNOWN, ETAG_REASON_TORN);
    f->entry.content_location = (etag_str){0};
    f->entry.etag = ETAG_LIT("\"a\nb\"");
    put(f);
    expect(f, ETAG_UNKNOWN, ETAG_REASON_TORN);
}

CASE(judges_all_methods)
{
    f->request.method = ETAG_LIT("HEAD");
    expect(f, ETAG_NOT_MODIFIED, ETAG_REASON_MATCH);
    f->request.method = ETAG_LIT("PUT");
    expect(f, ETAG_PRECONDITION_FAILED, ETAG_REASON_MATCH);
    expect_str(f->answer.etag, etag);
    assert_int_equal(f->answer.field_count, 1); /* a 412 names the current tag, and no more */
    expect_str(f->answer.fields[0].name, "ETag");
    expect_str(f->answer.fields[0].value, etag);
    f->condition = (etag_field){ETAG_LIT("If-Match"), ETAG_LIT("\"v0\"")};
    expect(f, ETAG_PRECONDITION_FAILED, ETAG_REASON_NO_MATCH);
    f->condition.value = ETAG_LIT("\"v1\"");
    expect(f, ETAG_PROCEED, ETAG_REASON_MATCH);
    expect_str(f->answer.etag, etag);
    f->request.field_count = 0;
    f->request.method = ETAG_LIT("GET");
    expect(f, ETAG_PROCEED, ETAG_REASON_NO_CONDITION);
    assert_int_equal(f->client->counters->proceed, 2);
    assert_int_equal(f->client->counters->precondition_failed, 2);
}

/* What the request lacks, no memory can know better. */
CASE(a_required_condition_needs_no_entry)
{
    f->request.method = ETAG_LIT("PUT");
    f->request.require_if_match = true;
    expect(f, ETAG_PRECONDITION_REQUIRED, ETAG_REASON_REQUIRED);
    assert_null(f->answer.fields);
    f->condition = (etag_field){ETAG_LIT("If-Match"), ETAG_LIT("\"v1\"")};
    expect(f, ETAG_PROCEED, ETAG_REASON_MATCH);
    mapping_close(&f->client->mapping);
    expect(f, ETAG_UNKNOWN, ETAG_REASON_NO_INDEX);
    f->request.field_count = 0;
    expect(f, ETAG_PRECONDITION_REQUIRED, ETAG_REASON_REQUIRED);
    assert_int_equal(f->client->counters->precondition_required, 2);
}

/* Bytes in the memory that are no field set, as a slot might refer to while it is reused. */
CASE(a_field_set_that_is_none_is_torn)
{
    struct shm_entry found;
    uint8_t bytes[POOL_UNIT_BYTES];

    assert_true(index_find(f->index, f->entry.fingerprint, &found));
    memset(bytes, 0x7f, sizeof(bytes));
    memcpy(bytes, found.fieldset_words, 2); /* its length stays */
    shm_pool_write(index_view(f->index), found.fieldset, bytes, sizeof(bytes));
    expect(f, ETAG_UNKNOWN, ETAG_REASON_TORN);
    f->condition.value = ETAG_LIT("\"v0\""); /* needs no field set */
    expect(f, ETAG_PROCEED, ETAG_REASON_NO_MATCH);
}

CASE(expires_that_no_date_can_say)
{
    f->fields[0] = (struct kept_field){FIELDSET_EXPIRES, {{0}, {0}}, INT64_MAX};
    f->fields[1] = (struct kept_field){FIELDSET_EXPIRES, {{0}, {0}}, INT64_MIN};
    put(f);
    expect(f, ETAG_NOT_MODIFIED, ETAG_REASON_MATCH);
    expect_str(f->answer.fields[1].value, "Fri, 31 Dec 9999 23:59:59 GMT");
    expect_str(f->answer.fields[2].value, "Sat, 01 Jan 0000 00:00:00 GMT");
}

CASE(says_what_to_do_with_a_range)
{
    etag_field fields[] = {{ETAG_LIT("Range"), ETAG_LIT("bytes=0-1")},
                           {ETAG_LIT("If-Range"), ETAG_LIT("\"v1\"")}};

    f->request.fields = fields;
    f->request.field_count = 0;
    expect(f, ETAG_PROCEED, ETAG_REASON_NO_CONDITION);
    assert_int_equal(f->answer.range, ETAG_RANGE_NONE);
    f->request.field_count = 2;
    expect(f, ETAG_PROCEED, ETAG_REASON_NO_CONDITION);
    assert_int_equal(f->answer.range, ETAG_RANGE_HONOR);
    fields[1].value = ETAG_LIT("\"v0\"");
    expect(f, ETAG_PROCEED, ETAG_REASON_NO_CONDITION);
    assert_int_equal(f->answer.range, ETAG_RANGE_IGNORE);
    /* The entry's date, which nobody vouches for. */
    fields[1].value = ETAG_LIT("Sun, 06 Nov 1994 08:49:37 GMT");
    expect(f, ETAG_PROCEED, ETAG_REASON_NO_CONDITION);
    assert_int_equal(f->answer.range, ETAG_RANGE_IGNORE);
}

CASE(unknown_without_an_index)
{
    mapping_close(&f->client->mapping);
    expect(f, ETAG_UNKNOWN, ETAG_REASON_NO_INDEX);
    assert_int_equal(f->client->counters->unknown_no_index, 1);
    assert_int_equal(etag_token_now(f->client).incarnation, 0);
    assert_int_equal(etag_token_now(f->client).lsn, 0);
}

CASE(unknown_without_a_lease)
{
    shm_lease_store(index_view(f->index), 0);
    expect(f, ETAG_UNKNOWN, ETAG_REASON_NO_LEASE);
    shm_lease_store(index_view(f->index), time_coarse_ns());
    expect(f, ETAG_UNKNOWN, ETAG_REASON_NO_LEASE);
    shm_lease_store(index_view(f->index), time_coarse_ns() + FAKE_LEASE_NS);
    expect(f, ETAG_NOT_MODIFIED, ETAG_REASON_MATCH);
    /* It counts before every other reason. */
    shm_clock_store(index_view(f->index), 9, 41);
    shm_lease_store(index_view(f->index), 1);
    expect(f, ETAG_UNKNOWN, ETAG_REASON_NO_LEASE);
    assert_int_equal(f->client->counters->unknown_no_lease, 3);
}

CASE(unknown_without_an_entry)
{
    f->key.resource.target = ETAG_LIT("/uploads/43");
    expect(f, ETAG_UNKNOWN, ETAG_REASON_NO_ENTRY);
    assert_int_equal(f->answer.fill_lsn, 0);
    assert_int_equal(f->client->counters->unknown_no_entry, 1);
}

CASE(every_clock_of_the_entry_makes_it_stale)
{
    struct shm_view *view = index_view(f->index);
    const uint32_t clocks[] = {CLOCK_FLOOR, 7, 9};

    for (size_t i = 0; i < 3; i++) {
        shm_clock_store(view, clocks[i], 40);
        expect(f, ETAG_NOT_MODIFIED, ETAG_REASON_MATCH);
        shm_clock_store(view, clocks[i], 41);
        expect(f, ETAG_UNKNOWN, ETAG_REASON_STALE);
        assert_int_equal(f->answer.fill_lsn, 40);
        shm_clock_store(view, clocks[i], 41 | CLOCK_IN_FLUX);
        expect(f, ETAG_UNKNOWN, ETAG_REASON_IN_FLUX);
        shm_clock_store(view, clocks[i], 3 | CLOCK_IN_FLUX);
        expect(f, ETAG_UNKNOWN, ETAG_REASON_IN_FLUX);
        shm_clock_store(view, clocks[i], 0);
    }
    shm_clock_store(view, 8, 1000);
    expect(f, ETAG_NOT_MODIFIED, ETAG_REASON_MATCH);
    assert_int_equal(f->client->counters->unknown_stale, 3);
    assert_int_equal(f->client->counters->unknown_in_flux, 6);
}

CASE(expires)
{
    f->entry.expires_ns = time_coarse_ns() + 60 * NS_PER_S;
    put(f);
    expect(f, ETAG_NOT_MODIFIED, ETAG_REASON_MATCH);
    f->entry.expires_ns = time_coarse_ns();
    put(f);
    expect(f, ETAG_UNKNOWN, ETAG_REASON_EXPIRED);
    assert_int_equal(f->answer.fill_lsn, 40);
    assert_int_equal(f->client->counters->unknown_expired, 1);
}

CASE(a_slot_that_stays_odd_is_torn)
{
    index_view(f->index)->slots[f->slot].sequence |= 1;
    expect(f, ETAG_UNKNOWN, ETAG_REASON_TORN);
    assert_int_equal(f->client->counters->unknown_torn, 1);
    index_view(f->index)->slots[f->slot].sequence++;
}

CASE(bad_keys_and_sizes)
{
    f->key.scope.kind = ETAG_SCOPE_UNSET;
    expect(f, ETAG_UNKNOWN, ETAG_REASON_BAD_KEY);
    assert_string_not_equal(etag_client_error(f->client), "");
    f->key.scope.kind = ETAG_SCOPE_PUBLIC;
    f->key.size = 0;
    expect(f, ETAG_UNKNOWN, ETAG_REASON_BAD_KEY);
    f->key.size = sizeof(f->key);
    f->request.key = NULL;
    expect(f, ETAG_UNKNOWN, ETAG_REASON_BAD_KEY);
    f->request.key = &f->key;
    f->request.size = 8;
    expect(f, ETAG_UNKNOWN, ETAG_REASON_BAD_KEY);
    f->request.size = sizeof(f->request);
    assert_int_equal(f->client->counters->unknown_bad_key, 4);

    /* An answer whose size was never set is not written, and not a 304 that nobody can read. */
    f->answer.size = 0;
    f->answer.fill_lsn = 77;
    assert_int_equal(etag_check(f->client, &f->request, (etag_token){0}, &f->answer), ETAG_UNKNOWN);
    assert_int_equal(f->answer.fill_lsn, 77);
}

/* Version 1 was served at 10.3, version 2 committed at 10.8: both are of the second 10. */
CASE(two_versions_of_one_second_have_no_304_by_date)
{
    f->condition = (etag_field){ETAG_LIT("If-Modified-Since"),
                                ETAG_LIT("Sun, 06 Nov 1994 08:49:37 GMT")};
    expect(f, ETAG_PROCEED, ETAG_REASON_DATE_WEAK);
    assert_int_equal(f->answer.field_count, 0);
    f->condition.value = ETAG_LIT("Sun, 06 Nov 1994 08:49:38 GMT"); /* a page of a second later */
    expect(f, ETAG_PROCEED, ETAG_REASON_DATE_WEAK);
    f->condition.value = ETAG_LIT("Sun, 06 Nov 1994 08:49:36 GMT");
    expect(f, ETAG_PROCEED, ETAG_REASON_MODIFIED_SINCE);
    /* What stops a request may come from a weak date; what lets it go on is judged again in the
     * transaction. */
    f->condition.name = ETAG_LIT("If-Unmodified-Since");
    expect(f, ETAG_PRECONDITION_FAILED, ETAG_REASON_MODIFIED_SINCE);

    f->condition = (etag_field){ETAG_LIT("If-Modified-Since"),
                                ETAG_LIT("Sun, 06 Nov 1994 08:49:37 GMT")};
    f->entry.last_modified_is_strong = true;
    put(f);
    expect(f, ETAG_NOT_MODIFIED, ETAG_REASON_NOT_MODIFIED_SINCE);
    const etag_field ranges[] = {{ETAG_LIT("Range"), ETAG_LIT("bytes=0-1")},
                                 {ETAG_LIT("If-Range"), ETAG_LIT("Sun, 06 Nov 1994 08:49:37 GMT")}};
    f->request.fields = ranges;
    f->request.field_count = 2;
    expect(f, ETAG_PROCEED, ETAG_REASON_NO_CONDITION);
    assert_int_equal(f->answer.range, ETAG_RANGE_HONOR);
    f->entry.last_modified_is_strong = false; /* the next fill is another's */
    put(f);
    expect(f, ETAG_PROCEED, ETAG_REASON_NO_CONDITION);
    assert_int_equal(f->answer.range, ETAG_RANGE_IGNORE);
}

/* A caller compiled with a newer header passes larger structs. */
CASE(larger_structs_are_accepted)
{
    struct {
        etag_answer answer;
        uint64_t newer;
    } larger = {.newer = 99};
    ETAG_INIT(&larger.answer);
    larger.answer.size = sizeof(larger);
    assert_int_equal(etag_check(f->client, &f->request, (etag_token){0}, &larger.answer),
                     ETAG_NOT_MODIFIED);
    assert_int_equal(larger.answer.size, sizeof(larger));
    assert_int_equal(larger.newer, 99);

    struct {
        etag_request request;
        uint64_t newer;
    } asked = {.request = f->request};
    asked.request.size = sizeof(asked);
    assert_int_equal(etag_check(f->client, &asked.request, (etag_token){0}, &f->answer),
                     ETAG_NOT_MODIFIED);
}

static void expect_wrong(struct fixture *f, const char *part)
{
    expect(f, ETAG_UNKNOWN, ETAG_REASON_BAD_KEY);
    assert_non_null(strstr(etag_client_error(f->client), part));
}

CASE(a_lookup_with_an_unknown_member_that_is_set_is_unknown)
{
    const etag_request *const request = &f->request;

    struct {
        etag_request request;
        uint64_t newer;
    } asked = {.request = *request, .newer = UINT64_C(1) << 63};
    struct {
        etag_key key;
        char newer[8];
    } named = {.key = f->key, .newer = {[7] = 1}};
    asked.request.size = sizeof(asked);
    assert_int_equal(etag_check(f->client, &asked.request, (etag_token){0}, &f->answer),
                     ETAG_UNKNOWN);
    assert_int_equal(f->answer.reason, ETAG_REASON_BAD_KEY);
    assert_non_null(strstr(etag_client_error(f->client), "the request has a member that this"));
    const etag_validators current = {.size = sizeof(current),
                                     .existence = ETAG_EXISTS,
                                     .etag = ETAG_LIT("\"v1\""),
                                     .last_modified = ETAG_NO_DATE};
    assert_int_equal(etag_evaluate(&asked.request, &current), ETAG_UNKNOWN);
    asked.newer = 0;
    assert_int_equal(etag_evaluate(&asked.request, &current), etag_evaluate(request, &current));

    named.key.size = sizeof(named);
    f->request.key = &named.key;
    expect_wrong(f, "the key has a member that this libetag does not know");
    named.newer[7] = 0;
    expect(f, ETAG_NOT_MODIFIED, ETAG_REASON_MATCH);
    named.key.size = SIZE_MAX; /* never set: nothing is read beyond */
    expect_wrong(f, "the key's size is not set");
    f->request.key = &f->key;
}

struct versioned {
    size_t size;
    uint64_t first;
    /* of a later version */
    uint64_t second;
};

/* As a compiler sees it that knows nothing of the caller's size. */
__attribute__((noinline)) static const void *read_in(const void *in, void *scratch, size_t bytes,
                                                     size_t first_bytes)
{
    return abi_in(in, scratch, bytes, first_bytes);
}

CASE(smaller_structs_read_as_zero)
{
    const size_t first_bytes = offsetof(struct versioned, second);
    struct versioned caller = {first_bytes, 5, 6}, scratch = {1, 2, 3};
    const struct versioned *seen = read_in(&caller, &scratch, sizeof(scratch), first_bytes);

    assert_ptr_equal(seen, &scratch);
    assert_int_equal(seen->first, 5);
    assert_int_equal(seen->second, 0);
    caller.size--;
    assert_null(read_in(&caller, &scratch, sizeof(scratch), first_bytes));
    assert_null(read_in(NULL, &scratch, sizeof(scratch), first_bytes));

    const struct versioned full = {sizeof(full), 50, 60};
    caller.size = first_bytes;
    assert_true(abi_out(&caller, &full, sizeof(full), first_bytes));
    assert_int_equal(caller.size, first_bytes);
    assert_int_equal(caller.first, 50);
    assert_int_equal(caller.second, 6);
    caller.size = 3;
    assert_false(abi_out(&caller, &full, sizeof(full), first_bytes));
}

/* The library's are the first two members: the third is one that it does not know. */
CASE(larger_structs_are_zero_beyond_ours)
{
    struct versioned caller = {sizeof(caller), 5, 0}, scratch;
    const size_t first_bytes = offsetof(struct versioned, second);

    assert_ptr_equal(read_in(&caller, &scratch, first_bytes, first_bytes), &caller);
    caller.second = UINT64_C(1) << 63;
    assert_null(read_in(&caller, &scratch, first_bytes, first_bytes));
    assert_ptr_equal(abi_in_answer(&caller, &scratch, first_bytes, first_bytes), &caller);
}

CASE(tokens_follow_the_lsn)
{
    etag_token token = etag_token_now(f->client);

    assert_true(token.incarnation == FAKE_INCARNATION);
    assert_int_equal(token.lsn, 50);
    shm_lsn_store(index_view(f->index), 51);
    token = etag_token_now(f->client);
    assert_int_equal(token.lsn, 51);
}

static int child_status(pid_t child)
{
    int status = -1;

    assert_int_equal(waitpid(child, &status, 0), child);
    return status;
}

/* In a child: three lookups; 0 if they were 304 and counted on a page of the child's own. */
static int check_as_child(struct fixture *f, const struct counters *parents)
{
    const uint64_t before = parents->checks;

    for (int i = 0; i < 3; i++)
        if (etag_check(f->client, &f->request, etag_token_now(f->client), &f->answer) !=
            ETAG_NOT_MODIFIED)
            return 1;
    if (parents->checks != before)
        return 2;
    return f->client->counters->checks == 3 ? 0 : 3;
}

CASE(a_child_keeps_the_memory_and_counts_for_itself)
{
    struct counters *page = mmap(NULL, COUNTERS_BYTES, PROT_READ | PROT_WRITE,
                                 MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    assert_true(page != MAP_FAILED);
    f->client->counters = page;
    expect(f, ETAG_NOT_MODIFIED, ETAG_REASON_MATCH);
    assert_int_equal(page->checks, 1);
    const pid_t child = fork();
    if (child == 0) {
        int status = check_as_child(f, page);
        /* A grandchild notices in turn: its own three start at zero again. */
        const pid_t grandchild = status == 0 ? fork() : -1;
        if (grandchild == 0)
            _exit(check_as_child(f, page));
        if (grandchild > 0 && (waitpid(grandchild, &status, 0) != grandchild || status != 0))
            status = 4;
        _exit(status);
    }
    assert_int_equal(child_status(child), 0);
    assert_int_equal(page->checks, 1);
    expect(f, ETAG_NOT_MODIFIED, ETAG_REASON_MATCH);
    assert_int_equal(page->checks, 2);
    f->client->counters = &f->client->own_counters;
    munmap(page, COUNTERS_BYTES);
}

/* Under strict seccomp the kernel kills at the first call but read, write, exit. Hits, misses and
 * every other way out; the child has just forked, so noticing that is covered too. */
static int check_strictly(struct fixture *f)
{
    etag_validators validators;
    int bad = 0;

    etag_validators_init(&validators);
    validators.existence = ETAG_EXISTS;
    validators.etag = str_of(etag);
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT) != 0)
        return 77;
    for (int i = 0; i < 1000; i++) {
        const etag_token token = etag_token_now(f->client);
        f->key.resource.target = ETAG_LIT("/uploads/42");
        bad += etag_check(f->client, &f->request, token, &f->answer) != ETAG_NOT_MODIFIED;
        bad += etag_evaluate(&f->request, &validators) != ETAG_NOT_MODIFIED;
        f->key.resource.target = ETAG_LIT("/uploads/43");
        bad += etag_check(f->client, &f->request, token, &f->answer) != ETAG_UNKNOWN;
        f->key.resource.target = ETAG_LIT("no slash");
        bad += etag_check(f->client, &f->request, token, &f->answer) != ETAG_UNKNOWN;
    }
    return bad == 0 ? 0 : 1;
}

#if defined(__SANITIZE_THREAD__)
#define SANITIZER_HAS_THREADS 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define SANITIZER_HAS_THREADS 1
#endif
#endif

CASE(makes_no_system_call)
{
#ifdef SANITIZER_HAS_THREADS
    skip(); /* its own thread makes system calls, and outlives the child's */
#endif
    if (under_valgrind())
        skip();
    const pid_t child = fork();
    if (child == 0)
        syscall(SYS_exit, check_strictly(f));
    const int status = child_status(child);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
        skip();
    assert_int_equal(status, 0);
}
