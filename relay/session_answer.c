/* SPDX-License-Identifier: Apache-2.0 */
/* One function an operation: what its answer changes. */
#include "session_answer.h"

#include "clocktime.h"
#include "numbers.h"

#include <string.h>

/* ---- Registered ---- */

static void settings_take(struct session *session, uint32_t lease_ms, uint32_t wait_ms)
{
    if (!setting_is_sound(lease_ms, wait_ms) &&
        (lease_ms != session->lease_ms || wait_ms != session->wait_ms))
        log_event(session->log, LOG_ERROR, "settings_unsound", log_number("lease_ms", lease_ms),
                  log_number("wait_ms", wait_ms),
                  log_number("wait_ms_least", setting_wait_ms(lease_ms)),
                  log_text("do", "etag-relay setup writes both"));
    session->lease_ms = session->figures.lease_ms = lease_ms;
    session->wait_ms = wait_ms;
}

/* Somebody else registers under our name. At our start that is most likely this host before its
 * last boot; later it is another host, and the two must not put each other out in turn. */
static void name_is_foreign(struct session *session, const struct engine_nonce *nonce)
{
    session->foreign = *nonce;
    session->registration = REGISTRATION_FOREIGN;
    log_event(session->log, session->was_registered ? LOG_ERROR : LOG_WARN, "host_name_taken",
              log_str("host", session->options->engine.host),
              log_text("do", session->was_registered
                                 ? "give each host a name of its own (option host)"
                                 : "its former registration is put out first"));
    if (!session->was_registered)
        return;
    session->was_registered = false;
    session->registration = REGISTRATION_NONE;
    session->displaced_until_ns = time_ns_of(CLOCK_MONOTONIC) + DISPLACED_MS * NS_PER_MS;
}

static void joined(struct session *session, const struct engine_answer *answer)
{
    settings_take(session, answer->join.lease_ms, answer->join.wait_ms);
    if (answer->join.foreign) {
        name_is_foreign(session, &answer->join.nonce);
        return;
    }
    session->registration = REGISTRATION_DONE;
    session->was_registered = true;
    log_event(session->log, LOG_INFO, "registered", log_str("host", session->options->engine.host),
              log_number("lease_ms", session->lease_ms), log_number("wait_ms", session->wait_ms));
}

/* Its lease may run yet: rule LEAVING_WAIT. The clock is read when "leaving" is committed. */
static void foreign_leaves(struct session *session, const struct engine_answer *answer)
{
    session->leaving_ns = time_coarse_ns();
    settings_take(session, answer->leave.lease_ms, answer->leave.wait_ms);
    session->foreign = answer->leave.nonce;
    session->registration = answer->leave.found ? REGISTRATION_LEAVING : REGISTRATION_NONE;
}

/* ---- Polled ---- */

/* Being put out takes its time: then we register again. */
static void membership_take(struct session *session, const struct engine_poll *poll)
{
    session->figures.member = poll_shows_member(poll);
    if (poll->membership == ENGINE_NO_MEMBER && session->registration == REGISTRATION_DONE)
        session->registration = REGISTRATION_NONE;
}

static void watch_take(struct session *session, const struct engine_poll *poll)
{
    if (poll->watch_broken == session->figures.watch_broken)
        return;
    session->figures.watch_broken = poll->watch_broken;
    if (poll->watch_broken)
        log_event(session->log, LOG_WARN, "watch_broken",
                  log_text("do", "each batch raises everything until it is mended: etag-relay "
                                 "status says which table"));
    else
        log_event(session->log, LOG_INFO, "watch_mended");
}

static bool flight_send(struct session *session, const struct engine_poll *poll,
                        enum relay_reason everything, bool counts)
{
    uint8_t bytes[CURSOR_BYTES_MAX];
    const struct session_batch batch = {
        .t0_ns = session->t0_ns,
        .rows = poll->rows,
        .row_count = poll->row_count,
        .everything = everything,
        .cursor = {(const char *)bytes, cursor_pack(&session->flight.cursor, bytes)},
        .member = counts,
        .l_net_ms = poll->lease_ms,
    };

    if (!session->daemon.batch(session->daemon.ctx, &batch))
        return false;
    session->figures.everything[everything]++;
    figures_batch(&session->figures, batch.row_count);
    /* Each batch: said when it begins. */
    if (everything != RELAY_REASON_NONE && everything != RELAY_REASON_WATCH_BROKEN)
        log_event(session->log, LOG_WARN, "everything",
                  log_text("reason", relay_reason_word(everything)));
    return true;
}

static void flight_begin(struct session *session, const struct engine_poll *poll,
                         const struct relay_verdict *verdict)
{
    struct session_flight *const flight = &session->flight;

    if (cursor_set(&flight->cursor, poll) < 0)
        return;
    flight->sent_ns = time_ns_of(CLOCK_MONOTONIC);
    struct engine_poll rowless = *poll;
    rowless.row_count = 0;
    if (!flight_send(session, poll, verdict->everything, verdict->counts) &&
        (!session->daemon_ready ||
         !flight_send(session, &rowless, RELAY_REASON_ROWS_CUT, verdict->counts))) {
        cursor_deinit(&flight->cursor);
        return;
    }
    flight->there = true;
    flight->asked = poll->asked;
    flight->counts = verdict->counts;
    flight->t0_ns = session->t0_ns;
    flight->begun_ns = session->op_begun_ns;
}

/* Rule HOLDS_STAY: "everything" covers what the rows name, not for how long it stays unknown.
 * What was refused may be one of them. */
static size_t rows_that_hold(struct engine_row *rows, size_t count, enum relay_reason everything)
{
    size_t held = 0;

    for (size_t i = 0; everything != RELAY_REASON_REFUSED && i < count; i++)
        if (!rows[i].unreadable && rows[i].targets.hold_ms > 0)
            rows[held++] = rows[i];
    return held;
}

/* Rule OWN_ROWS: the daemon has applied and recorded them. Where everything is raised the numbers
 * may mean other transactions by now. */
static void own_rows_take(struct session *session, struct engine_poll *poll,
                          enum relay_reason everything)
{
    if (everything != RELAY_REASON_NONE) {
        own_rows_forget(&session->own_rows);
        poll->row_count = rows_that_hold(poll->rows, poll->row_count, everything);
        return;
    }
    const size_t others = own_rows_leave_out(&session->own_rows, poll->rows, poll->row_count);
    session->figures.own_rows += poll->row_count - others;
    poll->row_count = others;
}

static void polled(struct session *session, const struct engine_poll *poll)
{
    session->figures.polls++;
    histogram_add(&session->figures.poll_ns, time_ns_of(CLOCK_MONOTONIC) - session->op_begun_ns);
    /* Rule BATCH_BINDING: asked with the cursor of a connection that has ended. */
    if (!session->daemon_ready || session->poll_of_daemon != session->daemon_number)
        return;
    struct relay_verdict verdict = relay_judge(&session->cursor, session->cursor_unreadable, poll);
    if (!verdict.batch) {
        session->figures.polls_of_standby++;
        session->leave_server = true;
        return;
    }
    /* Rule REFUSED_IS_EVERYTHING: the same batch again would be refused again, for ever. */
    if (session->batch_refused && verdict.everything == RELAY_REASON_NONE)
        verdict.everything = RELAY_REASON_REFUSED;
    if (!poll_has_written(poll, session->written)) {
        session->written = 0; /* noticed */
        if (verdict.everything == RELAY_REASON_NONE)
            verdict.everything = RELAY_REASON_WENT_BACK;
        session->registration = REGISTRATION_NONE;
    }
    struct engine_poll kept = *poll;
    own_rows_take(session, &kept, verdict.everything);
    settings_take(session, poll->lease_ms, poll->wait_ms);
    membership_take(session, poll);
    watch_take(session, poll);
    session->figures.rows += poll->row_count;
    session->figures.polls_not_counted += !verdict.counts;
    /* The witness is made when a host registers. Rule LOSS_IS_TOLD: who sees that history was lost
     * is not who has missed something of it, so the others need to see it too: a new witness. */
    if (!poll->witnessed || verdict.everything == RELAY_REASON_WENT_BACK)
        session->registration = REGISTRATION_NONE;
    flight_begin(session, &kept, &verdict);
}

/* ---- Published, and everywhere? ---- */

static void tell(struct session *session, const struct publication *publication,
                 enum relay_outcome outcome, const char *text)
{
    const struct session_outcome answer = {
        .token = publication->token,
        .outcome = outcome,
        .position = publication->position,
        .text = text,
    };

    session->daemon.done(session->daemon.ctx, &answer);
}

/* Where this host has to acknowledge, the next poll is the one by which it does: before that no
 * look is needed. */
static void wait_begin(struct session *session, struct publication *publication)
{
    publication->step = PUBLICATION_WAITING;
    publication->look_every_ns = LOOK_EVERY_NS_MIN;
    publication->look_due_ns = time_ns_of(CLOCK_MONOTONIC) +
                               (publication->here ? LOOK_HERE_NS : LOOK_FIRST_NS);
    if (!publication->here)
        session->poll_due_ns = 0;
}

static void look_soon(struct session *session)
{
    const uint64_t due_ns = time_ns_of(CLOCK_MONOTONIC) + LOOK_AFTER_NS;

    for (size_t i = 0; session->publications.count > 0 && i < PUBLICATIONS_MAX; i++)
        session->publications.table[i].look_due_ns = min_of(
            session->publications.table[i].look_due_ns, due_ns);
}

/* It is visible to all: T is read now, and members after it. */
static void logged(struct session *session, struct publication *publication)
{
    publication->t_ns = time_coarse_ns();
    publication->t_fine_ns = time_ns_of(CLOCK_MONOTONIC);
    tell(session, publication, RELAY_LOGGED, NULL);
    if (publication->everywhere)
        wait_begin(session, publication);
    else
        publication_free(&session->publications, publication);
}

/* What there is to read is committed. */
static void woke_along(struct session *session)
{
    session->wake_due = !session->wakes_along;
    session->figures.wakes += session->wakes_along;
}

static void published(struct session *session, uint64_t position)
{
    struct publication *const publication = session->published;

    session->figures.published++;
    woke_along(session);
    session->written = max_of(session->written, position);
    if (!publication) /* its daemon has gone meanwhile */
        return;
    publication->position = position;
    /* "Everything" is not left out: it covers events that this host may have forgotten too. */
    publication->here = !publication->targets.everything;
    if (publication->here)
        own_rows_add(&session->own_rows, position);
    logged(session, publication);
}

/* The clock is read when the event is seen to be there, whatever its writer said before. */
static void asked(struct session *session, const char *missing)
{
    struct publication *const publication = session->published;

    if (!missing)
        woke_along(session);
    if (!publication)
        return;
    if (!missing) {
        logged(session, publication);
        return;
    }
    session->figures.refused++;
    tell(session, publication, RELAY_REFUSED, missing);
    publication_free(&session->publications, publication);
}

/* Members and wait_ms were read after T (session->looked_ns is before that reading). */
static bool everywhere_proved(struct session *session, struct publication *publication,
                              const struct engine_members *members)
{
    const uint64_t now_ns = time_coarse_ns();

    if (publication->t_fine_ns > session->looked_ns)
        return false;
    if (everywhere_by_acknowledgements(members, publication->position, publication->here)) {
        session->figures.everywhere_acknowledged++;
        histogram_add(&session->figures.everywhere_ns, now_ns - publication->begun_ns);
        tell(session, publication, RELAY_ACKNOWLEDGED, NULL);
        return true;
    }
    if (members->in_recovery || !everywhere_by_time(publication->t_ns, members->wait_ms, now_ns))
        return false;
    session->figures.everywhere_by_time++;
    tell(session, publication, RELAY_BY_TIME, NULL);
    return true;
}

/* When time proves it, at the latest; from then on often, as the coarse clock lags. */
static void look_again(struct publication *publication, uint32_t wait_ms)
{
    const uint64_t now_ns = time_ns_of(CLOCK_MONOTONIC);
    const uint64_t over_ns = publication->t_fine_ns + wait_ms * NS_PER_MS;

    publication->look_due_ns = now_ns < over_ns
                                   ? min_of(now_ns + publication->look_every_ns, over_ns)
                                   : now_ns + LOOK_FIRST_NS;
    publication->look_every_ns = min_of(publication->look_every_ns + publication->look_every_ns / 2,
                                        LOOK_EVERY_NS_MAX);
}

static void looked(struct session *session, const struct engine_members *members)
{
    for (size_t i = 0; i < PUBLICATIONS_MAX; i++) {
        struct publication *const one = &session->publications.table[i];
        if (one->step != PUBLICATION_WAITING)
            continue;
        if (everywhere_proved(session, one, members)) {
            publication_free(&session->publications, one);
            continue;
        }
        look_again(one, members->wait_ms);
    }
}

/* ---- All ---- */

void session_answered(struct session *session, enum engine_op op,
                      const struct engine_answer *answer)
{
    switch (op) {
    case ENGINE_JOIN:
        joined(session, answer);
        break;
    case ENGINE_LEAVE:
        foreign_leaves(session, answer);
        break;
    case ENGINE_GONE:
        session->registration = REGISTRATION_NONE;
        break;
    case ENGINE_POLL:
        polled(session, &answer->poll);
        break;
    case ENGINE_PUBLISH:
        published(session, answer->publish.position);
        break;
    case ENGINE_ASK:
        asked(session, answer->ask.missing);
        break;
    case ENGINE_MEMBERS:
        looked(session, &answer->members);
        break;
    case ENGINE_ACKNOWLEDGE:
        session->figures.acknowledged++;
        histogram_add(&session->figures.acknowledge_ns,
                      time_ns_of(CLOCK_MONOTONIC) - session->acknowledge_begun_ns);
        look_soon(session);
        break;
    case ENGINE_WAKE:
        session->figures.wakes++;
        break;
    case ENGINE_TRIM:
        session->figures.trimmed += answer->trim.removed;
        if (answer->trim.removed >= ENGINE_TRIM_ROWS_MAX)
            session->trim_due_ns = time_ns_of(CLOCK_MONOTONIC) + TRIM_AGAIN_MS * NS_PER_MS;
        break;
    case ENGINE_NONE:
        break;
    }
}

/* A publication that is refused is the daemon's to report. All else is tried again when it is due.
 */
void session_refused(struct session *session, enum engine_op op, const struct why *why)
{
    struct publication *const publication = session->published;

    if ((op == ENGINE_PUBLISH || op == ENGINE_ASK) && publication) {
        session->figures.refused++;
        tell(session, publication, RELAY_REFUSED, why->text);
        publication_free(&session->publications, publication);
    }
    if (op == ENGINE_JOIN || op == ENGINE_LEAVE || op == ENGINE_GONE)
        session->leave_server = true;
}
