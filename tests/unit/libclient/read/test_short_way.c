/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The short way to a 304 beside the general one, on a real index without a daemon: requests and
 * states of the memory at random, each asked twice, once so that the short way may be taken and
 * once so that it may not. Both say the same, in every member and every byte; so does a batch. Then
 * what the order of the steps is for: the deadline first, the time last, a writer that changes the
 * memory meanwhile.
 */
#include "client.h"
#include "fake_daemon.h"
#include "lookup.h"
#include "numbers.h"

#include <pthread.h>

enum { KEYS = 6, CLOCKS = 40, TEXT_BYTES = 8192 };

struct fixture {
    struct index *index;
    etag_client *client;
    struct hash128 fingerprints[KEYS];
    /* of the entries */
    const char *tags[KEYS];
    uint64_t seed, lsn;
    uint64_t short_ways, not_modified;
};

static uint64_t draw(struct fixture *f, uint64_t end)
{
    return (random_next(&f->seed) >> 8) % end;
}

#define PICK(f, array) (array)[draw(f, COUNT_OF(array))]

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
    shm_lease_store(index_view(f->index), UINT64_MAX);
    f->seed = 1;
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

/* ---- Keys ---- */

static const char *const targets[KEYS] = {"/", "/a?x=1", "/uploads/42", "/q?a=%20b", "/%2Fx", "/e"};

/* A key of the table, spelled in one of its ways. */
static etag_key key_of(struct fixture *f, size_t k, etag_field vary[2])
{
    static const char *const hosts[] = {"a.example", "A.Example:443", "a.example."};
    etag_key key;

    ETAG_INIT(&key);
    key.resource = (etag_resource){str_of(PICK(f, hosts)), str_of(targets[k])};
    key.scope.kind = k % 2 ? ETAG_SCOPE_NAMED : ETAG_SCOPE_PUBLIC;
    if (k % 2)
        key.scope.name = ETAG_LIT("customer:7");
    if (k == 2)
        key.scheme = draw(f, 2) ? ETAG_LIT("https") : ETAG_LIT("HTTPS");
    if (k == 3)
        key.release = ETAG_LIT("r1");
    if (k == 4) {
        const size_t first = draw(f, 2);
        vary[first] = (etag_field){ETAG_LIT("Accept-Encoding"), ETAG_LIT("gzip")};
        vary[1 - first] = (etag_field){ETAG_LIT("X-Of"), {NULL, 0}};
        key.vary = vary;
        key.vary_count = 2;
    }
    if (k == 5 && draw(f, 2))
        key.resource.target = ETAG_LIT("/%65");
    return key;
}

/* ---- Entries ---- */

static const char *const tags[] = {"\"v1\"",   "\"v2\"",
                                   "W/\"v1\"", "",
                                   "\"a b\"",  "v1",
                                   "\"\"",     "\"1234567890123456789012345678901234567890ab\"",
                                   "W/\"v2\"", "\"1234567890123456789012345678901234567890abc\""};

static size_t made_fields(struct fixture *f, struct kept_field *fields)
{
    static const char *const values[] = {"max-age=60", "no-cache", "max-age=60, must-revalidate"};
    size_t n = 0;

    if (draw(f, 4))
        fields[n++] = (struct kept_field){
            FIELDSET_LITERAL, {ETAG_LIT("Cache-Control"), str_of(PICK(f, values))}, 0};
    if (draw(f, 3) == 0)
        fields[n++] = (struct kept_field){
            FIELDSET_LITERAL, {ETAG_LIT("Vary"), ETAG_LIT("Accept")}, 0};
    if (draw(f, 8) == 0)
        fields[n++] = (struct kept_field){FIELDSET_LITERAL, {ETAG_LIT("X-Not"), ETAG_LIT("a")}, 0};
    if (draw(f, 8) == 0)
        fields[n++] = (struct kept_field){FIELDSET_EXPIRES, {{0}, {0}}, 60};
    if (draw(f, 32) == 0)
        fields[n++] = (struct kept_field){
            FIELDSET_LITERAL, {ETAG_LIT("Vary"), ETAG_LIT("a\r\nb")}, 0};
    return n;
}

static void put(struct fixture *f, size_t k)
{
    static struct key canonical;
    struct kept_field fields[8];
    uint8_t packed[FIELDSET_BYTES_MAX];
    uint32_t clocks[12];
    etag_field vary[2];
    struct index_evicted evicted;
    const etag_key key = key_of(f, k, vary);
    const size_t clock_count = 1 + draw(f, draw(f, 8) ? 8 : 12);

    f->tags[k] = PICK(f, tags);
    assert_null(key_canonicalize(&canonical, &key));
    for (size_t i = 0; i < clock_count; i++)
        clocks[i] = 1 + (uint32_t)draw(f, CLOCKS);
    const int len = fieldset_pack(packed, fields, made_fields(f, fields));
    assert_true(len >= 0);
    const struct index_entry entry = {
        .fingerprint = key_fingerprint(index_view(f->index)->header->hash_key, &canonical),
        .fill_lsn = ++f->lsn,
        .expires_ns = draw(f, 8) ? UINT64_MAX : time_coarse_ns() + draw(f, 2) * 3600 * NS_PER_S,
        .last_modified = draw(f, 2) ? 784111777 : ETAG_NO_DATE,
        .last_modified_is_strong = draw(f, 2),
        .etag = str_of(f->tags[k]),
        .content_location = draw(f, 8) ? (etag_str){NULL, 0} : ETAG_LIT("/there"),
        .fieldset = {(const char *)packed, (size_t)len},
        .clocks = clocks,
        .clock_count = clock_count};
    f->fingerprints[k] = entry.fingerprint;
    assert_int_equal(index_put(f->index, &entry, time_coarse_ns(), &evicted), INDEX_STORED);
}

static void change_something(struct fixture *f)
{
    struct shm_view *const view = index_view(f->index);
    const size_t k = draw(f, KEYS);

    switch (draw(f, 16)) {
    case 0:
        (void)index_remove(f->index, f->fingerprints[k]);
        break;
    case 1:
        shm_clock_store(view, (uint32_t)draw(f, CLOCKS + 1), ++f->lsn);
        break;
    case 2:
        shm_clock_store(view, (uint32_t)draw(f, CLOCKS + 1), f->lsn | CLOCK_IN_FLUX);
        break;
    case 3:
    case 4:
    case 5:
    case 6:
        for (uint32_t i = 0; i <= CLOCKS; i++)
            shm_clock_store(view, i, 0);
        break;
    case 7:
        shm_lease_store(view, draw(f, 8) ? UINT64_MAX : draw(f, 2));
        break;
    default:
        put(f, k);
    }
}

/* ---- Requests ---- */

struct asked {
    etag_request request;
    etag_key key;
    etag_field vary[2], fields[3];
};

static void ask(struct fixture *f, struct asked *a)
{
    static const char *const methods[] = {"GET", "GET", "GET", "HEAD", "PUT", "get", "OPTIONS"};
    static const char *const lists[] = {"*", "\"v1\", \"v2\"", " \"v1\" ", "\"v1\",", "\"v1\" junk",
                                        "",  "\"v1\"\"v2\""};
    const etag_field others[] = {
        {ETAG_LIT("Range"), ETAG_LIT("bytes=0-1")},
        {ETAG_LIT("Accept"), ETAG_LIT("*/*")},
        {ETAG_LIT("If-Modified-Since"), ETAG_LIT("Sun, 06 Nov 1994 08:49:37 GMT")},
        {ETAG_LIT("If-Match"), ETAG_LIT("\"v1\"")},
        {ETAG_LIT("if-none-match"), ETAG_LIT("\"v2\"")},
        {ETAG_LIT("If-None-Match"), {NULL, 0}},
        {ETAG_LIT("If-Nonf-Match"), ETAG_LIT("\"v1\"")}};

    ETAG_INIT(&a->request);
    const size_t k = draw(f, KEYS);
    a->key = key_of(f, k, a->vary);
    if (draw(f, 64) == 0)
        a->key.scope.kind = ETAG_SCOPE_UNSET;
    a->request.key = &a->key;
    a->request.method = str_of(PICK(f, methods));
    a->request.fields = a->fields;
    if (draw(f, 8))
        a->fields[a->request.field_count++] = (etag_field){draw(f, 2) ? ETAG_LIT("If-None-Match")
                                                                      : ETAG_LIT("iF-noNE-mATCH"),
                                                           str_of(draw(f, 2)   ? f->tags[k]
                                                                  : draw(f, 6) ? PICK(f, tags)
                                                                               : PICK(f, lists))};
    while (a->request.field_count < 3 && draw(f, 3) == 0)
        a->fields[a->request.field_count++] = PICK(f, others);
    a->request.compression_suffixes = draw(f, 16) == 0;
    a->request.require_if_match = draw(f, 16) == 0;
}

/* ---- Answers ---- */

/* All that an answer says, as one text. */
struct said {
    size_t len;
    char text[TEXT_BYTES];
};

__attribute__((format(printf, 2, 3))) static void say(struct said *out, const char *format, ...)
{
    va_list list;

    va_start(list, format);
    out->len += (size_t)vsnprintf(out->text + out->len, TEXT_BYTES - out->len, format, list);
    va_end(list);
    assert_true(out->len < TEXT_BYTES);
}

static void say_answer(struct said *out, const etag_answer *a)
{
    out->len = 0;
    say(out, "%d %s etag '%.*s'%d modified %lld lsn %llu token %llu %llu range %d place %llx %llx",
        a->verdict, etag_reason_word(a->reason), (int)a->etag.len, a->etag.data,
        a->etag.data != NULL, (long long)a->last_modified, (unsigned long long)a->fill_lsn,
        (unsigned long long)a->token.incarnation, (unsigned long long)a->token.lsn, a->range,
        (unsigned long long)a->place[0], (unsigned long long)a->place[1]);
    for (size_t i = 0; i < a->field_count; i++) {
        const bool is_date = str_equal(a->fields[i].name, ETAG_LIT("Expires"));
        say(out, "\n%.*s: %.*s", (int)a->fields[i].name.len, a->fields[i].name.data,
            is_date ? 0 : (int)a->fields[i].value.len, a->fields[i].value.data);
    }
}

/* An answer that is larger than the library's is the general way's. */
static void check(struct fixture *f, const etag_request *request, bool generally, struct said *out)
{
    struct {
        etag_answer answer;
        uint64_t more;
    } larger;

    ETAG_INIT(&larger.answer);
    larger.answer.size = generally ? sizeof(larger) : sizeof(larger.answer);
    const etag_verdict verdict = etag_check(f->client, request, (etag_token){5, 6}, &larger.answer);
    assert_int_equal(verdict, larger.answer.verdict);
    const bool was_short = larger.answer.etag.data == f->client->scratch.plain.detail.etag;
    assert_false(generally && was_short);
    f->short_ways += was_short;
    f->not_modified += !generally && verdict == ETAG_NOT_MODIFIED;
    say_answer(out, &larger.answer);
}

CASE(both_ways_say_the_same)
{
    const uint64_t rounds = test_rounds(200000);

    for (size_t k = 0; k < KEYS; k++)
        put(f, k);
    for (uint64_t i = 0; i < rounds; i++) {
        static struct said by_short_way, generally;
        struct asked asked;
        if (draw(f, 4) == 0)
            change_something(f);
        ask(f, &asked);
        const bool short_way_first = draw(f, 2);
        if (short_way_first)
            check(f, &asked.request, false, &by_short_way);
        check(f, &asked.request, true, &generally);
        if (!short_way_first)
            check(f, &asked.request, false, &by_short_way);
        if (strcmp(by_short_way.text, generally.text) != 0)
            fail_msg("round %llu: the short way says\n%s\nthe general way\n%s",
                     (unsigned long long)i, by_short_way.text, generally.text);
    }
    print_message("%llu requests, %llu answered 304, %llu of them on the short way\n",
                  (unsigned long long)rounds, (unsigned long long)f->not_modified,
                  (unsigned long long)f->short_ways);
    assert_true(f->short_ways > rounds / 100);
    const struct counters *const counters = f->client->counters;
    assert_int_equal(counters->checks, 2 * rounds);
    assert_int_equal(counters->not_modified, 2 * f->not_modified);
}

/* ---- Batches ---- */

/* Answers of which the library may write nothing beyond its own members. */
static void ask_many(struct fixture *f, struct asked *asked, size_t count, etag_answer *answers)
{
    etag_request requests[ETAG_CHECKS_MAX];

    for (size_t i = 0; i < count; i++) {
        requests[i] = asked[i].request;
        ETAG_INIT(&answers[i]);
    }
    assert_int_equal(etag_check_many(f->client, requests, count, (etag_token){5, 6}, answers),
                     ETAG_OK);
}

static bool is_of_many(const struct fixture *f, const etag_answer *answer)
{
    const char *const etag = answer->etag.data;
    const struct shm_plain *const plain = &f->client->scratch.plain;

    return answer->verdict == ETAG_NOT_MODIFIED && etag != plain->detail.etag;
}

CASE(a_batch_says_what_single_checks_say)
{
    static struct asked asked[ETAG_CHECKS_MAX];
    static struct said single[ETAG_CHECKS_MAX], many;
    static etag_answer answers[ETAG_CHECKS_MAX];
    const uint64_t rounds = test_rounds(200000) / ETAG_CHECKS_MAX;
    uint64_t not_modified = 0;

    for (size_t k = 0; k < KEYS; k++)
        put(f, k);
    for (uint64_t round = 0; round < rounds; round++) {
        const size_t count = 1 + draw(f, ETAG_CHECKS_MAX);
        change_something(f);
        for (size_t i = 0; i < count; i++) {
            ask(f, &asked[i]);
            check(f, &asked[i].request, true, &single[i]);
        }
        ask_many(f, asked, count, answers);
        for (size_t i = 0; i < count; i++) { /* all answers are there at once */
            say_answer(&many, &answers[i]);
            not_modified += is_of_many(f, &answers[i]);
            if (strcmp(single[i].text, many.text) != 0)
                fail_msg("round %llu: of %zu number %zu\n%s\nalone\n%s", (unsigned long long)round,
                         count, i, many.text, single[i].text);
        }
    }
    print_message("%llu batches, %llu answers 304\n", (unsigned long long)rounds,
                  (unsigned long long)not_modified);
    assert_true(not_modified > rounds);
}

/* The same set at two places of a batch, and sets that come in the middle of it: none of them takes
 * the memory of an answer before it. */
CASE(answers_of_a_batch_keep_their_fields)
{
    static struct said single, many;
    etag_answer answers[4];
    struct asked asked[4];

    f->seed = 7;
    for (uint64_t round = 0; round < 2000; round++) {
        for (size_t k = 0; k < KEYS; k++)
            put(f, k);
        memset(f->client->scratch.known, 0, sizeof(f->client->scratch.known));
        memset(f->client->scratch.known_fields, 0, sizeof(f->client->scratch.known_fields));
        for (size_t i = 0; i < 4; i++) {
            ask(f, &asked[i]);
            asked[i].request.method = ETAG_LIT("GET");
            asked[i].request.field_count = 1;
            asked[i].fields[0] = (etag_field){ETAG_LIT("If-None-Match"), ETAG_LIT("\"v1\"")};
        }
        ask_many(f, asked, 4, answers);
        struct said all[4];
        for (size_t i = 0; i < 4; i++)
            say_answer(&all[i], &answers[i]);
        for (size_t i = 0; i < 4; i++) {
            check(f, &asked[i].request, true, &single);
            many = all[i];
            assert_string_equal(many.text, single.text);
        }
    }
}

CASE(what_is_no_batch)
{
    etag_request requests[ETAG_CHECKS_MAX + 1];
    etag_answer answers[ETAG_CHECKS_MAX + 1];
    const etag_token token = {0};

    for (size_t i = 0; i <= ETAG_CHECKS_MAX; i++) {
        ETAG_INIT(&requests[i]);
        ETAG_INIT(&answers[i]);
    }
    assert_int_equal(etag_check_many(f->client, NULL, 0, token, NULL), ETAG_OK);
    assert_int_equal(etag_check_many(f->client, NULL, 1, token, answers), ETAG_INVALID);
    assert_int_equal(etag_check_many(f->client, requests, 1, token, NULL), ETAG_INVALID);
    assert_int_equal(etag_check_many(f->client, requests, ETAG_CHECKS_MAX + 1, token, answers),
                     ETAG_INVALID);
    assert_non_null(strstr(etag_client_error(f->client), "ETAG_CHECKS_MAX"));
    requests[2].size--;
    assert_int_equal(etag_check_many(f->client, requests, 3, token, answers), ETAG_INVALID);
    requests[2].size++;
    answers[2].size = 0;
    assert_int_equal(etag_check_many(f->client, requests, 3, token, answers), ETAG_INVALID);
    assert_int_equal(f->client->counters->checks, 0);
    assert_int_equal(etag_check_many(f->client, requests, 2, token, answers), ETAG_OK);
    assert_int_equal(answers[1].reason, ETAG_REASON_BAD_KEY);
    assert_int_equal(f->client->counters->unknown_bad_key, 2);
    mapping_close(&f->client->mapping);
    assert_int_equal(etag_check_many(f->client, requests, 2, token, answers), ETAG_OK);
    assert_int_equal(answers[1].reason, ETAG_REASON_NO_INDEX);
}

/* A program that was built with a newer header has larger structs; with an older one, smaller. */
CASE(a_batch_of_another_headers_structs)
{
    struct {
        etag_request request;
        uint64_t newer;
    } larger[3] = {0};
    struct {
        etag_answer answer;
        uint64_t newer;
    } answers[3];
    char smaller[3][ABI_FIRST_REQUEST];
    etag_answer few[3];
    struct asked asked;

    for (size_t k = 0; k < KEYS; k++)
        put(f, k);
    ask(f, &asked);
    asked.key = key_of(f, 0, asked.vary);
    asked.request.require_if_match = asked.request.compression_suffixes = false;
    asked.request.method = ETAG_LIT("GET");
    asked.request.field_count = 1;
    asked.fields[0] = (etag_field){ETAG_LIT("If-None-Match"), ETAG_LIT("*")};
    for (size_t i = 0; i < 3; i++) {
        larger[i].request = asked.request;
        larger[i].request.size = sizeof(larger[i]);
        ETAG_INIT(&answers[i].answer);
        answers[i].answer.size = sizeof(answers[i]);
        answers[i].newer = 77 + i;
        const size_t size = sizeof(smaller[i]);
        memcpy(smaller[i], &asked.request, size);
        memcpy(smaller[i], &size, sizeof(size));
        ETAG_INIT(&few[i]);
    }
    assert_int_equal(
        etag_check_many(f->client, &larger[0].request, 3, (etag_token){0}, &answers[0].answer),
        ETAG_OK);
    assert_int_equal(etag_check_many(f->client, (const etag_request *)(const void *)smaller, 3,
                                     (etag_token){0}, few),
                     ETAG_OK);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(answers[i].newer, 77 + i);
        assert_int_equal(answers[i].answer.verdict, few[i].verdict);
        assert_int_not_equal(few[i].reason, ETAG_REASON_NONE);
    }
}

/* ---- The moment of the time ---- */

/* Called in the place of the time; it may change the memory, and the time. */
static void (*at_the_time)(struct timespec *now);

int __real_clock_gettime(clockid_t clock, struct timespec *now);
int __wrap_clock_gettime(clockid_t clock, struct timespec *now);

int __wrap_clock_gettime(clockid_t clock, struct timespec *now)
{
    const int r = __real_clock_gettime(clock, now);

    if (at_the_time && clock == CLOCK_MONOTONIC_COARSE)
        at_the_time(now);
    return r;
}

static struct shm_view *shared;

/* The reader slept until its lease was over, and wakes when the daemon has just renewed it. */
static void renew_late(struct timespec *now)
{
    const uint64_t deadline_ns = shm_lease_load(shared);
    const uint64_t now_ns = deadline_ns + 1;

    now->tv_sec = (time_t)(now_ns / NS_PER_S);
    now->tv_nsec = (long)(now_ns % NS_PER_S);
    shm_lease_store(shared, now_ns + NS_PER_S);
}

static void purge(struct timespec *now)
{
    (void)now;
    shm_clock_store(shared, CLOCK_FLOOR, UINT64_C(1) << 62);
}

/* Of key 2, which both ways know: a current entry, and its tag. */
static void ask_current(struct fixture *f, struct asked *a)
{
    struct index_evicted evicted;
    static struct key canonical;
    const uint32_t clock = 3;

    memset(a, 0, sizeof(*a));
    ETAG_INIT(&a->request);
    a->key = key_of(f, 2, a->vary);
    a->key.resource.host = ETAG_LIT("a.example");
    a->key.scheme = ETAG_LIT("https");
    assert_null(key_canonicalize(&canonical, &a->key));
    const struct index_entry entry = {
        .fingerprint = key_fingerprint(index_view(f->index)->header->hash_key, &canonical),
        .fill_lsn = ++f->lsn,
        .expires_ns = UINT64_MAX,
        .last_modified = ETAG_NO_DATE,
        .etag = ETAG_LIT("\"v1\""),
        .clocks = &clock,
        .clock_count = 1};
    f->fingerprints[2] = entry.fingerprint;
    assert_int_equal(index_put(f->index, &entry, 0, &evicted), INDEX_STORED);
    a->fields[0] = (etag_field){ETAG_LIT("If-None-Match"), ETAG_LIT("\"v1\"")};
    a->request.method = ETAG_LIT("GET");
    a->request.key = &a->key;
    a->request.fields = a->fields;
    a->request.field_count = 1;
}

/* By the short way, in a batch, and by the general way. */
static etag_answer check_by(struct fixture *f, const etag_request *request, int way)
{
    struct {
        etag_answer answer;
        uint64_t more;
    } out;

    ETAG_INIT(&out.answer);
    if (way == 2)
        out.answer.size = sizeof(out);
    if (way == 1)
        assert_int_equal(etag_check_many(f->client, request, 1, (etag_token){0}, &out.answer),
                         ETAG_OK);
    else
        (void)etag_check(f->client, request, (etag_token){0}, &out.answer);
    return out.answer;
}

CASE(the_deadline_is_the_one_from_before_the_lookup)
{
    struct asked asked;

    ask_current(f, &asked);
    shared = index_view(f->index);
    for (int way = 0; way < 3; way++) {
        at_the_time = NULL;
        shm_lease_store(shared, UINT64_MAX);
        (void)check_by(f, &asked.request, 0); /* what the general way keeps */
        assert_int_equal(check_by(f, &asked.request, way).verdict, ETAG_NOT_MODIFIED);
        shm_lease_store(shared, time_coarse_ns() + NS_PER_S);
        at_the_time = renew_late;
        const etag_answer answer = check_by(f, &asked.request, way);
        at_the_time = NULL;
        assert_int_equal(answer.verdict, ETAG_UNKNOWN);
        assert_int_equal(answer.reason, ETAG_REASON_NO_LEASE);
    }
}

CASE(the_time_is_read_after_the_memory)
{
    struct asked asked;

    ask_current(f, &asked);
    shared = index_view(f->index);
    for (int way = 0; way < 3; way++) {
        (void)check_by(f, &asked.request, 0);
        at_the_time = purge; /* too late: the clocks have been read */
        assert_int_equal(check_by(f, &asked.request, way).verdict, ETAG_NOT_MODIFIED);
        at_the_time = NULL;
        assert_int_equal(check_by(f, &asked.request, way).reason, ETAG_REASON_STALE);
        shm_clock_store(shared, CLOCK_FLOOR, 0);
    }
}

/* ---- A writer beside it ---- */

/* Key 2: an entry whose tag and date follow from its fill LSN, and which is current as long as it
 * is there with an even one; with an odd one its clock is above it, and goes back when it is
 * gone. */
struct writer {
    struct fixture *f;
    struct hash128 fingerprint;
    uint64_t rounds;
    /* atomic */
    bool done;
    pthread_t thread;
};

static void *writer_run(void *argument)
{
    struct writer *const w = argument;
    struct shm_view *const view = index_view(w->f->index);
    const uint32_t clock = 9;

    for (uint64_t lsn = 1; lsn <= w->rounds; lsn++) {
        struct index_evicted evicted;
        const struct index_entry entry = {.fingerprint = w->fingerprint,
                                          .fill_lsn = lsn,
                                          .expires_ns = UINT64_MAX,
                                          .last_modified = (int64_t)lsn,
                                          .etag = lsn % 4 ? ETAG_LIT("\"v1\"")
                                                          : ETAG_LIT("W/\"v1\""),
                                          .clocks = &clock,
                                          .clock_count = 1};
        if (lsn % 2)
            shm_clock_store(view, clock, lsn + 1);
        if (index_put(w->f->index, &entry, 0, &evicted) != INDEX_STORED)
            abort();
        (void)index_remove(w->f->index, w->fingerprint);
        shm_clock_store(view, clock, 0);
    }
    __atomic_store_n(&w->done, true, __ATOMIC_RELAXED);
    return NULL;
}

static void require_whole(const etag_answer *answer)
{
    const bool weak = answer->etag.len == 6;

    if (answer->verdict != ETAG_NOT_MODIFIED)
        return;
    if (answer->fill_lsn % 2)
        fail_msg("the entry of LSN %llu was never current", (unsigned long long)answer->fill_lsn);
    assert_int_equal(answer->last_modified, answer->fill_lsn);
    assert_int_equal(weak, answer->fill_lsn % 4 == 0);
}

CASE(while_a_writer_changes_the_entry)
{
    struct asked asked[8];
    etag_answer answers[8];
    uint64_t found = 0;

    for (size_t i = 0; i < 8; i++)
        ask_current(f, &asked[i]);
    struct writer writer = {
        .f = f, .fingerprint = f->fingerprints[2], .rounds = test_rounds(200000)};
    (void)check_by(f, &asked[0].request, 0);
    assert_true(index_remove(f->index, f->fingerprints[2]));
    assert_int_equal(pthread_create(&writer.thread, NULL, writer_run, &writer), 0);
    while (!__atomic_load_n(&writer.done, __ATOMIC_RELAXED)) {
        const etag_answer answer = check_by(f, &asked[0].request, 0);
        require_whole(&answer);
        ask_many(f, asked, 8, answers);
        for (size_t i = 0; i < 8; i++) {
            require_whole(&answers[i]);
            found += answers[i].verdict == ETAG_NOT_MODIFIED;
        }
    }
    assert_int_equal(pthread_join(writer.thread, NULL), 0);
    print_message("%llu found in batches\n", (unsigned long long)found);
}
