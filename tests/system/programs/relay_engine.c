/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An engine by hand, for tests: a line of standard input is an operation, a line of standard output
 * is its answer, as NAME=VALUE.
 *
 *     relay_engine CONNECTION HOST NONCE      NONCE: 32 hexadecimal digits
 *
 * CONNECTION beginning with http is of etcd; then ETCD_PREFIX, ETCD_USER, ETCD_PASSWORD_FILE,
 * ETCD_CA_FILE, ETCD_CERT_FILE and ETCD_KEY_FILE in the environment say the rest.
 *
 *     open | close | poll [NEXT[:RUNNING,...]] | join | publish [ask] [wake] [hold=MS] NAME...
 *     wake | ask [POSITION] [look] [wake] | members | acknowledge WITNESS NEXT[:RUNNING,...]
 *     trim RETENTION_MS | leave HOST | gone HOST NONCE | woken [MS]
 *
 * NAME: a surrogate key, /resource, prefix:/path/, everything. Answers begin with ok, refused or
 * failed; after the latter two stands why.
 */
#include "engine.h"

#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define WORDS_MAX 4200
#define LINE_BYTES_MAX 400000
#define ANSWER_MS_MAX 60000

struct tester {
    const struct engine_kind *kind;
    struct engine *engine;
    struct engine_options options;
    struct arena arena;
    struct why why;
    uint64_t running[ENGINE_RUNNING_MAX];
    struct engine_snapshot snapshot;
    etag_str names[WORDS_MAX], families[WORDS_MAX];
    etag_resource resources[WORDS_MAX], prefixes[WORDS_MAX];
    etag_targets targets;
};

static int64_t now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static etag_str word_str(const char *word)
{
    return (etag_str){word, strlen(word)};
}

static struct engine_nonce nonce_of(const char *digits)
{
    struct engine_nonce nonce = {{0}};

    for (size_t i = 0; i < ENGINE_NONCE_BYTES; i++) {
        unsigned byte = 0;
        (void)sscanf(digits + 2 * i, "%2x", &byte);
        nonce.bytes[i] = (uint8_t)byte;
    }
    return nonce;
}

static void say_nonce(const char *name, const struct engine_nonce *nonce)
{
    printf(" %s=", name);
    for (size_t i = 0; i < ENGINE_NONCE_BYTES; i++)
        printf("%02x", nonce->bytes[i]);
}

static void say_snapshot(const struct engine_snapshot *snapshot)
{
    printf(" snapshot=%" PRIu64, snapshot->next);
    for (size_t i = 0; i < snapshot->running_count; i++)
        printf("%c%" PRIu64, i == 0 ? ':' : ',', snapshot->running[i]);
}

static const struct engine_snapshot *snapshot_of(struct tester *tester, char *text)
{
    char *at = strchr(text, ':');

    tester->snapshot = (struct engine_snapshot){.next = strtoull(text, NULL, 10),
                                                .running = tester->running};
    while (at && tester->snapshot.running_count < ENGINE_RUNNING_MAX) {
        tester->running[tester->snapshot.running_count++] = strtoull(at + 1, NULL, 10);
        at = strchr(at + 1, ',');
    }
    return &tester->snapshot;
}

/* ---- Waiting
 * ------------------------------------------------------------------------------------- */

/* Once something happens on the descriptor, or after 1 s. */
static int step(struct tester *tester)
{
    const struct engine_kind *const kind = tester->engine->kind;
    struct pollfd wait = {.fd = kind->fd(tester->engine), .events = kind->events(tester->engine)};
    const int timeout_ms = kind->timeout_ms(tester->engine);

    (void)poll(&wait, 1, timeout_ms >= 0 && timeout_ms < 1000 ? timeout_ms : 1000);
    return wait.revents || timeout_ms >= 0 ? kind->dispatch(tester->engine, &tester->why) : 0;
}

static int wait_ready(struct tester *tester)
{
    const int64_t end_ms = now_ms() + ANSWER_MS_MAX;
    int r = 0;

    while (r == 0 && !tester->engine->kind->ready(tester->engine) && now_ms() < end_ms)
        r = step(tester);
    return r;
}

static int ask(struct tester *tester, const struct engine_request *request,
               struct engine_answer *answer)
{
    const struct engine_kind *const kind = tester->engine->kind;
    const int64_t end_ms = now_ms() + ANSWER_MS_MAX;
    int r = kind->start(tester->engine, request, &tester->why);

    if (r != 0)
        return r;
    while ((r = kind->finish(tester->engine, &tester->arena, answer, &tester->why)) ==
               ENGINE_E_AGAIN &&
           now_ms() < end_ms) {
        r = step(tester);
        if (r < 0)
            return r;
    }
    return r;
}

/* ---- Answers
 * ------------------------------------------------------------------------------------- */

static void say_targets(const etag_targets *targets)
{
    for (size_t i = 0; i < targets->surrogate_count; i++)
        printf("%.*s+", (int)targets->surrogates[i].len, targets->surrogates[i].data);
    for (size_t i = 0; i < targets->family_count; i++)
        printf("family:%.*s+", (int)targets->families[i].len, targets->families[i].data);
    for (size_t i = 0; i < targets->resource_count; i++)
        printf("%.*s>%.*s+", (int)targets->resources[i].host.len, targets->resources[i].host.data,
               (int)targets->resources[i].target.len, targets->resources[i].target.data);
    for (size_t i = 0; i < targets->prefix_count; i++)
        printf("prefix:%.*s>%.*s+", (int)targets->prefixes[i].host.len,
               targets->prefixes[i].host.data, (int)targets->prefixes[i].target.len,
               targets->prefixes[i].target.data);
    if (targets->everything)
        printf("everything+");
    if (targets->hold_ms)
        printf("hold=%u+", targets->hold_ms);
}

static void say_origin(const struct engine_origin *origin)
{
    printf(" system=%" PRIu64 " started=%" PRIu64 " timeline=%" PRIu64 " database=%" PRIu64,
           origin->system, origin->started_us, origin->timeline, origin->database);
}

static void say_poll(const struct engine_poll *poll)
{
    printf(" standby=%d", poll->in_recovery);
    if (poll->in_recovery)
        return;
    say_origin(&poll->origin);
    if (poll->witnessed)
        say_nonce("witness", &poll->witness);
    printf(" member=%d trimmed=%" PRIu64 " lease=%u wait=%u unassigned=%" PRIu64 " cut=%d asked=%d"
           " digest=%" PRIu64 " broken=%d",
           poll->membership, poll->trimmed, poll->lease_ms, poll->wait_ms, poll->unassigned,
           poll->rows_cut, poll->asked, poll->digest, poll->watch_broken);
    say_snapshot(&poll->snapshot);
    printf(" rows=");
    for (size_t i = 0; i < poll->row_count; i++) {
        printf("%" PRIu64 "/", poll->rows[i].position);
        if (poll->rows[i].unreadable)
            printf("unreadable");
        say_targets(&poll->rows[i].targets);
        printf("|");
    }
}

static void say_members(const struct engine_members *members)
{
    printf(" standby=%d", members->in_recovery);
    if (members->witnessed)
        say_nonce("witness", &members->witness);
    printf(" wait=%u cut=%d hosts=", members->wait_ms, members->members_cut);
    for (size_t i = 0; i < members->member_count; i++)
        printf("%.*s/%d/%d/%" PRIu64 "|", (int)members->members[i].host.len,
               members->members[i].host.data, members->members[i].membership,
               members->members[i].acknowledged, members->members[i].snapshot.next);
    for (size_t i = 0; i < members->member_count; i++)
        if (members->members[i].own)
            printf(" own=%.*s", (int)members->members[i].host.len, members->members[i].host.data);
}

static void say_answer(const struct engine_answer *answer)
{
    switch (answer->op) {
    case ENGINE_POLL:
        say_poll(&answer->poll);
        break;
    case ENGINE_JOIN:
        printf(" member=%d foreign=%d lease=%u wait=%u", answer->join.membership,
               answer->join.foreign, answer->join.lease_ms, answer->join.wait_ms);
        say_nonce("nonce", &answer->join.nonce);
        break;
    case ENGINE_PUBLISH:
        printf(" position=%" PRIu64, answer->publish.position);
        break;
    case ENGINE_ASK:
        if (answer->ask.missing)
            printf(" missing=1");
        break;
    case ENGINE_MEMBERS:
        say_members(&answer->members);
        break;
    case ENGINE_TRIM:
        printf(" removed=%" PRIu64, answer->trim.removed);
        break;
    case ENGINE_LEAVE:
    case ENGINE_GONE:
        printf(" found=%d lease=%u wait=%u", answer->leave.found, answer->leave.lease_ms,
               answer->leave.wait_ms);
        say_nonce("nonce", &answer->leave.nonce);
        break;
    default:
        break;
    }
}

/* ---- Operations
 * ---------------------------------------------------------------------------------- */

static void publish_read(struct tester *tester, struct engine_request *request, char **words,
                         size_t count)
{
    etag_targets *const targets = &tester->targets;

    ETAG_INIT(targets);
    targets->surrogates = tester->names;
    targets->resources = tester->resources;
    targets->prefixes = tester->prefixes;
    targets->families = tester->families;
    request->op = ENGINE_PUBLISH;
    request->publish.targets = targets;
    for (size_t i = 0; i < count; i++) {
        if (strcmp(words[i], "ask") == 0)
            request->publish.ask = true;
        else if (strcmp(words[i], "wake") == 0)
            request->publish.wake = true;
        else if (strcmp(words[i], "everything") == 0)
            targets->everything = true;
        else if (strncmp(words[i], "hold=", 5) == 0)
            targets->hold_ms = (uint32_t)strtoul(words[i] + 5, NULL, 10);
        else if (strncmp(words[i], "prefix:", 7) == 0)
            tester->prefixes[targets->prefix_count++].target = word_str(words[i] + 7);
        else if (strncmp(words[i], "family:", 7) == 0)
            tester->families[targets->family_count++] = word_str(words[i] + 7);
        else if (words[i][0] == '/')
            tester->resources[targets->resource_count++].target = word_str(words[i]);
        else
            tester->names[targets->surrogate_count++] = word_str(words[i]);
    }
}

static bool request_read(struct tester *tester, struct engine_request *request, char **words,
                         size_t count)
{
    static const struct {
        const char *word;
        enum engine_op op;
    } plain[] = {
        {"poll", ENGINE_POLL},   {"join", ENGINE_JOIN},       {"wake", ENGINE_WAKE},
        {"ask", ENGINE_ASK},     {"members", ENGINE_MEMBERS}, {"trim", ENGINE_TRIM},
        {"leave", ENGINE_LEAVE}, {"gone", ENGINE_GONE},       {"acknowledge", ENGINE_ACKNOWLEDGE}};

    *request = (struct engine_request){0};
    if (strcmp(words[0], "publish") == 0) {
        publish_read(tester, request, words + 1, count - 1);
        return true;
    }
    for (size_t i = 0; i < sizeof(plain) / sizeof(plain[0]); i++)
        if (strcmp(words[0], plain[i].word) == 0)
            request->op = plain[i].op;
    if (request->op == ENGINE_POLL && count > 1)
        request->poll.cursor = snapshot_of(tester, words[1]);
    if (request->op == ENGINE_ASK) {
        request->ask.position = count > 1 ? strtoull(words[1], NULL, 10) : 0;
        request->ask.look_only = count > 2 && strcmp(words[2], "look") == 0;
        request->ask.wake = strcmp(words[count - 1], "wake") == 0;
    }
    if (request->op == ENGINE_TRIM)
        request->trim.retention_ms = strtoull(words[1], NULL, 10);
    if (request->op == ENGINE_LEAVE || request->op == ENGINE_GONE)
        request->leave.host = word_str(words[1]);
    if (request->op == ENGINE_GONE)
        request->leave.nonce = nonce_of(words[2]);
    if (request->op == ENGINE_ACKNOWLEDGE) {
        request->acknowledge.witness = nonce_of(words[1]);
        request->acknowledge.snapshot = snapshot_of(tester, words[2]);
    }
    return request->op != ENGINE_NONE;
}

static void say_outcome(struct tester *tester, int error, const struct engine_answer *answer)
{
    if (error == 0) {
        printf("ok");
        say_answer(answer);
    } else {
        printf("%s %d %s", error > 0 ? "refused" : "failed", error, tester->why.text);
    }
    printf("\n");
    (void)fflush(stdout);
}

/* Whether somebody woke us within so long. */
static int woken(struct tester *tester, long ms)
{
    const int64_t end_ms = now_ms() + ms;
    int r = 0;
    bool is = tester->engine->kind->woken(tester->engine);

    while (r == 0 && !is && now_ms() < end_ms) {
        r = step(tester);
        is = tester->engine->kind->woken(tester->engine);
    }
    if (r == 0)
        printf("ok woken=%d\n", is);
    else
        say_outcome(tester, r, NULL);
    (void)fflush(stdout);
    return 0;
}

static void operate(struct tester *tester, char **words, size_t count)
{
    struct engine_request request;
    struct engine_answer answer = {0};
    int r = 0;

    tester->why.text[0] = '\0';
    if (strcmp(words[0], "close") == 0) {
        tester->engine = tester->kind->close(tester->engine);
    } else if (strcmp(words[0], "open") == 0) {
        tester->engine = tester->kind->close(tester->engine);
        r = tester->kind->open(&tester->engine, &tester->options, &tester->why);
        if (r == 0)
            r = wait_ready(tester);
    } else if (!tester->engine) {
        (void)why_set(&tester->why, "not open");
        r = -1;
    } else if (strcmp(words[0], "woken") == 0) {
        (void)woken(tester, count > 1 ? strtol(words[1], NULL, 10) : 0);
        return;
    } else if (request_read(tester, &request, words, count)) {
        arena_reset(&tester->arena);
        r = ask(tester, &request, &answer);
    } else {
        (void)why_set(&tester->why, "no such operation");
        r = -1;
    }
    say_outcome(tester, r, &answer);
}

int main(int argc, char **argv)
{
    static struct tester tester;
    static char line[LINE_BYTES_MAX];
    static char *words[WORDS_MAX];

    if (argc != 4)
        return 2;
    tester.kind = strncmp(argv[1], "http", 4) == 0 ? &engine_etcd : &engine_postgres;
    tester.options = (struct engine_options){
        .connection = argv[1],
        .prefix = getenv("ETCD_PREFIX") ? getenv("ETCD_PREFIX") : "etagd/",
        .user = getenv("ETCD_USER"),
        .password_file = getenv("ETCD_PASSWORD_FILE"),
        .ca_file = getenv("ETCD_CA_FILE"),
        .cert_file = getenv("ETCD_CERT_FILE"),
        .key_file = getenv("ETCD_KEY_FILE"),
        .host = word_str(argv[2]),
        .nonce = nonce_of(argv[3]),
    };
    arena_init(&tester.arena, (size_t)64 << 20);
    while (fgets(line, sizeof(line), stdin)) {
        size_t count = 0;
        char *rest;
        for (char *word = strtok_r(line, " \n", &rest); word && count < WORDS_MAX;
             word = strtok_r(NULL, " \n", &rest))
            words[count++] = word;
        if (count > 0)
            operate(&tester, words, count);
    }
    tester.kind->close(tester.engine);
    arena_deinit(&tester.arena);
    return 0;
}
