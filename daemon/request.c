/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The fill path and the invalidate path read top-down from here:
 *
 *   fill         handle_fill -> cache_fill (the token test) -> index, and the persister lazily; or, of a tombstone,
 *                handle_retire -> cache_retire
 *   invalidate   handle_mutation -> mutation_request: cache_apply (one store a target), recorded, answered when it is safe
 */
#include "request.h"

#include "clocktime.h"
#include "greeting.h"
#include "inspect.h"
#include "mutation.h"
#include "numbers.h"
#include "server.h"
#include "text.h"

#include <errno.h>

static void answer_done(struct server *server, struct peer *peer, const struct request *request)
{
    const struct reply reply = {.id = request->id, .kind = REPLY_DONE};

    peer_send(&server->peers, peer, &reply, NULL, 0);
}

static void refuse(struct server *server, struct peer *peer, const struct request *request,
                   enum wire_error code, const char *text)
{
    peer_send_error(&server->peers, peer, request->id, code, text);
}

/* ---- Hello ---- */

static void handle_hello(struct server *server, struct peer *peer, const struct request *request)
{
    struct reply reply = {.id = request->id, .kind = REPLY_HELLO};
    CLEANUP(cleanup_fd) int page_fd = -1;
    int fds[2];
    size_t fd_count = 0;

    char text[ERROR_TEXT_BYTES_MAX];
    if (greeting_check(request->hello.protocol, text)) {
        peer_send_error(&server->peers, peer, request->id, WIRE_ERROR_VERSION, text);
        peer_close(&server->peers, peer);
        return;
    }
    if (peer->greeted) {
        peer_break(&server->peers, peer, WIRE_ERROR_MALFORMED, TEXT_SECOND_HELLO);
        return;
    }
    peer->greeted = true;
    snprintf(peer->software, sizeof(peer->software), "%.*s", (int)request->hello.software.len,
             request->hello.software.data ? request->hello.software.data : "");

    reply.hello.protocol = PROTOCOL_VERSION;
    reply.hello.software = ETAG_LIT(DAEMON_SOFTWARE);
    reply.hello.roles = peer->roles;
    reply.hello.clock_ns = time_coarse_ns();
    reply.hello.lease_ns = server->lease.length_ns;
    reply.hello.incarnation_id = server->cache.incarnation_id;
    reply.hello.linger_ns = server->config.linger_ns;
    if (peer->roles & ROLE_MUTATE) {
        spool_dir_learn(&server->spool.dir, peer->uid);
        reply.hello.spool_id = server->spool.dir.mark.id;
    }
    if (peer->roles & ROLE_READ) {
        reply.hello.index_bytes = index_bytes(server->index);
        fds[fd_count++] = index_fd(server->index);
        const int r = client_page_open(&peer->page, &page_fd);
        if (r == 0) {
            reply.hello.counters_bytes = COUNTERS_BYTES;
            fds[fd_count++] = page_fd;
        } else {
            log_limited(&server->log_limit, LOG_WARN, "client_page_failed",
                        log_number("pid", peer->pid), log_error("error", r));
        }
    }
    peer_send(&server->peers, peer, &reply, fds, fd_count);
}

/* ---- Fill ---- */

/* Its removal goes to the store, or at least with the next event: else it comes back after a restart, when nobody knows any more on
 * what the key's last entry depended. */
static void removed_erase(struct server *server, struct hash128 fingerprint)
{
    if (persist_erase(server->persist, fingerprint) == 0)
        return;
    unstored_add(&server->unstored, fingerprint, true);
    if (server->loader)
        entry_loader_break(server->loader);
    log_event(&server->log, LOG_DEBUG, "removed_not_erased");
}

static void evicted_erase(struct server *server, const struct index_evicted *evicted)
{
    for (size_t i = 0; i < evicted->count; i++)
        removed_erase(server, evicted->fingerprints[i]);
}

/* Rule WIDER_FILL_RECORDED: while the store may have a current record of the key that lacks what the new entry depends on, no
 * event is recorded that does not take it along. Before the new one goes to the persister. */
static bool former_unstore(struct server *server, const struct cache_stored *stored, bool unloaded)
{
    const struct hash128 fingerprint = stored->fingerprint;

    if (!stored->wider &&
        !(stored->fresh && (unloaded || unstored_waits(server->persist, fingerprint))))
        return false;
    unstored_add(&server->unstored, fingerprint, false);
    return true;
}

/* What the store has to know of an accepted fill. Best effort: an entry that is not persisted is a miss after a
 * restart, nothing worse. */
static void fill_persist(struct server *server, const struct entry *entry,
                         const struct cache_stored *stored, bool unloaded)
{
    const bool unstored = former_unstore(server, stored, unloaded);
    char text[RESOURCE_TEXT_BYTES_MAX];
    const size_t text_len = resource_format(&server->key.resource, text);
    const struct entry_record record = {
        .key_bytes = {(const char *)server->key.bytes, server->key.len},
        .entry = *entry,
        .fill_lsn = stored->fill_lsn,
        .expires_wall_ms = stored->expires_wall_ms,
        .expires_ns = stored->expires_ns,
    };

    server->scratch.len = 0;
    if (entry_record_pack(&server->scratch, &record) == 0 &&
        persist_entry(server->persist, stored->fingerprint, (etag_str){text, text_len},
                      (etag_str){(const char *)server->scratch.bytes, server->scratch.len}) == 0)
        return;
    /* What the store has instead is as current as its clocks say. That must be all of them. */
    if (unstored)
        removed_erase(server, stored->fingerprint);
    log_event(&server->log, LOG_DEBUG, "fill_not_persisted");
}

/* An entry of the former run whose turn has not come is judged like any other. True: its record in the store may be current, and it is
 * not in the index. */
static bool key_load(struct server *server)
{
    struct index_evicted evicted;

    if (!server->loader)
        return false;
    const bool unloaded = entry_loader_fetch(
        server->loader, key_fingerprint(server->cache.hash_key, &server->key), &evicted);
    evicted_erase(server, &evicted);
    return unloaded;
}

static void fill_answer(struct server *server, struct peer *peer, const struct request *request,
                        etag_reason reason, uint64_t lsn)
{
    const struct reply reply = {
        .id = request->id, .kind = REPLY_FILL, .fill = {.reason = reason, .lsn = lsn}};

    if (request->fill.want_verdict)
        peer_send(&server->peers, peer, &reply, NULL, 0);
}

/* The other half of a fill: its key is in server->key. */
static void handle_retire(struct server *server, struct peer *peer, const struct request *request)
{
    struct hash128 fingerprint;
    const bool unloaded = key_load(server);
    const etag_reason reason = cache_retire(&server->cache, request->fill.token, &server->key,
                                            &fingerprint);

    if (reason == ETAG_REASON_NONE || (reason == ETAG_REASON_NO_ENTRY && unloaded))
        removed_erase(server, fingerprint);
    fill_answer(server, peer, request, reason, 0);
}

/* While entries are loaded, for removals too, or the loading would have to be given up. */
static bool fill_has_room(struct server *server)
{
    return (unstored_has_room(&server->unstored, server->persist) || mutation_carry(server)) &&
           !(server->loader && persist_crowded(server->persist));
}

static void handle_fill(struct server *server, struct peer *peer, const struct request *request)
{
    struct cache_stored stored;
    uint8_t packed[FIELDSET_BYTES_MAX];
    struct entry entry = request->fill.entry;
    const char *wrong = key_canonicalize(&server->key, &entry.key);

    if (!wrong && !request->fill.gone)
        wrong = entry_check(&entry, packed);
    if (wrong) {
        refuse(server, peer, request, WIRE_ERROR_INVALID, wrong);
        return;
    }
    if (!fill_has_room(server)) {
        server->cache.counters.fills_no_room++;
        fill_answer(server, peer, request, ETAG_REASON_NO_ROOM, 0);
        return;
    }
    if (request->fill.gone) {
        handle_retire(server, peer, request);
        return;
    }
    const bool unloaded = key_load(server);
    const etag_reason reason = cache_fill(&server->cache, request->fill.token, &server->key, &entry,
                                          &stored);
    evicted_erase(server, &stored.evicted);
    if (reason == ETAG_REASON_NONE)
        fill_persist(server, &entry, &stored, unloaded);
    fill_answer(server, peer, request, reason, stored.fill_lsn);
}

/* ---- Invalidate, and the steps of a guard ---- */

static void handle_mutation(struct server *server, struct peer *peer, const struct request *request)
{
    const struct mutation_from from = {.peer = peer, .request_id = request->id};
    const struct mutation_refusal refusal = mutation_request(server, request, &from);

    if (refusal.error)
        refuse(server, peer, request, refusal.error, refusal.text);
}

/* ---- Tools ---- */

static void handle_ping(struct server *server, struct peer *peer, const struct request *request)
{
    answer_done(server, peer, request);
}

static void handle_watch(struct server *server, struct peer *peer, const struct request *request)
{
    const char *wrong = peer_watch(&server->peers, peer);

    if (wrong)
        refuse(server, peer, request, WIRE_ERROR_LIMIT, wrong);
    else
        answer_done(server, peer, request);
}

static void handle_sync(struct server *server, struct peer *peer, const struct request *request)
{
    if (pending_reserve(&server->syncs) < 0) {
        refuse(server, peer, request, WIRE_ERROR_INTERNAL, "no memory");
        return;
    }
    pending_add(&server->syncs, (struct pending_answer){
                                    .to = ANSWER_PEER,
                                    .ticket = persist_sync(server->persist),
                                    .peer_id = peer->id,
                                    .request_id = request->id,
                                });
}

static void handle_pause(struct server *server, struct peer *peer, const struct request *request)
{
    const int r = lease_pause(&server->lease);

    server->cache.paused = true;
    log_limited(&server->log_limit, LOG_WARN, "paused", log_number("pid", peer->pid),
                log_number("uid", peer->uid));
    if (r < 0) {
        refuse(server, peer, request, WIRE_ERROR_STORE,
               "paused, but the mark in the state directory cannot be written: a restart resumes");
        return;
    }
    answer_done(server, peer, request);
}

static void handle_resume(struct server *server, struct peer *peer, const struct request *request)
{
    if (lease_resume(&server->lease) < 0) {
        refuse(server, peer, request, WIRE_ERROR_STORE,
               "the mark of the pause in the state directory cannot be removed: still paused");
        return;
    }
    server->cache.paused = false;
    log_limited(&server->log_limit, LOG_INFO, "resumed", log_number("pid", peer->pid),
                log_number("uid", peer->uid));
    answer_done(server, peer, request);
}

/* ---- Dispatch ---- */

struct handler {
    uint32_t role; /* that the peer needs; 0: any */
    void (*handle)(struct server *, struct peer *, const struct request *);
};

static const struct handler *handler_of(enum request_kind kind)
{
    static const struct handler handlers[] = {
        [REQUEST_HELLO] = {0, handle_hello},
        [REQUEST_FILL] = {ROLE_FILL, handle_fill},
        [REQUEST_INVALIDATE] = {ROLE_MUTATE, handle_mutation},
        [REQUEST_GUARD_BEGIN] = {ROLE_MUTATE, handle_mutation},
        [REQUEST_GUARD_CONFIRM] = {ROLE_MUTATE, handle_mutation},
        [REQUEST_GUARD_COMMIT] = {ROLE_MUTATE, handle_mutation},
        [REQUEST_GUARD_ABORT] = {ROLE_MUTATE, handle_mutation},
        [REQUEST_PING] = {0, handle_ping},
        [REQUEST_GET] = {ROLE_READ, inspect_get},
        [REQUEST_EXPLAIN] = {ROLE_READ, inspect_explain},
        [REQUEST_LIST] = {ROLE_READ, inspect_list},
        [REQUEST_STATUS] = {ROLE_READ, inspect_status},
        [REQUEST_CLIENTS] = {ROLE_ADMIN, inspect_clients},
        [REQUEST_LOG] = {ROLE_READ, inspect_log},
        [REQUEST_WATCH] = {ROLE_READ, handle_watch},
        [REQUEST_SYNC] = {ROLE_ADMIN, handle_sync},
        [REQUEST_PAUSE] = {ROLE_ADMIN, handle_pause},
        [REQUEST_RESUME] = {ROLE_ADMIN, handle_resume},
    };

    return kind < COUNT_OF(handlers) && handlers[kind].handle ? &handlers[kind] : NULL;
}

static const char *role_missing(uint32_t role)
{
    switch (role) {
    case ROLE_READ:
        return "this needs the role 'read': see 'roles' in the daemon's configuration";
    case ROLE_FILL:
        return "this needs the role 'fill': see 'roles' in the daemon's configuration";
    case ROLE_MUTATE:
        return "this needs the role 'mutate': see 'roles' in the daemon's configuration";
    default:
        return "this needs the role 'admin': see 'roles' in the daemon's configuration";
    }
}

void request_handle(struct server *server, struct peer *peer, etag_str payload)
{
    struct request request;

    arena_reset(&server->arena);
    const char *wrong = request_decode(&request, &server->arena, payload);
    if (wrong) {
        peer_break(&server->peers, peer, WIRE_ERROR_MALFORMED, wrong);
        return;
    }
    const struct handler *handler = handler_of(request.kind);
    if (!peer->greeted && request.kind != REQUEST_HELLO)
        peer_break(&server->peers, peer, WIRE_ERROR_NO_HELLO, TEXT_NO_HELLO);
    else if (!handler)
        refuse(server, peer, &request, WIRE_ERROR_INVALID, TEXT_UNKNOWN_REQUEST);
    else if (handler->role != 0 && !(peer->roles & handler->role))
        refuse(server, peer, &request, WIRE_ERROR_DENIED, role_missing(handler->role));
    else
        handler->handle(server, peer, &request);
}
