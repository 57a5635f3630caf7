/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A load with its own truth. Every key has a committed version (what the "database" holds) and a
 * published one (the highest whose invalidation was answered OK), in memory shared by the processes
 * of this program.
 *
 *   writer    commits a version, invalidates until it is answered OK, then publishes; every other
 *             time under a guard, which it sometimes leaves to linger
 *   filler    token, reads the committed version, sometimes sleeps (a slow render), fills
 *   reader    reads the published version, and the last one whose guarded commit has begun;
 *             checks; a 304 for an older version is a violation
 *
 * Runs until its standard input ends; prints the counts as one JSON line; exit 1 after a violation.
 */
#include <etag/etag.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define KEYS 512
#define LSN_COUNTER_BITS 40

#define COUNTS(X)                                                                                  \
    X(checks)                                                                                      \
    X(not_modified)                                                                                \
    X(unknown)                                                                                     \
    X(fills_sent)                                                                                  \
    X(fills_not_sent)                                                                              \
    X(invalidations)                                                                               \
    X(invalidation_errors)                                                                         \
    X(spooled)                                                                                     \
    X(guards_begun)                                                                                \
    X(guards_committed)                                                                            \
    X(guards_aborted)                                                                              \
    X(guards_forgotten)                                                                            \
    X(guard_errors)                                                                                \
    X(warm_hits)                                                                                   \
    X(fills_refused_or_stale)                                                                      \
    X(violations)

struct truth {
    _Atomic bool end;
    _Atomic uint64_t committed[KEYS], published[KEYS];
    /* the highest version whose commit began under a guard */
    _Atomic uint64_t begun[KEYS];
#define COUNT_FIELD(name) _Atomic uint64_t name;
    COUNTS(COUNT_FIELD)
#undef COUNT_FIELD
};

struct worker {
    struct truth *truth;
    etag_client *client;
    uint64_t random;
    char path[64], tag[32], surrogate[32];
    etag_key key;
    /* of the key */
    int number;
};

static uint64_t random_next(struct worker *w)
{
    w->random ^= w->random << 13;
    w->random ^= w->random >> 7;
    w->random ^= w->random << 17;
    return w->random;
}

static void sleep_us(uint64_t us)
{
    const struct timespec t = {(time_t)(us / 1000000), (long)(us % 1000000) * 1000};

    nanosleep(&t, NULL);
}

static void key_pick(struct worker *w)
{
    w->number = (int)(random_next(w) % KEYS);
    snprintf(w->path, sizeof(w->path), "/storm/%d", w->number);
    snprintf(w->surrogate, sizeof(w->surrogate), "key:%d", w->number);
    ETAG_INIT(&w->key);
    w->key.resource.target = etag_str_of(w->path);
    w->key.scope.kind = ETAG_SCOPE_PUBLIC;
}

static void raise_to(_Atomic uint64_t *word, uint64_t value)
{
    uint64_t now = atomic_load(word);

    while (now < value && !atomic_compare_exchange_weak(word, &now, value))
        ;
}

struct named {
    etag_str surrogate, family;
    etag_resource prefix;
    etag_targets targets;
};

/* Names the key in one of the ways there are. */
static void name_key(struct worker *w, struct named *out)
{
    out->surrogate = etag_str_of(w->surrogate);
    out->family = ETAG_LIT("key");
    out->prefix = (etag_resource){.target = ETAG_LIT("/storm/")};
    ETAG_INIT(&out->targets);
    /* Rarely all at once: what survives a restart is the point. */
    const uint64_t way = random_next(w) % 1024;
    if (way == 0) {
        out->targets.everything = true;
    } else if (way == 1) {
        out->targets.prefixes = &out->prefix;
        out->targets.prefix_count = 1;
    } else if (way == 2) {
        out->targets.families = &out->family;
        out->targets.family_count = 1;
    } else if (way < 512) {
        out->targets.resources = &w->key.resource;
        out->targets.resource_count = 1;
    } else {
        out->targets.surrogates = &out->surrogate;
        out->targets.surrogate_count = 1;
    }
}

static void answered(struct worker *w, uint64_t version, const etag_receipt *receipt)
{
    raise_to(&w->truth->published[w->number], version);
    w->truth->spooled += receipt->lsn == 0;
}

/* Until it is answered OK. */
static void invalidate(struct worker *w, const struct named *named, uint64_t version)
{
    etag_receipt receipt;

    ETAG_INIT(&receipt);
    while (!atomic_load(&w->truth->end)) {
        if (etag_invalidate(w->client, &named->targets, &receipt) == ETAG_OK) {
            answered(w, version, &receipt);
            w->truth->invalidations++;
            return;
        }
        w->truth->invalidation_errors++;
        sleep_us(2000);
    }
}

/* Confirmed, and with time enough for a commit that is one addition; else aborted. */
static bool guard_stands(struct worker *w, etag_guard *guard)
{
    if (etag_guard_confirm(guard) == ETAG_OK && etag_guard_time_left_ms(guard) > 100)
        return true;
    w->truth->guard_errors++;
    if (etag_guard_abort(guard) == ETAG_OK)
        w->truth->guards_aborted++;
    return false;
}

static void write_guarded(struct worker *w, const struct named *named)
{
    etag_receipt receipt;
    etag_guard *guard;

    ETAG_INIT(&receipt);
    if (etag_guard_begin(w->client, &named->targets, &guard) != ETAG_OK) {
        w->truth->guard_errors++;
        return;
    }
    w->truth->guards_begun++;
    if (random_next(w) % 8 == 0)
        sleep_us(random_next(w) % 20000);
    if (random_next(w) % 16 == 0) {
        if (etag_guard_abort(guard) == ETAG_OK)
            w->truth->guards_aborted++;
        return;
    }
    if (!guard_stands(w, guard))
        return;
    const uint64_t version = atomic_fetch_add(&w->truth->committed[w->number], 1) + 1;
    raise_to(&w->truth->begun[w->number], version);
    if (random_next(w) % 64 == 0) {
        w->truth->guards_forgotten++;
        etag_guard_forget(guard);
    } else if (etag_guard_commit(guard, &receipt) == ETAG_OK) {
        w->truth->guards_committed++;
        answered(w, version, &receipt);
    } else {
        w->truth->guard_errors++;
        invalidate(w, named, version);
    }
}

static void writer(struct worker *w)
{
    struct named named;

    key_pick(w);
    name_key(w, &named);
    if (random_next(w) % 2 == 0)
        write_guarded(w, &named);
    else
        invalidate(w, &named, atomic_fetch_add(&w->truth->committed[w->number], 1) + 1);
    sleep_us(random_next(w) % 2000);
}

static void filler(struct worker *w)
{
    const etag_str surrogate = {w->surrogate, 0};
    etag_str surrogates[1] = {surrogate};
    etag_entry entry;

    key_pick(w);
    const etag_token token = etag_token_now(w->client);
    const uint64_t version = atomic_load(&w->truth->committed[w->number]);
    if (random_next(w) % 4 == 0)
        sleep_us(random_next(w) % 5000);
    snprintf(w->tag, sizeof(w->tag), "\"%" PRIu64 "\"", version);
    etag_entry_init(&entry);
    entry.key = &w->key;
    entry.etag = etag_str_of(w->tag);
    surrogates[0].len = strlen(w->surrogate);
    entry.surrogates = surrogates;
    entry.surrogate_count = 1;
    if (random_next(w) % 8 == 0) {
        const etag_status status = etag_fill_wait(w->client, token, &entry, NULL);
        if (status == ETAG_REFUSED)
            w->truth->fills_refused_or_stale++;
        else if (status == ETAG_OK)
            w->truth->fills_sent++;
        else
            w->truth->fills_not_sent++;
    } else if (etag_fill(w->client, token, &entry) == ETAG_OK) {
        w->truth->fills_sent++;
    } else {
        w->truth->fills_not_sent++;
    }
    (void)etag_client_dispatch(w->client);
    sleep_us(random_next(w) % 300);
}

static void reader(struct worker *w)
{
    const etag_field any = {ETAG_LIT("If-None-Match"), ETAG_LIT("*")};
    static uint64_t newest_incarnation;
    etag_request request;
    etag_answer answer;

    key_pick(w);
    ETAG_INIT(&request);
    ETAG_INIT(&answer);
    request.method = ETAG_LIT("GET");
    request.key = &w->key;
    request.fields = &any;
    request.field_count = 1;

    const uint64_t published = atomic_load(&w->truth->published[w->number]);
    const uint64_t begun = atomic_load(&w->truth->begun[w->number]);
    const etag_token token = etag_token_now(w->client);
    const etag_verdict verdict = etag_check(w->client, &request, token, &answer);
    w->truth->checks++;
    if (verdict != ETAG_NOT_MODIFIED) {
        w->truth->unknown++;
        w->truth->fills_refused_or_stale += answer.reason == ETAG_REASON_STALE;
    } else {
        const uint64_t version = strtoull(answer.etag.data + 1, NULL, 10);
        w->truth->not_modified++;
        if (version < published || version < begun) {
            w->truth->violations++;
            fprintf(stderr,
                    "violation: key %d answered version %" PRIu64 ", published was %" PRIu64
                    ", begun %" PRIu64 ", fill LSN %" PRIx64 "\n",
                    w->number, version, published, begun, answer.fill_lsn);
        }
        if (token.lsn >> LSN_COUNTER_BITS > newest_incarnation)
            newest_incarnation = token.lsn >> LSN_COUNTER_BITS;
        w->truth->warm_hits += answer.fill_lsn >> LSN_COUNTER_BITS < newest_incarnation;
    }
    (void)etag_client_dispatch(w->client);
    if (random_next(w) % 16 == 0)
        sleep_us(200);
}

static void work(struct truth *truth, const char *socket_path, int seed,
                 void (*step)(struct worker *))
{
    struct worker w = {.truth = truth, .random = 88172645463325252u + (uint64_t)seed * 7919};
    etag_client_options options;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    ETAG_INIT(&options);
    options.socket_path = socket_path;
    options.timeout_ms = 300;
    if (etag_client_open(&w.client, &options) != ETAG_OK)
        _exit(1);
    while (!atomic_load(&truth->end))
        step(&w);
    etag_client_close(w.client);
    _exit(0);
}

int main(int argc, char **argv)
{
    void (*const steps[])(struct worker *) = {writer, writer, filler, filler, reader, reader};
    const size_t workers = sizeof(steps) / sizeof(steps[0]);
    char byte;

    if (argc != 2)
        return 2;
    struct truth *truth = mmap(NULL, sizeof(*truth), PROT_READ | PROT_WRITE,
                               MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (truth == MAP_FAILED)
        return 2;
    for (size_t i = 0; i < workers; i++)
        if (fork() == 0)
            work(truth, argv[1], (int)i + 1, steps[i]);
    while (read(STDIN_FILENO, &byte, 1) > 0)
        ;
    atomic_store(&truth->end, true);
    for (size_t i = 0; i < workers; i++) {
        int status;
        if (wait(&status) < 0 || status != 0)
            truth->violations++;
    }
    printf("{");
#define COUNT_PRINT(name) printf("\"" #name "\": %" PRIu64 ", ", atomic_load(&truth->name));
    COUNTS(COUNT_PRINT)
#undef COUNT_PRINT
    printf("\"workers\": %zu}\n", workers);
    return truth->violations == 0 ? 0 : 1;
}
