/* SPDX-License-Identifier: Apache-2.0 */
/* A script is read line by line, as operations come: what it says is all that happens. */
#include "engine_script.h"

#include "clocktime.h"
#include "targets.h"
#include "text.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#define SCRIPT_BYTES_MAX 65536
#define LINE_WORDS_MAX 24
#define WORD_BYTES 128

struct script {
    struct engine engine;
    /* of a file */
    char *owned;
    etag_str left;
    struct script_log *log;
    struct engine_request request;
    bool open, under_way, hangs;
    uint64_t not_before_ns;
    /* the last one, without rows */
    struct engine_poll poll;
    uint64_t running[ENGINE_RUNNING_MAX];
    bool woken;
};

static struct script *script_of(struct engine *engine)
{
    return (struct script *)engine;
}

/* ---- Lines ---- */

struct line {
    char words[LINE_WORDS_MAX][WORD_BYTES];
    size_t count;
    /* the text after it */
    etag_str after;
    /* all after the first word */
    char rest[WORD_BYTES * 2];
};

/* The next line that is not empty; false at the end. */
static bool line_read(etag_str text, struct line *line)
{
    while (text.len > 0) {
        const char *const end = memchr(text.data, '\n', text.len);
        const size_t len = end ? (size_t)(end - text.data) : text.len;
        etag_str rest = str_trim((etag_str){text.data, len});

        line->after = str_skip(text, len + (end ? 1 : 0));
        line->count = 0;
        while (rest.len > 0 && rest.data[0] != '#' && line->count < LINE_WORDS_MAX) {
            const char *const blank = memchr(rest.data, ' ', rest.len);
            const size_t word = blank ? (size_t)(blank - rest.data) : rest.len;
            (void)snprintf(line->words[line->count++], WORD_BYTES, "%.*s", (int)word, rest.data);
            rest = str_trim(str_skip(rest, word));
            if (line->count == 1)
                (void)snprintf(line->rest, sizeof(line->rest), "%.*s", (int)rest.len, rest.data);
        }
        if (line->count > 0)
            return true;
        text = line->after;
    }
    return false;
}

/* The next line, if it begins with this word; it is taken then. */
static bool line_take(struct script *script, const char *word, struct line *line)
{
    if (!line_read(script->left, line) || strcmp(line->words[0], word) != 0)
        return false;
    script->left = line->after;
    return true;
}

/* The value of "name=value"; NULL: this word is of another name. */
static const char *value_of(const char *word, const char *name)
{
    const size_t len = strlen(name);

    return strncmp(word, name, len) == 0 && word[len] == '=' ? word + len + 1 : NULL;
}

static void take_number(const char *word, const char *name, uint64_t *out)
{
    const char *const value = value_of(word, name);

    if (value)
        *out = strtoull(value, NULL, 10);
}

static void take_number32(const char *word, const char *name, uint32_t *out)
{
    uint64_t number = *out;

    take_number(word, name, &number);
    *out = (uint32_t)number;
}

static void take_flag(const char *word, const char *name, bool *out)
{
    uint64_t number = *out;

    take_number(word, name, &number);
    *out = number != 0;
}

struct engine_nonce engine_script_nonce(const char *word)
{
    struct engine_nonce nonce = {{0}};

    memcpy(nonce.bytes, word, strnlen(word, ENGINE_NONCE_BYTES));
    return nonce;
}

static struct engine_nonce witness_of(const char *word)
{
    return engine_script_nonce(strcmp(word, "none") == 0 ? "" : word);
}

static void take_witness(const char *word, bool *there, struct engine_nonce *out)
{
    const char *const value = value_of(word, "witness");

    if (!value)
        return;
    *there = strcmp(value, "none") != 0;
    *out = witness_of(value);
}

static enum engine_membership membership_of(const char *word)
{
    return strcmp(word, "yes") == 0 || strcmp(word, "own") == 0 ? ENGINE_MEMBER
           : strcmp(word, "leaving") == 0                       ? ENGINE_LEAVING
                                                                : ENGINE_NO_MEMBER;
}

static void take_membership(const char *word, enum engine_membership *out)
{
    const char *const value = value_of(word, "member");

    if (value)
        *out = membership_of(value);
}

/* "5,7" */
static size_t positions_of(const char *text, uint64_t *out, size_t max)
{
    size_t count = 0;

    while (*text && count < max) {
        char *end;
        out[count++] = strtoull(text, &end, 10);
        text = *end == ',' ? end + 1 : end;
    }
    return count;
}

/* ---- Answers ---- */

static void poll_take(struct script *script, const struct line *line)
{
    struct engine_poll *const poll = &script->poll;

    for (size_t i = 1; i < line->count; i++) {
        const char *const word = line->words[i];
        const char *const running = value_of(word, "running");
        take_number(word, "system", &poll->origin.system);
        take_number(word, "started", &poll->origin.started_us);
        take_number(word, "timeline", &poll->origin.timeline);
        take_number(word, "database", &poll->origin.database);
        take_witness(word, &poll->witnessed, &poll->witness);
        take_membership(word, &poll->membership);
        take_number(word, "trimmed", &poll->trimmed);
        take_number32(word, "lease", &poll->lease_ms);
        take_number32(word, "wait", &poll->wait_ms);
        take_number(word, "digest", &poll->digest);
        take_flag(word, "broken", &poll->watch_broken);
        take_number(word, "next", &poll->snapshot.next);
        take_number(word, "unassigned", &poll->unassigned);
        take_flag(word, "asked", &poll->asked);
        take_flag(word, "standby", &poll->in_recovery);
        take_flag(word, "cut", &poll->rows_cut);
        if (running)
            poll->snapshot.running_count = positions_of(running, script->running,
                                                        ENGINE_RUNNING_MAX);
    }
}

static etag_str kept(struct arena *arena, const char *text)
{
    const size_t len = strlen(text);
    char *const copy = arena_alloc(arena, len + 1);

    assert(copy);
    memcpy(copy, text, len + 1);
    return (etag_str){copy, len};
}

static struct engine_row row_of(struct arena *arena, const struct line *line)
{
    struct engine_row row = {.position = strtoull(line->words[1], NULL, 10),
                             .targets = {.size = sizeof(etag_targets)}};
    etag_str *const surrogates = arena_array(arena, LINE_WORDS_MAX, sizeof(*surrogates));
    etag_str *const families = arena_array(arena, LINE_WORDS_MAX, sizeof(*families));
    etag_resource *const resources = arena_array(arena, LINE_WORDS_MAX, sizeof(*resources));

    assert(surrogates && families && resources);
    row.targets.surrogates = surrogates;
    row.targets.families = families;
    row.targets.resources = resources;
    for (size_t i = 2; i < line->count; i++) {
        const etag_str name = kept(arena, line->words[i]);
        if (str_equal(name, ETAG_LIT("everything")))
            row.targets.everything = true;
        else if (str_equal(name, ETAG_LIT("unreadable")))
            row.unreadable = "its kind is unknown";
        else if (str_starts_with(name, ETAG_LIT("by:")))
            row.writer = str_skip(name, strlen("by:"));
        else if (name.data[0] == '/')
            resources[row.targets.resource_count++] = (etag_resource){.host = ETAG_LIT("h"),
                                                                      .target = name};
        else if (str_starts_with(name, ETAG_LIT("hold:")))
            row.targets.hold_ms = (uint32_t)strtoul(name.data + strlen("hold:"), NULL, 10);
        else if (str_starts_with(name, ETAG_LIT("family:")))
            families[row.targets.family_count++] = str_skip(name, strlen("family:"));
        else
            surrogates[row.targets.surrogate_count++] = name;
    }
    return row;
}

static void answer_poll(struct script *script, struct arena *arena, struct engine_poll *out)
{
    struct line line;
    const bool given = line_take(script, "poll", &line);

    if (given)
        poll_take(script, &line);
    *out = script->poll;
    if (out->unassigned == 0)
        out->unassigned = out->snapshot.next;
    out->snapshot.running = script->running;
    out->rows = arena_array(arena, ENGINE_ROWS_MAX, sizeof(*out->rows));
    assert(out->rows);
    while (given && line_take(script, "row", &line))
        out->rows[out->row_count++] = row_of(arena, &line);
}

static void answer_join(struct script *script, struct engine_answer *answer)
{
    struct line line;

    answer->join.membership = ENGINE_MEMBER;
    answer->join.lease_ms = script->poll.lease_ms;
    answer->join.wait_ms = script->poll.wait_ms;
    if (!line_take(script, "join", &line))
        return;
    for (size_t i = 1; i < line.count; i++) {
        const char *const nonce = value_of(line.words[i], "nonce");
        take_membership(line.words[i], &answer->join.membership);
        take_flag(line.words[i], "foreign", &answer->join.foreign);
        take_number32(line.words[i], "lease", &answer->join.lease_ms);
        take_number32(line.words[i], "wait", &answer->join.wait_ms);
        if (nonce)
            answer->join.nonce = engine_script_nonce(nonce);
    }
}

static struct engine_member member_of(struct arena *arena, const struct line *line)
{
    uint64_t *const running = arena_array(arena, 16, sizeof(*running));

    assert(line->count >= 5 && running);
    struct engine_member member = {
        .host = kept(arena, line->words[1]),
        .membership = membership_of(line->words[2]),
        .own = strcmp(line->words[2], "own") == 0,
        .acknowledged = line->words[3][0] != '-',
        .witness = witness_of(line->words[3] + (line->words[3][0] == '-')),
        .snapshot = {.next = strtoull(line->words[4], NULL, 10), .running = running},
    };
    if (line->count > 5)
        member.snapshot.running_count = positions_of(line->words[5], running, 16);
    return member;
}

static void answer_members(struct script *script, struct arena *arena, struct engine_members *out)
{
    struct line line;

    out->origin = script->poll.origin;
    out->witnessed = script->poll.witnessed;
    out->witness = script->poll.witness;
    out->wait_ms = script->poll.wait_ms;
    out->members = arena_array(arena, ENGINE_MEMBERS_MAX, sizeof(*out->members));
    assert(out->members);
    if (!line_take(script, "members", &line)) {
        /* As after the script's last word: somebody who never acknowledges. */
        out->members[out->member_count++] = (struct engine_member){.membership = ENGINE_MEMBER};
        return;
    }
    for (size_t i = 1; i < line.count; i++) {
        take_witness(line.words[i], &out->witnessed, &out->witness);
        take_number32(line.words[i], "wait", &out->wait_ms);
        take_flag(line.words[i], "standby", &out->in_recovery);
        take_flag(line.words[i], "cut", &out->members_cut);
    }
    while (line_take(script, "host", &line))
        out->members[out->member_count++] = member_of(arena, &line);
}

static void answer_publish(struct script *script, struct engine_answer *answer)
{
    struct line line;

    answer->publish.position = line_take(script, "publish", &line)
                                   ? strtoull(line.words[1], NULL, 10)
                                   : 1;
}

static void answer_ask(struct script *script, struct arena *arena, struct engine_answer *answer)
{
    struct line line;

    if (line_take(script, "missing", &line))
        answer->ask.missing = kept(arena, line.rest).data;
}

static void answer_trim(struct script *script, struct engine_answer *answer)
{
    struct line line;

    if (line_take(script, "trim", &line))
        answer->trim.removed = strtoull(line.words[1], NULL, 10);
}

static void answer_usual(struct script *script, struct arena *arena, struct engine_answer *answer)
{
    *answer = (struct engine_answer){.op = script->request.op};
    switch (script->request.op) {
    case ENGINE_POLL:
        answer_poll(script, arena, &answer->poll);
        return;
    case ENGINE_JOIN:
        answer_join(script, answer);
        return;
    case ENGINE_PUBLISH:
        answer_publish(script, answer);
        return;
    case ENGINE_ASK:
        answer_ask(script, arena, answer);
        return;
    case ENGINE_TRIM:
        answer_trim(script, answer);
        return;
    case ENGINE_MEMBERS:
        answer_members(script, arena, &answer->members);
        return;
    case ENGINE_LEAVE:
    case ENGINE_GONE:
        answer->leave.found = true;
        answer->leave.nonce = script->request.leave.nonce;
        answer->leave.lease_ms = script->poll.lease_ms;
        answer->leave.wait_ms = script->poll.wait_ms;
        return;
    default:
        return;
    }
}

/* ---- The interface ---- */

int engine_script_from(struct engine **out, etag_str text, struct script_log *log, struct why *why)
{
    struct script *const script = calloc(1, sizeof(*script));

    if (!script)
        return why_set(why, "no memory"), -ENOMEM;
    script->engine.kind = &engine_script;
    script->left = text;
    script->log = log;
    script->poll = (struct engine_poll){
        .origin = {1, 1, 1, 1},
        .witnessed = true,
        .witness = engine_script_nonce("w"),
        .membership = ENGINE_MEMBER,
        .lease_ms = 2000,
        .wait_ms = 2550,
        .snapshot = {.next = 10},
    };
    if (log)
        log->opened++;
    *out = &script->engine;
    return 0;
}

static int script_open(struct engine **out, const struct engine_options *options, struct why *why)
{
    CLEANUP(cleanup_file) FILE *file = fopen(options->connection, "re");
    CLEANUP(cleanup_free) char *text = malloc(SCRIPT_BYTES_MAX);

    if (!file || !text) {
        const int error = errno;
        why_errno(why, "read the script", options->connection);
        return -error;
    }
    const size_t len = fread(text, 1, SCRIPT_BYTES_MAX, file);
    const int r = engine_script_from(out, (etag_str){text, len}, NULL, why);
    if (r == 0)
        script_of(*out)->owned = take_ptr(text);
    return r;
}

static struct engine *script_close(struct engine *engine)
{
    if (engine)
        free(script_of(engine)->owned);
    free(engine);
    return NULL;
}

static int script_fd(const struct engine *engine)
{
    return -1;
}

static short script_events(const struct engine *engine)
{
    return 0;
}

static int script_timeout_ms(const struct engine *engine)
{
    const struct script *const script = (const struct script *)engine;

    return script->under_way && !script->hangs ? 1 : -1;
}

static int script_dispatch(struct engine *engine, struct why *why)
{
    struct script *const script = script_of(engine);
    struct line line;

    if (!script->open && line_take(script, "closed", &line)) {
        why_set(why, "%s", line.rest);
        return -ECONNREFUSED;
    }
    script->open = true;
    return 0;
}

static bool script_ready(const struct engine *engine)
{
    return ((const struct script *)engine)->open;
}

static void script_note(struct script *script, const struct engine_request *request)
{
    struct script_log *const log = script->log;

    if (!log)
        return;
    const uint64_t called_ns = time_coarse_ns();
    while (log->start_takes_time && time_coarse_ns() == called_ns) {
    }
    assert(log->count < SCRIPT_SEEN_MAX);
    struct script_seen *const seen = &log->seen[log->count++];
    *seen = (struct script_seen){.op = request->op,
                                 .begun_ns = time_coarse_ns(),
                                 .begun_fine_ns = time_ns_of(CLOCK_MONOTONIC)};
    if (request->op == ENGINE_POLL && request->poll.cursor) {
        seen->cursor = true;
        seen->cursor_next = request->poll.cursor->next;
    } else if (request->op == ENGINE_ACKNOWLEDGE) {
        seen->position = request->acknowledge.snapshot->next;
        seen->witness = request->acknowledge.witness;
    } else if (request->op == ENGINE_ASK) {
        seen->position = request->ask.position;
        seen->ask = !request->ask.look_only;
        seen->wake = request->ask.wake;
    } else if (request->op == ENGINE_PUBLISH) {
        seen->ask = request->publish.ask;
        seen->wake = request->publish.wake;
        seen->names = targets_names(request->publish.targets);
    }
}

static const char *op_word(enum engine_op op)
{
    return op == ENGINE_POLL ? "poll" : op == ENGINE_MEMBERS ? "members" : "";
}

static int script_start(struct engine *engine, const struct engine_request *request,
                        struct why *why)
{
    struct script *const script = script_of(engine);
    struct line line;

    assert(script->open && !script->under_way);
    script_note(script, request);
    script->request = *request;
    script->under_way = true;
    script->not_before_ns = 0;
    while (line_take(script, "wake", &line))
        script->woken = true;
    if (line_read(script->left, &line) && strcmp(line.words[0], "late") == 0 &&
        (line.count < 3 || strcmp(line.words[2], op_word(request->op)) == 0)) {
        script->not_before_ns = time_coarse_ns() + strtoull(line.words[1], NULL, 10) * NS_PER_MS;
        script->left = line.after;
    }
    script->hangs = line_take(script, "hang", &line);
    return 0;
}

static int script_finish(struct engine *engine, struct arena *arena, struct engine_answer *answer,
                         struct why *why)
{
    struct script *const script = script_of(engine);
    struct line line;

    assert(script->under_way);
    if (script->hangs || time_coarse_ns() < script->not_before_ns)
        return ENGINE_E_AGAIN;
    script->under_way = false;
    if (line_take(script, "busy", &line))
        return ENGINE_E_BUSY;
    if (line_take(script, "fail", &line)) {
        why_set(why, "%s", line.rest);
        return -ECONNRESET;
    }
    if (line_take(script, "refuse", &line)) {
        why_set(why, "%s", line.rest);
        return ENGINE_E_REFUSED;
    }
    answer_usual(script, arena, answer);
    return 0;
}

static bool script_woken(struct engine *engine)
{
    struct script *const script = script_of(engine);
    const bool woken = script->woken;

    script->woken = false;
    return woken;
}

const struct engine_kind engine_script = {
    .name = "script",
    .open = script_open,
    .close = script_close,
    .fd = script_fd,
    .events = script_events,
    .timeout_ms = script_timeout_ms,
    .dispatch = script_dispatch,
    .ready = script_ready,
    .start = script_start,
    .finish = script_finish,
    .woken = script_woken,
};
