/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One path for every change, so that spool files, guards, holds and the daemon's own mutations get
 * the same as an invalidation over the socket: a new LSN, a record before the answer, a message to
 * watchers.
 *
 * step_of() decides first what a request has to change, since a step of a guard may change nothing.
 */
#include "mutation.h"

#include "clocktime.h"
#include "delay_point.h"
#include "server.h"
#include "targets.h"
#include "text.h"

#include <assert.h>
#include <string.h>

static const struct mutation_refusal done = {0};

/* The writer of the daemon's own mutations. */
static const struct mutation_from no_writer = {0};

static struct event own_event(enum event_kind kind, bool everything)
{
    struct event event = {.kind = kind};

    ETAG_INIT(&event.targets);
    event.targets.everything = everything;
    return event;
}

/* ---- Answers ---- */

static void answer_peer(struct server *server, const struct pending_answer *answer, bool failed)
{
    struct peer *peer = peers_find(&server->peers, answer->peer_id);
    const struct reply reply = {.id = answer->request_id,
                                .kind = REPLY_RECEIPT,
                                .receipt = {.lsn = answer->lsn,
                                            .reach = ETAG_REACH_HOST,
                                            .proof = ETAG_PROOF_DAEMON,
                                            .more = answer->more}};

    if (!peer)
        return;
    if (!failed) {
        peer_send(&server->peers, peer, &reply, NULL, 0);
        histogram_add(&server->mutation_times, time_ns_of(CLOCK_MONOTONIC) - answer->arrived_ns);
        return;
    }
    peer_send_error(&server->peers, peer, answer->request_id, WIRE_ERROR_STORE,
                    "the event took effect, but it could not be persisted, and the state could "
                    "not be marked either: see the daemon's log before you restart it");
}

static void answer_give(struct server *server, const struct pending_answer *answer, bool failed)
{
    switch (answer->to) {
    case ANSWER_PEER:
        answer_peer(server, answer, failed);
        break;
    case ANSWER_SPOOL:
        if (failed)
            spool_file_failed(&server->spool, answer->spool, answer->lsn);
        else
            spool_file_done(&server->spool, answer->spool);
        break;
    case ANSWER_RELAY:
        relay_link_settle(server, answer->peer_id, answer->request_id, answer->lsn, failed);
        break;
    case ANSWER_NOBODY:
        break;
    }
}

/* While the store cannot be written fills are refused; mutations go on in memory. */
static void store_state_follow(struct server *server)
{
    const bool failed = persist_failed(server->persist);

    if (failed == server->cache.store_failed)
        return;
    server->cache.store_failed = failed;
    if (failed)
        log_event(&server->log, LOG_ERROR, "store_failed",
                  log_text("effect", "fills are refused; mutations hold in memory"));
    else
        log_event(&server->log, LOG_INFO, "store_works_again");
}

void mutation_answers(struct server *server)
{
    const struct persist_progress progress = persist_progress(server->persist);
    struct pending_answer answer;

    while (pending_take(&server->mutations, progress.done, &answer)) {
        struct peer *peer = answer.peer_id != 0 ? peers_find(&server->peers, answer.peer_id) : NULL;
        if (peer)
            peer->pending--;
        answer_give(server, &answer,
                    progress.failed_from != 0 && answer.ticket >= progress.failed_from &&
                        answer.ticket <= progress.failed_to);
    }
    while (pending_take(&server->syncs, progress.synced, &answer)) {
        struct peer *peer = peers_find(&server->peers, answer.peer_id);
        const struct reply reply = {.id = answer.request_id, .kind = REPLY_DONE};
        if (peer)
            peer_send(&server->peers, peer, &reply, NULL, 0);
    }
    store_state_follow(server);
}

void mutation_turn_end(struct server *server)
{
    const uint64_t ticket = persist_submit(server->persist, server->mutations.without_ticket > 0);

    if (ticket != 0)
        pending_ticket(&server->mutations, ticket);
}

/* ---- Events ---- */

static struct pending_answer answer_of(const struct mutation_from *from, uint64_t lsn)
{
    return (struct pending_answer){
        .to = from->relay_batch             ? ANSWER_RELAY
              : from->peer                  ? ANSWER_PEER
              : from->spool.generation != 0 ? ANSWER_SPOOL
                                            : ANSWER_NOBODY,
        .peer_id = from->peer ? from->peer->id : 0,
        .request_id = from->request_id,
        .spool = from->spool,
        .lsn = lsn,
        .arrived_ns = from->peer ? from->peer->arrived_ns : 0,
    };
}

/* The event's own: it says what is proved when the event is safe here, and whether that is all.
 * Rule POSITION_SEEN: a position is what the writer says, and its transaction may run yet: the
 * relay has to have seen it. */
static struct pending_answer answer_of_event(const struct mutation_from *from,
                                             const struct event *event)
{
    struct pending_answer answer = answer_of(from, event->lsn);

    answer.more = from->peer && event->targets.reach > ETAG_REACH_HOST;
    return answer;
}

/* Safe in the journal: the store follows in its own time. False: the answer has to wait for the
 * store. */
static bool event_journal(struct server *server, const struct event *event, etag_str record)
{
    /* Rule CURSOR_AFTER_EVENTS: a cursor is in the journal only after all that it covers. */
    if (!server->journal || (event->has_mark && server->mutations.count > 0))
        return false;
    journal_stored(server->journal, persist_stored_lsn(server->persist));
    return journal_append(server->journal, event->lsn, record) == 0;
}

/* The event is recorded and answered, or on its way to the store, and its answer waits for that.
 * False: no memory, nothing is queued. */
static bool event_record(struct server *server, const struct event *event,
                         const struct mutation_from *from)
{
    const struct persist_event stored = {.lsn = event->lsn,
                                         .kind = event->kind,
                                         .guard = event->guard,
                                         .hold = event->targets.hold_ms > 0};
    const struct pending_answer answer = answer_of_event(from, event);

    struct unstored *unstored = &server->unstored;
    struct event recorded = *event;

    /* Rule WIDER_FILL_RECORDED. */
    unstored_settle(unstored, server->persist);
    recorded.unstored = unstored->fingerprints;
    recorded.unstored_count = unstored->count;
    server->scratch.len = 0;
    if (pending_reserve(&server->mutations) < 0 ||
        event_record_pack(&server->scratch, &recorded) < 0)
        return false;
    const etag_str record = {(const char *)server->scratch.bytes, server->scratch.len};
    if (persist_event(server->persist, &stored, record) < 0)
        return false;
    unstored->count = 0;
    relay_link_take(server, event, record, answer.more ? from->peer : NULL, from->request_id);
    DELAY_POINT("mutation.queued_journal");
    if (event_journal(server, event, record)) {
        DELAY_POINT("mutation.journal_answered");
        answer_give(server, &answer, false);
        return true;
    }
    pending_add(&server->mutations, answer);
    if (from->peer)
        from->peer->pending++;
    return true;
}

static void peers_publish(struct server *server, const struct event *event)
{
    const struct event_view view = event_view_of(event);

    peers_tell(&server->peers, &view);
}

/* Applied, recorded, answered. */
static struct mutation_refusal event_happen(struct server *server, struct event *event,
                                            const struct mutation_from *from)
{
    event->wall_ms = time_wall_ms();
    if (!cache_next_lsn(&server->cache, &event->lsn)) {
        if (!server->lost)
            log_event(&server->log, LOG_ERROR, "lsns_used_up",
                      log_text("advice", "start it again"));
        server->lost = true;
        return (struct mutation_refusal){
            WIRE_ERROR_INTERNAL, "this run of the daemon has used up its numbers and restarts"};
    }
    if (cache_apply(&server->cache, event) < 0)
        return (struct mutation_refusal){WIRE_ERROR_INTERNAL, "no memory; nothing was done"};
    DELAY_POINT("mutation.applied_recorded");
    if (!event_is_carrier(event))
        peers_publish(server, event);
    if (!event_record(server, event, from))
        return (struct mutation_refusal){
            WIRE_ERROR_INTERNAL, "no memory to persist the event; it holds until the daemon ends"};
    return done;
}

/* ---- Holds at their bound ---- */

static bool begins_hold(const struct event *event)
{
    return event->targets.hold_ms > 0 && event->kind != EVENT_GUARD_BEGIN;
}

/* A former fold was shorter, so the new one covers it as well. (Or every longer hold would
 * leave one more.) */
static void fold_end(struct server *server, struct guard_id former)
{
    const struct guard *guard = guards_find(&server->cache.guards, former);
    struct event event = own_event(EVENT_GUARD_EXPIRED, true);

    if (!guard || guard->state != GUARD_HOLD)
        return;
    event.guard = former;
    (void)!event_happen(server, &event, &no_writer).error; /* then it ends by itself */
}

/* One hold of everything covers those that find no room: it is there, in memory and recorded,
 * before the event is. */
static struct mutation_refusal fold_begin(struct server *server, uint32_t hold_ms)
{
    struct guards *guards = &server->cache.guards;
    struct event event = own_event(EVENT_MUTATION, true);

    event.targets.hold_ms = hold_ms;
    const struct guard_id former = guards->fold;
    const struct mutation_refusal refusal = event_happen(server, &event, &no_writer);
    if (refusal.error)
        return refusal;
    guards->fold = guards_id_of(&event);
    fold_end(server, former);
    log_limited(
        &server->log_limit, LOG_WARN, "holds_folded",
        log_number("holds", (int64_t)guards->hold_count), log_number("hold_ms", (int64_t)hold_ms),
        log_text("effect", "nothing is answered 304 until it is over"),
        log_text("advice", "write less, hold for less, or name fewer targets: etagctl doctor"));
    return done;
}

/* Rule HOLD_FOLDED: a mutation goes without its hold only while the fold covers it, as long as
 * its own would have. */
static struct mutation_refusal hold_fold(struct server *server, struct event *event)
{
    if (!begins_hold(event) || guards_room_for_hold(&server->cache.guards) ||
        cache_fold(&server->cache, event))
        return done;
    const struct mutation_refusal refusal = fold_begin(server, event->targets.hold_ms);
    if (refusal.error)
        return refusal;
    const bool folded = cache_fold(&server->cache, event);
    assert(folded); /* the new one is as long */
    (void)folded;
    return done;
}

/* The event has everything but its LSN and its time. */
static struct mutation_refusal event_run(struct server *server, struct event *event,
                                         const struct mutation_from *from)
{
    const struct mutation_refusal refusal = hold_fold(server, event);

    return refusal.error ? refusal : event_happen(server, event, from);
}

struct mutation_refusal mutation_event(struct server *server, struct event *event,
                                       const struct mutation_from *from)
{
    return event_run(server, event, from);
}

/* ---- From a request to an event ---- */

enum step {
    /* something changes */
    STEP_EVENT,
    /* it is open, or ended, already, and that is safe */
    STEP_NOTHING,
};

/* The guard is open, and would be after a crash. */
static bool guard_is_safe(const struct server *server, const struct guard *guard)
{
    return guard->lsn < pending_safe_below(&server->mutations, server->cache.lsn);
}

/* A begin or a confirmation that comes after the end of its guard was said, late in the spool or
 * over a connection that was stuck, begins nothing: its writer has no use for it. Where the daemon
 * ended the guard, it does. */
static enum step step_of_begin(const struct server *server, const struct event *event)
{
    const struct guard *guard = guards_find(&server->cache.guards, event->guard);

    if (!guard || (guard->state == GUARD_HOLD && !guard->said))
        return STEP_EVENT;
    return guard->state == GUARD_ENDED || guard_is_safe(server, guard) ? STEP_NOTHING : STEP_EVENT;
}

static enum step step_of_abort(struct server *server, const struct event *event)
{
    if (guards_find_open(&server->cache.guards, event->guard))
        return STEP_EVENT;
    guards_remember_end(&server->cache.guards, event->guard, time_coarse_ns());
    return STEP_NOTHING;
}

/* The event that the request names, and whether it has to happen. */
static enum step step_of(struct server *server, const struct request *request, struct event *event)
{
    if (request->kind == REQUEST_INVALIDATE) {
        event->kind = EVENT_MUTATION;
        event->targets = request->targets;
        return STEP_EVENT;
    }
    event->guard = request->guard.id;
    event->targets = request->guard.targets;
    switch (request->kind) {
    case REQUEST_GUARD_BEGIN:
    case REQUEST_GUARD_CONFIRM:
        event->kind = EVENT_GUARD_BEGIN;
        event->confirms = request->kind == REQUEST_GUARD_CONFIRM;
        return step_of_begin(server, event);
    case REQUEST_GUARD_COMMIT:
        event->kind = EVENT_GUARD_COMMIT;
        return STEP_EVENT;
    default:
        assert(request->kind == REQUEST_GUARD_ABORT);
        event->kind = EVENT_GUARD_ABORT;
        return step_of_abort(server, event);
    }
}

static const char *request_check(const struct request *request)
{
    if (request->kind == REQUEST_INVALIDATE)
        return targets_check(&request->targets);
    /* Holds have ids of their own: {0, LSN}. */
    if (request->guard.id.high == 0)
        return "the guard's id is not one";
    return request->kind == REQUEST_GUARD_ABORT ? NULL : targets_check(&request->guard.targets);
}

/* A mutation that takes effect at once, here and elsewhere. */
static bool is_change(const struct request *request)
{
    return request->kind == REQUEST_INVALIDATE || request->kind == REQUEST_GUARD_COMMIT;
}

static const etag_targets *targets_of(const struct request *request)
{
    return request->kind == REQUEST_INVALIDATE ? &request->targets : &request->guard.targets;
}

/* Rule REACH_REFUSED: less than was asked for is never OK. Of a guard's commit that is known when
 * the guard begins, and said then: after it the application has committed. Through the spool it
 * never is: the writer counts on this host, and takes more as PENDING. */
static struct mutation_refusal reach_check(const struct server *server,
                                           const struct request *request,
                                           const struct mutation_from *from)
{
    const etag_targets *targets = targets_of(request);
    const etag_reach reach = relay_link_reach(server, targets->reach);

    if (!from->peer || request->kind == REQUEST_GUARD_ABORT || reach <= ETAG_REACH_HOST)
        return done;
    if (server->config.relay == RELAY_OFF)
        return (struct mutation_refusal){
            WIRE_ERROR_INVALID, "this daemon works without a relay, so nothing reaches further "
                                "than this host: set relay: required in its configuration"};
    return done;
}

/* The event as the relay's log is to have it. */
static void reach_set(const struct server *server, const struct request *request,
                      struct event *event)
{
    etag_targets *targets = &event->targets;
    const bool change = is_change(request);

    targets->reach = change ? relay_link_reach(server, targets->reach) : ETAG_REACH_HOST;
    targets->position = change ? targets->position : 0;
    event->outgoing = change && targets->position == 0 && server->config.relay != RELAY_OFF;
    event->outgoing_hold_ms = event->outgoing ? targets->hold_ms : 0;
}

static bool is_begin(const struct request *request)
{
    return request->kind == REQUEST_GUARD_BEGIN || request->kind == REQUEST_GUARD_CONFIRM;
}

/* Rule KNOWN_GUARD_EXEMPT: only what begins a guard that is not known needs room. A guard that
* is open goes on: its writer is in its transaction, and can't wait for others to end theirs. */
static struct mutation_refusal limits_check(const struct server *server,
                                            const struct request *request,
                                            const struct mutation_from *from)
{
    const struct guards *guards = &server->cache.guards;

    if (is_begin(request) && !guards_find(guards, request->guard.id) &&
        !guards_room(guards, from->spool.generation != 0))
        return (struct mutation_refusal){
            WIRE_ERROR_LIMIT, guards->open_count < GUARDS_MAX
                                  ? "the open guards and holds take all of their memory: "
                                    "name fewer targets"
                                  : "too many guards are open: end some first"};
    if (!from->peer)
        return done;
    if (from->peer->pending >= PEER_PENDING_MAX)
        return (struct mutation_refusal){
            WIRE_ERROR_BUSY, "too many mutations of this connection wait for the store"};
    return done;
}

/* A sign of life of its guard; over a socket the connection is one from now on. */
static void guard_follow(struct server *server, const struct event *event,
                         const struct mutation_from *from)
{
    struct guard *guard = guards_find_open(&server->cache.guards, event->guard);

    if (guard)
        guards_touch(&server->cache.guards, guard, from->peer ? from->peer->id : guard->peer_id,
                     event->targets.max_ms, time_coarse_ns());
}

struct mutation_refusal mutation_request(struct server *server, const struct request *request,
                                         const struct mutation_from *from)
{
    struct event event = {.peer_pid = from->peer ? from->peer->pid : 0,
                          .peer_uid = from->peer ? from->peer->uid : from->uid};
    const char *wrong = request_check(request);

    if (wrong)
        return (struct mutation_refusal){WIRE_ERROR_INVALID, wrong};
    struct mutation_refusal refusal = limits_check(server, request, from);
    if (!refusal.error)
        refusal = reach_check(server, request, from);
    if (refusal.error)
        return refusal;
    const enum step step = step_of(server, request, &event);
    reach_set(server, request, &event);
    if (step == STEP_EVENT)
        refusal = event_run(server, &event, from);
    if (refusal.error)
        return refusal;
    if (is_begin(request))
        guard_follow(server, &event, from);
    if (step == STEP_NOTHING) {
        const struct guard *guard = guards_find(&server->cache.guards, event.guard);
        const struct pending_answer answer = answer_of(from, guard ? guard->lsn : 0);
        answer_give(server, &answer, false);
    }
    return done;
}

/* ---- The daemon's own ---- */

bool mutation_everything(struct server *server, const char *why)
{
    struct event event = own_event(EVENT_MUTATION, true);

    log_event(&server->log, LOG_WARN, "everything_purged", log_text("reason", why));
    const struct mutation_refusal refusal = event_run(server, &event, &no_writer);
    if (refusal.error)
        log_event(&server->log, LOG_ERROR, "not_purged", log_text("reason", refusal.text));
    return !refusal.error;
}

bool mutation_carry(struct server *server)
{
    struct event event = own_event(EVENT_MUTATION, false);

    return !event_happen(server, &event, &no_writer).error;
}

static bool guard_expire(struct server *server, struct guard *guard)
{
    const bool lingered = guard->state == GUARD_OPEN;
    struct event event;

    /* A copy: the event borrows its names from it, and outlives the guard, which ends when the
     * event is applied. */
    arena_reset(&server->arena);
    const etag_str record = arena_copy(&server->arena,
                                       (etag_str){(const char *)guard->record, guard->record_len});
    if (!record.data)
        return false;
    const bool parsed = event_record_parse(record, guard->lsn, &event, &server->arena);
    assert(parsed); /* we packed it */
    (void)parsed;
    event.kind = EVENT_GUARD_EXPIRED;
    event.guard = guard->id;
    event.has_mark = false;
    /* Other hosts end their holds by themselves. */
    event.outgoing = lingered && server->config.relay != RELAY_OFF;
    event.outgoing_hold_ms = event.outgoing ? event.targets.hold_ms : 0;
    /* One that lingered counts as committed, and replicas lag that commit too. */
    if (!lingered)
        event.targets.hold_ms = 0;
    event.targets.max_ms = 0;
    const uint32_t pid = guard->pid, uid = guard->uid; /* the guard may go now */
    if (event_run(server, &event, &no_writer).error)
        return false;
    if (lingered)
        log_limited(&server->log_limit, LOG_WARN, "guard_lingered", log_number("pid", pid),
                    log_number("uid", uid),
                    log_text("effect", "no sign of life of its writer: it counts as committed"));
    return true;
}

static bool peer_lives(void *ctx, uint64_t peer_id)
{
    struct server *server = ctx;
    struct peer *peer = peers_find(&server->peers, peer_id);

    /* No idle limit while a guard is open. */
    if (peer)
        peer->last_ns = time_coarse_ns();
    return peer != NULL;
}

bool mutation_expire_guards(struct server *server)
{
    const uint64_t until_ns = time_ns_of(CLOCK_MONOTONIC) + EXPIRED_TURN_US * NS_PER_US;
    struct guard *guard;
    size_t ended = 0;

    server->expire_more = false;
    while ((guard = guards_overdue(&server->cache.guards, time_coarse_ns(), peer_lives, server))) {
        /* One may name thousands of targets, and thousands end together: the lease has to be kept
         * in between. */
        server->expire_more = ended == EXPIRED_PER_TURN_MAX ||
                              (ended > 0 && time_ns_of(CLOCK_MONOTONIC) >= until_ns);
        if (server->expire_more || !guard_expire(server, guard))
            return false;
        ended++;
    }
    return true;
}
