/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The daemon's side of the rules for many hosts (docs/consistency.md, "Many hosts"): a batch is
 * applied and recorded with its cursor. Only then does the cursor count, freshness (which bounds
 * the lease) moves on, and the relay gets its receipt.
 */
#include "relay_link.h"

#include "clocktime.h"
#include "delay_point.h"
#include "numbers.h"
#include "server.h"
#include "text.h"

#include <errno.h>
#include <string.h>

/* ---- Places ---- */

static int buffer_set(struct buffer *buffer, etag_str bytes)
{
    buffer->len = 0;
    if (buffer_reserve(buffer, bytes.len) < 0)
        return -ENOMEM;
    if (bytes.len > 0)
        memcpy(buffer->bytes, bytes.data, bytes.len);
    buffer->len = bytes.len;
    return 0;
}

int relay_place_set(struct relay_place *place, etag_str cursor, etag_str log_id)
{
    struct relay_place made = {0};

    if (buffer_set(&made.cursor, cursor) < 0 || buffer_set(&made.log_id, log_id) < 0) {
        buffer_deinit(&made.cursor);
        buffer_deinit(&made.log_id);
        return -ENOMEM;
    }
    buffer_deinit(&place->cursor);
    buffer_deinit(&place->log_id);
    *place = made;
    return 0;
}

static void place_deinit(struct relay_place *place)
{
    buffer_deinit(&place->cursor);
    buffer_deinit(&place->log_id);
}

void relay_link_deinit(struct relay_link *link)
{
    outgoing_deinit(&link->outgoing);
    place_deinit(&link->settled);
    place_deinit(&link->next);
}

/* ---- Start ---- */

static int mark_load(void *ctx, etag_str bytes)
{
    struct relay_link *link = ctx;
    struct relay_mark mark;

    if (!relay_mark_parse(bytes, &mark))
        return -EUCLEAN;
    link->marked_published_lsn = mark.published_lsn;
    link->outgoing.everything_due = mark.everything_due;
    return relay_place_set(&link->settled, mark.cursor, mark.log_id);
}

static int outgoing_load(void *ctx, uint64_t lsn, etag_str record)
{
    struct server *server = ctx;
    struct relay_link *link = &server->relay;
    struct event event;

    arena_reset(&server->arena);
    if (!event_record_parse(record, lsn, &event, &server->arena))
        return -EUCLEAN;
    const struct outgoing_new added = {.token = lsn, .reach = ETAG_REACH_LOG, .record = record};
    if (event.outgoing)
        link->mark_due |= outgoing_add(&link->outgoing, &added, relay_link_tell, NULL);
    return 0;
}

/* Rule OUTGOING_KEPT: what the log may lack of a former run is given to it now. Where it was
 * forgotten with the state, everything is. */
int relay_link_load(struct server *server, bool forgotten)
{
    struct relay_link *link = &server->relay;

    freshness_init(&link->freshness, server->config.relay);
    int r = store_get_relay(server->store, mark_load, link);
    if (r == STORE_E_NOT_FOUND) {
        link->outgoing.everything_due = link->mark_due = forgotten;
        r = 0;
    }
    if (r != 0 || server->config.relay == RELAY_OFF)
        return r > 0 ? -EUCLEAN : r;
    if (link->outgoing.everything_due)
        outgoing_collapse(&link->outgoing, link->marked_published_lsn);
    r = store_each_event(server->store, link->marked_published_lsn + 1, outgoing_load, server);
    return r > 0 ? -EUCLEAN : r;
}

/* ---- Events of this host ---- */

etag_reach relay_link_reach(const struct server *server, etag_reach asked)
{
    if (asked != ETAG_REACH_DEFAULT)
        return asked;
    return server->config.relay == RELAY_REQUIRED ? ETAG_REACH_LOG : ETAG_REACH_HOST;
}

static etag_reach outcome_reach(const struct outgoing_entry *entry, enum relay_outcome outcome)
{
    if (outcome == RELAY_UNSAID)
        return entry->logged ? ETAG_REACH_LOG : ETAG_REACH_HOST;
    return outcome == RELAY_LOGGED ? ETAG_REACH_LOG : ETAG_REACH_EVERYWHERE;
}

static etag_proof outcome_proof(etag_reach reach, enum relay_outcome outcome)
{
    if (reach == ETAG_REACH_EVERYWHERE)
        return outcome == RELAY_ACKNOWLEDGED ? ETAG_PROOF_ACKNOWLEDGED : ETAG_PROOF_TIME;
    return reach == ETAG_REACH_LOG ? ETAG_PROOF_LOGGED : ETAG_PROOF_DAEMON;
}

void relay_link_tell(void *telling, const struct outgoing_entry *entry, enum relay_outcome outcome)
{
    const struct relay_telling *tell = telling;
    struct server *server = tell->server;
    struct peer *peer = peers_find(&server->peers, entry->peer_id);
    const etag_reach reach = outcome_reach(entry, outcome);
    const struct reply reply = {
        .id = entry->request_id,
        .kind = REPLY_RECEIPT,
        .receipt = {.lsn = entry->token, .reach = reach, .proof = outcome_proof(reach, outcome)}};

    /* What is not even recorded yet proves nothing: the receipt for this host is still to come. */
    if (!peer || (outcome == RELAY_UNSAID &&
                  entry->token >= pending_safe_below(&server->mutations, server->cache.lsn)))
        return;
    if (outcome == RELAY_REFUSED)
        peer_send_error(&server->peers, peer, entry->request_id, WIRE_ERROR_STORE, tell->text);
    else
        peer_send(&server->peers, peer, &reply, NULL, 0);
}

void relay_link_take(struct server *server, const struct event *event, etag_str record,
                     const struct peer *peer, uint64_t request_id)
{
    struct relay_link *link = &server->relay;
    const uint64_t position = event->targets.position;
    struct relay_telling telling = {server, NULL};
    const bool nobody_waits = position != 0 && !peer;
    const struct outgoing_new added = {
        .token = event->lsn,
        .position = position,
        .reach = nobody_waits ? ETAG_REACH_HOST
                              : (etag_reach)max_of(event->targets.reach, ETAG_REACH_LOG),
        .peer_id = peer ? peer->id : 0,
        .request_id = request_id,
        .hold_ms = event->outgoing_hold_ms,
        .record = record,
    };

    if (server->config.relay == RELAY_OFF || (!event->outgoing && position == 0))
        return;
    if (!outgoing_add(&link->outgoing, &added, relay_link_tell, &telling))
        return;
    link->mark_due = true;
    log_limited(&server->log_limit, LOG_WARN, "relay_queue_full",
                log_text("effect", "the other hosts get an event of everything"),
                log_text("advice", link->peer_id ? "the relay is slow: see its log"
                                                 : "no relay is connected: start etag-relay"));
}

/* ---- What the relay is given ---- */

/* An event that does not fit into a frame becomes "everything". */
static bool publish(struct server *server, struct peer *peer, const struct outgoing_entry *entry)
{
    struct reply reply = {.kind = REPLY_RELAY_PUBLISH, .relay_publish.token = entry->token};
    etag_targets *targets = &reply.relay_publish.targets;
    struct event event = {0};

    ETAG_INIT(targets);
    if (entry->kind == OUTGOING_EVENT) {
        arena_reset(&server->arena);
        if (entry->len > FRAME_BYTES_MAX - RELAY_CURSOR_BYTES_MAX ||
            !event_record_parse((etag_str){(const char *)entry->record, entry->len}, entry->token,
                                &event, &server->arena))
            return false;
        *targets = event.targets;
        targets->hold_ms = event.outgoing_hold_ms;
        targets->max_ms = 0;
    }
    targets->reach = entry->reach;
    targets->position = entry->position;
    peer_send(&server->peers, peer, &reply, NULL, 0);
    server->relay.published++;
    return true;
}

static void publish_everything(struct server *server, struct peer *peer)
{
    struct outgoing *outgoing = &server->relay.outgoing;
    struct reply reply = {.kind = REPLY_RELAY_PUBLISH,
                          .relay_publish.token = outgoing->everything_token};

    ETAG_INIT(&reply.relay_publish.targets);
    reply.relay_publish.targets.everything = true;
    reply.relay_publish.targets.hold_ms = outgoing->everything_hold_ms;
    reply.relay_publish.targets.reach = outgoing_everything_reach(outgoing);
    outgoing_everything_sent(outgoing);
    peer_send(&server->peers, peer, &reply, NULL, 0);
    server->relay.published++;
}

/* Rule PUBLISH_AFTER_RECORD: what this host might forget is nothing that others hear of. */
static void publish_more(struct server *server, struct peer *peer)
{
    struct relay_link *link = &server->relay;
    const uint64_t safe_below = pending_safe_below(&server->mutations, server->cache.lsn);
    struct outgoing_entry *entry;

    if (outgoing_everything_next(&link->outgoing) && link->outgoing.everything_token < safe_below)
        publish_everything(server, peer);
    while (peer->stream && (entry = outgoing_next(&link->outgoing)) && entry->token < safe_below) {
        const bool fits = publish(server, peer, entry);
        outgoing_sent(&link->outgoing, entry);
        if (fits)
            continue;
        outgoing_collapse(&link->outgoing, server->cache.lsn);
        link->mark_due = true;
    }
}

static void relay_lost(struct server *server)
{
    struct relay_link *link = &server->relay;

    link->peer_id = 0;
    outgoing_unsend(&link->outgoing);
    log_event(&server->log, LOG_WARN, "relay_lost", log_text("engine", link->engine),
              log_number("outgoing", (int64_t)link->outgoing.count),
              log_text("effect", link->freshness.mode == RELAY_REQUIRED
                                     ? "front ends render once what it said is too old"
                                     : "events of other hosts do not come"));
}

static void freshness_tell(struct server *server)
{
    struct relay_link *link = &server->relay;
    const bool fresh = freshness_left_ns(&link->freshness, time_coarse_ns()) > 0;

    if (fresh == link->was_fresh || link->freshness.mode != RELAY_REQUIRED)
        return;
    link->was_fresh = fresh;
    if (fresh)
        log_event(&server->log, LOG_INFO, "relay_fresh",
                  log_number("l_net_ms", (int64_t)link->l_net_ms));
    else
        log_event(&server->log, LOG_WARN, "relay_not_fresh",
                  log_number("l_net_ms", (int64_t)link->l_net_ms),
                  log_text("effect", "no lease: front ends render"),
                  log_text("advice", "see the log of etag-relay, and etag-relay status"));
}

void relay_link_turn_end(struct server *server)
{
    struct relay_link *link = &server->relay;

    if (server->config.relay == RELAY_OFF)
        return;
    freshness_tell(server);
    if (link->peer_id == 0)
        return;
    struct peer *peer = peers_find(&server->peers, link->peer_id);
    if (peer)
        publish_more(server, peer);
    if (!peer || !peer->stream)
        relay_lost(server);
}

/* ---- What the relay brought ---- */

struct relay_mark relay_link_mark(const struct server *server, const struct relay_place *place)
{
    const struct outgoing *outgoing = &server->relay.outgoing;

    return (struct relay_mark){
        .cursor = relay_str(&place->cursor),
        .log_id = relay_str(&place->log_id),
        .published_lsn = outgoing_published(outgoing, server->cache.lsn),
        .everything_due = outgoing->everything_due && !outgoing->everything_logged,
    };
}

/* The lease had ended for want of it: no need to wait for the next renewal. */
static void lease_hurry(struct server *server, uint64_t former_until_ns)
{
    if (former_until_ns <= time_coarse_ns())
        server->lease.next_ns = 0;
}

void relay_link_settle(struct server *server, uint64_t peer_id, uint64_t request_id, uint64_t lsn,
                       bool failed)
{
    struct relay_link *link = &server->relay;
    struct peer *peer = peers_find(&server->peers, peer_id);
    const uint64_t former_until_ns = link->freshness.until_ns;

    link->recording = false;
    if (failed) {
        if (peer)
            peer_send_error(&server->peers, peer, request_id, WIRE_ERROR_STORE,
                            "the batch took effect, but it could not be persisted: see the "
                            "daemon's log");
        return;
    }
    const struct relay_place former = link->settled;
    link->settled = link->next;
    link->next = former;
    link->batch_ns = time_coarse_ns();
    link->batches++;
    DELAY_POINT("relay.recorded_fresh");
    freshness_move(&link->freshness, &link->proof);
    lease_hurry(server, former_until_ns);
    DELAY_POINT("relay.fresh_receipt");
    const struct reply reply = {
        .id = request_id,
        .kind = REPLY_RECEIPT,
        .receipt = {.lsn = lsn, .reach = ETAG_REACH_HOST, .proof = ETAG_PROOF_DAEMON}};
    if (peer)
        peer_send(&server->peers, peer, &reply, NULL, 0);
}
