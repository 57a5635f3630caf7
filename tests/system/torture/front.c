/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The front end's side: fillers and readers. A reader looks at the truth before it asks, so what it holds an answer
 * against was answered, or had begun, before the check did.
 */
#include "worker.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define OUTCOME_TRIES 5000 /* milliseconds */

#define LSN_COUNTER_BITS 40

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

void filler_step(struct worker *w)
{
    const uint32_t key = key_pick(w);
    const etag_token token = etag_token_now(w->client);
    const uint64_t version = atomic_load(&w->truth->rows[key].visible);
    etag_str surrogates[2];
    etag_entry entry;
    char tag[NAME_BYTES];

    if (one_in(w, 6))
        sleep_ns(random_below(w, 8 * NS_PER_MS));
    else if (one_in(w, 400))
        sleep_ns(random_below(w, 800 * NS_PER_MS));
    (void)snprintf(tag, sizeof(tag), "\"%" PRIu32 "-%" PRIu64 "\"", key, version);
    etag_entry_init(&entry);
    entry.key = &w->key;
    entry.etag = etag_str_of(tag);
    surrogates[0] = etag_str_of(w->names.surrogate);
    surrogates[1] = etag_str_of(w->names.group);
    entry.surrogates = surrogates;
    entry.surrogate_count = 2;
    entry.max_age_s = one_in(w, 8) ? 1 + random_below(w, 60) : 0;
    fill_send(w, token, &entry);
    (void)etag_client_dispatch(w->client);
    if (one_in(w, 4))
        sleep_ns(random_below(w, 500 * 1000));
}

/* ---- Read ---- */

struct asked {
    uint32_t key;
    uint64_t published, begun; /* before the check began */
    uint64_t begin_ns, end_ns;
    uint64_t stops; /* how often this process was stopped and continued */
};

static void violation(const struct asked *asked, const etag_answer *answer, const char *what)
{
    (void)fprintf(stderr,
                  "violation: %s: key %" PRIu32 " answered %.*s (%s), published was %" PRIu64
                  ", begun %" PRIu64 ", fill LSN %" PRIx64 ", token %" PRIx64
                  ", check began at %" PRIu64 " and took %" PRIu64 " ns\n",
                  what, asked->key, (int)answer->etag.len, answer->etag.data,
                  etag_verdict_text(answer->verdict), asked->published, asked->begun,
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

/* The online checker. The guarded rule asks afterwards whether the commit was rolled back: then its guard was aborted,
 * and the former version was right again. */
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
        COUNT(w, unjudged);
        break;
    case OUTCOME_ROLLED_BACK:
        break;
    }
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
    if (text[0] != '"' || *rest != '-' || key != asked->key) {
        COUNT(w, violations_mixed);
        violation(asked, answer, "another key's entry");
        return;
    }
    const uint64_t version = strtoull(rest + 1, NULL, 10);
    judge(w, asked, answer, version);
    raise_to(&w->truth->newest_incarnation, answer->token.lsn >> LSN_COUNTER_BITS);
    if (answer->verdict == ETAG_NOT_MODIFIED)
        COUNT(w, not_modified);
    else
        COUNT(w, known_otherwise);
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

void reader_step(struct worker *w)
{
    struct asked asked = {.key = key_pick(w)};
    const struct row *row = &w->truth->rows[asked.key];
    etag_field condition = {ETAG_LIT("If-None-Match"), ETAG_LIT("*")};
    etag_request request;
    etag_answer answer;
    char tag[NAME_BYTES];

    ETAG_INIT(&request);
    ETAG_INIT(&answer);
    request.method = ETAG_LIT("GET");
    request.key = &w->key;
    request.fields = &condition;
    request.field_count = 1;
    if (one_in(w, 3)) {
        /* What a browser has: the version of now, or an older one. */
        const uint64_t visible = atomic_load(&row->visible), back = random_below(w, 3);
        (void)snprintf(tag, sizeof(tag), "\"other\", \"%" PRIu32 "-%" PRIu64 "\"", asked.key,
                       visible > back ? visible - back : visible);
        condition.value = etag_str_of(tag);
    }
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
