/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The front end's side: fillers and readers. A reader looks at the truth before it asks, so what it
 * holds an answer against was answered, or had begun, before the check did.
 */
#include "worker.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define OUTCOME_TRIES 5000 /* milliseconds */

#define LSN_COUNTER_BITS 40

/* ---- Pages: what is rendered of a row under a scheme ---- */

#define PAGES (2 * TRUTH_KEYS)
#define FIRST_SECOND INT64_C(1600000000)

/* Every other row says that no two of its versions have one second, and keeps to it. */
static bool dates_are_strong(uint32_t key)
{
    return key % 2 == 0;
}

static int64_t second_of(uint32_t key, uint64_t version)
{
    const uint64_t seconds = dates_are_strong(key) ? version : version / TRUTH_SECOND_VERSIONS;

    return FIRST_SECOND + (int64_t)seconds;
}

static void date_text(char *out, int64_t second)
{
    const time_t time = (time_t)second;
    struct tm parts;

    (void)strftime(out, NAME_BYTES, "%a, %d %b %Y %H:%M:%S GMT", gmtime_r(&time, &parts));
}

/* A path with dot segments, which a server reads in another way: what it renders is another page,
 * and no entry. */
static void page_dot(struct worker *w, uint32_t key)
{
    names_dotted(&w->names, key, random_below(w, 64));
    w->key.resource.target = etag_str_of(w->names.dotted);
    w->page = PAGES + key;
}

/* ---- Fill ---- */

static void fill_send(struct worker *w, etag_token token, const etag_entry *entry)
{
    if (!one_in(w, 8)) {
        if (etag_fill(w->client, token, entry) == ETAG_OK)
            COUNT(w, fills_sent);
        else
            COUNT(w, fills_not_sent);
        return;
    }
    switch ((int)etag_fill_wait(w->client, token, entry, NULL)) {
    case ETAG_OK:
        COUNT(w, fills_stored);
        break;
    case ETAG_REFUSED:
        COUNT(w, fills_refused);
        break;
    default:
        COUNT(w, fills_not_sent);
        break;
    }
}

void page_fill(struct worker *w, uint32_t key, etag_token token, uint64_t version)
{
    etag_str surrogates[2];
    etag_entry entry;
    char tag[NAME_BYTES];

    (void)snprintf(tag, sizeof(tag), "\"%" PRIu32 "-%" PRIu64 "\"", w->page, version);
    etag_entry_init(&entry);
    entry.last_modified = second_of(key, version);
    entry.last_modified_is_strong = dates_are_strong(key);
    entry.key = &w->key;
    entry.etag = etag_str_of(tag);
    surrogates[0] = etag_str_of(w->names.surrogate);
    surrogates[1] = etag_str_of(w->names.group);
    entry.surrogates = surrogates;
    entry.surrogate_count = 2;
    entry.max_age_s = one_in(w, 8) ? 1 + random_below(w, 60) : 0;
    fill_send(w, token, &entry);
}

void filler_step(struct worker *w)
{
    const uint32_t key = key_pick(w);
    const etag_token token = etag_token_now(w->client);
    const uint64_t version = atomic_load(&w->truth->rows[key].visible);

    if (one_in(w, 6))
        sleep_ns(random_below(w, 8 * NS_PER_MS));
    else if (one_in(w, 400))
        sleep_ns(random_below(w, 800 * NS_PER_MS));
    if (one_in(w, 64)) {
        page_dot(w, key);
        COUNT(w, dotted_fills);
    }
    page_fill(w, key, token, version);
    (void)etag_client_dispatch(w->client);
    if (one_in(w, 4))
        sleep_ns(random_below(w, 500 * 1000));
}

/* ---- Read ---- */

enum condition { CONDITION_ANY, CONDITION_TAG, CONDITION_DATE };

struct asked {
    uint32_t key;
    /* before the check began */
    uint64_t published, begun;
    uint64_t begin_ns, end_ns;
    /* how often this process was stopped and continued */
    uint64_t stops;
    enum condition condition;
    /* the version that the client has, by tag or date */
    uint64_t has;
};

static void violation(const struct asked *asked, const etag_answer *answer, const char *what)
{
    (void)fprintf(stderr,
                  "violation: %s: key %" PRIu32 " answered %.*s (%s), published was %" PRIu64
                  ", begun %" PRIu64 ", fill LSN %" PRIx64 ", token %" PRIx64
                  ", check began at %" PRIu64 " and took %" PRIu64 " ns\n",
                  what, asked->key, (int)answer->etag.len, answer->etag.data,
                  etag_verdict_word(answer->verdict), asked->published, asked->begun,
                  answer->fill_lsn, answer->token.lsn, asked->begin_ns,
                  asked->end_ns - asked->begin_ns);
}

/* How the commit ended that had begun: it has a bound, and is waited for. */
static enum outcome outcome_of(struct worker *w, const struct asked *asked)
{
    enum outcome outcome;
    int tries = 0;

    while ((outcome = row_outcome(&w->truth->rows[asked->key], asked->begun)) == OUTCOME_BEGUN &&
           !run_is_over(w) && tries++ < OUTCOME_TRIES)
        sleep_ns(NS_PER_MS);
    return outcome;
}

/* The online checker. The guarded rule asks afterwards whether the commit was rolled back: then its
 * guard was aborted, and the former version was right again. */
static void judge(struct worker *w, const struct asked *asked, const etag_answer *answer,
                  uint64_t version)
{
    if (version < asked->published) {
        COUNT(w, violations_answered);
        violation(asked, answer, "older than an answered mutation");
    }
    /* The deadline is loaded when a check begins, and the time is read when it is done. */
    if (asked->end_ns - asked->begin_ns > w->late_ns && asked->stops % 2 == 0 &&
        asked->stops == atomic_load(&w->truth->stops[w->number])) {
        COUNT(w, violations_late);
        violation(asked, answer, "answered when its lease had to be over");
    }
    if (version >= asked->begun)
        return;
    switch (outcome_of(w, asked)) {
    case OUTCOME_COMMITTED:
        COUNT(w, violations_guarded);
        violation(asked, answer, "older than a guarded commit that had begun");
        break;
    case OUTCOME_NONE:
    case OUTCOME_BEGUN:
    case OUTCOME_LATE:
    case OUTCOME_LOGGED:
        COUNT(w, unjudged);
        break;
    case OUTCOME_ROLLED_BACK:
        break;
    }
}

/* A 304 to who has only a date says that there is nothing newer than what the client has. */
static void not_modified(struct worker *w, const struct asked *asked, const etag_answer *answer,
                         uint64_t version)
{
    COUNT(w, not_modified);
    if (w->page != asked->key)
        COUNT(w, not_modified_http);
    if (asked->condition == CONDITION_TAG)
        COUNT(w, not_modified_by_tag);
    if (asked->condition != CONDITION_DATE)
        return;
    COUNT(w, not_modified_by_date);
    if (version <= asked->has)
        return;
    COUNT(w, violations_date);
    violation(asked, answer, "304 by date to who has an older version");
}

static void known(struct worker *w, const struct asked *asked, const etag_answer *answer)
{
    char text[NAME_BYTES];
    char *rest = text;
    const size_t len = answer->etag.len < sizeof(text) ? answer->etag.len : sizeof(text) - 1;

    for (size_t i = 0; i < len; i++)
        text[i] = answer->etag.data[i];
    text[len] = '\0';
    const unsigned long key = strtoul(text + 1, &rest, 10);
    if (text[0] != '"' || *rest != '-' || key != w->page || w->page >= PAGES) {
        COUNT(w, violations_mixed);
        violation(asked, answer, "another key's entry");
        return;
    }
    const uint64_t version = strtoull(rest + 1, NULL, 10);
    judge(w, asked, answer, version);
    raise_to(&w->truth->newest_incarnation, answer->token.lsn >> LSN_COUNTER_BITS);
    if (answer->verdict == ETAG_NOT_MODIFIED)
        not_modified(w, asked, answer, version);
    else
        COUNT(w, known_otherwise);
    if (answer->reason == ETAG_REASON_DATE_WEAK)
        COUNT(w, weak_dates);
    if (answer->fill_lsn >> LSN_COUNTER_BITS < answer->token.lsn >> LSN_COUNTER_BITS)
        COUNT(w, warm);
    if (!one_in(w, w->sample))
        return;
    const struct record record = {.kind = RECORD_CHECK,
                                  .slot = (uint8_t)w->number,
                                  .key = asked->key,
                                  .version = version,
                                  .begin_ns = asked->begin_ns,
                                  .end_ns = asked->end_ns,
                                  .lsn = answer->fill_lsn};
    worker_record(w, &record);
}

static void unknown(struct worker *w, const etag_answer *answer)
{
    COUNT(w, unknown);
    switch ((int)answer->reason) {
    case ETAG_REASON_STALE:
        COUNT(w, unknown_stale);
        break;
    case ETAG_REASON_IN_FLUX:
        COUNT(w, unknown_in_flux);
        break;
    case ETAG_REASON_NO_LEASE:
        COUNT(w, unknown_no_lease);
        break;
    default:
        break;
    }
}

/* What a browser has: any version, by "*"; the one of now or an older one, by its tag or its
 * date. */
static void condition_make(struct worker *w, struct asked *asked, etag_field *condition,
                           char text[2 * NAME_BYTES])
{
    const uint64_t visible = atomic_load(&w->truth->rows[asked->key].visible);
    const uint64_t back = random_below(w, 3);

    asked->has = visible > back ? visible - back : visible;
    *condition = (etag_field){ETAG_LIT("If-None-Match"), ETAG_LIT("*")};
    switch (random_below(w, 4)) {
    case 0:
        asked->condition = CONDITION_TAG;
        (void)snprintf(text, 2 * NAME_BYTES, "\"other\", \"%" PRIu32 "-%" PRIu64 "\"", w->page,
                       asked->has);
        condition->value = etag_str_of(text);
        break;
    case 1:
        asked->condition = CONDITION_DATE;
        condition->name = ETAG_LIT("If-Modified-Since");
        date_text(text, second_of(asked->key, asked->has));
        condition->value = etag_str_of(text);
        break;
    default:
        asked->condition = CONDITION_ANY;
        break;
    }
}

void reader_step(struct worker *w)
{
    struct asked asked = {.key = key_pick(w)};
    const struct row *row = &w->truth->rows[asked.key];
    etag_field condition;
    etag_request request;
    etag_answer answer;
    char text[2 * NAME_BYTES];

    if (one_in(w, 64)) {
        page_dot(w, asked.key);
        COUNT(w, dotted_checks);
    }
    condition_make(w, &asked, &condition, text);
    ETAG_INIT(&request);
    ETAG_INIT(&answer);
    request.method = ETAG_LIT("GET");
    request.key = &w->key;
    request.fields = &condition;
    request.field_count = 1;
    asked.stops = atomic_load(&w->truth->stops[w->number]);
    asked.published = atomic_load(&row->published);
    asked.begun = atomic_load(&row->begun);
    asked.begin_ns = now_ns();
    const etag_token token = etag_token_now(w->client);
    const etag_verdict verdict = etag_check(w->client, &request, token, &answer);
    asked.end_ns = now_ns();
    COUNT(w, checks);
    if (verdict == ETAG_UNKNOWN)
        unknown(w, &answer);
    else
        known(w, &asked, &answer);
    if (one_in(w, 8))
        (void)etag_client_dispatch(w->client);
    if (one_in(w, 8))
        sleep_ns(100 * 1000);
}
