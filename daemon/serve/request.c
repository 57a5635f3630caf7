/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The fill path and the invalidate path begin here, and each goes on in a file of its own, which
 * reads top-down:
 *
 *   fill         fills.c: the token test, the index, and the persister lazily
 *   invalidate   mutation.c: one store a target, recorded, answered when it is safe
 */
#include "request.h"

#include "clocktime.h"
#include "fills.h"
#include "greeting.h"
#include "inspect.h"
#include "mutation.h"
#include "numbers.h"
#include "relay_serve.h"
#include "server.h"
#include "text.h"

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
    reply.hello.default_reach = relay_link_reach(server, ETAG_REACH_DEFAULT);
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
    /* that the peer needs; 0: any */
    uint32_t role;
    void (*handle)(struct server *, struct peer *, const struct request *);
};

static const struct handler *handler_of(enum request_kind kind)
{
    static const struct handler handlers[] = {
        [REQUEST_HELLO] = {0, handle_hello},
        [REQUEST_FILL] = {ROLE_FILL, fills_take},
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
        [REQUEST_RELAY_HELLO] = {ROLE_RELAY, relay_serve_hello},
        [REQUEST_RELAY_BATCH] = {ROLE_RELAY, relay_serve_batch},
        [REQUEST_RELAY_DONE] = {ROLE_RELAY, relay_serve_done},
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
    case ROLE_RELAY:
        return "this needs the role 'relay': see 'roles' in the daemon's configuration";
    default:
        return "this needs the role 'admin': see 'roles' in the daemon's configuration";
    }
}

void request_handle(void *ctx, struct peer *peer, etag_str payload)
{
    struct server *server = ctx;
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
