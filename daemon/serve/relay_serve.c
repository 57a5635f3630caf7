/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Only the relay that said hello last counts. It polls from the cursor in the daemon's hello, sends
 * a batch, waits for its receipt, and sends the next. A batch is one event with the names of all
 * events in it, and the last part of it has the cursor in the same record (rule
 * CURSOR_WITH_EVENTS). A batch that brings nothing new is not recorded each time: an older cursor
 * only makes a warm start ask for more.
 */
#include "relay_serve.h"

#include "clocktime.h"
#include "mutation.h"
#include "numbers.h"
#include "server.h"
#include "text.h"

#include <assert.h>
#include <string.h>

#define MARK_NS (10 * NS_PER_S) /* a mark that says too little is recorded again after this time */

static void refuse(struct server *server, struct peer *peer, const struct request *request,
                   enum wire_error code, const char *text)
{
    server->relay.refused++;
    log_limited(&server->log_limit, LOG_WARN, "relay_refused", log_number("pid", peer->pid),
                log_text("reason", text));
    peer_send_error(&server->peers, peer, request->id, code, text);
}

static void text_copy(char *out, size_t out_bytes, etag_str text)
{
    (void)snprintf(out, out_bytes, "%.*s", (int)min_of(text.len, out_bytes - 1),
                   text.data ? text.data : "");
}

/* ---- Hello ---- */

static void former_dismiss(struct server *server, const struct peer *peer)
{
    struct relay_link *link = &server->relay;
    struct peer *former = link->peer_id ? peers_find(&server->peers, link->peer_id) : NULL;

    if (!former || former == peer)
        return;
    log_event(&server->log, LOG_WARN, "relay_replaced", log_number("former_pid", former->pid),
              log_number("pid", peer->pid),
              log_text("advice", "one relay a daemon: stop the other one"));
    peer_close(&server->peers, former);
}

void relay_serve_hello(struct server *server, struct peer *peer, const struct request *request)
{
    struct relay_link *link = &server->relay;
    const char *wrong = relay_l_net_check(request->relay_hello.l_net_ms);

    if (server->config.relay == RELAY_OFF)
        wrong = "this daemon works without a relay: set relay: required in its configuration, and "
                "restart it";
    if (wrong) {
        refuse(server, peer, request, WIRE_ERROR_INVALID, wrong);
        return;
    }
    former_dismiss(server, peer);
    link->peer_id = peer->id;
    link->parts = link->part_refused = false;
    link->l_net_ms = request->relay_hello.l_net_ms;
    text_copy(link->engine, sizeof(link->engine), request->relay_hello.engine);
    outgoing_unsend(&link->outgoing);
    log_event(&server->log, LOG_INFO, "relay_joined", log_text("engine", link->engine),
              log_number("pid", peer->pid), log_number("l_net_ms", (int64_t)link->l_net_ms),
              log_text("cursor", link->settled.cursor.len > 0 ? "known" : "none"),
              log_number("outgoing", (int64_t)link->outgoing.count));
    const struct reply reply = {.id = request->id,
                                .kind = REPLY_RELAY_HELLO,
                                .relay_hello = {.cursor = relay_str(&link->settled.cursor),
                                                .log_id = relay_str(&link->settled.log_id),
                                                .incarnation = server->cache.incarnation_id,
                                                .mode = link->freshness.mode}};
    peer_send(&server->peers, peer, &reply, NULL, 0);
}

/* ---- Batches ---- */

/* Names of all its events, as those of one. A hold is as long as the longest of them. False: no
 * memory. */
static bool targets_merge(const struct relay_batch *batch, struct arena *arena, etag_targets *out)
{
    etag_resource *resources = arena_array(arena, TARGETS_PER_EVENT_MAX, sizeof(*resources));
    etag_resource *prefixes = arena_array(arena, TARGETS_PER_EVENT_MAX, sizeof(*prefixes));
    etag_str *surrogates = arena_array(arena, TARGETS_PER_EVENT_MAX, sizeof(*surrogates));
    etag_str *families = arena_array(arena, TARGETS_PER_EVENT_MAX, sizeof(*families));

    ETAG_INIT(out);
    if (!resources || !prefixes || !surrogates || !families)
        return false;
    out->everything = batch->everything;
    for (size_t i = 0; i < batch->targets_count; i++) {
        const etag_targets *one = &batch->targets[i];
        for (size_t j = 0; j < one->resource_count; j++)
            resources[out->resource_count++] = one->resources[j];
        for (size_t j = 0; j < one->prefix_count; j++)
            prefixes[out->prefix_count++] = one->prefixes[j];
        for (size_t j = 0; j < one->surrogate_count; j++)
            surrogates[out->surrogate_count++] = one->surrogates[j];
        for (size_t j = 0; j < one->family_count; j++)
            families[out->family_count++] = one->families[j];
        out->everything |= one->everything;
        out->hold_ms = (uint32_t)max_of(out->hold_ms, one->hold_ms);
    }
    out->resources = resources;
    out->prefixes = prefixes;
    out->surrogates = surrogates;
    out->families = families;
    return true;
}

/* Rows of one transaction have one position, and rows come in any order. Nothing but people's
 * questions depends on it, so positions are believed. */
static struct relay_origin origin_of(const struct relay_link *link, const struct relay_batch *batch)
{
    struct relay_origin origin = {.engine = str_of(link->engine),
                                  .event_count = (uint32_t)batch->targets_count,
                                  .writers = batch->writers};

    for (size_t i = 0; i < batch->targets_count; i++) {
        const uint64_t position = batch->targets[i].position;
        if (position == 0)
            continue;
        if (origin.first_position == 0 || position < origin.first_position)
            origin.first_position = position;
        origin.last_position = max_of(origin.last_position, position);
    }
    return origin;
}

/* Rule OTHER_LOG_IS_EVERYTHING: a cursor means something in its own log only, so continuity is not
 * proven. No cursor at all is the same. */
static bool log_is_other(const struct relay_link *link, const struct relay_batch *batch)
{
    return !batch->more && !str_equal(batch->log_id, relay_str(&link->settled.log_id));
}

static const char *batch_refusal(const struct server *server, const struct peer *peer,
                                 const struct relay_batch *batch)
{
    if (peer->id != server->relay.peer_id)
        return "this connection is not the relay's: say relay_hello first";
    if (server->relay.part_refused)
        return "an earlier part of this batch was refused";
    const char *wrong = relay_batch_check(batch);
    if (wrong)
        return wrong;
    return freshness_t0_is_past(batch->t0_ns, time_coarse_ns())
               ? NULL
               : "t0_ns is ahead of this daemon's clock: the relay must run in its time namespace, "
                 "and read CLOCK_MONOTONIC_COARSE before it polls";
}

/* Rule PARTS_TOGETHER: the cursor of the last part covers all parts, and it may be on its way
 * already. */
static void batch_refuse(struct server *server, struct peer *peer, const struct request *request,
                         enum wire_error code, const char *text)
{
    if (peer->id == server->relay.peer_id)
        server->relay.part_refused = request->relay_batch.more;
    refuse(server, peer, request, code, text);
}

static void everything_tell(struct server *server, const struct relay_batch *batch, bool other)
{
    char reason[RELAY_REASON_BYTES_MAX + 1];

    text_copy(reason, sizeof(reason), batch->reason);
    server->relay.everything++;
    log_limited(&server->log_limit, LOG_WARN, "everything_purged",
                log_text("reason", reason[0] ? reason
                                   : other   ? "the relay's log is another one than before"
                                             : "the relay says so"));
}

/* A batch that only repeats, or moves the cursor a little: nothing has to be recorded for it. */
static bool is_only_fresh(const struct relay_link *link, const struct relay_batch *batch,
                          const etag_targets *targets)
{
    if (batch->more || targets->everything || batch->targets_count > 0 || link->mark_due ||
        link->parts)
        return false;
    return str_equal(batch->cursor, relay_str(&link->settled.cursor)) ||
           time_coarse_ns() < link->marked_ns + MARK_NS;
}

/* What the last part proves, once it is recorded. False: no memory. */
static bool proof_prepare(struct relay_link *link, const struct relay_batch *batch)
{
    if (relay_place_set(&link->next, batch->cursor, batch->log_id) < 0)
        return false;
    link->proof = (struct freshness_proof){
        .t0_ns = batch->t0_ns, .l_net_ms = batch->l_net_ms, .member = batch->member};
    link->l_net_ms = batch->l_net_ms;
    return true;
}

static void marked(struct relay_link *link, const struct relay_mark *mark)
{
    link->mark_due = link->cursor_moved = false;
    link->marked_ns = time_coarse_ns();
    link->marked_published_lsn = mark->published_lsn;
}

static struct mutation_refusal batch_record(struct server *server, struct peer *peer,
                                            const struct request *request,
                                            const etag_targets *targets)
{
    struct relay_link *link = &server->relay;
    const bool last = !request->relay_batch.more;
    const struct mutation_from from = {
        .peer = peer, .request_id = request->id, .relay_batch = last};
    struct event event = {.kind = EVENT_MUTATION,
                          .peer_pid = peer->pid,
                          .peer_uid = peer->uid,
                          .targets = *targets,
                          .has_mark = last,
                          .relayed = true,
                          .origin = origin_of(link, &request->relay_batch)};

    if (last)
        event.mark = relay_link_mark(server, &link->next);
    link->parts = !last;
    link->recording = last;
    const struct mutation_refusal refusal = mutation_event(server, &event, &from);
    if (refusal.error)
        link->recording = false;
    else if (last)
        marked(link, &event.mark);
    return refusal;
}

void relay_serve_batch(struct server *server, struct peer *peer, const struct request *request)
{
    struct relay_link *link = &server->relay;
    const struct relay_batch *batch = &request->relay_batch;
    const char *wrong = batch_refusal(server, peer, batch);
    etag_targets targets;

    if (wrong) {
        batch_refuse(server, peer, request, WIRE_ERROR_INVALID, wrong);
        return;
    }
    if (link->recording) {
        batch_refuse(server, peer, request, WIRE_ERROR_BUSY,
                     "the batch before it is not recorded yet: wait for its receipt");
        return;
    }
    if (!targets_merge(batch, &server->arena, &targets) ||
        (!batch->more && !proof_prepare(link, batch))) {
        batch_refuse(server, peer, request, WIRE_ERROR_INTERNAL, "no memory; nothing was done");
        return;
    }
    const bool other = log_is_other(link, batch);
    targets.everything |= other;
    if (targets.everything)
        everything_tell(server, batch, other);
    link->batch_events += batch->targets_count;
    if (is_only_fresh(link, batch, &targets)) {
        link->cursor_moved |= !str_equal(batch->cursor, relay_str(&link->settled.cursor));
        relay_link_settle(server, peer->id, request->id, 0, false);
        return;
    }
    const struct mutation_refusal refusal = batch_record(server, peer, request, &targets);
    if (refusal.error)
        batch_refuse(server, peer, request, refusal.error, refusal.text);
}

/* ---- What became of our events ---- */

void relay_serve_done(struct server *server, struct peer *peer, const struct request *request)
{
    struct relay_link *link = &server->relay;
    const struct outgoing_done done = {.token = request->relay_done.token,
                                       .outcome = request->relay_done.outcome,
                                       .position = request->relay_done.position,
                                       .lsn = server->cache.lsn};
    char text[ERROR_TEXT_BYTES_MAX];
    struct relay_telling tell = {server, text};

    if (peer->id != link->peer_id) {
        refuse(server, peer, request, WIRE_ERROR_INVALID,
               "this connection is not the relay's: say relay_hello first");
        return;
    }
    (void)snprintf(text, sizeof(text),
                   "it has its effect on this host, but the relay's log refused "
                   "it: ");
    const size_t len = strlen(text);
    text_copy(text + len, sizeof(text) - len, request->relay_done.text);
    if (done.outcome == RELAY_REFUSED)
        log_limited(&server->log_limit, LOG_WARN, "relay_refused_event",
                    log_number("lsn", (int64_t)done.token), log_text("reason", text + len));
    link->mark_due |= outgoing_done(&link->outgoing, &done, relay_link_tell, &tell);
}

/* ---- Marks ---- */

/* A mark that says too much would let a restart forget events: it is recorded at once. One that
 * says too little costs a restart some rows and some events that are published twice. */
static bool mark_is_due(const struct server *server, bool all)
{
    const struct relay_link *link = &server->relay;
    const bool moved = link->cursor_moved ||
                       (outgoing_published(&link->outgoing, server->cache.lsn) !=
                            link->marked_published_lsn &&
                        server->cache.lsn != link->marked_published_lsn + 1);

    return link->mark_due || (moved && (all || time_coarse_ns() >= link->marked_ns + MARK_NS));
}

void relay_serve_mark(struct server *server, bool all)
{
    struct relay_link *link = &server->relay;
    const struct mutation_from no_writer = {0};
    struct event event = {.kind = EVENT_MUTATION, .has_mark = true};

    if (server->config.relay == RELAY_OFF || link->recording || !mark_is_due(server, all))
        return;
    ETAG_INIT(&event.targets);
    event.mark = relay_link_mark(server, &link->settled);
    if (!mutation_event(server, &event, &no_writer).error)
        marked(link, &event.mark);
}
