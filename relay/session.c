/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One operation of the engine at a time, and after each the question what is due next, most urgent
 * first: to be registered, to acknowledge what others wait for, to poll, to put this host's
 * mutations into the outbox, to look whether they are everywhere. A turn ends when nothing is due,
 * or the engine has to be waited for.
 *
 * What an answer means is in session_answer.c.
 */
#include "session_answer.h"

#include "clocktime.h"
#include "numbers.h"

#include <assert.h>

#define OPERATIONS_PER_TURN_MAX 64
#define ANSWER_BYTES_MAX (8u << 20)

static uint64_t now_fine_ns(void)
{
    return time_ns_of(CLOCK_MONOTONIC);
}

void session_init(struct session *session, const struct session_options *options,
                  const struct session_daemon *daemon, const struct log *log)
{
    *session = (struct session){.options = options, .daemon = *daemon, .log = log};
    figures_init(&session->figures);
    arena_init(&session->arena, ANSWER_BYTES_MAX);
    session->trim_due_ns = now_fine_ns() + TRIM_EVERY_MS * NS_PER_MS;
}

void session_deinit(struct session *session)
{
    if (session->engine)
        session->engine = session->engine->kind->close(session->engine);
    cursor_deinit(&session->cursor);
    cursor_deinit(&session->flight.cursor);
    publications_deinit(&session->publications);
    arena_deinit(&session->arena);
}

/* ---- The connection to the engine ---- */

/* Whatever was under way: nothing is known of it. Registered or not is asked again. */
static void engine_failed(struct session *session, const char *doing, const struct why *why)
{
    if (session->engine)
        session->engine = session->engine->kind->close(session->engine);
    session->ready = session->figures.engine_ready = false;
    session->under_way = ENGINE_NONE;
    session->published = NULL;
    session->registration = REGISTRATION_NONE;
    session->reopen_ms = session->reopen_ms == 0
                             ? ENGINE_REOPEN_MS_MIN
                             : min_of(2 * session->reopen_ms, ENGINE_REOPEN_MS_MAX);
    session->reopen_ns = now_fine_ns() + session->reopen_ms * NS_PER_MS;
    session->figures.engine_failed++;
    log_event(session->log, LOG_WARN, "database_lost", log_text("doing", doing),
              log_text("why", why->text), log_number("again_in_ms", session->reopen_ms));
}

static void engine_open(struct session *session)
{
    const struct session_options *const options = session->options;
    struct why why = {""};

    session->op_begun_ns = now_fine_ns();
    session->figures.engine_opened++;
    if (options->kind->open(&session->engine, &options->engine, &why) < 0) {
        session->engine = NULL;
        engine_failed(session, "open", &why);
    }
}

static const char *op_word(enum engine_op op)
{
    static const char *const words[] = {
        [ENGINE_NONE] = "open",       [ENGINE_POLL] = "poll",
        [ENGINE_JOIN] = "join",       [ENGINE_PUBLISH] = "publish",
        [ENGINE_WAKE] = "wake",       [ENGINE_ASK] = "ask",
        [ENGINE_MEMBERS] = "members", [ENGINE_ACKNOWLEDGE] = "acknowledge",
        [ENGINE_TRIM] = "trim",       [ENGINE_LEAVE] = "leave",
        [ENGINE_GONE] = "gone",
    };

    return words[op];
}

static uint64_t engine_deadline_ns(const struct session *session)
{
    const uint64_t ms = session->ready ? max_of(session->lease_ms, ENGINE_OP_MS_MIN)
                                       : ENGINE_OPEN_MS_MAX;

    return session->op_begun_ns + ms * NS_PER_MS;
}

/* A server that does not answer may be one that is no longer the primary: ask for another. */
static bool engine_is_late(struct session *session)
{
    struct why why;
    const bool waits = !session->ready || session->under_way != ENGINE_NONE;

    if (!waits || now_fine_ns() < engine_deadline_ns(session))
        return false;
    why_set(&why, "no answer from the database in %llu ms: is it reachable, and the primary?",
            (unsigned long long)((now_fine_ns() - session->op_begun_ns) / NS_PER_MS));
    engine_failed(session, op_word(session->under_way), &why);
    return true;
}

/* False: there is none that can be asked now. */
static bool engine_serve(struct session *session)
{
    struct why why = {""};

    if (!session->engine && now_fine_ns() >= session->reopen_ns)
        engine_open(session);
    if (!session->engine || engine_is_late(session))
        return false;
    if (session->engine->kind->dispatch(session->engine, &why) < 0) {
        engine_failed(session, op_word(session->under_way), &why);
        return false;
    }
    if (!session->ready && session->engine->kind->ready(session->engine)) {
        session->ready = session->figures.engine_ready = true;
        log_event(session->log, LOG_INFO, "database_connected",
                  log_text("engine", session->options->kind->name));
    }
    if (session->ready && session->engine->kind->woken(session->engine))
        session_woken(session);
    return session->ready;
}

/* ---- What is due ---- */

/* Rule REGISTER: a host's row is committed before its first poll. */
static bool registration_due(const struct session *session, struct engine_request *request)
{
    const struct engine_options *const own = &session->options->engine;

    switch (session->registration) {
    case REGISTRATION_NONE:
        request->op = now_fine_ns() < session->displaced_until_ns ? ENGINE_NONE : ENGINE_JOIN;
        break;
    case REGISTRATION_FOREIGN:
        request->op = ENGINE_LEAVE;
        break;
    case REGISTRATION_LEAVING: /* rule LEAVING_WAIT */
        request->op = leaving_is_over(session->leaving_ns, session->wait_ms, time_coarse_ns())
                          ? ENGINE_GONE
                          : ENGINE_NONE;
        break;
    case REGISTRATION_DONE:
        return false;
    }
    request->leave.host = own->host;
    request->leave.nonce = session->foreign;
    return true;
}

/* Rule ACK_AFTER_SETTLED: what is acknowledged is the daemon's cursor, never what was merely read.
 */
static bool acknowledge_due(const struct session *session, struct engine_request *request)
{
    if (!session->acknowledge_due || !session->cursor.there || !session->cursor.witnessed)
        return false;
    *request = (struct engine_request){
        .op = ENGINE_ACKNOWLEDGE,
        .acknowledge = {.snapshot = &session->cursor.snapshot, .witness = session->cursor.witness},
    };
    return true;
}

/* Rule CURSOR_OF_DAEMON: asked with what the daemon has settled, and not before it has said what
 * that is, nor while a batch is on its way. */
static bool poll_due(const struct session *session, struct engine_request *request)
{
    if (!session->daemon_ready || session->flight.there || now_fine_ns() < session->poll_due_ns)
        return false;
    *request = (struct engine_request){
        .op = ENGINE_POLL,
        .poll = {.cursor = session->cursor.there ? &session->cursor.snapshot : NULL,
                 .written = session->written},
    };
    return true;
}

/* In the transaction of what there is to read. Rule WAKE_PROVES_NOTHING: as often as apart. */
static bool wakes_along(const struct session *session)
{
    const uint64_t now_ns = now_fine_ns();

    return now_ns >= session->wake_not_before_ns && now_ns >= session->wake_along_not_before_ns;
}

static bool publish_due(struct session *session, struct engine_request *request)
{
    struct publication *const asks = publication_first(&session->publications, PUBLICATION_TO_ASK);
    struct publication *const logs = publication_first(&session->publications, PUBLICATION_TO_LOG);

    session->published = asks ? asks : logs;
    if (!session->published)
        return false;
    if (asks)
        *request = (struct engine_request){
            .op = ENGINE_ASK,
            .ask = {.position = asks->position,
                    .look_only = !asks->everywhere,
                    .wake = asks->everywhere && wakes_along(session)},
        };
    else
        *request = (struct engine_request){
            .op = ENGINE_PUBLISH,
            .publish = {.targets = &logs->targets,
                        .ask = logs->everywhere,
                        .wake = wakes_along(session)},
        };
    return true;
}

/* When the next look at the members is due; UINT64_MAX: no writer waits. */
static uint64_t look_due_ns(const struct session *session)
{
    uint64_t due_ns = UINT64_MAX;

    for (size_t i = 0; session->publications.count > 0 && i < PUBLICATIONS_MAX; i++) {
        const struct publication *const one = &session->publications.table[i];
        if (one->step == PUBLICATION_WAITING)
            due_ns = min_of(due_ns, one->look_due_ns);
    }
    return due_ns;
}

static bool members_due(const struct session *session, struct engine_request *request)
{
    request->op = ENGINE_MEMBERS;
    return now_fine_ns() >= look_due_ns(session);
}

/* At most every WAKE_EVERY_MS: a notification takes a lock of the whole server at its COMMIT. */
static bool wake_due(const struct session *session, struct engine_request *request)
{
    request->op = ENGINE_WAKE;
    return session->wake_due && now_fine_ns() >= session->wake_not_before_ns;
}

static bool trim_due(const struct session *session, struct engine_request *request)
{
    *request = (struct engine_request){.op = ENGINE_TRIM,
                                       .trim.retention_ms = session->options->retention_ms};
    return now_fine_ns() >= session->trim_due_ns;
}

static bool session_next(struct session *session, struct engine_request *request)
{
    *request = (struct engine_request){0};
    if (registration_due(session, request))
        return request->op != ENGINE_NONE;
    /* Others wait to be woken: before our own looks at whether they have read. */
    return acknowledge_due(session, request) || wake_due(session, request) ||
           poll_due(session, request) || members_due(session, request) ||
           publish_due(session, request) || trim_due(session, request);
}

/* ---- A turn ---- */

/* Rule FRESH_BEFORE_POLL: t0 is read before the poll is sent. What commits after t0 may be missing
 * in the answer, and what the answer is good for is counted from t0. */
static void poll_begin(struct session *session)
{
    session->poll_of_daemon = session->daemon_number;
    session->poll_due_ns = now_fine_ns() + session->lease_ms * NS_PER_MS / POLLS_PER_LEASE;
    session->t0_ns = time_coarse_ns();
}

static int session_start(struct session *session, const struct engine_request *request,
                         struct why *why)
{
    session->op_begun_ns = now_fine_ns();
    session->under_way = request->op;
    if (request->op == ENGINE_POLL)
        poll_begin(session);
    if (request->op == ENGINE_MEMBERS)
        session->looked_ns = now_fine_ns();
    session->wakes_along = (request->op == ENGINE_PUBLISH && request->publish.wake) ||
                           (request->op == ENGINE_ASK && request->ask.wake);
    if (request->op == ENGINE_WAKE || session->wakes_along)
        session->wake_not_before_ns = now_fine_ns() + WAKE_EVERY_MS * NS_PER_MS;
    if (request->op == ENGINE_WAKE)
        session->wake_due = false;
    if (request->op == ENGINE_TRIM)
        session->trim_due_ns = now_fine_ns() + TRIM_EVERY_MS * NS_PER_MS;
    if (request->op == ENGINE_ACKNOWLEDGE)
        session->acknowledge_due = false;
    return session->engine->kind->start(session->engine, request, why);
}

/* False: it is not over, or the connection is. */
static bool session_finish(struct session *session, int r, struct why *why)
{
    struct engine_answer answer = {0};
    const enum engine_op op = session->under_way;

    if (r == 0)
        r = session->engine->kind->finish(session->engine, &session->arena, &answer, why);
    if (r == ENGINE_E_AGAIN)
        return false;
    if (r < 0) {
        engine_failed(session, op_word(op), why);
        return false;
    }
    session->under_way = ENGINE_NONE;
    if (r == ENGINE_E_BUSY) {
        session->wake_along_not_before_ns = now_fine_ns() + WAKE_APART_MS * NS_PER_MS;
    } else if (r == ENGINE_E_REFUSED) {
        log_event(session->log, LOG_WARN, "database_refused", log_text("doing", op_word(op)),
                  log_text("why", why->text));
        session_refused(session, op, why);
    } else {
        session->reopen_ms = 0;
        session_answered(session, op, &answer);
    }
    session->published = NULL;
    arena_reset(&session->arena);
    /* A standby: another server may be the primary by now. */
    if (!session->leave_server)
        return true;
    session->leave_server = false;
    why_set(why, "a standby answered: the connection string has to lead to the primary "
                 "(target_session_attrs=read-write)");
    engine_failed(session, op_word(op), why);
    return false;
}

void session_turn(struct session *session)
{
    struct engine_request request;
    struct why why = {""};

    session->figures.publications = session->publications.count;
    for (unsigned i = 0; i < OPERATIONS_PER_TURN_MAX && engine_serve(session); i++) {
        int r = 0;
        if (session->under_way == ENGINE_NONE) {
            if (!session_next(session, &request))
                return;
            r = session_start(session, &request, &why);
        }
        if (!session_finish(session, r, &why))
            return;
    }
}

static uint64_t registration_due_ns(const struct session *session)
{
    if (session->registration == REGISTRATION_LEAVING) {
        const uint64_t over_ns = session->leaving_ns + session->wait_ms * NS_PER_MS;
        const uint64_t coarse_ns = time_coarse_ns();
        return now_fine_ns() + (over_ns > coarse_ns ? over_ns - coarse_ns : 0);
    }
    return session->displaced_until_ns;
}

/* With the engine idle: when something is due by itself. */
static uint64_t idle_due_ns(const struct session *session)
{
    if (session->registration != REGISTRATION_DONE)
        return registration_due_ns(session);
    uint64_t due_ns = min_of(session->trim_due_ns, look_due_ns(session));
    if (session->daemon_ready && !session->flight.there)
        due_ns = min_of(due_ns, session->poll_due_ns);
    return session->wake_due ? min_of(due_ns, session->wake_not_before_ns) : due_ns;
}

uint64_t session_timeout_ns(const struct session *session)
{
    const uint64_t now_ns = now_fine_ns();
    uint64_t due_ns = session->reopen_ns;

    if (session->engine && session->ready && session->under_way == ENGINE_NONE)
        due_ns = idle_due_ns(session);
    else if (session->engine) {
        const int ms = session->engine->kind->timeout_ms(session->engine);
        due_ns = engine_deadline_ns(session);
        if (ms >= 0)
            due_ns = min_of(due_ns, now_ns + (uint64_t)ms * NS_PER_MS);
    }
    return due_ns > now_ns ? due_ns - now_ns : 0;
}

/* ---- From the daemon ---- */

void session_daemon_ready(struct session *session, etag_str cursor, bool of_this_engine)
{
    session_daemon_lost(session);
    session->daemon_ready = session->figures.daemon_ready = true;
    session->poll_due_ns = 0;
    /* What another engine wrote, or another release, is as good as none. */
    session->cursor_unreadable = !of_this_engine && cursor.len > 0;
    if (of_this_engine && cursor_unpack(&session->cursor, cursor) < 0)
        session->cursor_unreadable = true;
}

void session_daemon_lost(struct session *session)
{
    session->daemon_ready = session->figures.daemon_ready = false;
    session->daemon_number++;
    session->acknowledge_due = false;
    cursor_deinit(&session->cursor);
    cursor_deinit(&session->flight.cursor);
    session->flight = (struct session_flight){0};
    own_rows_forget(&session->own_rows);
    publications_deinit(&session->publications);
    session->published = NULL;
}

void session_batch_refused(struct session *session)
{
    session->batch_refused = session->flight.there;
}

void session_settled(struct session *session)
{
    struct session_flight *const flight = &session->flight;
    const uint64_t now_ns = now_fine_ns();

    if (!flight->there)
        return;
    cursor_deinit(&session->cursor);
    session->cursor = flight->cursor;
    own_rows_settled(&session->own_rows, &session->cursor.snapshot);
    session->cursor_unreadable = session->batch_refused = false;
    session->figures.batches++;
    histogram_add(&session->figures.settle_ns, now_ns - flight->sent_ns);
    if (flight->counts)
        figures_fresh(&session->figures, flight->t0_ns, time_coarse_ns());
    if (flight->asked) {
        session->acknowledge_due = true;
        session->acknowledge_begun_ns = flight->begun_ns;
    }
    *flight = (struct session_flight){0};
}

/* Rule WAKE_PROVES_NOTHING: it makes the next poll due, and does nothing else. */
void session_woken(struct session *session)
{
    session->figures.woken++;
    session->poll_due_ns = 0;
}

/* A position: its writer says that the transaction is committed, the event is in the outbox. This
 * host reads it at once, and the others hear that there is something to read. Rule POSITION_SEEN:
 * only when the engine shows the event its writer is answered so. Those whose acknowledgements are
 * wanted hear of it once they have been asked. */
bool session_publish(struct session *session, uint64_t token, const etag_targets *targets)
{
    const bool everywhere = targets->reach == ETAG_REACH_EVERYWHERE;

    if (targets->position != 0 && !everywhere) {
        session->poll_due_ns = 0;
        session->wake_due = true;
    }
    if (targets->position != 0 && targets->reach == ETAG_REACH_HOST)
        return true; /* no writer waits */
    struct publication *const one = publication_new(&session->publications, token, targets);
    if (!one) {
        log_event(session->log, LOG_WARN, "too_many_publications",
                  log_number("count", session->publications.count));
        return false;
    }
    one->everywhere = everywhere;
    one->begun_ns = time_coarse_ns();
    one->position = targets->position;
    if (targets->position != 0)
        one->step = PUBLICATION_TO_ASK;
    return true;
}
